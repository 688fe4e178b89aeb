"""The one client of the daemon's control socket, for the TUI and the CLI alike.

OpenAI objects come and go as the dicts they are on HTTP. Every method raises `SkilldeckError`s only: the daemon's own,
rebuilt with title and hint, `DaemonUnreachable` when nobody answers, `ConnectionLost` when the daemon goes away in
the middle of a call. Nothing here retries a call that may have taken effect; `follow` and `follow_run` resume *reading*
across a restart of the daemon, without loss or doubling.

    client = await Client.connect()
    response = await client.start_run({"model": "default", "input": "hello"})
    async for event in client.watch_run(response["id"]):
        ...
    await client.close()
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from grpclib.client import Channel

from skilldeck_shared import paths
from skilldeck_shared.control import CHUNK
from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_shared.proto import control_pb2 as pb
from skilldeck_shared.proto.control_grpc import ControlStub
from skilldeck_shared.version import __version__
from skilldeck_tui.client.calls import read_all
from skilldeck_tui.client.evaluations import EvaluationCalls
from skilldeck_tui.client.transport import SocketChannel, Stream, upload
from skilldeck_tui.client.types import (
    Change,
    ConnectionLost,
    DaemonUnreachable,
    Hello,
    Link,
    LoadProgress,
    LogRecord,
    Object,
    Page,
    Progress,
    RunDetail,
    RunEvent,
    Snapshot,
    UploadedSkill,
    VersionMismatch,
    data,
    load_progress,
    objects,
    parse,
    run_event,
    update,
)

__all__ = [
    "Change",
    "Client",
    "ConnectionLost",
    "DaemonUnreachable",
    "Hello",
    "Link",
    "LoadProgress",
    "LogRecord",
    "Page",
    "RunDetail",
    "RunEvent",
    "Snapshot",
    "Stream",
    "UploadedSkill",
    "VersionMismatch",
    "read_all",
]


class Client(EvaluationCalls):
    """A connection to one daemon. Make it with `connect`; safe to use from many tasks of one event loop."""

    def __init__(self, channel: Channel, path: Path | None = None) -> None:
        super().__init__(ControlStub(channel), path)
        self._channel = channel
        self.daemon: Hello | None = None

    # ------------------------------------------------------------ connection

    @classmethod
    async def connect(cls, path: Path | None = None, *, wait: float = 0.0, check_version: bool = True) -> Client:
        """Connect to `path` (default: `paths.socket_path()`), trying for `wait` seconds while a daemon starts.

        Raises DaemonUnreachable, or VersionMismatch unless `check_version` is off (a stop must reach any daemon).
        """
        path = path or paths.socket_path()
        client = cls(SocketChannel(path), path)
        deadline = asyncio.get_running_loop().time() + wait
        while True:
            try:
                await client.hello(check_version=check_version)
                return client
            except DaemonUnreachable:
                if asyncio.get_running_loop().time() >= deadline:
                    await client.close()
                    raise
                await asyncio.sleep(0.05)
            except BaseException:
                await client.close()
                raise

    async def close(self) -> None:
        self._channel.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def hello(self, *, check_version: bool = True) -> Hello:
        """The handshake: who listens. Releases that differ in more than the last number do not talk to each other."""
        reply = await self._call(self._stub.Hello, pb.HelloRequest(client="skilldeck", version=__version__), timeout=10)
        self.daemon = Hello(reply.version, reply.instance, reply.http_url, reply.pid, reply.data_dir)
        if check_version and reply.version.split(".")[:2] != __version__.split(".")[:2]:
            raise VersionMismatch(
                f"The running daemon is skilldeck {reply.version}, this client is {__version__}.",
                "Restart it: `skilldeck stop`, then the same command again.",
            )
        return self.daemon

    async def shutdown(self) -> None:
        """Ask the daemon to stop; returns when it has let go of the connection or said yes."""
        with suppress(ConnectionLost):
            await self._call(self._stub.Shutdown, pb.Empty())

    # ------------------------------------------------------------ watching

    def subscribe(self) -> Stream[Snapshot | Change]:
        """One `Snapshot`, then `Change`s until the connection ends. `follow` resumes by itself."""
        return self._stream(self._stub.Subscribe, pb.SubscribeRequest(), update)

    async def follow(self, *, pause: float = 0.1, longest: float = 2.0) -> AsyncIterator[Link | Snapshot | Change]:
        """Like `subscribe`, for ever: a lost connection yields `Link("lost")` and, once the daemon is back,
        `Link("connected")` and a new `Snapshot` (which replaces everything known)."""
        attempt = 0
        while True:
            stream = self.subscribe()
            connected = False
            try:
                async for update in stream:
                    if not connected:
                        # A restarted daemon may be another release and is another instance: shake hands again.
                        await self.hello()
                        connected, attempt = True, 0
                        yield Link("connected")
                    yield update
                error: SkilldeckError = ConnectionLost("The daemon ended the subscription.")
            except DaemonUnreachable as lost:
                error = lost
            finally:
                await stream.aclose()
            attempt += 1
            yield Link("lost", attempt, error)
            await asyncio.sleep(min(longest, pause * 2 ** min(attempt - 1, 10)))

    def logs(self, *, tail: int = 200, follow: bool = False, level: str = "") -> Stream[LogRecord]:
        """The last `tail` records of the daemon at `level` or above, then new ones when `follow`."""
        request = pb.LogsRequest(tail=tail, follow=follow, level=level)
        return self._stream(self._stub.Logs, request, lambda r: LogRecord(r.time, r.level, r.logger, r.message))

    # ------------------------------------------------------------ runs

    async def start_run(
        self,
        request: Object,
        permission: str = "",
        *,
        project: str = "",
        disk_skills: Sequence[str] = (),
        origin: str = "",
    ) -> Object:
        """Start what POST /v1/responses would, and return the new Response. Stored before this returns.

        Args:
            permission: "", auto, ask or deny; can only make the daemon's own setting stricter.
            project: the working directory; skills of its project may be named in the prompt.
            disk_skills: skills on disk to offer whatever the prompt says.
            origin: what it is for: "chat", "run", "test"; runs are grouped by it.
        """
        message = pb.StartRunRequest(
            request_json=json.dumps(request), permission=permission, project=project, disk_skills=disk_skills,
            origin=origin,
        )  # fmt: skip
        # It waits for a model that is being loaded: the daemon gives up after 10 minutes.
        reply = await self._call(self._stub.StartRun, message, timeout=660)
        return parse(reply.response_json)

    def watch_run(self, run_id: str, after: int = -1) -> Stream[RunEvent]:
        """A run's events after the sequence number `after` (-1: all), then live ones, to the terminal event."""
        return self._stream(self._stub.WatchRun, pb.WatchRunRequest(run_id=run_id, after=after), run_event)

    async def follow_run(self, run_id: str, after: int = -1, *, patience: float = 30.0) -> AsyncIterator[RunEvent]:
        """Like `watch_run`, resumed where it stopped when the connection breaks; gives up after `patience` seconds
        without one."""
        lost_at: float | None = None
        while True:
            stream = self.watch_run(run_id, after)
            try:
                async for event in stream:
                    lost_at = None
                    after = event.sequence
                    yield event
                return
            except DaemonUnreachable:
                now = asyncio.get_running_loop().time()
                lost_at = now if lost_at is None else lost_at
                if now - lost_at > patience:
                    raise
            finally:
                await stream.aclose()
            await asyncio.sleep(0.2)

    async def run(self, run_id: str) -> RunDetail:
        reply = await self._call(self._stub.GetRun, pb.Ref(id=run_id))
        return RunDetail(
            parse(reply.response_json),
            [parse(item) for item in reply.input_json],
            parse(reply.timeline_json),
        )

    async def cancel_run(self, run_id: str, *, after_turn: bool = False) -> Object:
        """Stop a run now; `after_turn`: before the model's next turn, without waiting for that."""
        return await self._json(self._stub.CancelRun, pb.CancelRunRequest(id=run_id, after_turn=after_turn))

    async def delete_run(self, run_id: str) -> Object:
        return await self._json(self._stub.DeleteRun, pb.Ref(id=run_id))

    async def runs(self, *, limit: int = 50, after: str = "", order: str = "desc", session: str = "") -> Page:
        """Summaries of runs (see control.proto), all or those of one session."""
        return await self._page(self._stub.ListRuns, limit, after, order, session)

    # ------------------------------------------------------------ sessions

    async def sessions(self, *, limit: int = 100, after: str = "", order: str = "desc") -> Page:
        return await self._page(self._stub.ListSessions, limit, after, order)

    async def create_session(self, metadata: dict[str, str] | None = None) -> Object:
        return await self._json(self._stub.CreateSession, pb.Json(json=json.dumps({"metadata": metadata or {}})))

    async def update_session(self, session_id: str, metadata: dict[str, str]) -> Object:
        request = pb.UpdateRequest(id=session_id, json=json.dumps({"metadata": metadata}))
        return await self._json(self._stub.UpdateSession, request)

    async def delete_session(self, session_id: str) -> Object:
        return await self._json(self._stub.DeleteSession, pb.Ref(id=session_id))

    async def fork_session(self, session_id: str, after: str, metadata: dict[str, str]) -> Object:
        """A new session of what was said in another one to the end of its run `after`."""
        request = pb.ForkRequest(id=session_id, after=after, json=json.dumps({"metadata": metadata}))
        return await self._json(self._stub.ForkSession, request)

    async def compact_session(self, session_id: str, model: str = "") -> Object:
        """Put a summary in place of what was said; returns the run that did it. Takes as long as the model writes."""
        return await self._json(self._stub.CompactSession, pb.CompactRequest(id=session_id, model=model), timeout=660)

    async def session_items(self, session_id: str, *, limit: int = 100, after: str = "", order: str = "asc") -> Page:
        return await self._page(self._stub.SessionItems, limit, after, order, session_id)

    async def search(self, text: str, *, limit: int = 50) -> list[Object]:
        """Sessions and runs in which `text` was said, the latest first: {session, run, excerpt}, of whose ids one is
        empty."""
        return objects(await self._call(self._stub.Search, pb.SearchRequest(text=text, limit=limit)))

    # ------------------------------------------------------------ approvals

    async def decide(
        self,
        approval_id: str,
        decision: Literal["approve", "deny"],
        *,
        message: str = "",
        for_session: bool = False,
        always: bool = False,
        prefix: str = "",
    ) -> Object:
        """Answer a pending approval; `message` is a note to the model, kept with the decision. `prefix` is remembered
        instead of the commands, which all begin with it."""
        request = pb.DecideApprovalRequest(
            id=approval_id, decision=decision, message=message, remember_for_session=for_session,
            remember_always=always, prefix=prefix,
        )  # fmt: skip
        return await self._json(self._stub.DecideApproval, request)

    async def rules(self) -> list[Object]:
        """Remembered decisions."""
        return objects(await self._call(self._stub.ListRules, pb.Empty()))

    async def change_rule(self, rule_id: str, prefix: str) -> Object:
        return await self._json(
            self._stub.UpdateRule, pb.UpdateRequest(id=rule_id, json=json.dumps({"prefix": prefix}))
        )

    async def revoke_rule(self, rule_id: str) -> Object:
        return await self._json(self._stub.RevokeRule, pb.Ref(id=rule_id))

    # ------------------------------------------------------------ skills

    async def skills(self, *, limit: int = 100, after: str = "", order: str = "desc") -> Page:
        return await self._page(self._stub.ListSkills, limit, after, order)

    async def skill_versions(self, skill_id: str, *, limit: int = 100, after: str = "", order: str = "desc") -> Page:
        return await self._page(self._stub.ListSkillVersions, limit, after, order, skill_id)

    async def set_default_version(self, skill_id: str, version: str) -> Object:
        return await self._json(self._stub.SetDefaultVersion, pb.SkillVersionRef(skill_id=skill_id, version=version))

    async def delete_skill(self, skill_id: str) -> Object:
        return await self._json(self._stub.DeleteSkill, pb.Ref(id=skill_id))

    async def delete_skill_version(self, skill_id: str, version: str) -> Object:
        return await self._json(self._stub.DeleteSkillVersion, pb.SkillVersionRef(skill_id=skill_id, version=version))

    async def skill_tree(self, skill_id: str, version: str = "") -> list[Object]:
        """Files of a version (empty: the default one): {path, bytes, sha256, executable}, sorted by path."""
        return objects(await self._call(self._stub.SkillTree, pb.SkillVersionRef(skill_id=skill_id, version=version)))

    def read_skill_file(self, skill_id: str, path: str, version: str = "") -> Stream[bytes]:
        request = pb.ReadSkillFileRequest(skill_id=skill_id, version=version, path=path)
        return self._stream(self._stub.ReadSkillFile, request, data)

    async def missing_blobs(self, hashes: Sequence[str]) -> list[str]:
        """Of these SHA-256s, those whose content the daemon lacks."""
        reply = await self._call(self._stub.MissingBlobs, pb.MissingBlobsRequest(sha256=hashes))
        return list(reply.sha256)

    async def disk_skills(self, project: str = "") -> tuple[list[Object], list[str]]:
        """Skills on disk of a folder's project (empty: the daemon's own) and the home, and the scan's warnings."""
        reply = await self._call(self._stub.ListDiskSkills, pb.ProjectRef(path=project))
        return [parse(text) for text in reply.json], list(reply.warnings)

    async def trusted(self) -> list[Object]:
        """The projects whose skills may be offered: {path, trusted_at}."""
        return objects(await self._call(self._stub.ListTrusted, pb.Empty()))

    async def trust(self, project: str) -> Object:
        return await self._json(self._stub.TrustProject, pb.ProjectRef(path=project))

    async def untrust(self, project: str) -> Object:
        return await self._json(self._stub.UntrustProject, pb.ProjectRef(path=project))

    async def send_skill(self, header: pb.UploadSkillHeader, chunks: AsyncIterator[bytes]) -> UploadedSkill:
        """What `upload_folder` sends: the header, then the zip. Nothing is kept when `chunks` fails half-way."""

        async def messages() -> AsyncIterator[pb.UploadSkillRequest]:
            yield pb.UploadSkillRequest(header=header)
            async for chunk in chunks:
                yield pb.UploadSkillRequest(data=chunk)

        reply = await upload(self._stub.UploadSkill, messages(), self.path)
        return UploadedSkill(parse(reply.skill_json), parse(reply.version_json), reply.unchanged)

    # ------------------------------------------------------------ files

    async def files(self, *, limit: int = 100, after: str = "", order: str = "desc") -> Page:
        return await self._page(self._stub.ListFiles, limit, after, order)

    async def upload_file(self, path: Path, *, purpose: str = "user_data", progress: Progress | None = None) -> Object:
        """Upload one file under its own name. Raises BadRequest when it is no readable file, or its name no UTF-8."""
        if path.name != path.name.encode(errors="replace").decode():
            raise BadRequest(f"The name {path.name!a} is no UTF-8.", "Rename the file.", param="file")
        try:
            size = path.stat().st_size
            handle = await asyncio.to_thread(path.open, "rb")
        except OSError as error:
            raise BadRequest(f"{path} cannot be read: {error.strerror}.", param="file") from error

        async def messages() -> AsyncIterator[pb.UploadFileRequest]:
            header = pb.UploadFileHeader(filename=path.name, purpose=purpose, size=size)
            yield pb.UploadFileRequest(header=header)
            done = 0
            while chunk := await asyncio.to_thread(handle.read, CHUNK):
                yield pb.UploadFileRequest(data=chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, size)

        with handle:
            try:
                reply = await upload(self._stub.UploadFile, messages(), self.path)
            except OSError as error:
                raise BadRequest(f"{path} cannot be read: {error.strerror}.", param="file") from error
        return parse(reply.json)

    def read_file(self, file_id: str) -> Stream[bytes]:
        return self._stream(self._stub.ReadFile, pb.Ref(id=file_id), data)

    async def delete_file(self, file_id: str) -> Object:
        return await self._json(self._stub.DeleteFile, pb.Ref(id=file_id))

    # ------------------------------------------------------------ containers

    async def containers(self, *, limit: int = 100, after: str = "", order: str = "desc") -> Page:
        return await self._page(self._stub.ListContainers, limit, after, order)

    async def container_files(
        self, container_id: str, *, limit: int = 100, after: str = "", order: str = "desc"
    ) -> Page:
        return await self._page(self._stub.ListContainerFiles, limit, after, order, container_id)

    def read_container_file(self, container_id: str, file_id: str) -> Stream[bytes]:
        request = pb.ContainerFileRef(container_id=container_id, file_id=file_id)
        return self._stream(self._stub.ReadContainerFile, request, data)

    async def create_container(self, body: Object) -> Object:
        """As POST /v1/containers does: {name, skills, network_policy, …}."""
        return await self._json(self._stub.CreateContainer, pb.Json(json=json.dumps(body)))

    async def delete_container(self, container_id: str) -> Object:
        return await self._json(self._stub.DeleteContainer, pb.Ref(id=container_id))

    # ------------------------------------------------------------ models

    async def models(self) -> list[Object]:
        return objects(await self._call(self._stub.ListModels, pb.Empty()))

    async def stored_models(self) -> list[Object]:
        """The models on the daemon's disk, by the names `load_model` takes."""
        return objects(await self._call(self._stub.ListStoredModels, pb.Empty()))

    def load_model(
        self,
        model: str,
        *,
        name: str = "",
        engine: str = "",
        options: Object | None = None,
        keep_default: bool = False,
    ) -> Stream[LoadProgress]:
        """Load a folder or a Hugging Face id; the last progress carries the model. "default" stands for it from then
        on, unless `keep_default`."""
        request = pb.LoadModelRequest(
            model=model, name=name, engine=engine, options_json=json.dumps(options or {}), keep_default=keep_default
        )
        return self._stream(self._stub.LoadModel, request, load_progress)

    async def unload_model(self, name: str) -> Object:
        return await self._json(self._stub.UnloadModel, pb.Ref(id=name))
