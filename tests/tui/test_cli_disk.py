"""Skills on disk, trust and install on the command line: what is asked of the daemon and what is shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from skilldeck_tui.cli.main import app
from skilldeck_tui.cli.running import run as cli_run
from skilldeck_tui.client.client import Client
from support.fake_daemon import FakeDaemon

DISK: dict[str, Any] = {
    "id": "disk:/p/.agents/skills/theirs", "object": "skill.disk", "source": "disk", "name": "theirs",
    "description": "d", "path": "/p/.agents/skills/theirs", "scope": "project", "project": "/p", "trusted": False,
    "offered": False, "warnings": ["SKILL.md line 2, column 7: odd."],
}  # fmt: skip


@pytest.fixture
def fake() -> FakeDaemon:
    return FakeDaemon()


@pytest.fixture
async def socket(fake: FakeDaemon, tmp_path: Path) -> AsyncIterator[Path]:
    async with fake.listening(tmp_path / "s") as socket:
        yield socket


async def sh(socket: Path, *args: str) -> Result:
    # In a thread, because the fake daemon answers in this one.
    return await asyncio.to_thread(CliRunner().invoke, app, ["--socket", str(socket), *args])


async def test_skills_on_disk_are_listed_with_what_keeps_them_back(fake: FakeDaemon, socket: Path) -> None:
    fake.disk_skills = [
        DISK,
        {**DISK, "name": "mine", "scope": "user", "project": None, "trusted": True, "offered": True},
    ]
    shown = await sh(socket, "skills", "--disk")
    assert shown.exit_code == 0
    assert [line.split()[:3] for line in shown.stdout.splitlines()] == [
        ["theirs", "project", "not"], ["mine", "user", "yes"]
    ]  # fmt: skip
    assert "skilldeck trust /p" in shown.stderr
    assert "theirs: SKILL.md line 2" in shown.stderr
    assert json.loads((await sh(socket, "skills", "--disk", "--json")).stdout) == fake.disk_skills
    assert fake.called("ListDiskSkills")[0].path == str(Path.cwd())


async def test_projects_are_trusted_listed_and_untrusted(fake: FakeDaemon, socket: Path, tmp_path: Path) -> None:
    assert (await sh(socket, "trust", str(tmp_path))).stdout == f"{tmp_path} is trusted\n"
    assert [p["path"] for p in json.loads((await sh(socket, "trust", "--json")).stdout)] == [str(tmp_path)]
    assert (await sh(socket, "untrust", str(tmp_path))).exit_code == 0
    refused = await sh(socket, "untrust", str(tmp_path))
    assert refused.exit_code != 0
    assert "not trusted" in refused.stderr


async def test_a_name_that_is_only_on_disk_is_asked_for_there(fake: FakeDaemon, tmp_path: Path) -> None:
    fake.disk_skills = [DISK]
    stored = fake.add_skill("stored")
    async with fake.client() as client:
        assert isinstance(client, Client)
        given = ["stored", "theirs", "nobody", str(tmp_path), str(stored["id"])]
        assert await cli_run.split_skills(client, given) == (
            ["stored", "nobody", str(tmp_path), stored["id"]], ["theirs"]
        )  # fmt: skip


async def test_installing_a_folder_tells_version_and_digest(fake: FakeDaemon, socket: Path, tmp_path: Path) -> None:
    folder = tmp_path / "counter"
    folder.mkdir()
    (folder / "SKILL.md").write_text("---\nname: counter\ndescription: Counts.\n---\n")
    done = await sh(socket, "install", str(folder))
    assert done.stdout == f"counter v1 installed from {folder}\n"
    assert "digest" in done.stderr
    assert str(folder) in (await sh(socket, "skills")).stdout
    (folder / "SKILL.md").write_text("no frontmatter")
    refused = await sh(socket, "install", str(folder))
    assert refused.exit_code != 0
    assert "SKILL.md line 1" in refused.stderr
