"""The tables, as SQLAlchemy Core. Documents of the wire are JSON text (`doc`), the rest are what queries need.

Every listed table has `seq`, the order of insertion: lists are ordered and cut by it, so a page costs the same with a
hundred rows and with a hundred thousand. `tombstones` remembers the `seq` of what was deleted, so that a client that
deletes while it pages (`for f in client.files.list(): client.files.delete(f.id)`) continues where it was.
Changing a table here needs a migration beside it (`migrations/versions`); a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives out rowids only for INTEGER primary keys; AUTOINCREMENT keeps it from reusing the seq of a deleted row.
Seq = BigInteger().with_variant(Integer(), "sqlite")


def _seq() -> Column[int]:
    return Column("seq", Seq, primary_key=True, autoincrement=True)


def _parent(name: str, target: str) -> Column[str]:
    return Column(name, String(256), ForeignKey(target, ondelete="CASCADE"), nullable=False)


skills = Table(
    "skills",
    metadata,
    _seq(),
    Column("id", String(256), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("name", Text, nullable=False, index=True),
    Column("default_version", Integer, nullable=False),
    Column("latest_version", Integer, nullable=False),
    # The highest number ever given: a deleted version's number is not used again.
    Column("last_version", Integer, nullable=False),
    sqlite_autoincrement=True,
)

skill_versions = Table(
    "skill_versions",
    metadata,
    _seq(),
    Column("id", String(256), nullable=False, unique=True),
    _parent("skill_id", "skills.id"),
    Column("version", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("origin", String(32), nullable=False),
    Column("source", Text, nullable=False),
    Column("watched", Boolean, nullable=False),
    Column("promoted", Boolean, nullable=False),
    # JSON: [{path, bytes, sha256, executable}], sorted by path.
    Column("files", Text, nullable=False),
    # JSON: warnings of the manifest and where SKILL.md is.
    Column("doc", Text, nullable=False),
    UniqueConstraint("skill_id", "version"),
    Index("ix_skill_versions_skill_id_seq", "skill_id", "seq"),
    sqlite_autoincrement=True,
)

files = Table(
    "files",
    metadata,
    _seq(),
    Column("id", String(256), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("status", String(32), nullable=False),
    Column("mime_type", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=True, index=True),
    Index("ix_files_purpose_seq", "purpose", "seq"),
    sqlite_autoincrement=True,
)

uploads = Table(
    "uploads",
    metadata,
    _seq(),
    Column("id", String(256), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("mime_type", Text, nullable=False),
    Column("status", String(32), nullable=False, index=True),
    Column("file_id", String(256), nullable=True),
    Column("file_expires_seconds", BigInteger, nullable=True),
    sqlite_autoincrement=True,
)

upload_parts = Table(
    "upload_parts",
    metadata,
    _seq(),
    Column("id", String(256), nullable=False, unique=True),
    _parent("upload_id", "uploads.id"),
    Column("created_at", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Index("ix_upload_parts_upload_id_seq", "upload_id", "seq"),
    sqlite_autoincrement=True,
)

responses = Table(
    "responses",
    metadata,
    _seq(),
    Column("id", String(256), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("status", String(32), nullable=False, index=True),
    Column("model", Text, nullable=False),
    Column("background", Boolean, nullable=False),
    # The start of the daemon that ran it: what another start left unfinished has failed.
    Column("instance", String(64), nullable=False),
    Column("conversation_id", String(256), nullable=True),
    Column("previous_response_id", String(256), nullable=True, index=True),
    Column("doc", Text, nullable=False),
    # Only where several daemons share the database (see leases.py).
    Column("lease_until", BigInteger, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("cancel_asked", Boolean, nullable=False, server_default=false()),
    Index("ix_responses_conversation_id_seq", "conversation_id", "seq"),
    sqlite_autoincrement=True,
)

# kind: input (list of items), request (the body of a background one), events (the log), extra (times, timeline): all
# zlib over JSON.
response_parts = Table(
    "response_parts",
    metadata,
    _parent("response_id", "responses.id"),
    Column("kind", String(16), nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("response_id", "kind"),
)

conversations = Table(
    "conversations",
    metadata,
    _seq(),
    Column("id", String(256), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("doc", Text, nullable=False),
    sqlite_autoincrement=True,
)

conversation_items = Table(
    "conversation_items",
    metadata,
    _seq(),
    _parent("conversation_id", "conversations.id"),
    Column("id", String(256), nullable=False),
    Column("doc", Text, nullable=False),
    UniqueConstraint("conversation_id", "id"),
    Index("ix_conversation_items_conversation_id_seq", "conversation_id", "seq"),
    sqlite_autoincrement=True,
)

containers = Table(
    "containers",
    metadata,
    _seq(),
    Column("id", String(256), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("status", String(32), nullable=False, index=True),
    Column("doc", Text, nullable=False),
    sqlite_autoincrement=True,
)

container_files = Table(
    "container_files",
    metadata,
    _seq(),
    Column("id", String(256), nullable=False, unique=True),
    _parent("container_id", "containers.id"),
    Column("created_at", BigInteger, nullable=False),
    Column("path", Text, nullable=False),
    # Set when the content is a blob of ours and not only a file in the container's own folder.
    Column("sha256", String(64), nullable=True),
    Column("doc", Text, nullable=False),
    UniqueConstraint("container_id", "path"),
    Index("ix_container_files_container_id_seq", "container_id", "seq"),
    sqlite_autoincrement=True,
)

chat_completions = Table(
    "chat_completions",
    metadata,
    _seq(),
    Column("id", String(256), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("model", Text, nullable=False),
    Column("doc", Text, nullable=False),
    Column("messages", LargeBinary, nullable=False),
    Index("ix_chat_completions_model_seq", "model", "seq"),
    sqlite_autoincrement=True,
)

approval_rules = Table(
    "approval_rules",
    metadata,
    _seq(),
    Column("id", String(256), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("doc", Text, nullable=False),
    sqlite_autoincrement=True,
)

evaluations = Table(
    "evaluations",
    metadata,
    _seq(),
    Column("id", String(256), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("skill", Text, nullable=False),
    Column("doc", Text, nullable=False),
    Index("ix_evaluations_skill_seq", "skill", "seq"),
    sqlite_autoincrement=True,
)

trials = Table(
    "trials",
    metadata,
    _seq(),
    Column("id", String(256), nullable=False, unique=True),
    _parent("evaluation_id", "evaluations.id"),
    Column("created_at", BigInteger, nullable=False),
    Column("skill", Text, nullable=False),
    # Digest of all that was asked of the model: the same question has the same key.
    Column("key", String(64), nullable=False, index=True),
    Column("doc", Text, nullable=False),
    Index("ix_trials_evaluation_id_seq", "evaluation_id", "seq"),
    Index("ix_trials_skill_seq", "skill", "seq"),
    sqlite_autoincrement=True,
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("kind", String(64), nullable=False),
    # "" where ids are unique by themselves.
    Column("parent", String(256), nullable=False),
    Column("id", String(256), nullable=False),
    Column("seq", BigInteger, nullable=False),
    PrimaryKeyConstraint("kind", "parent", "id"),
)

# What all daemons of one database must agree on: the key of sealed text.
shared_values = Table(
    "shared_values",
    metadata,
    Column("name", String(64), nullable=False),
    Column("value", LargeBinary, nullable=False),
    PrimaryKeyConstraint("name"),
)
