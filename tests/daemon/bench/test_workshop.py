"""The workshop's benchmark, in small: real programs, and lags computed as they are meant."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from daemon.containers.support import needs_bwrap
from skilldeck_daemon.bench import local
from skilldeck_daemon.bench.suites import workshop
from skilldeck_daemon.bench.terminal import NotDrawn, Terminal, lags


def test_a_lag_lasts_until_a_piece_or_a_later_one_is_drawn() -> None:
    made = [0.0, 1.0, 2.0, 3.0, 4.0]
    # The first drawing shows piece 1 (0 is older: it was drawn with it), the second piece 3; 4 never was.
    assert lags([(1.5, 1), (3.25, 3)], made) == [1.5, 0.5, 1.25, 0.25]


def test_lines_that_were_not_drawn_lie_evenly_between_those_that_were() -> None:
    assert workshop._between({0: 10.0, 4: 12.0, 5: 13.0}, 9) == [10.0, 10.5, 11.0, 11.5, 12.0, 13.0]


async def test_a_program_that_ends_without_drawing_is_an_error(tmp_path: Path) -> None:
    async with Terminal.running(["/bin/sh", "-c", "printf abc; sleep 0.2; printf def"], tmp_path) as terminal:
        assert await terminal.drawn("bcde") >= terminal.begun
        with pytest.raises(NotDrawn, match="never showed 'xyz'"):
            await terminal.drawn("xyz")


async def test_a_daemon_that_ends_before_it_is_healthy_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    async with local.process(tmp_path, "", "--no-such-option") as served:
        with pytest.raises(local.NotReady, match="No such option"):
            await served.healthy()


@needs_bwrap
async def test_the_workshop_is_measured_and_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    # tmp_path is too long here for the path of a Unix socket, which has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="sd-", dir="/tmp") as short:
        monkeypatch.setattr("tempfile.tempdir", short)
        measures = await workshop.measure("", 1, files=(10,), changed=(2_000,), seconds=0.3, idle=0.2)
        left = os.listdir(short)
    names = [measure.name for measure in measures]
    assert names[:3] == [
        "save to usable version, 10 files",
        "the same, 100 files, 2 KB changed",
        "start to first paint",
    ]
    assert {measure.suite for measure in measures} == {"Hot reload", "Terminal UI"}
    for measure in measures:
        assert measure.ours, measure.name
        assert measure.name.startswith("idle") or min(measure.ours) > 0, measure.name
    assert left == []
