"""The Control service: every call of control.proto over the daemon's `Services`. It translates and nothing more.

Objects travel as the JSON that HTTP sends. Runs started here belong to no connection: a client that goes away leaves
its run going, and finds it again with WatchRun. Deltas are merged on the way out (`deltas.py`, `coalesce.py`);
everything else arrives once each, in order.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from skilldeck_daemon.agent.planning.plan import Nearby
from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.libraries.approvals import parse_permission
from skilldeck_daemon.libraries.containers.container_commands import exec_command
from skilldeck_daemon.rpc.coalesce import Coalescer
from skilldeck_daemon.rpc.deltas import merged, place
from skilldeck_daemon.rpc.handling import (
    Calls,
    dump,
    many,
    one,
    page_of,
    parse,
    received,
    reply,
    send_file,
    streaming,
    upload,
)
from skilldeck_daemon.rpc.models import ModelCalls
from skilldeck_daemon.rpc.sessions import SessionCalls
from skilldeck_daemon.rpc.state import State
from skilldeck_daemon.skills.reader import UploadPart
from skilldeck_daemon.wire.caller import CLIENT, CLIENT_CHARS
from skilldeck_shared.errors import BadRequest, TooLarge
from skilldeck_shared.proto import control_pb2 as pb
from skilldeck_shared.proto.control_grpc import ControlBase
from skilldeck_shared.skills.bundle import LIMITS, Entry
from skilldeck_shared.version import __version__

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services

log = logging.getLogger(__name__)


class ControlService(SessionCalls, ModelCalls, ControlBase):
    """`on_shutdown` is called once a client asked the daemon to stop and has its answer."""

    def __init__(self, services: Services, on_shutdown: Callable[[], None] | None = None) -> None:
        self.calls = Calls()
        self._services = services
        self._state = State(services)
        self._on_shutdown = on_shutdown

    async def drain(self, grace: float) -> None:
        """Wait for calls that end by themselves."""
        if not await self.calls.drained(grace):
            log.warning("%d control calls were cut off by the shutdown", self.calls.count)
        await self._state.close()

    # ------------------------------------------------------------ the daemon

    @reply
    async def Hello(self, request: pb.HelloRequest) -> pb.HelloReply:
        services = self._services
        return pb.HelloReply(
            version=__version__,
            instance=services.instance,
            http_url=services.http_url,
            pid=os.getpid(),
            data_dir=str(services.settings.data_dir),
        )

    @reply
    async def Shutdown(self, request: pb.Empty) -> pb.Empty:
        log.info("a client asked the daemon to stop")
        if self._on_shutdown is not None:
            # After the answer is on its way.
            asyncio.get_running_loop().call_later(0.05, self._on_shutdown)
        return pb.Empty()

    @streaming
    async def Subscribe(self, request: pb.SubscribeRequest, stream: Any) -> None:
        async with self._state.updates() as updates:
            async for update in updates:
                await stream.send_message(update)

    @streaming
    async def Logs(self, request: pb.LogsRequest, stream: Any) -> None:
        if not 0 <= request.tail <= 100_000:
            raise BadRequest(f"tail is {request.tail}; it must be 0 to 100000.", param="tail")
        logs = self._services.logs
        if not request.follow:
            for entry in logs.tail(request.tail, request.level):
                await stream.send_message(_record(entry))
            return
        entries = logs.follow(request.tail, request.level)
        async for entry in entries:
            await stream.send_message(_record(entry))

    # ------------------------------------------------------------ runs

    @reply
    async def StartRun(self, request: pb.StartRunRequest) -> pb.StartRunReply:
        body = parse(request.request_json, "request_json")
        CLIENT.set(request.origin[:CLIENT_CHARS])
        nearby = Nearby(project=request.project, skills=tuple(request.disk_skills))
        run = await self._services.runs.start(
            ResponseRequest.parse(body), parse_permission(request.permission), nearby=nearby
        )
        return pb.StartRunReply(run_id=run.id, response_json=dump(run.response))

    @streaming
    async def WatchRun(self, request: pb.WatchRunRequest, stream: Any) -> None:
        runs, run_id = self._services.runs, request.run_id
        live = runs.live(run_id)
        times = live.times if live is not None else await runs.times(run_id)
        async with aclosing(Coalescer(runs.replay(run_id, request.after), place, merged)) as events:
            async for event in events:
                number = event["sequence_number"]
                await stream.send_message(
                    pb.RunEvent(
                        run_id=run_id,
                        sequence=number,
                        type=event["type"],
                        json=dump(event),
                        time=times[number] if number < len(times) else 0.0,
                    )
                )

    @reply
    async def GetRun(self, request: pb.Ref) -> pb.RunDetail:
        detail = await self._services.runs.detail(request.id)
        return pb.RunDetail(
            response_json=dump(detail["response"]),
            input_json=[dump(item) for item in detail["input"]],
            timeline_json=dump(detail["timeline"]),
        )

    @reply
    async def CancelRun(self, request: pb.CancelRunRequest) -> pb.Json:
        runs = self._services.runs
        return one(await (runs.cancel_after_turn(request.id) if request.after_turn else runs.cancel(request.id)))

    @reply
    async def DeleteRun(self, request: pb.Ref) -> pb.Json:
        return one(await self._services.runs.delete(request.id))

    @reply
    async def ListRuns(self, request: pb.ListRequest) -> pb.JsonList:
        page = await self._services.runs.list(**page_of(request), conversation=request.parent or None)
        return many(page.data, page.has_more)

    # ------------------------------------------------------------ approvals

    @reply
    async def DecideApproval(self, request: pb.DecideApprovalRequest) -> pb.Json:
        return one(
            await self._services.approvals.decide(
                request.id,
                request.decision,
                remember_for_session=request.remember_for_session,
                remember_always=request.remember_always,
                message=request.message,
                prefix=request.prefix,
            )
        )

    @reply
    async def ListRules(self, request: pb.Empty) -> pb.JsonList:
        return many(await self._services.approvals.rules())

    @reply
    async def UpdateRule(self, request: pb.UpdateRequest) -> pb.Json:
        prefix = parse(request.json, "json").get("prefix")
        return one(await self._services.approvals.change(request.id, prefix))

    @reply
    async def RevokeRule(self, request: pb.Ref) -> pb.Json:
        return one(await self._services.approvals.revoke(request.id))

    # ------------------------------------------------------------ skills

    @reply
    async def MissingBlobs(self, request: pb.MissingBlobsRequest) -> pb.MissingBlobsReply:
        return pb.MissingBlobsReply(sha256=await self._services.skills.missing(list(request.sha256)))

    @upload
    async def UploadSkill(self, stream: Any) -> pb.UploadSkillReply:
        header = await _header(stream)
        if header.size > LIMITS.zip_bytes:
            raise TooLarge(
                f"The skill's zip has {header.size:,} bytes; at most {LIMITS.zip_bytes:,} are allowed.", param="files"
            )
        async with self._services.store.blobs.staging() as staging:
            path = staging / "upload.zip"
            with path.open("wb") as file:
                async for chunk in received(stream, header.size):
                    await asyncio.to_thread(file.write, chunk)
            uploaded = await self._services.skills.upload(
                [UploadPart("upload.zip", path, header.size)],
                skill_id=header.skill_id,
                by_name=header.by_name,
                make_default=header.make_default,
                digest=header.digest,
                source=header.source,
                watched=header.watched,
                origin=_origin(header.origin),
                listed=[Entry(file.path, file.size, file.sha256, file.executable) for file in header.files],
            )
        return pb.UploadSkillReply(
            skill_json=dump(uploaded.skill), version_json=dump(uploaded.version), unchanged=uploaded.unchanged
        )

    @reply
    async def ListSkills(self, request: pb.ListRequest) -> pb.JsonList:
        page = await self._services.skills.list(**page_of(request))
        return many(page.data, page.has_more)

    @reply
    async def ListSkillVersions(self, request: pb.ListRequest) -> pb.JsonList:
        page = await self._services.skills.versions(request.parent, **page_of(request))
        return many(page.data, page.has_more)

    @reply
    async def SetDefaultVersion(self, request: pb.SkillVersionRef) -> pb.Json:
        return one(await self._services.skills.set_default(request.skill_id, request.version))

    @reply
    async def DeleteSkill(self, request: pb.Ref) -> pb.Json:
        return one(await self._services.skills.delete(request.id))

    @reply
    async def DeleteSkillVersion(self, request: pb.SkillVersionRef) -> pb.Json:
        return one(await self._services.skills.delete_version(request.skill_id, request.version))

    @reply
    async def SkillTree(self, request: pb.SkillVersionRef) -> pb.JsonList:
        return many(await self._services.skills.tree(request.skill_id, request.version))

    @streaming
    async def ReadSkillFile(self, request: pb.ReadSkillFileRequest, stream: Any) -> None:
        await send_file(stream, await self._services.skills.read_file(request.skill_id, request.version, request.path))

    # ------------------------------------------------------------ skills on disk

    @reply
    async def ListDiskSkills(self, request: pb.ProjectRef) -> pb.DiskSkills:
        disk = self._services.disk
        skills = await disk.list(request.path)
        return pb.DiskSkills(json=[dump(skill) for skill in skills], warnings=await disk.warnings(request.path))

    @reply
    async def ListTrusted(self, request: pb.Empty) -> pb.JsonList:
        return many(await asyncio.to_thread(self._services.disk.trust.list))

    @reply
    async def TrustProject(self, request: pb.ProjectRef) -> pb.Json:
        return one(await asyncio.to_thread(self._services.disk.trust.add, request.path))

    @reply
    async def UntrustProject(self, request: pb.ProjectRef) -> pb.Json:
        return one(await asyncio.to_thread(self._services.disk.trust.remove, request.path))

    # ------------------------------------------------------------ files

    @upload
    async def UploadFile(self, stream: Any) -> pb.Json:
        header = await _header(stream)
        return one(
            await self._services.files.create(
                received(stream, header.size), filename=header.filename, purpose=header.purpose or "user_data"
            )
        )

    @reply
    async def ListFiles(self, request: pb.ListRequest) -> pb.JsonList:
        page = await self._services.files.list(**page_of(request))
        return many(page.data, page.has_more)

    @streaming
    async def ReadFile(self, request: pb.Ref, stream: Any) -> None:
        await send_file(stream, await self._services.files.path(request.id))

    @reply
    async def DeleteFile(self, request: pb.Ref) -> pb.Json:
        return one(await self._services.files.delete(request.id))

    # ------------------------------------------------------------ containers

    @reply
    async def ListContainers(self, request: pb.ListRequest) -> pb.JsonList:
        page = await self._services.environments.list(**page_of(request))
        return many(page.data, page.has_more)

    @reply
    async def ListContainerFiles(self, request: pb.ListRequest) -> pb.JsonList:
        page = await self._services.environments.files.list(request.parent, **page_of(request))
        return many(page.data, page.has_more)

    @streaming
    async def ReadContainerFile(self, request: pb.ContainerFileRef, stream: Any) -> None:
        file, _, _ = await self._services.environments.files.open(request.container_id, request.file_id)
        await send_file(stream, file)

    @reply
    async def CreateContainer(self, request: pb.Json) -> pb.Json:
        return one(await self._services.environments.create(parse(request.json, "json")))

    @reply
    async def DeleteContainer(self, request: pb.Ref) -> pb.Json:
        return one(await self._services.environments.delete(request.id))

    @reply
    async def ExecInContainer(self, request: pb.ExecRequest) -> pb.Json:
        environments = self._services.environments
        return one(await exec_command(environments, request.container_id, request.command, request.timeout_ms))

    # ------------------------------------------------------------ tests of skills

    @reply
    async def PutEvaluation(self, request: pb.Json) -> pb.Json:
        return one(await self._services.evaluations.put(parse(request.json, "json")))

    @reply
    async def GetEvaluation(self, request: pb.Ref) -> pb.Json:
        return one(await self._services.evaluations.get(request.id))

    @reply
    async def ListEvaluations(self, request: pb.ListRequest) -> pb.JsonList:
        page = await self._services.evaluations.list(**page_of(request), skill=request.parent)
        return many(page.data, page.has_more)

    @reply
    async def DeleteEvaluation(self, request: pb.Ref) -> pb.Json:
        return one(await self._services.evaluations.delete(request.id))

    @reply
    async def AddTrial(self, request: pb.Json) -> pb.Json:
        return one(await self._services.evaluations.add_trial(parse(request.json, "json")))

    @reply
    async def ListTrials(self, request: pb.TrialsRequest) -> pb.JsonList:
        asked = pb.ListRequest(limit=request.limit, after=request.after, order=request.order or "asc")
        page = await self._services.evaluations.trials(
            **page_of(asked), evaluation=request.evaluation, skill=request.skill, keys=list(request.keys)
        )
        return many(page.data, page.has_more)


async def _header(stream: Any) -> Any:
    """The first message of an upload."""
    first = await stream.recv_message()
    if first is None or first.WhichOneof("kind") != "header":
        raise BadRequest("An upload begins with its header.", param="header")
    if first.header.size < 0:
        raise BadRequest("The size of an upload cannot be negative.", param="size")
    return first.header


def _origin(origin: str) -> str:
    if origin not in ("", "upload", "install"):
        raise BadRequest(f"origin is {origin[:40]!r}; it must be upload or install.", param="origin")
    return origin or "upload"


def _record(entry: Any) -> pb.LogRecord:
    return pb.LogRecord(time=entry.time, level=entry.level, logger=entry.logger, message=entry.message)


__all__ = ["ControlService"]
