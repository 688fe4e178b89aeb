"""The process an engine runs in, started: at the moment it is needed, or ahead of it.

It may spend its first second importing what its engine needs and is sent what to load when that is done, so a daemon
starts one before it imports itself and both happen at once. It ends when its socket closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

MODULE = "skilldeck_daemon.engine.process.worker_main"


@dataclass
class Child:
    """A process of `worker_main` and our end of its socket, nothing written to it yet."""

    process: asyncio.subprocess.Process
    socket: socket.socket

    async def close(self) -> None:
        """End it unused."""
        self.socket.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


def is_child() -> bool:
    """Whether this process is one of these, with an engine and nothing else in it."""
    return getattr(sys.modules["__main__"].__spec__, "name", "") == MODULE


async def start(ahead: Sequence[str] = ()) -> Child:
    """Start a process that imports the modules `ahead` and waits for its `wire.Load`. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            # A session of its own, so that a terminal's Ctrl-C is the daemon's to handle; stdout is not the child's.
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # else a file in the working directory could stand in for a module of ours
                "-m",
                MODULE,
                str(theirs.fileno()),
                *ahead,
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if _has_fileno(sys.stderr) else asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
    return Child(process, ours)


def _has_fileno(stream: Any) -> bool:
    fileno: Callable[[], int] | None = getattr(stream, "fileno", None)
    try:
        return fileno is not None and fileno() >= 0
    except (OSError, ValueError):
        return False
