"""Watching real folders with a scripted daemon: saves in the styles of editors, faults and recovery."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from skilldeck_shared.errors import Busy
from skilldeck_tui.client.client import Client
from skilldeck_tui.client.upload import upload_folder
from skilldeck_tui.watching.watcher import FolderWatcher, WatchState
from support.fake_daemon import FakeDaemon
from support.wait import until

FRONT = "---\nname: {}\ndescription: Counts things.\n---\n# Steps\n"


def make_skill(folder: Path) -> Path:
    (folder / "scripts").mkdir(parents=True)
    (folder / "SKILL.md").write_text(FRONT.format(folder.name))
    (folder / "scripts/run.py").write_text("print(1)\n")
    return folder


class Watching:
    """A running watcher and everything it said."""

    def __init__(self, fake: FakeDaemon, watcher: FolderWatcher) -> None:
        self.fake = fake
        self.watcher = watcher
        self.said: list[WatchState] = []

    async def reach(self, folder: Path, state: str, version: str | None = None) -> WatchState:
        def there() -> WatchState | None:
            now = self.watcher.states[folder]
            return now if now.state == state and version in (None, now.version) else None

        return await until(there)  # type: ignore[return-value]

    def states(self) -> list[str]:
        return [state.state for state in self.said]

    def versions(self, name: str) -> list[str]:
        """What the daemon has."""
        ids = [skill["id"] for skill in self.fake.objects["skill"].values() if skill["name"] == name]
        return [version["version"] for id_ in ids for version in self.fake.versions[id_]]


@asynccontextmanager
async def watching(fake: FakeDaemon, client: Client, *folders: Path) -> AsyncIterator[Watching]:
    said: list[WatchState] = []
    watcher = FolderWatcher(client, on_state=said.append)
    for folder in folders:
        watcher.add(folder)
    result = Watching(fake, watcher)
    result.said = said
    task = asyncio.create_task(watcher.run())
    try:
        yield result
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.fixture
def fake() -> FakeDaemon:
    return FakeDaemon()


@pytest.fixture
async def client(fake: FakeDaemon) -> AsyncIterator[Client]:
    async with fake.client() as client:
        yield client


@pytest.fixture
def skill(tmp_path: Path) -> Path:
    return make_skill(tmp_path / "counter")


async def test_the_first_look_uploads_and_a_save_makes_the_next_version(
    fake: FakeDaemon, client: Client, skill: Path
) -> None:
    async with watching(fake, client, skill) as w:
        first = await w.reach(skill, "current", "1")
        assert first.made
        assert list(dict.fromkeys(w.states())) == ["settling", "uploading", "current"]
        (skill / "scripts/run.py").write_text("print(2)\n")
        second = await w.reach(skill, "current", "2")
        assert (second.name, second.text) == ("counter", "v2 ✓")
        assert fake.contents[second.skill_id, "2"]["scripts/run.py"] == b"print(2)\n"
        assert all(version["watched"] for version in fake.versions[second.skill_id])
        assert fake.versions[second.skill_id][0]["source"] == str(skill)


async def test_content_that_the_daemon_has_makes_no_version(fake: FakeDaemon, client: Client, skill: Path) -> None:
    await upload_folder(client, skill)
    async with watching(fake, client, skill) as w:
        state = await w.reach(skill, "current", "1")
        assert not state.made
        os.utime(skill / "SKILL.md", (1, 1))
        (skill / "SKILL.md").write_text((skill / "SKILL.md").read_text())
        (skill / "notes.txt").write_text("new")
        await w.reach(skill, "current", "2")
        assert w.versions("counter") == ["1", "2"]


def save_in_place(path: Path, text: str) -> None:
    path.write_text(text)


def save_by_rename(path: Path, text: str) -> None:
    """As most editors do: a new file over the old one."""
    other = path.with_name(f".{path.name}.tmp1234")
    other.write_text(text)
    other.replace(path)


def save_as_vim(path: Path, text: str) -> None:
    """4913 tells whether the folder is writable, then the old file becomes a backup."""
    probe = path.with_name("4913")
    probe.touch()
    probe.unlink()
    path.with_name(f".{path.name}.swp").write_bytes(b"b0VIM")
    backup = path.with_name(f"{path.name}~")
    path.rename(backup)
    path.write_text(text)
    backup.unlink()


def save_as_jetbrains(path: Path, text: str) -> None:
    new, old = path.with_name(f"{path.name}___jb_tmp___"), path.with_name(f"{path.name}___jb_old___")
    new.write_text(text)
    path.rename(old)
    new.rename(path)
    old.unlink()


@pytest.mark.parametrize("save", [save_in_place, save_by_rename, save_as_vim, save_as_jetbrains])
async def test_each_way_editors_save_makes_exactly_one_version(
    fake: FakeDaemon, client: Client, skill: Path, save: object
) -> None:
    async with watching(fake, client, skill) as w:
        await w.reach(skill, "current", "1")
        save(skill / "SKILL.md", FRONT.format("counter") + "More.\n")  # type: ignore[operator]
        await w.reach(skill, "current", "2")
        (skill / "last.txt").write_text("a save after it, so that a stray version would have shown")
        state = await w.reach(skill, "current", "3")
        assert sorted(fake.contents[state.skill_id, "2"]) == ["SKILL.md", "scripts/run.py"]
        assert w.versions("counter") == ["1", "2", "3"]


async def test_many_saves_in_a_row_are_one_version(fake: FakeDaemon, client: Client, skill: Path) -> None:
    async with watching(fake, client, skill) as w:
        await w.reach(skill, "current", "1")
        for number in range(20):
            (skill / f"file-{number}.txt").write_text(str(number))
            await asyncio.sleep(0.005)
        state = await until(lambda: (s := w.watcher.states[skill]).state == "current" and s.version != "1" and s)
        assert len(fake.contents[state.skill_id, state.version]) == 22  # type: ignore[union-attr]


async def test_a_broken_skill_md_shows_its_line_and_leaves_the_last_version(
    fake: FakeDaemon, client: Client, skill: Path
) -> None:
    async with watching(fake, client, skill) as w:
        await w.reach(skill, "current", "1")
        (skill / "SKILL.md").write_text("---\nname: counter\ndescription: [unclosed\n---\n")
        state = await w.reach(skill, "error")
        assert state.line is not None
        assert state.column is not None
        assert state.version == "1"
        assert "v1 stays" in state.text
        assert w.versions("counter") == ["1"]
        (skill / "SKILL.md").write_text(FRONT.format("counter") + "Mended.\n")
        await w.reach(skill, "current", "2")


async def test_an_error_is_said_once_while_it_lasts(fake: FakeDaemon, client: Client, skill: Path) -> None:
    (skill / "SKILL.md").write_text("no frontmatter")
    async with watching(fake, client, skill) as w:
        await w.reach(skill, "error")
        said = len(w.said)
        for _ in range(3):
            w.watcher.saved(skill)
            await asyncio.sleep(0.05)
        (skill / "SKILL.md").write_text(FRONT.format("counter"))
        await w.reach(skill, "current", "1")
        assert w.states()[said] == "settling"


async def test_a_folder_without_skill_md_says_what_is_missing(fake: FakeDaemon, client: Client, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    async with watching(fake, client, tmp_path / "empty") as w:
        state = await w.reach(tmp_path / "empty", "error")
        assert "holds no SKILL.md" in state.text
        assert not fake.called("UploadSkill")


async def test_a_link_that_leaves_the_folder_is_an_error_that_names_it(
    fake: FakeDaemon, client: Client, skill: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("x")
    (skill / "link").symlink_to(tmp_path / "secret")
    async with watching(fake, client, skill) as w:
        assert "'link'" in (await w.reach(skill, "error")).text
        (skill / "link").unlink()
        await w.reach(skill, "current", "1")


async def test_a_deleted_folder_is_gone_and_recovers_when_it_is_back(
    fake: FakeDaemon, client: Client, skill: Path, tmp_path: Path
) -> None:
    async with watching(fake, client, skill) as w:
        await w.reach(skill, "current", "1")
        kept = shutil.copytree(skill, tmp_path / "kept")
        shutil.rmtree(skill)
        state = await w.reach(skill, "gone")
        assert state.text == "folder gone (v1 stays)"
        shutil.copytree(kept, skill)
        await w.reach(skill, "current", "1")
        (skill / "new.txt").write_text("events arrive again")
        await w.reach(skill, "current", "2")


async def test_a_renamed_folder_is_gone_and_another_in_its_place_is_taken(
    fake: FakeDaemon, client: Client, skill: Path, tmp_path: Path
) -> None:
    async with watching(fake, client, skill) as w:
        await w.reach(skill, "current", "1")
        skill.rename(tmp_path / "elsewhere")
        await w.reach(skill, "gone")
        make_skill(skill)
        (skill / "new.txt").write_text("another")
        await w.reach(skill, "current", "2")
        (tmp_path / "elsewhere/new.txt").write_text("not watched any more")
        (skill / "new.txt").write_text("watched")
        state = await w.reach(skill, "current", "3")
        assert fake.contents[state.skill_id, "3"]["new.txt"] == b"watched"


async def test_a_folder_that_does_not_exist_yet_is_waited_for(fake: FakeDaemon, client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "later"
    async with watching(fake, client, folder) as w:
        await w.reach(folder, "gone")
        make_skill(folder)
        await w.reach(folder, "current", "1")


async def test_a_folder_that_vanishes_while_it_is_uploaded_leaves_nothing_behind(
    fake: FakeDaemon, client: Client, skill: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (skill / "zz-big.bin").write_bytes(os.urandom(4 << 20))
    real = client.send_skill
    started: list[str] = []

    async def moving(header: object, chunks: AsyncIterator[bytes]) -> object:
        async def during() -> AsyncIterator[bytes]:
            async for chunk in chunks:
                if not started:
                    started.append("moved")
                    skill.rename(tmp_path / "away")
                yield chunk

        return await real(header, during())  # type: ignore[arg-type]

    monkeypatch.setattr(client, "send_skill", moving)
    async with watching(fake, client, skill) as w:
        await w.reach(skill, "gone")
        assert started
        assert w.versions("counter") == []
        (tmp_path / "away").rename(skill)
        await w.reach(skill, "current", "1")


async def test_a_daemon_killed_in_the_middle_of_an_upload_loses_no_version_and_doubles_none(
    fake: FakeDaemon, skill: Path, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    (skill / "big.bin").write_bytes(os.urandom(8 << 20))
    async with fake.listening(path):
        client = await Client.connect(path)
        real, sending, dead = client.send_skill, asyncio.Event(), asyncio.Event()

        async def watched(header: object, chunks: AsyncIterator[bytes]) -> object:
            async def during() -> AsyncIterator[bytes]:
                async for chunk in chunks:
                    yield chunk
                    sending.set()
                    await dead.wait()

            return await real(header, during())  # type: ignore[arg-type]

        client.send_skill = watched  # type: ignore[method-assign, assignment]
        running = watching(fake, client, skill)
        w = await running.__aenter__()
        await sending.wait()
    dead.set()
    await w.reach(skill, "offline")
    assert w.watcher.states[skill].text == "daemon away"
    async with fake.listening(path):
        await w.reach(skill, "current", "1")
        w.watcher.recheck()
        (skill / "more.txt").write_text("x")
        await w.reach(skill, "current", "2")
        assert w.versions("counter") == ["1", "2"]
        await running.__aexit__(None, None, None)
        await client.close()


async def test_a_busy_daemon_is_tried_again(fake: FakeDaemon, client: Client, skill: Path) -> None:
    fake.fail["UploadSkill"] = Busy("Too many uploads.")
    async with watching(fake, client, skill) as w:
        state = await w.reach(skill, "current", "1")
        assert state.made
        assert "offline" in w.states()


async def test_a_replaced_daemon_gets_the_skill_again(fake: FakeDaemon, client: Client, skill: Path) -> None:
    async with watching(fake, client, skill) as w:
        await w.reach(skill, "current", "1")
        fake.objects["skill"].clear()
        fake.versions.clear()
        w.watcher.recheck()
        await until(lambda: w.versions("counter") == ["1"])


async def test_many_folders_are_watched_and_one_can_be_removed(
    fake: FakeDaemon, client: Client, tmp_path: Path
) -> None:
    folders = [make_skill(tmp_path / f"skill-{number}") for number in range(30)]
    async with watching(fake, client, *folders[:29]) as w:
        for folder in folders[:29]:
            await w.reach(folder, "current", "1")
        w.watcher.add(folders[29])
        await w.reach(folders[29], "current", "1")
        await w.watcher.remove(folders[0])
        (folders[0] / "x.txt").write_text("x")
        (folders[29] / "x.txt").write_text("x")
        await w.reach(folders[29], "current", "2")
        assert w.versions("skill-0") == ["1"]
        assert folders[0] not in w.watcher.states


async def test_git_and_caches_make_no_version(fake: FakeDaemon, client: Client, skill: Path) -> None:
    async with watching(fake, client, skill) as w:
        await w.reach(skill, "current", "1")
        for name in (".git/objects/ab/cdef", "scripts/__pycache__/run.pyc", ".idea/workspace.xml"):
            path = skill / name
            path.parent.mkdir(parents=True)
            path.write_text("x")
        (skill / "real.txt").write_text("x")
        state = await w.reach(skill, "current", "2")
        assert sorted(fake.contents[state.skill_id, "2"]) == ["SKILL.md", "real.txt", "scripts/run.py"]


async def test_packages_and_what_is_ignored_make_no_version_and_a_secret_stays_with_a_notice(
    fake: FakeDaemon, client: Client, skill: Path
) -> None:
    (skill / ".gitignore").write_text("out/\n")
    (skill / ".env").write_text("KEY=secret")
    async with watching(fake, client, skill) as w:
        first = await w.reach(skill, "current", "1")
        assert [warning.split(":")[0] for warning in first.warnings] == [".env was left out"]
        for path in (".venv/lib/x.py", "venv/pyvenv.cfg", "node_modules/a/index.js", ".cache/x", "out/report.md"):
            (skill / path).parent.mkdir(parents=True)
            (skill / path).write_text("x")
        (skill / ".env").write_text("KEY=other")
        (skill / "scripts/run.py").write_text("print(2)\n")
        second = await w.reach(skill, "current", "2")
        assert set(fake.contents[second.skill_id, "2"]) - {"SKILL.md", "scripts/run.py"} == {".gitignore"}
        assert w.versions("counter") == ["1", "2"]


async def test_what_git_keeps_of_a_thousand_files_is_neither_read_nor_sent(
    fake: FakeDaemon, client: Client, skill: Path
) -> None:
    for number in range(1000):
        path = skill / f".git/objects/{number % 100:02}/{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    async with watching(fake, client, skill) as w:
        state = await w.reach(skill, "current", "1")
        assert sorted(fake.contents[state.skill_id, "1"]) == ["SKILL.md", "scripts/run.py"]
        (skill / "new.txt").write_text("x")
        await w.reach(skill, "current", "2")


async def test_updates_begin_with_the_present_states(fake: FakeDaemon, client: Client, skill: Path) -> None:
    async with watching(fake, client, skill) as w:
        await w.reach(skill, "current", "1")
        updates = w.watcher.updates()
        assert (await anext(updates)).state == "current"
        (skill / "x.txt").write_text("x")
        assert (await anext(updates)).state == "settling"
        await updates.aclose()


async def test_changes_to_the_executable_bit_make_a_version(fake: FakeDaemon, client: Client, skill: Path) -> None:
    async with watching(fake, client, skill) as w:
        await w.reach(skill, "current", "1")
        (skill / "scripts/run.py").chmod(0o755)
        await w.reach(skill, "current", "2")
