"""Helpers of the container tests."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest

from skilldeck_daemon.containers import CommandResult, Container

needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")

MIB = 1024**2


async def sh(container: Container, command: str, **options: Any) -> CommandResult:
    """The result of one command."""
    options.setdefault("timeout_ms", 20_000)
    return (await container.exec([command], **options))[0]


async def until(holds: Callable[[], Any], within: float = 10.0) -> None:
    """Waits until a predicate holds; fails after `within` seconds."""
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, "the condition never came true"
        await asyncio.sleep(0.01)
