"""The agent inside another program: the daemon's engine, containers and store, and no server.

    with Runner(model="tiny") as runner:
        response = runner.run("Summarise data.csv", skills=[SkillMount("skills/csv-summary")], files=["data.csv"])
        print(response.output_text)
        runner.save(response, "out")    # the files that the answer names

Responses and stream events are the `openai` package's own types. A runner works from plain code (`run`, `stream`) and
from any event loop (`arun`, `astream`), from several threads and tasks at once: everything happens on a loop of its
own, in one thread. Skill folders are mounted read-only where they lie, not copied into the store.

Without `data_dir` everything it kept goes with `close` (which leaving the `with` block calls). What the model's
commands may do is settled by `permission`; they run sandboxed unless `sandbox="none"`. Every error is a
`SkilldeckError`; a run that fails on the way returns a Response with status "failed", as over HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import threading
import typing
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from skilldeck_daemon import telemetry
from skilldeck_daemon.agent.planning.plan import Nearby
from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.containers import WORKDIR
from skilldeck_daemon.containers.homes import base_for
from skilldeck_daemon.core import Core
from skilldeck_daemon.events.log import Event
from skilldeck_daemon.runner_request import (
    Ask,
    File,
    Files,
    SkillMount,
    Skills,
    attach,
    body_of,
    cited,
    copy_file,
    give_shell,
)
from skilldeck_daemon.settings import BadSettings, Settings, load
from skilldeck_shared.errors import BadRequest, Unavailable

__all__ = ["Runner", "SkillMount"]

T = TypeVar("T")
CLOSE_SECONDS = 30.0


class RunnerSettings(Settings):
    """The daemon's settings from arguments alone: neither environment nor config.toml reach a program's own runner."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class Runner:
    """See the module. The model is loaded at the first use, or by entering the block.

    Args:
        model: "tiny" (bundled), a folder, or a Hugging Face id.
        data_dir: keeps responses, files and containers there; None: in a temporary folder, until `close`.
        permission: "auto", or "deny": the model's commands are refused. ("ask" has nobody to ask here.)
        settings: any other setting of the daemon (`remote_url`, `engine_options`, `max_memory`, `skills`, …).
    Raises:
        BadSettings: naming the setting.
    """

    def __init__(
        self,
        model: str = "tiny",
        *,
        engine: str = "auto",
        data_dir: str | Path | None = None,
        sandbox: str = "auto",
        permission: Literal["auto", "deny"] = "auto",
        **settings: Any,
    ) -> None:
        unknown = sorted(settings.keys() - Settings.model_fields.keys())
        if unknown:
            raise BadSettings(
                f"There is no setting {unknown[0]!r}.", f"Settings: {', '.join(sorted(Settings.model_fields))}."
            )
        if permission not in ("auto", "deny"):
            raise BadSettings(f"permission: {permission!r} is not possible here.", "Use 'auto' or 'deny'.")
        self._temporary = Path(tempfile.mkdtemp(prefix="skilldeck-runner-")) if data_dir is None else None
        values = {"model": model, "engine": engine, "sandbox": sandbox, "permission": permission, "skills": "off"}
        try:
            self._settings = load(RunnerSettings, {**values, "data_dir": data_dir or self._temporary, **settings})
        except BaseException:
            _remove(self._temporary)
            raise
        self._loop = _Loop()
        self._core: Core | None = None
        self._closed = False
        # On the runner's own loop only.
        self._opening: asyncio.Task[Core] | None = None
        self._finalizer = weakref.finalize(self, _remove, self._temporary)

    # -- life

    def open(self) -> Self:
        """Load the model now. Raises what keeps it from loading; the runner can be tried again."""
        self._loop.wait(self._ready())
        return self

    def close(self) -> None:
        """Cancel what runs and free everything. Further use raises Unavailable. Closing twice is harmless."""
        if not self._closed:
            self._closed = True
            try:
                self._loop.wait(self._end(), timeout=CLOSE_SECONDS)
            finally:
                self._loop.stop()
                self._finalizer()

    async def aclose(self) -> None:
        """`close` for async code."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        try:
            return self.open()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        try:
            await self._loop.run(self._ready())
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # -- running

    def run(self, prompt: str | None = None, *, skills: Skills = (), files: Files = (), **fields: Any) -> Response:
        """One run to its end.

        Args:
            prompt: what the user says; instead, `input` may be among the fields.
            skills: folders to mount; a path stands for its `SkillMount`.
            files: attached to the prompt: paths, or (name, bytes).
            fields: any field of POST /v1/responses: `previous_response_id` goes on from a response of this runner,
                `tools` adds tools (a hosted shell is among them unless they bring one).
        Raises:
            SkilldeckError: nothing was run. `BadRequest.param` names the field.
        """
        return self._loop.wait(self._run(Ask(prompt, skills, files, fields)))

    async def arun(
        self, prompt: str | None = None, *, skills: Skills = (), files: Files = (), **fields: Any
    ) -> Response:
        """`run` for async code; cancelling it cancels the run."""
        return await self._loop.run(self._run(Ask(prompt, skills, files, fields)))

    def stream(
        self, prompt: str | None = None, *, skills: Skills = (), files: Files = (), **fields: Any
    ) -> Iterator[ResponseStreamEvent]:
        """The events of a run as they happen. A run whose stream is closed early is cancelled."""
        events = self._events(Ask(prompt, skills, files, fields))
        try:
            while (event := self._loop.wait(_next(events))) is not None:
                yield event
        finally:
            if not self._closed:
                self._loop.wait(events.aclose())

    async def astream(
        self, prompt: str | None = None, *, skills: Skills = (), files: Files = (), **fields: Any
    ) -> AsyncIterator[ResponseStreamEvent]:
        """`stream` for async code."""
        events = self._events(Ask(prompt, skills, files, fields))
        try:
            while (event := await self._loop.run(_next(events))) is not None:
                yield event
        finally:
            if not self._closed:
                await self._loop.run(events.aclose())

    def save(self, response: Response, folder: str | Path) -> list[Path]:
        """Copy the files that a response cites, made or changed by its commands, into a folder; returns their paths.

        They keep their place under /mnt/data; what has their name in the folder is replaced.

        Raises:
            SkilldeckError: a file is gone, as with its container after 20 idle minutes.
        """
        return self._loop.wait(self._save(response, Path(folder).expanduser().absolute()))

    async def asave(self, response: Response, folder: str | Path) -> list[Path]:
        """`save` for async code."""
        return await self._loop.run(self._save(response, Path(folder).expanduser().absolute()))

    # -- on the runner's loop

    async def _ready(self) -> Core:
        if self._closed:
            raise Unavailable("The runner is closed.", "Make a new one.")
        if self._core is not None:
            return self._core
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
        # Shielded: the one who waits may give up, the others still want it.
        return await asyncio.shield(self._opening)

    async def _open(self) -> Core:
        async with contextlib.AsyncExitStack() as stack:
            core = await stack.enter_async_context(Core(self._settings, tracing=telemetry.of_program))
            await core.load_model()
            self._stack = stack.pop_all()
        self._core = core
        return core

    async def _end(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._core is not None:
            await self._stack.aclose()

    async def _start(self, ask: Ask) -> Any:
        core = await self._ready()
        mounts = []
        for index, skill in enumerate(ask.skills):
            mount = skill if isinstance(skill, SkillMount) else SkillMount(skill)
            mounts.append(await asyncio.to_thread(mount.read, f"skills[{index}]"))
        body = body_of(ask.prompt, ask.fields)
        give_shell(body, needed=bool(mounts))
        request = ResponseRequest.parse(body, stream_field=False)
        if ask.files:
            ids = [await self._store(core, file, f"files[{index}]") for index, file in enumerate(ask.files)]
            attach(body, ids)
            request = ResponseRequest.parse(body, stream_field=False)
        return await core.services.runs.start(request, nearby=Nearby(mounts=tuple(mounts)))

    async def _store(self, core: Core, file: File, param: str) -> str:
        if isinstance(file, tuple):
            name, content = file
        else:
            path = Path(file).expanduser()
            try:
                name, content = path.name, await asyncio.to_thread(path.read_bytes)
            except OSError as error:
                raise BadRequest(f"{path} cannot be read: {error.strerror}.", param=param) from error

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        stored = await core.services.files.create(chunks(), filename=name, purpose="user_data")
        return str(stored["id"])

    async def _run(self, ask: Ask) -> Response:
        run = await self._start(ask)
        try:
            return Response.model_validate(await run.finished())
        except asyncio.CancelledError:
            run.cancel()
            raise

    async def _save(self, response: Response, folder: Path) -> list[Path]:
        environments = (await self._ready()).services.environments
        saved = []
        for container_id, file_id in cited(response):
            path = (await environments.files.get(container_id, file_id))["path"]
            file, size, _ = await environments.files.open(container_id, file_id)
            target = folder / path.removeprefix(WORKDIR + "/")
            await asyncio.to_thread(copy_file, file, size, target)
            saved.append(target)
        return saved

    async def _events(self, ask: Ask) -> AsyncGenerator[ResponseStreamEvent, None]:
        run = await self._start(ask)
        try:
            async for event in run.events():
                yield _typed(event)
        finally:
            run.cancel()  # one that has ended stays as it is


class _Loop:
    """An event loop in a thread of its own, started at the first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="skilldeck-runner", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def wait(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Block for the result. Ctrl-C cancels the work."""
        future = self.submit(work)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result, from another loop. Cancelling cancels the work."""
        return await asyncio.wrap_future(self.submit(work))

    def stop(self) -> None:
        with self._lock:
            if self._loop is not None and self._thread is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()
                self._loop = self._thread = None


async def _next(events: AsyncIterator[ResponseStreamEvent]) -> ResponseStreamEvent | None:
    return await anext(events, None)


def _remove(temporary: Path | None) -> None:
    """Also for a runner that nobody closed: its sandboxes end by themselves with the process."""
    if temporary is not None:
        # A runner of root keeps containers where their user can reach them.
        shutil.rmtree(base_for(temporary / "containers"), ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)


def _event_types() -> dict[str, type[BaseModel]]:
    union = typing.get_args(ResponseStreamEvent)[0]
    return {typing.get_args(kind.model_fields["type"].annotation)[0]: kind for kind in typing.get_args(union)}


_TYPES = _event_types()


def _typed(event: Event) -> ResponseStreamEvent:
    typed: Any = _TYPES[event["type"]].model_validate(event)
    checked: ResponseStreamEvent = typed
    return checked
