"""Text looked for in all that was said: conversations with their items and titles, and runs that belong to none.

The database leaves out what cannot hold the text (LIKE over the JSON), the rest is read here, for JSON holds more words
than were said. Only the newest are looked at, so that a search costs the same however much there is: of `ITEMS` items
of 2 KB SQLite reads about 100 MB, a third of a second in a thread of its own.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from skilldeck_daemon.store.database import Database
from skilldeck_daemon.store.run_records import StoredResponse
from skilldeck_daemon.store.tables.documents import loads, loads_stored, unpack_now
from skilldeck_daemon.store.tables.schema import conversation_items, conversations, response_parts, responses

ITEMS, RUNS, SESSIONS = 50_000, 1_000, 10_000
"""How many of the newest are looked at."""
PAGE, PAGES = 200, 20
AROUND = 60
"""Characters of an excerpt on either side of what was found."""
SAID = frozenset({
    "text", "refusal", "content", "summary", "title", "metadata", "filename", "path", "query", "diff", "result",
    "action", "operation", "command", "commands", "code", "arguments", "input",
    "output", "outputs", "stdout", "stderr", "logs",
})  # fmt: skip
"""Keys of items below which is what somebody said, did or was shown."""


class Hit(NamedTuple):
    """`conversation`, or `response` where the run belongs to none; `excerpt` is one line around what was found."""

    conversation: str
    response: str
    excerpt: str


class Search:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def find(self, text: str, limit: int) -> list[Hit]:
        """At most `limit` conversations and runs that hold `text`, in any case of letters: those where it was said last
        first, conversations before runs."""
        wanted = re.compile(re.escape(text), re.IGNORECASE)
        async with self._db.read() as connection:
            found = await self._items(connection, text, wanted, limit)
            found |= await self._sessions(connection, text, wanted, set(found), limit)
            runs = await self._runs(connection, text, wanted, set(found), limit)
        return [*found.values(), *runs][:limit]

    async def _items(
        self, connection: AsyncConnection, text: str, wanted: re.Pattern[str], limit: int
    ) -> dict[str, Hit]:
        table, found = conversation_items, dict[str, Hit]()
        newest = (await connection.execute(select(func.max(table.c.seq)))).scalar() or 0
        before = newest + 1
        for _ in range(PAGES):
            query = select(table.c.seq, table.c.conversation_id, table.c.doc).where(
                table.c.seq > newest - ITEMS, table.c.seq < before, self._may_hold(table.c.doc, text),
                table.c.conversation_id.not_in(list(found)),
            )  # fmt: skip
            rows = (await connection.execute(query.order_by(table.c.seq.desc()).limit(PAGE))).all()
            for seq, conversation, excerpt in await asyncio.to_thread(_excerpts, rows, wanted):
                before = seq
                if excerpt and conversation not in found:
                    found[conversation] = Hit(conversation, "", excerpt)
            if len(rows) < PAGE or len(found) >= limit:
                break
        return found

    async def _sessions(
        self, connection: AsyncConnection, text: str, wanted: re.Pattern[str], known: set[str], limit: int
    ) -> dict[str, Hit]:
        """Those whose title (or another of their metadata) holds it."""
        table = conversations
        newest = (await connection.execute(select(func.max(table.c.seq)))).scalar() or 0
        query = select(table.c.seq, table.c.id, table.c.doc).where(
            table.c.seq > newest - SESSIONS, self._may_hold(table.c.doc, text)
        )
        rows = (await connection.execute(query.order_by(table.c.seq.desc()).limit(limit + len(known)))).all()
        found = await asyncio.to_thread(_excerpts, rows, wanted)
        return {id: Hit(id, "", excerpt) for _, id, excerpt in found if excerpt and id not in known}

    async def _runs(
        self, connection: AsyncConnection, text: str, wanted: re.Pattern[str], known: set[str], limit: int
    ) -> list[Hit]:
        """Of runs what they were asked with (which is packed) and their output; of those of a conversation their output
        alone, for one that failed leaves nothing in it."""
        table, given, found = responses, response_parts.alias("given"), list[Hit]()
        newest = (await connection.execute(select(func.max(table.c.seq)))).scalar() or 0
        before = newest + 1
        alone = table.c.conversation_id.is_(None)
        while before > max(1, newest - RUNS) and len(found) < limit:
            query = (
                select(table.c.seq, table.c.id, table.c.conversation_id, table.c.doc, given.c.data)
                .outerjoin(given, (given.c.response_id == table.c.id) & (given.c.kind == "input") & alone)
                .where(table.c.seq < before, table.c.seq > newest - RUNS)
                .where(or_(alone, self._may_hold(table.c.doc, text)))
            )
            rows = (await connection.execute(query.order_by(table.c.seq.desc()).limit(PAGE))).all()
            for seq, id, conversation, excerpt in await asyncio.to_thread(_excerpts_of_runs, rows, wanted):
                before = seq
                if not excerpt or conversation in known:
                    continue
                if conversation:
                    known.add(conversation)
                found.append(Hit(conversation or "", "" if conversation else id, excerpt))
            if len(rows) < PAGE:
                break
        return found

    def _may_hold(self, column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
        """Leaves out most that does not hold the text: by its longest part that JSON writes as it is."""
        part = max(re.findall(r"[ !#-\[\]-~]+", text), key=len, default="")
        if not part:
            return true()
        pattern = "%" + re.sub(r"([%_!])", r"!\1", part) + "%"
        # SQLite compares ASCII letters in any case by itself.
        return column.ilike(pattern, escape="!") if self._db.replicated else column.like(pattern, escape="!")


def _excerpts(rows: Sequence[Any], wanted: re.Pattern[str]) -> list[tuple[int, str, str]]:
    return [(seq, id, _excerpt(said(loads(doc)), wanted)) for seq, id, doc in rows]


def _excerpts_of_runs(rows: Sequence[Any], wanted: re.Pattern[str]) -> list[tuple[int, str, str | None, str]]:
    found = []
    for seq, id, conversation, doc, given in rows:
        response: StoredResponse = loads_stored(doc)
        items = [*(unpack_now(given) if given else [{"text": response.get("title")}]), *(response.get("output") or [])]
        found.append((seq, id, conversation, _excerpt(said(items), wanted)))
    return found


def said(value: Any, inside: bool = False) -> Iterator[str]:
    """The texts of items, in order. `inside`: the value stands at a key of `SAID`."""
    if isinstance(value, str):
        if inside:
            yield value
    elif isinstance(value, list):
        for entry in value:
            yield from said(entry, inside)
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield from said(entry, name in SAID)


def _excerpt(texts: Iterator[str], wanted: re.Pattern[str]) -> str:
    for text in texts:
        if (hit := wanted.search(text)) is not None:
            first, last = max(0, hit.start() - AROUND), hit.end() + AROUND
            part = " ".join(text[first:last].split())
            return f"{'…' if first else ''}{part}{'…' if last < len(text) else ''}"
    return ""
