"""The smaller repositories: containers and their files, stored chat completions, approval rules, conversations."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from skilldeck_daemon.store.database import Database
from skilldeck_daemon.store.ids import new_id, now, storable
from skilldeck_daemon.store.page import Page
from skilldeck_daemon.store.records import ConversationObject, NewRule, Rule, StoredContainer, StoredContainerFile
from skilldeck_daemon.store.run_records import Item
from skilldeck_daemon.store.tables.documents import Row, Rows, documents, dumps, loads, loads_stored, pack, unpack
from skilldeck_daemon.store.tables.schema import (
    approval_rules,
    chat_completions,
    container_files,
    containers,
    conversation_items,
    conversations,
)
from skilldeck_shared.json_types import JsonObject

# Classes with a method named `list` cannot say list[...] in their annotations.
Items = list[Item]
Messages = list[JsonObject]
RuleList = list[Rule]


class Containers:
    """Container objects by id. `put` inserts or replaces; deleting takes the records of its files with it."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._rows = Rows[Row](db, containers)

    async def put(self, container: StoredContainer) -> None:
        """Insert or replace."""
        values = {"status": str(container.get("status") or ""), "doc": dumps(container)}
        async with self._db.write() as connection:
            result = await connection.execute(
                update(containers).where(containers.c.id == container["id"]).values(**values)
            )
            if result.rowcount == 0:
                created_at = int(container.get("created_at") or now())
                await self._rows.insert({"id": container["id"], "created_at": created_at, **values}, connection)

    async def get(self, id: str) -> StoredContainer | None:
        row = await self._rows.get(id, "", "doc")
        return None if row is None else loads_stored(row["doc"])

    async def list(
        self, limit: int, order: str = "desc", after: str = "", *, status: str | None = None, name: str | None = None
    ) -> Page[StoredContainer]:
        """One page; `name` is compared with the stored object, so it reads on until the page is full."""
        filters: list[ColumnElement[bool]] = [] if status is None else [containers.c.status == status]
        if name is None:
            return await self._page(limit, order, after, *filters)
        found: list[StoredContainer] = []
        while True:
            page = await self._page(500, order, after, *filters)
            for container in page.data:
                if container.get("name") == name:
                    if len(found) == limit:
                        return Page(found, True)
                    found.append(container)
            if not page.has_more:
                return Page(found, False)
            after = page.data[-1]["id"]

    async def _page(self, limit: int, order: str, after: str, *filters: ColumnElement[bool]) -> Page[StoredContainer]:
        page = await self._rows.list(limit, order, after, *filters, columns=("doc",))
        return documents(self._db, page, loads_stored)

    async def delete(self, id: str) -> bool:
        return await self._rows.delete(id)


