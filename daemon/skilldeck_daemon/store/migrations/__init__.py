"""Schemas, brought to this version by the daemon itself when it opens the store; there is no command to remember.

What is of this version costs one query, and what is empty is made as `tables/schema.py` says it: Alembic, a twelfth of
the daemon's imports, is loaded for a store of an earlier version alone. A database of a newer daemon is refused rather
than guessed at.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, inspect, select

from skilldeck_daemon.store.tables import schema
from skilldeck_shared.errors import Unavailable

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

HERE = Path(__file__).resolve().parent
HEAD = "0003"
"""The newest of `versions/`; a test compares."""
_version = Table(  # as Alembic makes it
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    return config


def _script() -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config())


def known() -> set[str]:
    """Every schema this version can open."""
    return {revision.revision for revision in _script().walk_revisions()}


def head() -> str:
    """The schema of this version."""
    return HEAD


def upgrade(connection: Connection) -> None:
    """Bring the schema to this version inside the connection's transaction."""
    tables = set(inspect(connection).get_table_names())
    current = connection.scalar(select(_version.c.version_num)) if _version.name in tables else None
    if current == HEAD:
        return
    if not tables:
        schema.metadata.create_all(connection, checkfirst=False)
        _version.create(connection)
        connection.execute(_version.insert().values(version_num=HEAD))
        return
    if current is not None and current not in known():
        raise Unavailable(
            f"The store was written by a newer skilldeck (schema {current}).",
            "Update skilldeck, or give another --data-dir.",
            code="store_too_new",
        )
    migrate(connection)


def migrate(connection: Connection) -> None:
    """Run the migrations that the connection's database lacks."""
    from alembic import command

    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
