"""`skilldeckd bench`: what is fast here and what is not, each beside a named reference in the same run.

Blocks for minutes and loads both cores; everything it makes is in temporary directories. A suite that cannot run on
this machine says why and the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from skilldeck_daemon.bench.measure import Measure
from skilldeck_daemon.bench.report import to_json, to_markdown, to_svg, to_text
from skilldeck_shared.errors import BadRequest, SkilldeckError

# In the order of the report; each is a module of suites/.
SUITES = (
    "startup",
    "engine",
    "task",
    "server",
    "tools",
    "containers",
    "uploads",
    "workshop",
    "store",
    "evaluations",
    "memory",
    "setup",
    "neighbours",
)
GPU = "gpu"  # only when asked for: it needs a CUDA device, and takes a quarter of an hour
REAL = "real"  # only when asked for: it needs a GGUF

Suite = Callable[..., Coroutine[Any, Any, list[Measure]]]


def run(
    model: str = "tiny",
    suites: Sequence[str] = (),
    rounds: int = 5,
    as_json: bool = False,
    markdown: Path | None = None,
    mistralrs_python: Path | None = None,
) -> int:
    """Measure and print; returns the exit status: 1 when a suite could not run.

    Args:
        model: what engines load: a folder, a Hugging Face id or `tiny`.
        suites: which of SUITES, all when empty; or GPU, or REAL.
        rounds: samples per arm; costly suites take what they need.
        markdown: also write the report there, and its chart beside it as .svg.
        mistralrs_python: the interpreter of an environment with the wheel mistralrs; ours when None.
    """
    chosen = tuple(suites) or SUITES
    for name in chosen:
        if name not in (*SUITES, GPU, REAL):
            raise BadRequest(f"There is no benchmark suite {name!r}.", f"Suites: {', '.join(SUITES)}.", param="suites")
    measures: list[Measure] = []
    failed = False
    for name in chosen:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        suite: Suite = import_module(f"{__name__}.suites.{name}").measure
        extra = {"wheel_python": mistralrs_python} if "wheel_python" in signature(suite).parameters else {}
        try:
            measures += _loop(suite(model, rounds, **extra))
        except SkilldeckError as error:
            failed = True
            print(f"{name} could not be measured: {error}", file=sys.stderr)
    print(to_json(measures) if as_json else to_text(measures))
    if markdown is not None:
        markdown.write_text(to_markdown(measures), encoding="utf-8")
        markdown.with_suffix(".svg").write_text(to_svg(measures), encoding="utf-8")
    return int(failed)


def _loop(work: Coroutine[Any, Any, list[Measure]]) -> list[Measure]:
    """Run it on the event loop that the daemon itself uses."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)
