"""Daemons that die, are replaced, or are two, as the terminal UI shows them: real processes on real sockets."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from skilldeck_daemon.containers.homes import base_for
from skilldeck_tui.app import SkilldeckApp
from skilldeck_tui.client.client import Client
from skilldeck_tui.client.transport import SocketChannel
from skilldeck_tui.preferences import Memory, Preferences
from skilldeck_tui.screens.skills import SkillsScreen
from support.fake_daemon import FakeDaemon
from support.programs import serving
from support.tui import Deck

BIG = 24 << 20


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(base_for(tmp_path / "data" / "containers"), ignore_errors=True)


@asynccontextmanager
async def _open(socket: Path, mode: str = "chat") -> AsyncIterator[Deck]:
    client = Client(SocketChannel(socket), socket)
    app = SkilldeckApp(lambda: client, preferences=Preferences(notify=False), memory=Memory(), mode=mode)
    try:
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            yield Deck(app, pilot, FakeDaemon())
    finally:
        await client.close()


async def test_a_daemon_killed_in_the_middle_of_an_upload_gets_the_version_once_it_is_back(home: Path) -> None:
    skill = home / "counter"
    skill.mkdir()
    (skill / "SKILL.md").write_text("---\nname: counter\ndescription: Counts.\n---\n# Counter\n")
    (skill / "big.bin").write_bytes(os.urandom(BIG))
    sending, dead = asyncio.Event(), asyncio.Event()
    with serving(home, "--model", "") as (process, _):
        async with _open(home / "s", "skills") as d:
            client = d.app.client
            real = client.send_skill

            async def watched(header: object, chunks: AsyncIterator[bytes]) -> object:
                async def during() -> AsyncIterator[bytes]:
                    async for chunk in chunks:
                        yield chunk
                        sending.set()
                        await dead.wait()

                return await real(header, during())  # type: ignore[arg-type]

            client.send_skill = watched  # type: ignore[method-assign, assignment]
            await d.shows("No skills yet")
            screen = d.app.mode_screen("skills")
            assert isinstance(screen, SkillsScreen)
            screen.watch_folder(skill)
            await sending.wait()
            await d.shows("counter", "↑ ")
            process.send_signal(signal.SIGKILL)
            process.wait(30)
            dead.set()
            await d.shows("Lost the connection to the daemon", "◌ daemon away", "as last heard")
            with serving(home, "--model", ""):
                await d.shows("● watching ✓", "v1", "big.bin")
                await d.hides("Lost the connection")
                (row,) = d.app.state.skills
                page = await client.skill_versions(row["id"])
                assert [version["version"] for version in page.data] == ["1"]
                # And the next save is the next version.
                (skill / "more.txt").write_text("more")
                await d.shows("v1 → v2")


async def test_the_socket_of_a_dead_daemon_is_told_with_the_way_out_and_taken_over(home: Path) -> None:
    with serving(home, "--model", "") as (process, _):
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert (home / "s").exists()
    async with _open(home / "s") as d:
        await d.shows("◌ no daemon", "No daemon listens at", "Start it with", "Still trying")
        with serving(home, "--model", "") as (process, _):
            await d.shows("No skills yet")
            await d.press("f5")
            await d.shows(f"pid {process.pid}")


async def test_of_two_daemons_each_screen_names_its_own(home: Path) -> None:
    other = home / "other"
    other.mkdir()
    with serving(home, "--model", "") as (first, url), serving(other, "--model", "") as (second, second_url):
        async with _open(home / "s", "daemon") as d:
            await d.shows(url, f"pid {first.pid}", str(home / "data")[:20])
        async with _open(other / "s", "daemon") as d:
            await d.shows(second_url, f"pid {second.pid}", str(other / "data")[:20])


def test_a_second_daemon_on_the_socket_of_another_is_refused_and_named(home: Path) -> None:
    with serving(home, "--model", "") as (process, _):
        command = [sys.executable, "-m", "skilldeck_daemon", "serve", "--port", "0", "--model", ""]
        command += ["--data-dir", str(home / "d2"), "--socket", str(home / "s")]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 1
        assert str(home / "s") in second.stderr
        assert "--socket" in second.stderr
        assert "Traceback" not in second.stderr
        assert process.poll() is None
