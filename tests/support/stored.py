"""What a store holds, written past the rules of its own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update

from skilldeck_daemon.store.tables import responses as module
from skilldeck_daemon.store.tables.schema import responses


async def rewritten(store: module.Responses, response: dict[str, Any]) -> None:
    """Replace a stored response, ended or not, as an earlier release or a crash may have left it."""
    async with store._db.write() as connection:
        chosen = responses.c.id == response["id"]
        await connection.execute(update(responses).where(chosen).values(**module._columns(response)))
