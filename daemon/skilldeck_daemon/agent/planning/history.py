"""What was said before: the items of earlier responses or of a conversation, and what input items refer to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from skilldeck_daemon.agent.live import LiveRun
from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.events.output import woven
from skilldeck_daemon.store import Store
from skilldeck_daemon.store.tables.responses import UNFINISHED
from skilldeck_daemon.wire.item_kinds import CALLS, OUTPUTS, Item, call_key
from skilldeck_shared.errors import BadRequest, NotFound

MAX_CHAIN = 10_000
SEARCHED_RESPONSES = 500
"""How many of the newest responses are searched for the item of an item_reference."""


@dataclass(frozen=True)
class History:
    """`items` in order; `raw`: the calls' arguments as the model wrote them; `session` names the whole exchange."""

    items: list[Item] = field(default_factory=list)
    raw: dict[str, str] = field(default_factory=dict)
    session: str = ""


async def load(store: Store, request: ResponseRequest, live: Collection[str], after: LiveRun | None) -> History:
    """The history a request continues."""
    if request.conversation:
        if await store.conversations.get(request.conversation) is None:
            raise NotFound(f"Conversation with id {request.conversation[:100]!r} not found.", param="conversation")
        return History(await store.conversations.all_items(request.conversation), {}, request.conversation)
    if not request.previous_response_id:
        return History()
    if after is not None:
        return History(after.items, after.raw, after.session)
    if request.previous_response_id in live:
        raise _not_ready(request.previous_response_id)
    return await _chain(store, request.previous_response_id)


def _not_ready(response_id: str) -> BadRequest:
    return BadRequest(
        f"Response {response_id!r} has not ended yet.",
        "Wait for its end.",
        param="previous_response_id",
        code="previous_response_not_ready",
    )


async def _chain(store: Store, id: str) -> History:
    """Walk the chain from the newest response to the oldest; return it in the order of time."""
    parts: list[list[Item]] = []
    raw: dict[str, str] = {}
    session = ""
    links = await store.responses.chain(id, MAX_CHAIN)
    if not links:
        raise BadRequest(
            f"Previous response with id {id[:100]!r} not found.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    for response, given, extra in links:  # it ends where an earlier one was deleted: what is left is returned
        if response["status"] in UNFINISHED:  # another daemon of this store runs it
            raise _not_ready(response["id"])
        parts.append(given + woven(response["output"], extra.get("hidden", [])))
        raw = {**extra.get("raw", {}), **raw}
        session = session or response.get("session", "")
        conversation = response.get("conversation")
        if conversation:
            # It was asked within a conversation: that holds all before it.
            earlier = await store.conversations.all_items(conversation["id"])
            mine = {item["id"] for part in parts for item in part if "id" in item}
            parts.append([item for item in earlier if item.get("id") not in mine])
    items = [item for part in reversed(parts) for item in part]
    return History(_resolved(items), raw, session or id)


def _resolved(items: list[Item]) -> list[Item]:
    """References inside a stored history mean items of the same history, which are there already."""
    return [item for item in items if item.get("type") != "item_reference"]


async def references(items: list[Item], history: list[Item], store: Store) -> list[Item]:
    """The input with each item_reference replaced by the item it means (dropped when the history holds it)."""
    if not any(item.get("type") == "item_reference" for item in items):
        return list(items)
    known = {item["id"]: item for item in [*history, *items] if item.get("type") != "item_reference" and "id" in item}
    known_ids = {item["id"] for item in history if "id" in item}
    resolved: list[Item] = []
    for index, item in enumerate(items):
        if item.get("type") != "item_reference":
            resolved.append(item)
            continue
        found = known.get(item["id"]) or await _search(store, item["id"])
        if found is None:
            raise NotFound(f"Item with id {item['id'][:100]!r} not found.", param=f"input[{index}].id")
        if item["id"] not in known_ids:
            known_ids.add(item["id"])
            resolved.append(found)
    return resolved


async def _search(store: Store, id: str) -> Item | None:
    after, searched = "", 0
    while searched < SEARCHED_RESPONSES:
        page = await store.responses.list(100, "desc", after)
        for response in page.data:
            for item in response["output"]:
                if item.get("id") == id:
                    return item
            for item in await store.responses.input_items(response["id"]):
                if item.get("id") == id and item.get("type") != "item_reference":
                    return item
        searched += len(page.data)
        if not page.has_more:
            return None
        after = page.data[-1]["id"]
    return None


def check_calls(items: list[Item], first_input: int) -> None:
    """Every output needs its call before it, and every call of the client's its output, as OpenAI demands."""
    calls: dict[str, Item] = {}
    for position, item in enumerate(items):
        kind = item.get("type", "")
        if kind in CALLS:
            calls[call_key(item)] = item
        elif kind in OUTPUTS and calls.pop(item["call_id"], None) is None and position >= first_input:
            raise BadRequest(
                f"No tool call found for the {kind} with call_id {item['call_id'][:100]!r}.",
                "Send the call before its output, or previous_response_id.",
                param="input",
            )
    for call in calls.values():
        # A hosted call without output was interrupted here.
        if call.get("status") != "incomplete" and CALLS[call["type"]].clients(call):
            raise BadRequest(
                f"No tool output found for the {call['type']} with call_id {call['call_id'][:100]!r}.",
                "Send its output in 'input'.",
                param="input",
            )