class ContainerFiles:
    """Container file objects; one path is one file of a container, a second `put` of a path replaces the first."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._rows = Rows[Row](db, container_files)

    async def put(self, file: StoredContainerFile, sha256: str | None = None) -> None:
        """`file` has id, container_id, path. `sha256` keeps a blob alive as long as the record."""
        same_path = (container_files.c.container_id == file["container_id"]) & (container_files.c.path == file["path"])
        values = {"path": file["path"], "sha256": sha256, "doc": dumps(file)}
        async with self._db.write() as connection:
            await connection.execute(delete(container_files).where(same_path, container_files.c.id != file["id"]))
            result = await connection.execute(
                update(container_files).where(container_files.c.id == file["id"]).values(**values)
            )
            if result.rowcount == 0:
                keys = {"id": file["id"], "container_id": file["container_id"]}
                await self._rows.insert(
                    {**keys, "created_at": int(file.get("created_at") or now()), **values}, connection
                )

    async def get(self, container_id: str, id: str) -> StoredContainerFile | None:
        row = await self._rows.get(id, "", "container_id", "doc")
        return loads_stored(row["doc"]) if row is not None and row["container_id"] == container_id else None

    async def find(self, id: str) -> StoredContainerFile | None:
        """The file, in whichever container it is."""
        row = await self._rows.get(id, "", "doc")
        return None if row is None else loads_stored(row["doc"])

    async def list(
        self, container_id: str, limit: int, order: str = "desc", after: str = ""
    ) -> Page[StoredContainerFile]:
        mine = container_files.c.container_id == container_id
        page = await self._rows.list(limit, order, after, mine, columns=("doc",))
        return documents(self._db, page, loads_stored)

    async def delete(self, container_id: str, id: str) -> bool:
        if await self.get(container_id, id) is None:
            return False
        return await self._rows.delete(id)


class ChatCompletions:
    """Stored chat completions with the messages they were asked with."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._rows = Rows[Row](db, chat_completions)

    async def create(self, completion: JsonObject, messages: Messages) -> None:
        await self._rows.insert(
            {
                "id": completion["id"],
                "created_at": int(completion.get("created") or now()),
                "model": str(completion.get("model") or ""),
                "doc": dumps(completion),
                "messages": await pack(messages),
            }
        )

    async def get(self, id: str) -> JsonObject | None:
        row = await self._rows.get(id, "", "doc")
        return None if row is None else loads(row["doc"])

    async def messages(self, id: str) -> Messages:
        row = await self._rows.get(id, "", "messages")
        messages: Messages = await unpack(row["messages"]) if row is not None else []
        return messages

    async def update(self, completion: JsonObject) -> bool:
        return await self._rows.update(completion["id"], {"doc": dumps(completion)})

    async def list(
        self,
        limit: int,
        order: str = "asc",
        after: str = "",
        *,
        model: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Page[JsonObject]:
        """One page; `metadata` keeps those that have all these pairs, reading on until the page is full."""
        filters: list[ColumnElement[bool]] = [] if model is None else [chat_completions.c.model == model]
        if not metadata:
            return await self._page(limit, order, after, *filters)
        found: Messages = []
        while True:
            page = await self._page(500, order, after, *filters)
            for completion in page.data:
                if metadata.items() <= (completion.get("metadata") or {}).items():
                    if len(found) == limit:
                        return Page(found, True)
                    found.append(completion)
            if not page.has_more:
                return Page(found, False)
            after = page.data[-1]["id"]

    async def _page(self, limit: int, order: str, after: str, *filters: ColumnElement[bool]) -> Page[JsonObject]:
        page = await self._rows.list(limit, order, after, *filters, columns=("doc",))
        return documents(self._db, page, loads)

    async def delete(self, id: str) -> bool:
        return await self._rows.delete(id)


class Rules:
    """Approval rules that outlive a session."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._rows = Rows[Row](db, approval_rules)

    async def add(self, rule: NewRule) -> Rule:
        """Store it; returns it complete."""
        complete: Rule = {"id": new_id("rule"), "created_at": now(), **rule}
        await self._rows.insert({"id": complete["id"], "created_at": complete["created_at"], "doc": dumps(complete)})
        return complete

    async def list(self) -> RuleList:
        """All rules, oldest first."""
        return documents(self._db, await self._rows.list(100_000, "asc", columns=("doc",)), loads).data

    async def put(self, rule: Rule) -> None:
        """Replace the rule of its id, if it is still there."""
        async with self._db.write() as connection:
            change = update(approval_rules).where(approval_rules.c.id == rule["id"])
            await connection.execute(change.values(doc=dumps(rule)))

    async def delete(self, id: str) -> bool:
        return await self._rows.delete(id)


class ConversationStore:
    """Conversations and their items; item ids are unique within one conversation."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._rows = Rows[Row](db, conversations)
        self._items = Rows[Row](db, conversation_items, parent="conversation_id")

    async def create(self, conversation: ConversationObject, items: Items) -> None:
        async with self._db.write() as connection:
            await self._rows.insert(
                {
                    "id": conversation["id"],
                    "created_at": int(conversation["created_at"]),
                    "doc": dumps(conversation),
                },
                connection,
            )
            if items:
                await connection.execute(insert(conversation_items), _item_rows(conversation["id"], items))

    async def get(self, id: str) -> ConversationObject | None:
        row = await self._rows.get(id, "", "doc")
        return None if row is None else loads(row["doc"])

    async def update(self, conversation: ConversationObject) -> bool:
        return await self._rows.update(conversation["id"], {"doc": dumps(conversation)})

    async def delete(self, id: str) -> bool:
        return await self._rows.delete(id)

    async def list(self, limit: int, order: str = "desc", after: str = "") -> Page[ConversationObject]:
        return documents(self._db, await self._rows.list(limit, order, after, columns=("doc",)), loads)

    async def add_items(self, id: str, items: Items) -> bool:
        """Append all or none. False when there is no such conversation; an item id it already has is replaced."""
        if not storable(id):
            return False
        async with self._db.write() as connection:
            return await append_items(connection, id, items)

    async def items(self, id: str, limit: int, order: str = "desc", after: str = "") -> Page[Item]:
        return documents(self._db, await self._items.list(limit, order, after, parent=id, columns=("doc",)), loads)

    async def all_items(self, id: str) -> Items:
        """Every item, oldest first."""
        if not storable(id):
            return []
        query = select(conversation_items.c.doc).where(conversation_items.c.conversation_id == id)
        async with self._db.read() as connection:
            docs = (await connection.execute(query.order_by(conversation_items.c.seq))).scalars().all()
        return documents(self._db, Page([{"doc": doc} for doc in docs]), loads).data

    async def item(self, id: str, item_id: str) -> Item | None:
        row = await self._items.get(item_id, id, "doc")
        return None if row is None else loads(row["doc"])

    async def delete_item(self, id: str, item_id: str) -> bool:
        return await self._items.delete(item_id, id)


async def append_items(connection: AsyncConnection, conversation: str, items: Sequence[Item]) -> bool:
    """`ConversationStore.add_items` inside a transaction."""
    # Locked: two daemons that append at once do it one after the other.
    there = select(conversations.c.seq).where(conversations.c.id == conversation).with_for_update()
    if (await connection.execute(there)).first() is None:
        return False
    ids = [item["id"] for item in items]
    for start in range(0, len(ids), 500):
        same = conversation_items.c.id.in_(ids[start : start + 500])
        await connection.execute(
            delete(conversation_items).where(conversation_items.c.conversation_id == conversation, same)
        )
    if items:
        await connection.execute(insert(conversation_items), _item_rows(conversation, items))
    return True


def _item_rows(id: str, items: Sequence[Item]) -> list[Row]:
    return [{"conversation_id": id, "id": item["id"], "doc": dumps(item)} for item in items]
