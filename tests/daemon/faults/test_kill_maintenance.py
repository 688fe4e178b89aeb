"""`kill -9` in the middle of an upgrade, a backup and a restore: what was there is there, and the next one succeeds.

A sample of the moments; `SKILLDECK_TEST_KILLS` set to anything takes them all.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tarfile
from pathlib import Path

import pytest

from skilldeck_daemon.core import _home
from support.make_store import STORES

PROGRAM = Path(__file__).with_name("killed_midway.py")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("operation", "stride"), [("upgrade", 5), ("backup", 3), ("restore", 13)])
async def test_a_kill_leaves_nothing_half_done(operation: str, stride: int, tmp_path: Path) -> None:
    data, work = tmp_path / "data", tmp_path / "work"
    work.mkdir()
    with tarfile.open(STORES / "v0001.tar.xz") as tar:
        tar.extractall(data, filter="tar")
    (data / "answers.json").unlink()
    stride = 1 if "SKILLDECK_TEST_KILLS" in os.environ else stride
    words = [sys.executable, str(PROGRAM), operation, str(data), str(work), str(stride)]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    said = json.loads((await process.communicate())[0])
    assert said["problems"] == []
    assert said["killed"] == len(range(1, said["steps"] + 1, stride))
    assert said["killed"] > 1


def test_a_name_that_a_kill_cut_short_is_made_anew(tmp_path: Path) -> None:
    for left in ("home.id", "home.id.part"):
        (tmp_path / left).touch()
    name = _home(tmp_path)
    assert len(name) == 16
    assert _home(tmp_path) == name
    assert [item.name for item in tmp_path.iterdir()] == ["home.id"]
