"""What a user would pick instead, running beside us: `transformers serve`, and the PyPI wheel `mistralrs`.

Each is a context manager that raises `Absent` with the reason when it cannot run here, and gives `complete`: a prompt
as plain text in, the text that was written, greedy, out. One thread each, as ours has on the bundled model.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from skilldeck_daemon.bench import local, wheel_child
from skilldeck_daemon.engine.models import registry
from skilldeck_shared.errors import Unavailable

START_SECONDS = 180.0
# A second thread makes a model of this size slower, and several times slower when something else runs.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


class Absent(Unavailable):
    """This reference cannot be had on this machine."""


def weights(model: Path) -> Path:
    """The folder of safetensors that others load in place of `model`, which is the bundled GGUF or such a folder."""
    if model != registry.tiny_file():
        return model
    folder = Path(__file__).resolve().parents[2] / "training" / "weights"
    if not folder.is_dir():
        raise Absent("The bundled model's safetensors are in the source tree only.", "Run the benchmark from there.")
    return folder


@dataclass
class Transformers:
    """`transformers serve` with one model."""

    name: str
    pid: int
    port: int
    model: str
    client: httpx.AsyncClient

    async def complete(self, prompt: str, max_tokens: int) -> str:
        body = {"model": self.model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
        answer = await self.client.post("/v1/completions", json=body)
        answer.raise_for_status()
        text: str = answer.json()["choices"][0]["text"]
        return text


@contextlib.asynccontextmanager
async def transformers_serve(folder: Path, *, batching: bool = False) -> AsyncIterator[Transformers]:
    """`transformers serve FOLDER`; `batching` turns its continuous batching on."""
    folder = weights(folder)
    command = shutil.which("transformers", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if command is None:
        raise Absent("There is no `transformers` command here.", "pip install 'transformers[serving]'")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [command, "serve", str(folder), "--port", str(port), "--device", "cpu"]
    arguments += ["--continuous-batching"] if batching else []
    child = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | ONE_THREAD,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600, trust_env=False) as client:
            deadline = time.monotonic() + START_SECONDS
            while True:
                if child.returncode is not None or time.monotonic() > deadline:
                    raise Absent(f"`transformers serve` did not start (exit status {child.returncode}).")
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get("/health")).status_code == 200:
                        break
                await asyncio.sleep(0.1)
            yield Transformers(f"transformers serve {_version('transformers')}", child.pid, port, str(folder), client)
    finally:
        await _end(child)


@dataclass
class Wheel:
    """The wheel in a process of its own. `resident`: bytes right after the load."""

    name: str
    pid: int
    load_s: float
    resident: int
    child: asyncio.subprocess.Process

    async def complete(self, prompt: str, max_tokens: int) -> str:
        text: str = (await self.ask(prompt, max_tokens))["text"]
        return text

    async def ask(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        """What `wheel_child` answers."""
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps({"prompt": prompt, "max_tokens": max_tokens}).encode() + b"\n")
        return await _answer(self.child)


@contextlib.asynccontextmanager
async def wheel(folder: Path, python: Path | None = None, *, threads: int = 1) -> AsyncIterator[Wheel]:
    """`mistralrs` with one model, a folder or a GGUF file, from the environment of `python`, or from ours; `threads` 0:
    its own choice."""
    if python is None and importlib.util.find_spec("mistralrs") is None:
        raise Absent(
            "The wheel mistralrs is not installed here.",
            "pip install it in an environment of its own and give --mistralrs-python ENV/bin/python.",
        )
    folder = weights(folder)
    environment = os.environ | ONE_THREAD
    if threads:
        environment["RAYON_NUM_THREADS"] = str(threads)
    else:
        del environment["RAYON_NUM_THREADS"]
    with local.temporary_home() as home:
        child = await asyncio.create_subprocess_exec(
            str(python or sys.executable),
            wheel_child.__file__,
            str(_readable(folder, Path(home) / "model")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
        )
        try:
            told = await _answer(child)
            yield Wheel(f"mistralrs {told['version']}", child.pid, told["load_s"], told["resident"], child)
        finally:
            await _end(child)


def _readable(folder: Path, view: Path) -> Path:
    """The model as the wheel can load it.

    Its Llama takes hidden_size / heads for the width of a head whatever the config says; its Mistral reads head_dim,
    and is the same computation. So such a Llama is shown to it as a Mistral; the weights are untouched.
    """
    if folder.is_file():
        return folder
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    width = config.get("head_dim")
    if config.get("model_type") != "llama" or width in (None, config["hidden_size"] // config["num_attention_heads"]):
        return folder
    shutil.copytree(folder, view)
    shown = {**config, "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None}
    (view / "config.json").write_text(json.dumps(shown), encoding="utf-8")
    return view


async def _answer(child: asyncio.subprocess.Process) -> dict[str, Any]:
    assert child.stdout is not None
    line = await child.stdout.readline()
    answer: dict[str, Any] = json.loads(line) if line else {"error": f"it ended ({await child.wait()})"}
    if "error" in answer:
        raise Absent(f"The wheel mistralrs cannot run this model: {answer['error']}")
    return answer


async def _end(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(child.wait(), 10)
    except TimeoutError:
        child.kill()
        await child.wait()


def _version(package: str) -> str:
    from importlib import metadata

    return metadata.version(package)
