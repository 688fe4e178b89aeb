"""Stored responses: the Response object, its input items, its event log, and what is kept beside the log.

The object is rewritten at each change of status; the log is written once, when the run ends. A run that dies with
the daemon keeps its last stored object, marked failed at the next start, with a log of its first and last event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, cast, delete, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from skilldeck_daemon.store.database import Database
from skilldeck_daemon.store.ids import storable
from skilldeck_daemon.store.page import Page
from skilldeck_daemon.store.run_records import Again, Event, Extra, Item, ResponseError, StoredResponse, public_response
from skilldeck_daemon.store.tables.documents import (
    Ids,
    Row,
    Rows,
    documents,
    dumps,
    loads_stored,
    pack,
    unpack,
    unpack_now,
)
from skilldeck_daemon.store.tables.objects import append_items
from skilldeck_daemon.store.tables.schema import conversations, response_parts, responses
from skilldeck_shared.errors import BadRequest

UNFINISHED = ("queued", "in_progress")
# Classes with a method named `list` cannot say list[...] in their annotations.
Items = list[Item]
Events = list[Event]


class Link(NamedTuple):
    """One response of a chain, with the items it was asked with and what `finish` was given beside its log."""

    response: StoredResponse
    input: Items
    extra: Extra


def _columns(response: StoredResponse) -> Row:
    return {
        "status": str(response.get("status") or ""),
        "model": str(response.get("model") or ""),
        "doc": dumps(response),
    }


def _owned(id: str, instance: str | None) -> ColumnElement[bool]:
    mine = responses.c.id == id
    return mine if instance is None else mine & (responses.c.instance == instance)


def _conversation(response: StoredResponse) -> str | None:
    conversation = response.get("conversation")
    return conversation.get("id") if isinstance(conversation, dict) else None


class Responses:
    """The repository of responses. Every write is durable when the call returns."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._rows = Rows[Row](db, responses)

    async def create(
        self,
        response: StoredResponse,
        input_items: Items,
        background: bool = False,
        instance: str = "",
        *,
        request: Again | None = None,
        lease: int = 0,
    ) -> None:
        """Store a new response and the items it was asked with.

        Args:
            instance: names this start of the daemon, which runs it.
            request: what another daemon needs to run it anew.
            lease: seconds until another daemon may claim it (see leases.py).
        """
        parts = {"input": await pack(input_items)}
        if request is not None:
            parts["request"] = await pack(request)
        async with self._db.write() as connection:
            if lease:
                await _lock_conversation(connection, _conversation(response))
            values = {
                "id": response["id"],
                "created_at": int(response.get("created_at") or 0),
                "background": background,
                "instance": instance,
                "conversation_id": _conversation(response),
                "previous_response_id": response.get("previous_response_id"),
                **_columns(response),
            }
            if lease:
                values["lease_until"] = cast(func.extract("epoch", func.clock_timestamp()), BigInteger) + lease
            await connection.execute(insert(responses).values(**values))
            await connection.execute(insert(response_parts), _part_rows(response["id"], parts))

    async def update(self, response: StoredResponse, instance: str | None = None) -> bool:
        """Replace the stored object of an unfinished response. False when it was deleted or ended meanwhile, or is no
        longer run by `instance`."""
        async with self._db.write() as connection:
            mine = _owned(response["id"], instance) & responses.c.status.in_(UNFINISHED)
            result = await connection.execute(update(responses).where(mine).values(**_columns(response)))
            return result.rowcount > 0

    async def finish(
        self,
        response: StoredResponse,
        events: Sequence[Event],
        extra: Extra | None = None,
        instance: str | None = None,
        turn: Sequence[Item] | None = None,
    ) -> bool:
        """Replace the object, store its log and `extra`, and add `turn` to its conversation, in one transaction.

        False, with nothing stored, when it was deleted meanwhile, or is no longer run by `instance`.
        """
        parts = {"events": await pack(events), "extra": await pack(extra or {})}
        async with self._db.write() as connection:
            result = await connection.execute(
                update(responses).where(_owned(response["id"], instance)).values(**_columns(response))
            )
            if result.rowcount == 0:
                return False
            mine = response_parts.c.response_id == response["id"]
            await connection.execute(delete(response_parts).where(mine, response_parts.c.kind.in_(parts)))
            await connection.execute(insert(response_parts), _part_rows(response["id"], parts))
            conversation = _conversation(response)
            if conversation is not None and turn:
                await append_items(connection, conversation, turn)  # one that was deleted meanwhile stays deleted
        return True

    async def get(self, id: str) -> StoredResponse | None:
        """The Response object as last stored."""
        row = await self._rows.get(id, "", "doc")
        return loads_stored(row["doc"]) if row is not None else None

    async def chain(self, id: str, limit: int) -> list[Link]:
        """The response and those before it by previous_response_id, newest first, by one query.

        It ends at the first that is not there, at one of a conversation (which holds all before it), and at `limit`.
        """
        if not storable(id):
            return []
        columns = (responses.c.id, responses.c.previous_response_id, responses.c.conversation_id)
        found = select(*columns, literal(1).label("length")).where(responses.c.id == id).cte("found", recursive=True)
        goes_on = found.c.conversation_id.is_(None) & (found.c.length < limit)
        found = found.union_all(
            select(*columns, found.c.length + 1).where(responses.c.id == found.c.previous_response_id, goes_on)
        )
        given, beside = response_parts.alias("given"), response_parts.alias("beside")
        query = (
            select(responses.c.doc, given.c.data, beside.c.data)
            .join(found, found.c.id == responses.c.id)
            .outerjoin(given, (given.c.response_id == responses.c.id) & (given.c.kind == "input"))
            .outerjoin(beside, (beside.c.response_id == responses.c.id) & (beside.c.kind == "extra"))
            .order_by(found.c.length)
        )
        async with self._db.read() as connection:
            rows = (await connection.execute(query)).all()
        # A hundred of them take longer to read than the event loop has.
        return await asyncio.to_thread(lambda: [_link(*row) for row in rows])

    async def background(self, id: str) -> bool:
        """Whether it was asked to run in the background."""
        row = await self._rows.get(id, "", "background")
        return bool(row and row["background"])

    async def events(self, id: str) -> Events:
        """The event log; empty while the run goes on and for an unknown id."""
        return await self._part(id, "events") or []

    async def extra(self, id: str) -> Extra:
        """What `finish` was given beside the log."""
        found: Extra | None = await self._part(id, "extra")
        return found or {}

    async def input_items(self, id: str) -> Items:
        """The items of the request, in order."""
        return await self._part(id, "input") or []

    async def request(self, id: str) -> Again | None:
        """What `create` was given to run it anew."""
        found: Again | None = await self._part(id, "request")
        return found

    async def delete(self, id: str) -> bool:
        """Delete it with its log. Whether there was one."""
        return await self._rows.delete(id)

    async def list(
        self, limit: int, order: str = "desc", after: str = "", conversation: str | None = None
    ) -> Page[StoredResponse]:
        """One page of Response objects."""
        filters = [] if conversation is None else [responses.c.conversation_id == conversation]
        page = await self._rows.list(limit, order, after, *filters, columns=("doc",))
        return documents(self._db, page, loads_stored)

    async def fail_interrupted(self, instance: str) -> Ids:
        """Mark what other starts of the daemon left unfinished as failed; returns the ids.

        Each gets a log of `response.created` and `response.failed`, so that a replay ends.
        """
        query = select(responses.c.id, responses.c.doc).where(
            responses.c.status.in_(UNFINISHED), responses.c.instance != instance
        )
        async with self._db.read() as connection:
            rows = (await connection.execute(query.order_by(responses.c.seq))).all()
        page: Page[StoredResponse] = documents(self._db, Page([{"doc": doc} for _, doc in rows]), loads_stored)
        for response in page.data:
            await self.fail(response, "The daemon stopped before this response was finished.")
        return [response["id"] for response in page.data]

    async def fail(
        self, begun: StoredResponse, message: str, instance: str | None = None, status: str = "failed"
    ) -> bool:
        """End an unfinished response whose log is lost, with one that a replay can be made of."""
        error: ResponseError | None = {"code": "server_error", "message": message} if status == "failed" else None
        shown = public_response(begun)
        ended: StoredResponse = {
            **begun,
            "status": status,
            "error": error,
            "output": _settled(begun.get("output") or []),
        }
        last: Event = {
            "type": "response.failed" if status == "failed" else "response.incomplete",
            "sequence_number": 1 + 2 * len(ended["output"]),
            "response": {**shown, "status": status, "error": error, "output": ended["output"]},
        }
        first: Event = {"type": "response.created", "sequence_number": 0, "response": {**shown, "output": []}}
        return await self.finish(ended, [first, *_replay_items(ended["output"]), last], None, instance)

    async def _part(self, id: str, kind: str) -> Any:
        if not storable(id):
            return None
        query = select(response_parts.c.data).where(response_parts.c.response_id == id, response_parts.c.kind == kind)
        async with self._db.read() as connection:
            data = (await connection.execute(query)).scalar()
        return await unpack(data) if data is not None else None


