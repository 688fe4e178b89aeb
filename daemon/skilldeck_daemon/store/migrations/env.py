"""Run by Alembic: migrations happen on the connection the store already has."""

from __future__ import annotations

from alembic import context

from skilldeck_daemon.store.tables.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite alters tables by copying them; the other databases ignore this.
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
