"""Getting a connection to the daemon, starting it when none runs.

Clients that start at the same moment agree through a lock file: one starts the daemon, the others wait for it. The
daemon is a process of its own session and outlives its client; what it writes goes to a log file. Starting reports
what it waits for, and a daemon that fails to start is reported with the end of its log.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from skilldeck_shared import paths, private
from skilldeck_shared.errors import SkilldeckError, Unavailable
from skilldeck_shared.paths import expanded
from skilldeck_tui.client.client import Client
from skilldeck_tui.client.types import DaemonUnreachable, Object, Snapshot

START_SECONDS = 60.0
"""From a cold disk, importing torch alone has taken 20 s."""
LOG_BYTES = 10 << 20
DAEMON_PACKAGES = ("uvicorn", "sqlalchemy", "starlette")

Report = Callable[[str, float], None]
"""Called with what is being waited for and a fraction 0 to 1 (negative: unknown)."""


class DaemonNotInstalled(SkilldeckError):
    """Only the client is installed here."""

    code = "daemon_not_installed"


class DaemonFailed(Unavailable):
    """The daemon was started and did not come up."""

    code = "daemon_failed"


async def connect(
    path: Path | None = None,
    *,
    start: bool = True,
    ready: bool = False,
    report: Report | None = None,
    check_version: bool = True,
) -> Client:
    """A client of the daemon at `path` (default: `paths.socket_path()`).

    Args:
        start: start a daemon when none answers; else DaemonUnreachable.
        ready: return only when a model can answer.
        report: called with what is being waited for.
    Raises:
        DaemonUnreachable, DaemonNotInstalled, DaemonFailed, VersionMismatch; OpenToOthers where somebody else could
        answer in the daemon's place.
    """
    path = expanded(path or paths.socket_path()).absolute()
    private.check_socket_folder(path)
    report = report or (lambda _stage, _fraction: None)
    try:
        client = await Client.connect(path, check_version=check_version)
    except DaemonUnreachable:
        if not start:
            raise
        client = await _start(path, report)
    if ready:
        try:
            await wait_ready(client, report)
        except BaseException:
            await client.close()
            raise
    return client


async def wait_ready(client: Client, report: Report | None = None) -> Object:
    """Wait until the daemon's model can answer; returns the status. Raises DaemonFailed when it cannot be loaded."""
    async with client.subscribe() as updates:
        async for update in updates:
            if isinstance(update, Snapshot):
                status = update.status
            elif update.topic == "status" and update.object is not None:
                status = update.object
            else:
                continue
            state, detail = status.get("state"), str(status.get("detail") or "")
            if state == "ready":
                return status
            if state == "degraded":
                raise DaemonFailed(detail or "The daemon has no working model.", "`skilldeck logs` has the details.")
            if report is not None:
                report(detail or "loading the model", float(status.get("fraction", -1)))
    raise DaemonUnreachable("The daemon stopped.", "`skilldeck logs` may say why.")


def log_file() -> Path:
    """Where a daemon that a client started writes its log."""
    return paths.state_dir() / "daemon.log"


async def _start(path: Path, report: Report) -> Client:
    require_daemon()
    report("starting the daemon", -1)
    async with _lock():
        try:
            # Somebody else may have started it while we waited for the lock.
            return await Client.connect(path)
        except DaemonUnreachable:
            pass
        process = _spawn(path)
        return await _wait(path, process, report)


def require_daemon() -> None:
    """Raise DaemonNotInstalled, with the command that mends it, when the daemon's packages are not there."""
    missing = [name for name in ("skilldeck_daemon", *DAEMON_PACKAGES) if find_spec(name) is None]
    if missing:
        raise DaemonNotInstalled(
            f"No daemon runs, and this installation has only the client ({', '.join(missing)} missing).",
            f"Install it with: {sys.executable} -m pip install 'skilldeck[daemon]'",
        )


@asynccontextmanager
async def _lock() -> AsyncIterator[None]:
    """One client at a time starts a daemon. The kernel gives the lock back however its holder ends."""
    directory = paths.state_dir()
    try:
        private.folder(directory)
        descriptor = os.open(directory / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DaemonFailed(
            f"The state directory {directory} cannot be used: {error.strerror}.", "Set XDG_STATE_HOME to another one."
        ) from error
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _spawn(path: Path) -> subprocess.Popen[bytes]:
    log = log_file()
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    private.file(log)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "skilldeck_daemon", "serve", "--socket", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Not in our process group: Ctrl-C is for the client, and closing the terminal must not end the daemon.
            start_new_session=True,
            cwd=Path.home(),
        )


async def _wait(path: Path, process: subprocess.Popen[bytes], report: Report) -> Client:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        try:
            return await Client.connect(path)
        except DaemonUnreachable:
            pass
        code = process.poll()
        if code is not None:
            raise DaemonFailed(
                f"The daemon stopped while it started (exit status {code}): {_last_line()}",
                f"Its log is {log_file()}; `skilldeckd doctor` looks for common causes.",
            )
        if loop.time() - began > START_SECONDS:
            raise DaemonFailed(
                f"The daemon was started and does not answer after {START_SECONDS:.0f} s.", f"Its log is {log_file()}."
            )
        report("starting the daemon", -1)
        await asyncio.sleep(0.1)


def _last_line() -> str:
    """The last line of the log that says something."""
    try:
        with log_file().open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return "no log"
    return next((line.strip() for line in reversed(lines) if line.strip()), "no log")
