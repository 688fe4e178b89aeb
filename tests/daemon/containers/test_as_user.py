"""The same tests once more as an ordinary user, when this run is root's: both ways to be must hold."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.containers.support import needs_bwrap

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
UID = 61_234
DROP = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
NAMES = [
    "test_attacks.py",
    "test_bombs.py",
    "test_crash.py",
    "test_environments.py",
    "test_exec.py",
    "test_files.py",
    "test_hostile_supervisor.py",
    "test_interpreter.py",
    "test_lifecycle.py",
    "test_network.py",
    "test_orphans.py",
    "test_output.py",
    "test_secrets.py",
    "../http/test_domain_secrets.py",
    "../skills/test_needs.py",
    "../test_doctor.py",
    "../test_private.py",
]


def interpreter() -> str | None:
    """A Python of this version that any user may run."""
    for path in (os.path.realpath(sys.executable), f"/usr/bin/python3.{sys.version_info.minor}", "/usr/bin/python3"):
        code = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]!r})"
        # Through a shell: setpriv itself may still start what the user may not.
        shell = [*DROP, "sh", "-c", 'exec "$0" -c "$1"', path, code]
        if subprocess.run(shell, capture_output=True, cwd="/").returncode == 0:
            return path
    return None


@needs_bwrap
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="this run is an ordinary user's already")
@pytest.mark.parametrize("name", NAMES)
def test_as_an_ordinary_user(name: str) -> None:
    python = interpreter() if shutil.which("setpriv") else None
    if python is None:
        pytest.skip("no Python of this version that another user may run")
    work = Path("/tmp") / f"skilldeck-user-{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    os.chown(work, UID, UID)
    try:
        run = subprocess.run(
            [*DROP, python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={work}/t", str(HERE / name)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": str(work),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "HYPOTHESIS_STORAGE_DIRECTORY": f"{work}/hypothesis",
            },
            timeout=300,
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
