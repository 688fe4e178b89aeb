"""A full disk at every write of every request: it says so, nothing is half-written, and it goes on with space."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.containers.support import needs_bwrap

TESTS = Path(__file__).resolve().parents[2]


@needs_bwrap
@pytest.mark.timeout(600)
def test_a_disk_that_is_full_at_any_write_loses_and_halves_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    bwrap = [str(shutil.which("bwrap")), "--dev-bind", "/", "/", "--size", str(24 << 20), "--tmpfs", str(disk)]
    python_path = os.pathsep.join([str(TESTS), str(TESTS.parent / "daemon"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*bwrap, sys.executable, "-m", "daemon.faults.full_disk", str(disk)],
        env={**os.environ, "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    if "--size" in done.stderr and "Unknown option" in done.stderr:
        pytest.skip("this bubblewrap cannot limit a tmpfs (needs 0.7)")
    assert done.returncode == 0, done.stderr[-4000:]
    refused = json.loads(done.stdout.splitlines()[-1])
    assert set(refused) == {
        "file", "skill", "part", "conversation", "chat", "response", "background", "start", "restore"
    }  # fmt: skip
    assert min(refused.values()) > 0