def _link(doc: str, given: bytes | None, beside: bytes | None) -> Link:
    return Link(loads_stored(doc), unpack_now(given) if given else [], unpack_now(beside) if beside else {})


def conversation_locked(conversation: str) -> BadRequest:
    return BadRequest(
        f"Another response is being made in conversation {conversation!r}.",
        "Wait for its end.",
        param="conversation",
        code="conversation_locked",
    )


async def _lock_conversation(connection: AsyncConnection, conversation: str | None) -> None:
    """One response at a time in a conversation, whichever daemon makes it."""
    if conversation is None:
        return
    await connection.execute(select(conversations.c.seq).where(conversations.c.id == conversation).with_for_update())
    busy = select(responses.c.id).where(responses.c.conversation_id == conversation, responses.c.status.in_(UNFINISHED))
    if (await connection.execute(busy.limit(1))).first() is not None:
        raise conversation_locked(conversation)


def _settled(output: Items) -> Items:
    """No item of an ended response is still in progress."""
    return [{**item, "status": "incomplete"} if item.get("status") == "in_progress" else item for item in output]


def _replay_items(output: Items) -> Events:
    """Added and done of each item that had been stored: a terminal event holds only items that were added."""
    events: Events = []
    for index, item in enumerate(output):
        for offset, kind in enumerate(("added", "done")):
            events.append(
                {
                    "type": f"response.output_item.{kind}",
                    "sequence_number": 1 + 2 * index + offset,
                    "output_index": index,
                    "item": item,
                }
            )
    return events


def _part_rows(id: str, parts: dict[str, bytes]) -> list[Row]:
    return [{"response_id": id, "kind": kind, "data": data} for kind, data in parts.items()]
