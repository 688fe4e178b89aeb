"""What strangers write is read in time that grows with its length, not with its square: 1 MB of the worst for each
reader (8 MB in small pieces for calls), in a process whose processor time is bounded. The cases: support/linear.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support import linear

# The first waits for all: 40 s of processor time, of which a loaded machine gives little.
pytestmark = pytest.mark.timeout(1200)
TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    run = subprocess.run([sys.executable, "-m", "support.linear"], cwd=TESTS, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found: dict[str, str] = json.loads(run.stdout)
    return found


@pytest.mark.parametrize("name", linear.CASES)
def test_it_is_read_in_linear_time(name: str, outcomes: dict[str, str]) -> None:
    assert outcomes[name] == ""
