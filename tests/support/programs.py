"""Agent programs of others (npm), driven without a terminal against a daemon process, everything on loopback.

codex = program("codex", "@openai/codex")              # skips with the reason where it is not installed
with serving(home, "--engine", "remote", …) as (process, url):
    done = drive([codex, "exec", …], folder, home, {…})
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

FOLDER = "SKILLDECK_TEST_CLIENTS"
"""Names a folder into which npm installed programs (`npm install --prefix FOLDER …`), where they are not on PATH."""
# Read at once: the suite takes SKILLDECK_ variables away before each test (conftest.py).
CLIENTS = os.environ.get(FOLDER, "")
# Whatever a program asks of the internet is refused at once: nothing listens there.
NOWHERE = "http://127.0.0.1:9"


def program(name: str, package: str, npm: bool = True) -> str:
    """The path of a program of npm, or of PyPI; the test is skipped where it cannot run."""
    folder = CLIENTS
    path = os.pathsep.join([str(Path(folder) / "node_modules" / ".bin"), folder, os.environ.get("PATH", "")])
    found = shutil.which(name, path=path if folder else None)
    if found is None:
        how = f"npm install --prefix DIR {package}" if npm else f"pip install {package}, linked into DIR"
        pytest.skip(f"{name} is not installed: {how}, then {FOLDER}=DIR")
    if npm and shutil.which("node") is None:
        pytest.skip(f"{name} needs Node, which is not installed")
    return found


@contextlib.contextmanager
def serving(home: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A daemon process with its data under `home`; yields it and its base URL."""
    command = [sys.executable, "-m", "skilldeck_daemon", "serve", "--port", "0", "--data-dir", str(home / "data")]
    command += ["--socket", str(home / "s"), *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+/v1", line)
        if found is None:
            process.wait(10)
            raise AssertionError(f"{line!r}\n{process.stderr.read() if process.stderr else ''}")
        yield process, found.group()
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=30)


def drive(
    command: Sequence[str], folder: Path, home: Path, variables: Mapping[str, str], timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end in `folder`, with a home of its own and no way out of this machine."""
    for place in (folder, home):
        place.mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(home),
        "TERM": "dumb",
        "HTTP_PROXY": NOWHERE,
        "HTTPS_PROXY": NOWHERE,
        "NO_PROXY": "127.0.0.1,localhost",
        **variables,
    }
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
