"""Helpers of the container tests."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.containers import CommandResult, Container

needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")

MIB = 1024**2


async def sh(container: Container, command: str, **options: Any) -> CommandResult:
    """The result of one command."""
    options.setdefault("timeout_ms", 20_000)
    return (await container.exec([command], **options))[0]


async def until(holds: Callable[[], Any], within: float = 60.0) -> None:
    """Waits until a predicate holds; fails after `within` seconds."""
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, "the condition never came true"
        await asyncio.sleep(0.01)


def descriptors() -> int:
    """How many this process has open, after what waits for the garbage collector is closed: another test may have left
    some, whose closing in between would hide a leak."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


async def descriptors_are_back(before: int) -> None:
    """A transport closes its descriptor in a later turn of the loop; one that leaks never comes back."""
    await until(lambda: descriptors() <= before, within=30)


def processes(mark: str) -> list[str]:
    """Every process of this machine that has the place among its mounts or in its command line.

    A container's processes have its directory mounted, whatever they are called and wherever they were reparented: none
    left means no mount of it is left either.
    """
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                here = Path("/proc", name)
                command = (here / "cmdline").read_bytes()
                if mark in (here / "mountinfo").read_text() or mark.encode() in command:
                    found.append(f"{(here / 'stat').read_text().split()[:4]} {command!r}")
    return found
