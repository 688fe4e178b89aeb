"""A Control service with its state in memory, for tests of the client side only (TUI, CLI, watcher).

    fake = FakeDaemon()
    fake.add_skill("csv-summary", {"SKILL.md": b"..."})
    async with fake.client() as client:          # in process, through grpclib's in-memory transport
        ...
    async with fake.listening(tmp_path / "s"):   # on a real socket
        ...

Script it from the test: `fake.put(topic, object)` and `fake.remove(topic, id)` publish changes; `fake.fail["StartRun"]`
makes the next call of that method fail; `fake.on_run` (a coroutine function of `FakeRun`) plays the model, and without
it a run answers "Echo: …"; `fake.calls` records every (method, request) in order. Nothing happens on a clock: runs
emit when the test says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import io
import json
import time
import zipfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from grpclib.server import Server
from grpclib.testing import ChannelFor

from skilldeck_shared.control import to_grpc
from skilldeck_shared.errors import BadRequest, Conflict, NotFound, SkilldeckError
from skilldeck_shared.proto import control_pb2 as pb
from skilldeck_shared.proto.control_grpc import ControlBase
from skilldeck_shared.skills.manifest import parse_manifest
from skilldeck_shared.version import __version__
from skilldeck_tui.client.client import Client
from support.fake_run import FakeRun

Object = dict[str, Any]
TOPICS = ("skill", "file", "run", "session", "container", "approval", "model")
KEPT = ("evaluation", "trial")  # told when they change; a snapshot has none


class FakeDaemon(ControlBase):
    def __init__(self, *, version: str = __version__) -> None:
        self.version = version
        self.instance = "instance-1"
        self.objects: dict[str, dict[str, Object]] = {topic: {} for topic in (*TOPICS, *KEPT)}
        self.versions: dict[str, list[Object]] = {}
        self.contents: dict[tuple[str, str], dict[str, bytes]] = {}
        self.file_data: dict[str, bytes] = {}
        self.container_files: dict[str, dict[str, tuple[Object, bytes]]] = {}
        self.live: dict[str, FakeRun] = {}
        self.items: dict[str, list[Object]] = defaultdict(list)
        self.decisions: list[pb.DecideApprovalRequest] = []
        self.rules: dict[str, Object] = {}
        self.stored_models: list[Object] = []
        self.timelines: dict[str, Object] = {}
        self.log: list[pb.LogRecord] = []
        self.fail: dict[str, SkilldeckError] = {}
        self.calls: list[tuple[str, Any]] = []
        self.exec: Callable[[Any], Any] = lambda _: {"stdout": "", "stderr": "", "exit_code": 0, "timed_out": False}
        self.on_run: Callable[[FakeRun], Awaitable[None]] | None = None
        self.stopped = asyncio.Event()
        self.status: Object = {
            "version": version, "instance": self.instance, "pid": 4242, "started_at": int(time.time()),
            "http_url": "http://127.0.0.1:1234/v1", "data_dir": "/home/user/.local/share/skilldeck", "state": "ready",
            "detail": "", "sandbox": "bwrap", "permission": "auto", "runs_active": 0, "approvals_pending": 0,
            "default_model": "skilldeck-tiny",
            "models": [{
                "name": "skilldeck-tiny", "engine": "llamacpp", "state": "ready", "active": 0, "queued": 0,
                "max_batch": 8, "cache_used": 0.0, "tokens_per_s": 0.0, "prefill_per_s": 0.0, "device_memory_used": 0,
                "device_memory_total": 0,
            }],
        }  # fmt: skip
        self.objects["model"]["skilldeck-tiny"] = {
            "id": "skilldeck-tiny", "object": "model", "created": 0, "owned_by": "skilldeck", "state": "ready",
            "engine": "llamacpp", "context": 4096,
        }  # fmt: skip
        self.disk_skills: list[Object] = []
        self.trusted: set[str] = set()
        self._subscribers: set[asyncio.Queue[pb.Update]] = set()
        self._log_readers: set[asyncio.Queue[pb.LogRecord]] = set()
        self._counter = 0
        self._tasks: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------ for tests

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with ChannelFor([self]) as channel:
            client = Client(channel)
            await client.hello()
            yield client
            for task in self._tasks:
                task.cancel()

    @asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[Path]:
        """Serve on a Unix socket until the block ends; clients then see their connection break."""
        server = _Server([self])
        await server.start(path=str(path))
        try:
            yield path
        finally:
            await server.drop()
            path.unlink(missing_ok=True)

    def put(self, topic: str, obj: Object) -> None:
        """Add or replace an object and tell subscribers."""
        if topic == "status":
            self.status = obj
            self._publish(pb.Change(topic=topic, action="put", id="", json=json.dumps(obj)))
            return
        self.objects[topic][obj["id"]] = obj
        self._publish(pb.Change(topic=topic, action="put", id=obj["id"], json=json.dumps(obj)))

    def remove(self, topic: str, id_: str) -> None:
        self.objects[topic].pop(id_, None)
        self._publish(pb.Change(topic=topic, action="delete", id=id_))

    def new_id(self, prefix: str) -> str:
        self._counter += 1
        return f"{prefix}_{self._counter:06d}"

    def add_skill(self, name: str, files: dict[str, bytes] | None = None, *, description: str = "Does it.") -> Object:
        """A skill with one version."""
        front = f"---\nname: {name}\ndescription: {description}\n---\n# {name}\n".encode()
        return self._add_version(self.new_id("skill"), {"SKILL.md": front, **(files or {})}, pb.UploadSkillHeader())[0]

    def add_version(self, skill_id: str, files: dict[str, bytes], *, make_default: bool = False) -> Object:
        return self._add_version(skill_id, files, pb.UploadSkillHeader(make_default=make_default))[1]

    def add_file(self, filename: str, data: bytes, purpose: str = "user_data") -> Object:
        obj = {
            "id": self.new_id("file"), "object": "file", "bytes": len(data), "created_at": int(time.time()),
            "filename": filename, "purpose": purpose, "status": "processed",
        }  # fmt: skip
        self.file_data[obj["id"]] = data
        self.put("file", obj)
        return obj

    def add_container(self, name: str = "auto", files: dict[str, bytes] | None = None) -> Object:
        obj = {
            "id": self.new_id("cntr"), "object": "container", "name": name, "created_at": int(time.time()),
            "status": "running", "last_active_at": int(time.time()), "memory_limit": "1g",
            "expires_after": {"anchor": "last_active_at", "minutes": 20},
        }  # fmt: skip
        stored = self.container_files.setdefault(obj["id"], {})
        for path, data in (files or {}).items():
            entry = {
                "id": self.new_id("cfile"), "object": "container.file", "container_id": obj["id"],
                "created_at": int(time.time()), "bytes": len(data), "path": f"/mnt/data/{path}", "source": "assistant",
            }  # fmt: skip
            stored[entry["id"]] = (entry, data)
        self.put("container", obj)
        return obj

    def add_session(self, title: str = "") -> Object:
        obj = {
            "id": self.new_id("conv"), "object": "conversation", "created_at": int(time.time()),
            "metadata": {"title": title} if title else {},
        }  # fmt: skip
        self.put("session", obj)
        return obj

    def add_approval(self, run: FakeRun, commands: list[str]) -> Object:
        """A run that asks; `decisions` receives the answer."""
        obj = {
            "id": self.new_id("appr"), "object": "approval", "status": "pending", "kind": "shell", "run_id": run.id,
            "call_id": run.new_id("call"), "session": run.session_id or run.id, "commands": commands,
            "created_at": int(time.time()), "expires_at": int(time.time()) + 300,
        }  # fmt: skip
        self.put("approval", obj)
        return obj

    def start(self, prompt: str, *, session_id: str | None = None) -> FakeRun:
        """A run as if another client had started it; the test emits its events."""
        request: Object = {"model": "default", "input": prompt}
        if session_id:
            request["conversation"] = session_id
        return self._new_run(request)

    def write_log(self, message: str, level: str = "info", logger: str = "skilldeck") -> None:
        record = pb.LogRecord(time=time.time(), level=level, logger=logger, message=message)
        self.log.append(record)
        for queue in self._log_readers:
            queue.put_nowait(record)

    def called(self, method: str) -> list[Any]:
        """The requests of one method, in order."""
        return [request for name, request in self.calls if name == method]

    # ------------------------------------------------------------ state

    def _publish(self, change: pb.Change) -> None:
        for queue in self._subscribers:
            queue.put_nowait(pb.Update(change=change))

    def _new_run(self, request: Object, origin: str = "") -> FakeRun:
        run = FakeRun(self, self.new_id("resp"), request, origin)
        self.live[run.id] = run
        self.put("run", run.summary())
        return run

    def _add_version(
        self, skill_id: str, files: dict[str, bytes], header: pb.UploadSkillHeader
    ) -> tuple[Object, Object]:
        front = parse_manifest(files["SKILL.md"].decode(), lenient=True)
        versions = self.versions.setdefault(skill_id, [])
        number = str(int(versions[-1]["version"]) + 1 if versions else 1)
        version = {
            "id": self.new_id("skillver"), "object": "skill.version", "skill_id": skill_id, "version": number,
            "created_at": int(time.time()), "name": front.name, "description": front.description,
            "digest": header.digest, "source": header.source, "watched": header.watched,
            "warnings": [],
        }  # fmt: skip
        versions.append(version)
        self.contents[skill_id, number] = files
        old = self.objects["skill"].get(skill_id, {})
        skill = {
            "id": skill_id, "object": "skill", "name": front.name, "description": front.description,
            "created_at": old.get("created_at", version["created_at"]), "latest_version": number,
            "default_version": number if header.make_default or not old else old["default_version"],
            "source": header.source, "watched": header.watched, "digest": header.digest, "warnings": [],
        }  # fmt: skip
        self.put("skill", skill)
        return skill, version

    def _get(self, topic: str, id_: str) -> Object:
        if id_ not in self.objects[topic]:
            raise NotFound(f"No {topic} with id {id_!r}.", param="id")
        return self.objects[topic][id_]

    def _version(self, skill_id: str, version: str) -> Object:
        skill = self._get("skill", skill_id)
        wanted = version or skill["default_version"]
        wanted = skill["latest_version"] if wanted == "latest" else wanted
        for entry in self.versions[skill_id]:
            if entry["version"] == wanted:
                return entry
        raise NotFound(f"Skill {skill_id!r} has no version {version!r}.", param="version")

    def _page(self, objects: list[Object], request: pb.ListRequest) -> pb.JsonList:
        ordered = objects if request.order == "asc" else objects[::-1]
        if request.after:
            ids = [obj["id"] for obj in ordered]
            if request.after not in ids:
                raise NotFound(f"No object {request.after!r} to go on after.", param="after")
            ordered = ordered[ids.index(request.after) + 1 :]
        limit = request.limit or 20
        return pb.JsonList(json=[json.dumps(obj) for obj in ordered[:limit]], has_more=len(ordered) > limit)

    def _delete(self, topic: str, id_: str) -> pb.Json:
        self._get(topic, id_)
        self.remove(topic, id_)
        return _json({"id": id_, "object": f"{topic}.deleted", "deleted": True})

    async def _received(self, method: str, stream: Any) -> Any:
        request = await stream.recv_message()
        self.calls.append((method, request))
        error = self.fail.pop(method, None)
        if error is not None:
            raise to_grpc(error)
        return request

    # ------------------------------------------------------------ streams

    async def Subscribe(self, stream: Any) -> None:
        await self._received("Subscribe", stream)
        queue: asyncio.Queue[pb.Update] = asyncio.Queue()
        self._subscribers.add(queue)
        lists = {f"{topic}s_json": [json.dumps(o) for o in self.objects[topic].values()] for topic in TOPICS}
        snapshot = pb.Snapshot(instance=self.instance, status_json=json.dumps(self.status), **lists)
        try:
            await stream.send_message(pb.Update(snapshot=snapshot))
            while True:
                await stream.send_message(await queue.get())
        finally:
            self._subscribers.discard(queue)

    async def Logs(self, stream: Any) -> None:
        request = await self._received("Logs", stream)
        queue: asyncio.Queue[pb.LogRecord] = asyncio.Queue()
        self._log_readers.add(queue)
        try:
            for record in self.log[-request.tail :] if request.tail else []:
                await stream.send_message(record)
            while request.follow:
                await stream.send_message(await queue.get())
        finally:
            self._log_readers.discard(queue)

    async def WatchRun(self, stream: Any) -> None:
        request = await self._received("WatchRun", stream)
        run = self.live.get(request.run_id)
        if run is None:
            raise to_grpc(NotFound(f"No run with id {request.run_id!r}.", param="run_id"))
        next_ = request.after + 1
        while True:
            grown = run.grown
            for event, when in run.log[next_:]:
                number, type_ = event["sequence_number"], event["type"]
                await stream.send_message(
                    pb.RunEvent(run_id=run.id, sequence=number, type=type_, json=json.dumps(event), time=when)
                )
            next_ = max(next_, len(run.log))
            if run.done and next_ == len(run.log):
                return
            if next_ == len(run.log) and grown is run.grown:
                await grown.wait()

    def _blobs(self) -> dict[str, bytes]:
        found = (data for files in self.contents.values() for data in files.values())
        return {hashlib.sha256(data).hexdigest(): data for data in found}

    async def MissingBlobs(self, stream: Any) -> None:
        request = await self._received("MissingBlobs", stream)
        known = self._blobs()
        await stream.send_message(pb.MissingBlobsReply(sha256=[sha for sha in request.sha256 if sha not in known]))

    async def ListDiskSkills(self, stream: Any) -> None:
        await self._received("ListDiskSkills", stream)
        await stream.send_message(pb.DiskSkills(json=[json.dumps(skill) for skill in self.disk_skills]))

    def _tell_disk(self, project: str, trusted: bool) -> None:
        for skill in self.disk_skills:
            if skill.get("project") == project:
                skill |= {"trusted": trusted, "offered": trusted}

    async def ListTrusted(self, stream: Any) -> None:
        await self._received("ListTrusted", stream)
        projects = [json.dumps({"path": path, "trusted_at": 0}) for path in sorted(self.trusted)]
        await stream.send_message(pb.JsonList(json=projects))

    async def TrustProject(self, stream: Any) -> None:
        request = await self._received("TrustProject", stream)
        self.trusted.add(request.path)
        self._tell_disk(request.path, True)
        await stream.send_message(_json({"path": request.path, "trusted": True}))

    async def UntrustProject(self, stream: Any) -> None:
        request = await self._received("UntrustProject", stream)
        if request.path not in self.trusted:
            raise to_grpc(NotFound(f"The project {request.path!r} is not trusted.", param="project"))
        self.trusted.remove(request.path)
        self._tell_disk(request.path, False)
        await stream.send_message(_json({"path": request.path, "trusted": False}))

    async def UploadSkill(self, stream: Any) -> None:
        header = (await self._received("UploadSkill", stream)).header
        data = b"".join([message.data async for message in stream])
        try:
            if header.size != len(data):
                raise BadRequest(f"The upload announced {header.size} bytes and held {len(data)}.", param="size")
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                # One top folder, as the wire demands.
                files = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist() if name[-1] != "/"}
            if header.files:
                known = self._blobs() | {hashlib.sha256(data).hexdigest(): data for data in files.values()}
                files = {file.path.split("/", 1)[1]: known[file.sha256] for file in header.files}
            name = parse_manifest(files["SKILL.md"].decode(), lenient=True).name
            skill_id = header.skill_id
            if not skill_id and header.by_name:
                skill_id = next((s["id"] for s in self.objects["skill"].values() if s["name"] == name), "")
            last = self.versions.get(skill_id, [None])[-1] if skill_id else None
            if last and header.digest and last["digest"] == header.digest:
                skill, version, unchanged = self._get("skill", skill_id), last, True
            else:
                skill, version = self._add_version(skill_id or self.new_id("skill"), files, header)
                unchanged = False
        except SkilldeckError as error:
            raise to_grpc(error) from error
        await stream.send_message(
            pb.UploadSkillReply(
                skill_json=json.dumps(skill), version_json=json.dumps(version), unchanged=unchanged
            )
        )  # fmt: skip

    async def UploadFile(self, stream: Any) -> None:
        header = (await self._received("UploadFile", stream)).header
        data = b"".join([message.data async for message in stream])
        await stream.send_message(_json(self.add_file(header.filename, data, header.purpose)))

    async def ReadSkillFile(self, stream: Any) -> None:
        request = await self._received("ReadSkillFile", stream)
        try:
            version = self._version(request.skill_id, request.version)
            data = self.contents[request.skill_id, version["version"]].get(request.path)
            if data is None:
                raise NotFound(f"No file {request.path!r} in the skill.", param="path")
        except SkilldeckError as error:
            raise to_grpc(error) from error
        await _send(stream, data)

    async def ReadFile(self, stream: Any) -> None:
        request = await self._received("ReadFile", stream)
        if request.id not in self.file_data:
            raise to_grpc(NotFound(f"No file with id {request.id!r}.", param="id"))
        await _send(stream, self.file_data[request.id])

    async def ReadContainerFile(self, stream: Any) -> None:
        request = await self._received("ReadContainerFile", stream)
        files = self.container_files.get(request.container_id, {})
        if request.file_id not in files:
            raise to_grpc(NotFound(f"No container file with id {request.file_id!r}.", param="file_id"))
        await _send(stream, files[request.file_id][1])

    async def LoadModel(self, stream: Any) -> None:
        request = await self._received("LoadModel", stream)
        name = request.name or Path(request.model).name
        model = {
            "id": name, "object": "model", "created": 0, "owned_by": "skilldeck", "state": "ready",
            "engine": request.engine or "llamacpp",
        }  # fmt: skip
        await stream.send_message(pb.LoadProgress(fraction=0.5, stage="reading weights"))
        self.put("model", model)
        if not request.keep_default:
            self.status = {**self.status, "default_model": name}
            self._publish(pb.Change(topic="status", action="put", json=json.dumps(self.status)))
        await stream.send_message(pb.LoadProgress(fraction=1.0, stage="ready", model_json=json.dumps(model)))

    # ------------------------------------------------------------ one request, one reply

    def Hello_(self, _: Any) -> Any:
        return pb.HelloReply(
            version=self.version, instance=self.instance, http_url=self.status["http_url"], pid=self.status["pid"],
            data_dir=self.status["data_dir"],
        )  # fmt: skip

    def Shutdown_(self, _: Any) -> Any:
        self.stopped.set()
        return pb.Empty()

    def StartRun_(self, request: Any) -> Any:
        body = json.loads(request.request_json)
        if not body.get("input"):
            raise BadRequest("The input is empty.", param="input")
        run = self._new_run(body, request.origin)
        if self.on_run is None:
            run.text(f"Echo: {run.summary()['title']}")
            run.complete()
        else:
            task = asyncio.ensure_future(self.on_run(run))
            self._tasks.add(task)
        return pb.StartRunReply(run_id=run.id, response_json=json.dumps(run.response))

    def GetRun_(self, request: Any) -> Any:
        self._get("run", request.id)
        run = self.live[request.id]
        given = run.request["input"]
        times = {"times": [when for _, when in run.log], "spans": []}
        items = given if isinstance(given, list) else [{"type": "message", "role": "user", "content": given}]
        return pb.RunDetail(
            response_json=json.dumps(run.response), input_json=[json.dumps(item) for item in items],
            timeline_json=json.dumps(self.timelines.get(run.id, times)),
        )  # fmt: skip

    def CancelRun_(self, request: Any) -> Any:
        self._get("run", request.id)
        if request.after_turn:  # its script ends it
            self.live[request.id].leaving.set()
        else:
            self.live[request.id].cancel()
        return _json(self.live[request.id].response)

    def DeleteRun_(self, request: Any) -> Any:
        return self._delete("run", request.id)

    def ListRuns_(self, request: Any) -> Any:
        wanted = request.parent
        runs = self.objects["run"].values()
        return self._page([r for r in runs if not wanted or (r["conversation"] or {}).get("id") == wanted], request)

    def ListSessions_(self, request: Any) -> Any:
        return self._page(list(self.objects["session"].values()), request)

    def CreateSession_(self, request: Any) -> Any:
        return _json(self.add_session(json.loads(request.json)["metadata"].get("title", "")))

    def UpdateSession_(self, request: Any) -> Any:
        session = {**self._get("session", request.id), **json.loads(request.json)}
        self.put("session", session)
        return _json(session)

    def DeleteSession_(self, request: Any) -> Any:
        return self._delete("session", request.id)

    def ForkSession_(self, request: Any) -> Any:
        self._get("session", request.id)
        self._get("run", request.after)
        metadata = {**json.loads(request.json)["metadata"], "branch_of": request.id, "branch_after": request.after}
        made = {**self.add_session(), "metadata": metadata}
        self.put("session", made)
        return _json(made)

    def CompactSession_(self, request: Any) -> Any:
        run = self._new_run({"model": request.model or "default", "input": [], "conversation": request.id})
        item = {"id": run.new_id("cmp"), "type": "compaction", "encrypted_content": "", "text": "Rows were counted."}
        run.end_item(run.begin_item({**item, "kept": 1}))
        run.complete()
        span = {"kind": "turn", "end": 0.0, "input_tokens": 3000, "output_tokens": 60, "context_tokens": 410}
        self.timelines[run.id] = {"times": [], "spans": [span]}
        return _json(run.response)

    def SessionItems_(self, request: Any) -> Any:
        self._get("session", request.parent)
        return self._page(self.items[request.parent], request)

    def Search_(self, request: Any) -> Any:
        wanted, hits = request.text.lower(), []
        for run in reversed(self.live.values()):
            text = json.dumps([run.request["input"], run.response["output"]])
            if (at := text.lower().find(wanted)) >= 0:
                hits.append({"session": run.session_id or "", "run": "" if run.session_id else run.id,
                             "excerpt": text[max(0, at - 20) : at + 40]})  # fmt: skip
        return pb.JsonList(json=[json.dumps(hit) for hit in hits[: request.limit]])

    def DecideApproval_(self, request: Any) -> Any:
        approval = self._get("approval", request.id)
        if approval["status"] != "pending":
            raise Conflict(f"Approval {request.id!r} is decided already.")
        self.decisions.append(request)
        decided = {**approval, "status": "approved" if request.decision == "approve" else "denied"}
        self.remove("approval", request.id)
        return _json(decided)

    async def ExecInContainer_(self, request: Any) -> Any:
        done = self.exec(request)
        return _json(await done if inspect.isawaitable(done) else done)

    def ListRules_(self, _: Any) -> Any:
        return pb.JsonList(json=[json.dumps(rule) for rule in self.rules.values()])

    def UpdateRule_(self, request: Any) -> Any:
        if request.id not in self.rules:
            raise NotFound(f"No rule with id {request.id!r}.", param="id")
        self.rules[request.id] |= json.loads(request.json)
        return _json(self.rules[request.id])

    def RevokeRule_(self, request: Any) -> Any:
        if request.id not in self.rules:
            raise NotFound(f"No rule with id {request.id!r}.", param="id")
        return _json(self.rules.pop(request.id))

    def ListSkills_(self, request: Any) -> Any:
        return self._page(list(self.objects["skill"].values()), request)

    def ListSkillVersions_(self, request: Any) -> Any:
        self._get("skill", request.parent)
        return self._page(self.versions[request.parent], request)

    def SetDefaultVersion_(self, request: Any) -> Any:
        version = self._version(request.skill_id, request.version)
        skill = {**self._get("skill", request.skill_id), "default_version": version["version"]}
        self.put("skill", skill)
        return _json(skill)

    def DeleteSkill_(self, request: Any) -> Any:
        return self._delete("skill", request.id)

    def DeleteSkillVersion_(self, request: Any) -> Any:
        version = self._version(request.skill_id, request.version)
        skill = self._get("skill", request.skill_id)
        if version["version"] == skill["default_version"] and len(self.versions[request.skill_id]) > 1:
            raise Conflict("The default version cannot be deleted.", "Make another version the default first.")
        self.versions[request.skill_id].remove(version)
        self.put("skill", {**skill, "latest_version": self.versions[request.skill_id][-1]["version"]})
        return _json({"id": version["id"], "object": "skill.version.deleted", "deleted": True})

    def SkillTree_(self, request: Any) -> Any:
        version = self._version(request.skill_id, request.version)
        files = self.contents[request.skill_id, version["version"]]
        return pb.JsonList(
            json=[
                json.dumps({
                    "path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "executable": False
                })
                for path, data in sorted(files.items())
            ]
        )  # fmt: skip

    def ListFiles_(self, request: Any) -> Any:
        return self._page(list(self.objects["file"].values()), request)

    def DeleteFile_(self, request: Any) -> Any:
        return self._delete("file", request.id)

    def ListContainers_(self, request: Any) -> Any:
        return self._page(list(self.objects["container"].values()), request)

    def ListContainerFiles_(self, request: Any) -> Any:
        self._get("container", request.parent)
        return self._page([entry for entry, _ in self.container_files[request.parent].values()], request)

    def CreateContainer_(self, request: Any) -> Any:
        return _json(self.add_container(json.loads(request.json)["name"]))

    def DeleteContainer_(self, request: Any) -> Any:
        return self._delete("container", request.id)

    def PutEvaluation_(self, request: Any) -> Any:
        body = json.loads(request.json)
        before = self._get("evaluation", body["id"]) if "id" in body else {"id": self.new_id("eval"), "created_at": 0}
        kept = {**body, "id": before["id"], "object": "evaluation", "created_at": before["created_at"], "updated_at": 0}
        self.put("evaluation", kept)
        return _json(kept)

    def GetEvaluation_(self, request: Any) -> Any:
        return _json(self._get("evaluation", request.id))

    def ListEvaluations_(self, request: Any) -> Any:
        known = self.objects["evaluation"].values()
        return self._page([e for e in known if request.parent in ("", e["skill"])], request)

    def DeleteEvaluation_(self, request: Any) -> Any:
        return self._delete("evaluation", request.id)

    def AddTrial_(self, request: Any) -> Any:
        trial = {**json.loads(request.json), "id": self.new_id("trial"), "object": "evaluation.trial", "created_at": 0}
        self.put("trial", trial)
        return _json(trial)

    def ListTrials_(self, request: Any) -> Any:
        found = [
            trial
            for trial in self.objects["trial"].values()
            if request.evaluation in ("", trial["evaluation_id"])
            and request.skill in ("", trial["skill"])
            and (not request.keys or trial["key"] in request.keys)
        ]
        order = request.order or "asc"
        return self._page(found, pb.ListRequest(limit=request.limit, after=request.after, order=order))

    def ListModels_(self, _: Any) -> Any:
        return pb.JsonList(json=[json.dumps(model) for model in self.objects["model"].values()])

    def ListStoredModels_(self, _: Any) -> Any:
        return pb.JsonList(json=[json.dumps(model) for model in self.stored_models])

    def UnloadModel_(self, request: Any) -> Any:
        return self._delete("model", request.id)


def _handler(name: str) -> Any:
    async def handle(self: FakeDaemon, stream: Any) -> None:
        request = await self._received(name, stream)
        try:
            reply = getattr(self, f"{name}_")(request)
            reply = await reply if inspect.isawaitable(reply) else reply
        except SkilldeckError as error:
            raise to_grpc(error) from error
        await stream.send_message(reply)

    return handle


# The plain methods above become RPCs: one place receives, records, fails and answers.
for _name in [name[:-1] for name in vars(FakeDaemon) if name.endswith("_") and not name.startswith("_")]:
    setattr(FakeDaemon, _name, _handler(_name))
FakeDaemon.__abstractmethods__ = frozenset()


def _json(obj: Object) -> pb.Json:
    return pb.Json(json=json.dumps(obj))


async def _send(stream: Any, data: bytes) -> None:
    for start in range(0, max(1, len(data)), 65536):
        await stream.send_message(pb.Data(data=data[start : start + 65536]))


class _Server(Server):
    """A server that can drop its clients: grpclib's own waits for them to leave."""

    def _protocol_factory(self) -> Any:
        protocol = super()._protocol_factory()
        self.__dict__.setdefault("protocols", []).append(protocol)
        return protocol

    async def drop(self) -> None:
        self.close()
        for protocol in self.__dict__.get("protocols", []):
            if hasattr(protocol, "processor"):
                protocol.processor.close()
        await asyncio.sleep(0)
