"""The calls of control.proto about sessions, which are conversations. A part of `ControlService`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skilldeck_daemon.rpc.handling import Calls, many, one, page_of, parse, reply
from skilldeck_shared.proto import control_pb2 as pb

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services


class SessionCalls:
    calls: Calls
    _services: Services

    @reply
    async def ListSessions(self, request: pb.ListRequest) -> pb.JsonList:
        page = await self._services.conversations.list(**page_of(request))
        return many(page.data, page.has_more)

    @reply
    async def CreateSession(self, request: pb.Json) -> pb.Json:
        return one(await self._services.conversations.create(parse(request.json, "json")))

    @reply
    async def UpdateSession(self, request: pb.UpdateRequest) -> pb.Json:
        return one(await self._services.conversations.update(request.id, parse(request.json, "json")))

    @reply
    async def DeleteSession(self, request: pb.Ref) -> pb.Json:
        return one(await self._services.conversations.delete(request.id))

    @reply
    async def SessionItems(self, request: pb.ListRequest) -> pb.JsonList:
        page = await self._services.conversations.items(request.parent, **page_of(request))
        return many(page.data, page.has_more)

    @reply
    async def Search(self, request: pb.SearchRequest) -> pb.JsonList:
        return many(await self._services.conversations.find(request.text, request.limit))

    @reply
    async def ForkSession(self, request: pb.ForkRequest) -> pb.Json:
        body = parse(request.json, "json") if request.json else {}
        return one(await self._services.conversations.fork(request.id, request.after, body))

    @reply
    async def CompactSession(self, request: pb.CompactRequest) -> pb.Json:
        return one(await self._services.runs.compact_conversation(request.id, request.model))
