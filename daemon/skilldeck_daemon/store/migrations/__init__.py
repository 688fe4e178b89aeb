"""Alembic, run by the daemon itself when it opens the store; there is no command to remember.

A database of a newer daemon is refused rather than guessed at.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from skilldeck_shared.errors import Unavailable

HERE = Path(__file__).resolve().parent


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    return config


def known() -> set[str]:
    """Every schema this version can open."""
    return {revision.revision for revision in ScriptDirectory.from_config(_config()).walk_revisions()}


def head() -> str:
    """The schema of this version."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def upgrade(connection: Connection) -> None:
    """Bring the schema to this version inside the connection's transaction; nothing to do costs one query."""
    config = _config()
    script = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current == script.get_current_head():
        return
    if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
        raise Unavailable(
            f"The store was written by a newer skilldeck (schema {current}).",
            "Update skilldeck, or give another --data-dir.",
            code="store_too_new",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
