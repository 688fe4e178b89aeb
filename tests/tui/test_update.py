"""Updating installed skills: the difference first, then a version, from where they were installed."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from skilldeck_tui.cli.main import app
from support.fake_daemon import FakeDaemon

FRONT = "---\nname: {}\ndescription: Does it.\n---\n"


def git(folder: Path, *command: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *command], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "tools"
    for name in ("report", "count"):
        (root / "skills" / name).mkdir(parents=True)
        (root / "skills" / name / "SKILL.md").write_text(FRONT.format(name))
    (root / "skills/report/run.sh").write_text("echo one\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")
    return root


@pytest.fixture
async def socket(tmp_path: Path) -> AsyncIterator[Path]:
    async with FakeDaemon().listening(tmp_path / "s") as listening:
        yield listening


async def skilldeck(socket: Path, *args: str) -> Any:
    env = {**{name: None for name in os.environ if name.startswith("SKILLDECK_")}, "SKILLDECK_SOCKET": str(socket)}
    return await asyncio.to_thread(CliRunner().invoke, app, list(args), env=env)


async def test_an_installed_skill_is_brought_to_its_origins_newest(repository: Path, socket: Path) -> None:
    assert (await skilldeck(socket, "install", repository.as_uri(), "--all", "--default")).exit_code == 0
    same = await skilldeck(socket, "update")
    assert same.exit_code == 0
    assert sorted(same.stdout.splitlines()) == ["count v1 is the newest", "report v1 is the newest"]

    (repository / "skills/report/run.sh").write_text("echo two\n")
    git(repository, "rm", "-rq", "skills/count")
    git(repository, "commit", "-qam", "two")
    shown = await skilldeck(socket, "update", "report")  # nobody to ask
    assert shown.exit_code == 0
    assert "-echo one\n+echo two\n" in shown.stdout
    assert "report stays at v1" in shown.stderr

    every = await skilldeck(socket, "update", "--yes")
    assert "report v1 → v2 from git+file://" in every.stdout
    assert every.exit_code == 4
    assert "holds no skill 'count' any more" in every.stderr
    assert "report v2 is the newest" in (await skilldeck(socket, "update", "report")).stdout


async def test_a_skill_of_a_branch_follows_that_branch(repository: Path, socket: Path) -> None:
    git(repository, "checkout", "-qb", "next/one")
    (repository / "skills/report/run.sh").write_text("echo of the branch\n")
    git(repository, "commit", "-qam", "branch")
    url = repository.as_uri()
    installed = await skilldeck(socket, "install", url, "--ref", "next/one", "--skill", "report", "--default")
    assert "(next/one)#skills/report" in installed.stdout
    git(repository, "checkout", "-q", "main")
    (repository / "skills/report/run.sh").write_text("echo of main\n")
    git(repository, "commit", "-qam", "main")
    assert (await skilldeck(socket, "update", "--yes")).stdout == "report v1 is the newest\n"
    git(repository, "checkout", "-q", "next/one")
    (repository / "skills/report/run.sh").write_text("echo of the branch, again\n")
    git(repository, "commit", "-qam", "branch")
    git(repository, "checkout", "-q", "main")
    assert "report v1 → v2 from git+file://" in (await skilldeck(socket, "update", "--yes")).stdout


async def test_a_skill_of_ones_own_has_no_origin(repository: Path, socket: Path) -> None:
    await skilldeck(socket, "upload", str(repository / "skills/count"))
    assert (await skilldeck(socket, "update")).exit_code == 0
    refused = await skilldeck(socket, "update", "count")
    assert refused.exit_code == 4
    assert "count was not installed from elsewhere" in refused.stderr
