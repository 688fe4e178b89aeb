"""Schema 1: everything the first release stores."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "approval_rules",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_approval_rules")),
        sa.UniqueConstraint("id", name=op.f("uq_approval_rules_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "chat_completions",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.Column("messages", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_chat_completions")),
        sa.UniqueConstraint("id", name=op.f("uq_chat_completions_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_chat_completions_model_seq", "chat_completions", ["model", "seq"], unique=False)
    op.create_table(
        "containers",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_containers")),
        sa.UniqueConstraint("id", name=op.f("uq_containers_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_containers_status"), "containers", ["status"], unique=False)
    op.create_table(
        "conversations",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_conversations")),
        sa.UniqueConstraint("id", name=op.f("uq_conversations_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "files",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("purpose", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("mime_type", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_files")),
        sa.UniqueConstraint("id", name=op.f("uq_files_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_files_expires_at"), "files", ["expires_at"], unique=False)
    op.create_index("ix_files_purpose_seq", "files", ["purpose", "seq"], unique=False)
    op.create_table(
        "responses",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("background", sa.Boolean(), nullable=False),
        sa.Column("instance", sa.String(length=64), nullable=False),
        sa.Column("conversation_id", sa.String(length=256), nullable=True),
        sa.Column("previous_response_id", sa.String(length=256), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_responses")),
        sa.UniqueConstraint("id", name=op.f("uq_responses_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_responses_conversation_id_seq", "responses", ["conversation_id", "seq"], unique=False)
    op.create_index(op.f("ix_responses_previous_response_id"), "responses", ["previous_response_id"], unique=False)
    op.create_index(op.f("ix_responses_status"), "responses", ["status"], unique=False)
    op.create_table(
        "skills",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("default_version", sa.Integer(), nullable=False),
        sa.Column("latest_version", sa.Integer(), nullable=False),
        sa.Column("last_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_skills")),
        sa.UniqueConstraint("id", name=op.f("uq_skills_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_skills_name"), "skills", ["name"], unique=False)
    op.create_table(
        "tombstones",
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("parent", sa.String(length=256), nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "parent", "id", name=op.f("pk_tombstones")),
    )
    op.create_table(
        "uploads",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("purpose", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("mime_type", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("file_id", sa.String(length=256), nullable=True),
        sa.Column("file_expires_seconds", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_uploads")),
        sa.UniqueConstraint("id", name=op.f("uq_uploads_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_uploads_status"), "uploads", ["status"], unique=False)
    op.create_table(
        "container_files",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("container_id", sa.String(length=256), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["container_id"], ["containers.id"], name=op.f("fk_container_files_container_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_container_files")),
        sa.UniqueConstraint("container_id", "path", name=op.f("uq_container_files_container_id_path")),
        sa.UniqueConstraint("id", name=op.f("uq_container_files_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_container_files_container_id_seq", "container_files", ["container_id", "seq"], unique=False)
    op.create_table(
        "conversation_items",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("conversation_id", sa.String(length=256), nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_conversation_items_conversation_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_conversation_items")),
        sa.UniqueConstraint("conversation_id", "id", name=op.f("uq_conversation_items_conversation_id_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_conversation_items_conversation_id_seq", "conversation_items", ["conversation_id", "seq"], unique=False
    )
    op.create_table(
        "response_parts",
        sa.Column("response_id", sa.String(length=256), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["response_id"], ["responses.id"], name=op.f("fk_response_parts_response_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("response_id", "kind", name=op.f("pk_response_parts")),
    )
    op.create_table(
        "skill_versions",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("skill_id", sa.String(length=256), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("origin", sa.String(length=32), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("watched", sa.Boolean(), nullable=False),
        sa.Column("promoted", sa.Boolean(), nullable=False),
        sa.Column("files", sa.Text(), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["skill_id"], ["skills.id"], name=op.f("fk_skill_versions_skill_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_skill_versions")),
        sa.UniqueConstraint("id", name=op.f("uq_skill_versions_id")),
        sa.UniqueConstraint("skill_id", "version", name=op.f("uq_skill_versions_skill_id_version")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_skill_versions_skill_id_seq", "skill_versions", ["skill_id", "seq"], unique=False)
    op.create_table(
        "upload_parts",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("upload_id", sa.String(length=256), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name=op.f("fk_upload_parts_upload_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_upload_parts")),
        sa.UniqueConstraint("id", name=op.f("uq_upload_parts_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_upload_parts_upload_id_seq", "upload_parts", ["upload_id", "seq"], unique=False)


def downgrade() -> None:
    for table in (
        "upload_parts",
        "skill_versions",
        "response_parts",
        "conversation_items",
        "container_files",
        "uploads",
        "tombstones",
        "skills",
        "responses",
        "files",
        "conversations",
        "containers",
        "chat_completions",
        "approval_rules",
    ):
        op.drop_table(table)
