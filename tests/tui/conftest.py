"""What tests that take pictures of screens share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from pytest_textual_snapshot import SVGImageExtension

from skilldeck_tui.state import DaemonState
from skilldeck_tui.widgets.transcript import approval
from support.pictures import NOW


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same instant, zone and folder every time."""
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DaemonState, "sample", lambda self: None)
    monkeypatch.setattr(approval, "GUARD_SECONDS", 0.0)


@pytest.fixture
def pictures(still: None, snapshot: Any) -> Any:
    return snapshot.use_extension(SVGImageExtension)
