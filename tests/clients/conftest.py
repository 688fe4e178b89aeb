"""Every answer of a daemon in these tests is held against the specifications (`support.witness`)."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from skilldeck_daemon.containers.homes import base_for
from support.witness import answers_keep_the_specification, witnessed

__all__ = ["answers_keep_the_specification", "witnessed"]


@pytest.fixture(autouse=True)
def no_containers_stay(tmp_path: Path) -> Iterator[None]:
    """Root's daemons keep containers elsewhere than their data."""
    yield
    shutil.rmtree(base_for(tmp_path / "data" / "containers"), ignore_errors=True)
