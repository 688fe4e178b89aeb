"""Conversations: items that outlive a response and that later responses continue.

Takes and returns the objects of the wire. Runs append with `append`, clients with `add_items`; either adds all of its
items or none.
"""

from __future__ import annotations

from collections.abc import Collection

from skilldeck_daemon.libraries.bus import Bus
from skilldeck_daemon.libraries.records import SearchHit
from skilldeck_daemon.store import Page, Store, new_id, now
from skilldeck_daemon.store.ids import storable
from skilldeck_daemon.store.records import ConversationObject, Deleted
from skilldeck_daemon.store.tables.responses import UNFINISHED
from skilldeck_daemon.wire.fields import Fields, metadata, refuse
from skilldeck_daemon.wire.included import with_included
from skilldeck_daemon.wire.items import Item, parse_item
from skilldeck_shared.errors import BadRequest, NotFound
from skilldeck_shared.json_types import JsonObject

MAX_ITEMS = 20
MAX_SOUGHT = 200
PAGE = 100


class Conversations:
    """Everything the surfaces and runs do with conversations. The control socket calls them sessions."""

    def __init__(self, store: Store, bus: Bus) -> None:
        self._store = store
        self._bus = bus

    async def create(self, body: JsonObject | None = None) -> ConversationObject:
        """A new Conversation from the body {items? (≤ 20), metadata?}."""
        fields = Fields(body or {})
        items = _read_items(fields) if fields.value.get("items") is not None else []
        conversation: ConversationObject = {
            "id": new_id("conv"),
            "object": "conversation",
            "created_at": now(),
            "metadata": metadata(fields),
        }
        await self._store.conversations.create(conversation, items)
        self._bus.publish("session", "put", conversation["id"], conversation)
        return conversation

    async def fork(self, conversation_id: str, after: str, body: JsonObject | None = None) -> ConversationObject:
        """A new Conversation of the items of another one to the end of its response `after`; body {metadata?}.

        Its metadata says where it comes from: `branch_of` and `branch_after`. Later changes of either do not reach
        the other; their commands go on in the same container, as long as that lives.

        Raises:
            NotFound: there is no such conversation, or `after` is no response of it.
            BadRequest: that response has not ended.
        """
        await self.get(conversation_id)
        given = metadata(Fields(body or {}))
        response = await self._store.responses.get(after)
        of = response["conversation"] if response is not None else None
        if response is None or of is None or of["id"] != conversation_id:
            raise NotFound(f"The conversation has no response {after[:80]!r}.", param="after")
        if response["status"] in UNFINISHED:
            raise BadRequest(f"Response {after!r} has not ended yet.", "Wait for its end.", param="after")
        later = await self._later(conversation_id, after)
        kept: Items = []
        for item in await self._store.conversations.all_items(conversation_id):
            if item["id"] in later:
                break
            kept.append(item)
        conversation: ConversationObject = {
            "id": new_id("conv"),
            "object": "conversation",
            "created_at": now(),
            "metadata": {**given, "branch_of": conversation_id, "branch_after": after},
        }
        await self._store.conversations.create(conversation, kept)
        self._bus.publish("session", "put", conversation["id"], conversation)
        return conversation

    async def _later(self, conversation_id: str, after: str) -> set[str]:
        """Ids of what the responses behind `after` were asked and answered."""
        found: set[str] = set()
        while True:
            page = await self._store.responses.list(PAGE, "asc", after, conversation_id)
            for response in page.data:
                items = [*await self._store.responses.input_items(response["id"]), *response["output"]]
                found |= {item["id"] for item in items if "id" in item}
            if not page.has_more:
                return found
            after = page.data[-1]["id"]

    async def get(self, conversation_id: str, param: str = "conversation_id") -> ConversationObject:
        """The Conversation. Raises `NotFound` with `param`."""
        conversation = await self._store.conversations.get(conversation_id)
        if conversation is None:
            raise NotFound(f"There is no conversation {str(conversation_id)[:80]!r}.", param=param)
        return conversation

    async def list(self, limit: int = 20, order: str = "desc", after: str = "") -> Page[ConversationObject]:
        """One page of Conversations."""
        return await self._store.conversations.list(limit, order, after)

    async def find(self, text: str, limit: int = 50) -> Hits:
        """Conversations, and runs that belong to none, in which somebody said `text` (`store/tables/search.py`): at
        most `limit`."""
        text = " ".join(text.split())
        if not 2 <= len(text) <= MAX_SOUGHT:
            raise BadRequest(f"The text to find must have 2 to {MAX_SOUGHT} characters.", param="text")
        hits = await self._store.search.find(text, max(1, min(limit or 50, 200)))
        return [
            {"object": "search.hit", "session": hit.conversation, "run": hit.response, "excerpt": hit.excerpt}
            for hit in hits
        ]

    async def update(self, conversation_id: str, body: JsonObject) -> ConversationObject:
        """Replace its metadata; body {metadata}."""
        conversation = await self.get(conversation_id)
        fields = Fields(body)
        if "metadata" not in body:
            refuse("metadata", "Missing required parameter: 'metadata'.", code="missing_required_parameter")
        conversation = {**conversation, "metadata": metadata(fields)}
        if not await self._store.conversations.update(conversation):
            await self.get(conversation_id)
        self._bus.publish("session", "put", conversation_id, conversation)
        return conversation

    async def delete(self, conversation_id: str) -> Deleted:
        """Delete it with its items; responses that were part of it stay."""
        if not await self._store.conversations.delete(conversation_id):
            await self.get(conversation_id)
        self._bus.publish("session", "delete", conversation_id)
        return {"id": conversation_id, "object": "conversation.deleted", "deleted": True}

    async def items(
        self, conversation_id: str, limit: int = 20, order: str = "desc", after: str = "", include: Collection[str] = ()
    ) -> Page[Item]:
        """One page of its items, with what `include` asks for beside what they hold."""
        await self.get(conversation_id)
        page = await self._store.conversations.items(conversation_id, limit, order, after)
        return Page(with_included(page.data, include), page.has_more)

    async def all_items(self, conversation_id: str, param: str = "conversation") -> Items:
        """Every item, oldest first; what a run continues from."""
        await self.get(conversation_id, param)
        return await self._store.conversations.all_items(conversation_id)

    async def add_items(self, conversation_id: str, body: JsonObject, include: Collection[str] = ()) -> Page[Item]:
        """Append the items of the body {items (≤ 20)}; returns them as stored."""
        await self.get(conversation_id)
        items = _read_items(Fields(body))
        await self.append(conversation_id, items)
        return Page(with_included(items, include), False)

    async def append(self, conversation_id: str, items: Items) -> None:
        """Append complete items (each with an id); an item whose id it already holds is replaced."""
        if not await self._store.conversations.add_items(conversation_id, items):
            await self.get(conversation_id)

    async def item(self, conversation_id: str, item_id: str, include: Collection[str] = ()) -> Item:
        """One item. Raises `NotFound`."""
        await self.get(conversation_id)
        item = await self._store.conversations.item(conversation_id, item_id)
        if item is None:
            raise NotFound(f"The conversation has no item {item_id[:80]!r}.", param="item_id")
        return with_included([item], include)[0]

    async def delete_item(self, conversation_id: str, item_id: str) -> ConversationObject:
        """Delete one item; returns the Conversation."""
        conversation = await self.get(conversation_id)
        if not await self._store.conversations.delete_item(conversation_id, item_id):
            raise NotFound(f"The conversation has no item {item_id[:80]!r}.", param="item_id")
        return conversation


# Inside the class `list` is a method.
Items = list[Item]
Hits = list[SearchHit]


def _read_items(fields: Fields) -> Items:
    items: Items = []
    for given in fields.objects("items", required=True, maximum=MAX_ITEMS):
        item = parse_item(given)
        if item["type"] == "item_reference":
            refuse(given.name("type"), "A conversation cannot hold references.", "Send the item itself.")
        if not storable(item["id"]):
            refuse(given.name("id"), "An id must be of printable ASCII characters.", "Leave it out to get one.")
        items.append(item)
    ids = [item["id"] for item in items]
    for index, id in enumerate(ids):
        if id in ids[:index]:
            refuse(f"items[{index}].id", "Two items have the same id.", "Leave the ids out.")
    return items
