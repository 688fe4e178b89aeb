"""The engine's process: killed, unloaded, refusing; what every engine promises is asked in test_conformance."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from daemon.engine.conftest import EXACT
from skilldeck_daemon.engine.base import Finished, GenRequest, ModelSpec, Sampling, Tokens
from skilldeck_daemon.engine.errors import EngineDead, NotLoaded, TooLong
from skilldeck_daemon.engine.hub import ModelHub
from skilldeck_daemon.engine.process import worker_messages as wire
from skilldeck_daemon.engine.process.child import start
from skilldeck_daemon.engine.process.worker import WorkerEngine
from skilldeck_daemon.engine.process.worker_main import Worker
from skilldeck_shared.errors import BadRequest

GREEDY = Sampling(temperature=0)


@asynccontextmanager
async def loaded(file: Path, *, restart_s: float = 60, **options: Any) -> AsyncIterator[WorkerEngine]:
    engine = WorkerEngine("llamacpp", restart_s=restart_s)
    await engine.load(ModelSpec(str(file), "small", {"max_batch": 4, **EXACT, **options}))
    try:
        yield engine
    finally:
        await engine.unload()


async def collect(engine: WorkerEngine, request: GenRequest) -> tuple[list[int], Finished]:
    events = [event async for event in await engine.submit(request)]
    last = events[-1]
    assert isinstance(last, Finished)
    return [token for event in events if isinstance(event, Tokens) for token in event.ids], last


async def until(condition: Any) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110 - another process's state has no event to wait for
            await asyncio.sleep(0.02)


async def test_a_killed_process_ends_what_runs_and_starts_again(llama: Path, long_gguf: Path, greedy: Any) -> None:
    async with loaded(long_gguf, restart_s=0) as engine:
        first = engine.pid
        assert first is not None
        handles = [await engine.submit(GenRequest(f"r{i}", [5, 6, 7 + i], 30000, GREEDY)) for i in range(3)]
        async for event in handles[0]:
            if isinstance(event, Tokens):
                break
        os.kill(first, signal.SIGKILL)
        for handle in handles:
            events = [event async for event in handle]
            last = events[-1]
            assert isinstance(last, Finished)
            assert last.reason == "error"
            assert isinstance(last.error, EngineDead)
            assert "signal 9" in str(last.error)
            assert last.prompt == 3
        with pytest.raises(EngineDead):
            await engine.submit(GenRequest("between", [5], 1, GREEDY))
        assert engine.trouble
        await until(lambda: engine.trouble == "")
        assert engine.pid not in (None, first)
        tokens, _ = await collect(engine, GenRequest("after", [5, 6, 7], 20, GREEDY))
        assert tokens == greedy(llama, [5, 6, 7], 20)
        assert engine.stats().active == 0


async def test_what_hangs_is_killed_and_a_request_meanwhile_waits_for_the_restart(
    llama: Path, llama_gguf: Path, greedy: Any
) -> None:
    async with loaded(llama_gguf) as engine:
        stopped = engine.pid
        assert stopped is not None
        pulse, engine._silent_s = engine._stats, 3.0
        await until(lambda: engine._stats is not pulse)  # from the next sign of life on the new limit holds
        os.kill(stopped, signal.SIGSTOP)
        with pytest.raises(EngineDead, match="no answer for 3 s"):
            await engine.submit(GenRequest("silent", [5, 6, 7], 480, GREEDY))
        await until(lambda: engine.pid not in (None, stopped))
        engine._silent_s = 600
        tokens, _ = await collect(engine, GenRequest("meanwhile", [5, 6, 7], 5, GREEDY))
        assert tokens == greedy(llama, [5, 6, 7], 5)

        hung = engine.pid
        engine._hung_s = 0.0
        _, last = await collect(engine, GenRequest("hung", [5, 6, 7], 480, GREEDY))
        assert last.reason == "error"
        assert "no token for 0 s" in str(last.error)
        engine._hung_s = 600
        tokens, _ = await collect(engine, GenRequest("after", [5, 6, 7], 5, GREEDY))
        assert tokens == greedy(llama, [5, 6, 7], 5)
        assert engine.pid != hung


async def test_a_process_whose_engine_cannot_go_on_ends_itself(tmp_path: Path) -> None:
    """After a CUDA error nothing works in that process any more; its parent then starts another."""
    program = (
        "import asyncio, sys\n"
        "from skilldeck_daemon.engine import base\n"
        "from skilldeck_daemon.engine.process import worker_main\n"
        "class Broken:\n"
        "    fatal = RuntimeError('CUDA error')\n"
        "    async def load(self, spec, progress): return base.ModelInfo('broken', 'broken')\n"
        "    caps = base.Caps(1, 1)\n"
        "    def stats(self): return base.EngineStats()\n"
        "worker_main.make_engine = lambda kind, worker: Broken()\n"
        "asyncio.run(worker_main._main(int(sys.argv[1])))\n"
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(theirs.fileno()), pass_fds=[theirs.fileno()]
        )
        _, writer = await asyncio.open_connection(sock=ours.dup())
        wire.write(writer, wire.Load("broken", ModelSpec("", "broken")))
        async with asyncio.timeout(60):
            assert await process.wait() == os.EX_SOFTWARE
        writer.close()


async def test_the_working_directory_cannot_replace_our_modules(
    llama_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy.py", "xllamacpp.py"):
        (tmp_path / name).write_text("raise SystemExit(3)", "utf-8")
    monkeypatch.chdir(tmp_path)
    async with loaded(llama_gguf) as engine:
        assert engine.pid is not None


async def test_unload_leaves_no_process(llama_gguf: Path) -> None:
    async with loaded(llama_gguf) as engine:
        pid = engine.pid
        assert pid is not None
    assert engine.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(NotLoaded):
        await engine.submit(GenRequest("r", [5], 1))


async def test_a_model_that_does_not_load_says_why_and_leaves_no_process(tmp_path: Path) -> None:
    engine = WorkerEngine("llamacpp")
    (tmp_path / "odd.gguf").write_bytes(b"PK rubbish")
    with pytest.raises(BadRequest, match="no GGUF") as caught:
        await engine.load(ModelSpec(str(tmp_path / "odd.gguf"), "small"))
    assert caught.value.param == "model"
    assert engine.pid is None


async def test_loading_reports_progress_and_refusals_keep_their_kind(llama_gguf: Path) -> None:
    engine = WorkerEngine("llamacpp")
    fractions: list[float] = []
    spec = ModelSpec(str(llama_gguf), "small", {"context": 64})
    info = await engine.load(spec, lambda done, _: fractions.append(done))
    try:
        assert (info.engine, info.context, info.name) == ("llamacpp", 64, "small")
        assert fractions[-1] == 1.0
        with pytest.raises(TooLong) as caught:
            await engine.submit(GenRequest("long", [5] * 64, 1))
        assert caught.value.code == "context_length_exceeded"
    finally:
        await engine.unload()


async def test_a_mask_without_a_spec_is_refused(llama_gguf: Path) -> None:
    class Local:
        def fill(self, bitmask: Any, index: int) -> bool:
            return False

        def accept(self, token: int) -> bool:
            return True

        def rollback(self, tokens: int) -> None: ...

        @property
        def terminated(self) -> bool:
            return False

    async with loaded(llama_gguf) as engine:
        with pytest.raises(BadRequest, match="grammar"):
            await engine.submit(GenRequest("r", [5], 1, mask=Local()))
        assert (await collect(engine, GenRequest("next", [5], 1)))[1].reason == "length"


def test_an_error_that_cannot_travel_is_told_in_words() -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__("odd")

    assert str(wire.portable(Odd(1, 2))) == "Odd: odd"
    same = wire.portable(BadRequest("no", "fix it", param="x"))
    assert isinstance(same, BadRequest)
    assert (same.hint, same.param) == ("fix it", "x")


async def test_a_process_started_ahead_is_the_first_engines() -> None:
    spare = await start()
    hub = ModelHub(spare=spare)
    try:
        await hub.load("tiny")
        engine = hub.get("default").engine  # type: ignore[attr-defined]
        assert engine.pid == spare.process.pid
        tokens, last = await collect(engine, GenRequest("r", [5, 6, 7], 20, GREEDY))
        assert (len(tokens), last.reason) == (20, "length")
    finally:
        await hub.close()
    assert spare.process.returncode is not None


async def test_a_process_started_ahead_that_died_is_replaced_and_an_unused_one_ends(llama_gguf: Path) -> None:
    dead, unused = await start(), await start()
    dead.process.kill()
    await dead.process.wait()
    engine = WorkerEngine("llamacpp", spare=dead)
    await engine.load(ModelSpec(str(llama_gguf), "small", {}))
    assert engine.pid not in (None, dead.process.pid)
    await engine.unload()
    await ModelHub(spare=unused).close()
    assert unused.process.returncode is not None


async def test_a_process_that_dies_while_it_loads_is_not_said_to_be_restarted(llama_gguf: Path) -> None:
    spare = await start()
    spare.process.send_signal(signal.SIGSTOP)  # it has not read what to load when it is killed
    engine = WorkerEngine("llamacpp", spare=spare)
    loading = asyncio.create_task(engine.load(ModelSpec(str(llama_gguf), "small", {})))
    await until(lambda: engine.pid == spare.process.pid)
    spare.process.kill()
    with pytest.raises(EngineDead, match="died \\(signal 9\\)") as caught:
        await loading
    assert "memory" in caught.value.hint


@pytest.mark.parametrize(("writing", "gap"), [(1, 0.002), (4, 0.002), (32, 0.016)])
async def test_tokens_of_many_requests_that_come_together_leave_together(
    writing: int, gap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(wire, "write", lambda _writer, message: sent.append(message.events))
    nothing: Any = None
    worker = Worker(nothing, nothing, nothing)
    worker._writing = writing
    worker._flushed = asyncio.get_running_loop().time() + 60  # however slow this machine is: it was just now
    first, second = ("a", Tokens((1,))), ("b", Tokens((2,)))
    worker._put(*first)
    worker._put(*second)
    assert isinstance(worker._flushing, asyncio.TimerHandle)
    assert worker._flushing.when() == pytest.approx(worker._flushed + gap)
    assert sent == []
    end = ("a", Finished("stop", 1, 0, 1))
    worker._put(*end)
    assert sent == [[first, second, end]], "an end waits for nothing"
