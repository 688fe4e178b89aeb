"""Skills, driven by keys against a scripted daemon and real folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skilldeck_tui import editor
from skilldeck_tui.client.client import Change
from skilldeck_tui.preferences import Memory
from skilldeck_tui.screens.dialogs.diff import DiffScreen
from skilldeck_tui.screens.skills import SkillsScreen
from skilldeck_tui.skills.difference import as_patch, changes, lines
from skilldeck_tui.state import DaemonState
from skilldeck_tui.widgets.files.file_tree import FileTree
from skilldeck_tui.widgets.files.preview import Preview, coloured
from skilldeck_tui.widgets.version_list import VersionList
from support.fake_daemon import FakeDaemon
from support.pictures import disk_skill
from support.tui import Deck, deck

GOOD = "---\nname: notes\ndescription: Keeps notes.\n---\n# Notes\n"
BROKEN = "---\nname: notes\ndescription: a: b\n---\n"


def _skill(fake: FakeDaemon) -> str:
    """A skill with three versions."""
    skill = fake.add_skill("csv-summary", {"run.py": b"print(1)\n", "old.txt": b"x\n"})
    manifest = fake.contents[skill["id"], "1"]["SKILL.md"]
    fake.add_version(skill["id"], {"SKILL.md": manifest, "run.py": b"print(2)\n", "old.txt": b"x\n"})
    fake.add_version(skill["id"], {"SKILL.md": manifest, "run.py": b"print(2)\nprint(3)\n"})
    return str(skill["id"])


async def _open(d: Deck) -> SkillsScreen:
    await d.press("f3")
    await d.until(lambda: d.app.current_mode == "skills" and d.app.screen.is_mounted)
    screen = d.app.screen
    assert isinstance(screen, SkillsScreen)
    return screen


async def test_an_empty_library_offers_the_next_step_and_uploads_the_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "SKILL.md").write_text(GOOD)
    monkeypatch.setattr("skilldeck_shared.paths.examples_dir", lambda: tmp_path)
    fake = FakeDaemon()
    async with deck(fake) as d:
        await _open(d)
        await d.shows("No skills yet", "x   upload the example skills")
        await d.press("x")
        await d.shows("notes", "v1", "Uploaded 1 example skill.")


async def test_a_folder_is_added_watched_and_every_save_makes_a_version(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "SKILL.md").write_text(GOOD)
    memory = Memory(path=tmp_path / "tui.json")
    fake = FakeDaemon()
    fake.status = {**fake.status, "watched_versions": 2}
    async with deck(fake, memory=memory) as d:
        await _open(d)
        await d.press("a")
        await d.shows("Add a skill folder")
        await d.type(str(folder))
        await d.press("enter")
        await d.shows("notes", "● watching ✓", "v1")
        (folder / "SKILL.md").write_text(GOOD + "More.\n")
        await d.until(lambda: len(next(iter(fake.versions.values()), [])) == 2)
        # With the rule by which versions made so go again, once there are as many.
        await d.shows("v2", "the newest 2 watched ones stay")
        assert Memory.read(tmp_path / "tui.json").watched == [str(folder)]
        await d.press("w")
        await d.until(lambda: not d.app.state.watches)
        assert Memory.read(tmp_path / "tui.json").watched == []


async def test_a_broken_manifest_is_shown_at_its_line_and_the_last_version_stays(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "SKILL.md").write_text(GOOD)
    fake = FakeDaemon()
    async with deck(fake) as d:
        screen = await _open(d)
        screen.watch_folder(folder)
        await d.shows("● watching ✓")
        (folder / "SKILL.md").write_text(BROKEN)
        await d.shows("✗ line 3", "SKILL.md 3:15", "description: a: b", "▲", "Version 1 goes on serving.", "Skills ✗1")
        (folder / "SKILL.md").write_text(GOOD)
        await d.shows("● watching ✓")
        await d.hides("goes on serving")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("link", "'out' is a link that leaves"),
        ("unreadable", "'data.bin' may not be read."),
        ("checkout", "more than 500 files"),
        ("pipe", "'pipe' is not a regular file"),
    ],
)
async def test_a_fault_of_the_folder_is_told_and_the_last_version_stays(
    fault: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "SKILL.md").write_text(GOOD)
    fake = FakeDaemon()
    async with deck(fake, size=(120, 30)) as d:
        screen = await _open(d)
        screen.watch_folder(folder)
        await d.shows("● watching ✓")
        match fault:
            case "link":
                (folder / "out").symlink_to("/etc/hostname")
            case "pipe":
                os.mkfifo(folder / "pipe")
            case "checkout":
                for number in range(1000):
                    (folder / f"{number}.txt").write_text("x")
            case "unreadable":
                # Not by its mode: to root every file is readable.
                real = Path.open

                def refuse(self: Path, mode: str = "r", *args: object, **more: object) -> object:
                    if self.name == "data.bin" and mode == "rb":
                        raise PermissionError(13, "Permission denied")
                    return real(self, mode, *args, **more)  # type: ignore[call-overload]

                monkeypatch.setattr(Path, "open", refuse)
                (folder / "data.bin").write_bytes(b"x")
        await d.shows("✗ error", says, "Version 1 goes on serving.")
        assert [len(versions) for versions in fake.versions.values()] == [1]
        for path in folder.iterdir():
            if path.name != "SKILL.md":
                path.unlink()
        await d.shows("● watching ✓")


async def test_a_folder_that_goes_and_comes_back_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "SKILL.md").write_text(GOOD)
    fake = FakeDaemon()
    async with deck(fake) as d:
        screen = await _open(d)
        screen.watch_folder(folder)
        await d.shows("● watching ✓")
        folder.rename(tmp_path / "away")
        await d.shows("✗ folder gone", "The folder is gone.")
        (tmp_path / "away").rename(folder)
        await d.shows("● watching ✓")


async def test_the_editor_opens_at_the_line_of_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "SKILL.md").write_text(BROKEN)
    monkeypatch.setenv("EDITOR", "vim")
    monkeypatch.delenv("VISUAL", raising=False)
    asked: list[list[str]] = []
    monkeypatch.setattr("skilldeck_tui.editor.subprocess.call", asked.append)
    fake = FakeDaemon()
    async with deck(fake) as d:
        monkeypatch.setattr(d.app, "suspend", _nothing)
        screen = await _open(d)
        screen.watch_folder(folder)
        await d.shows("✗ line 3")
        await d.press("e")
        await d.until(lambda: asked)
        assert asked == [["vim", "+3", str(folder / "SKILL.md")]]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vim", ["vim", "+3", "/s/SKILL.md"]),
        ("code", ["code", "--wait", "--goto", "/s/SKILL.md:3:7"]),
        ("hx", ["hx", "/s/SKILL.md:3:7"]),
        ("nano", ["nano", "+3,7", "/s/SKILL.md"]),
        ("emacs -nw", ["emacs", "-nw", "+3", "/s/SKILL.md"]),
        ("unknown", ["unknown", "/s/SKILL.md"]),
    ],
)
def test_editors_are_told_the_place_each_in_its_way(
    name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", name)
    assert editor.command(Path("/s/SKILL.md"), 3, 7) == arguments
    assert editor.command(Path("/s/SKILL.md"))[-1] == "/s/SKILL.md"


async def test_versions_files_and_preview_are_shown(tmp_path: Path) -> None:
    fake = FakeDaemon()
    _skill(fake)
    async with deck(fake, size=(120, 40)) as d:
        await _open(d)
        await d.shows("v3", "latest", "v1", "default", "2 files in v3", "SKILL.md", "run.py", "name: csv-summary")
        await d.press("enter", "down", "down")
        await d.shows("3 files in v1", "old.txt")


async def test_the_preview_is_of_the_selected_skill_and_version(tmp_path: Path) -> None:
    fake = FakeDaemon()
    for name in ("alpha", "beta"):
        fake.add_skill(name, {"SKILL.md": f"---\nname: {name}\ndescription: x\n---\nSteps of {name}\n".encode()})
    async with deck(fake, size=(120, 40)) as d:
        await _open(d)
        await d.shows("Steps of alpha")
        await d.press("j")
        # The same file on the same line of another skill.
        await d.shows("Steps of beta")
        fake.add_version(next(id_ for id_, s in fake.objects["skill"].items() if s["name"] == "beta"), {
            "SKILL.md": b"---\nname: beta\ndescription: x\n---\nNewer steps\n",
            "run.py": b"print('first')\n",
        })  # fmt: skip
        # Who looks at the newest version goes on to a newer one.
        await d.shows("v2", "Newer steps")
        await d.press("tab", "tab", "down")
        await d.shows("print('first')")
        beta = next(id_ for id_, s in fake.objects["skill"].items() if s["name"] == "beta")
        fake.add_version(beta, {**fake.contents[beta, "2"], "run.py": b"print('second')\n"})
        # And stays with the file.
        await d.shows("v3", "print('second')")


async def test_a_version_is_promoted_and_another_deleted() -> None:
    fake = FakeDaemon()
    skill_id = _skill(fake)
    async with deck(fake, size=(120, 40)) as d:
        screen = await _open(d)
        await d.shows("2 files in v3")
        await d.press("p")
        await d.until(lambda: fake.objects["skill"][skill_id]["default_version"] == "3")
        await d.shows("default latest")
        await d.press("enter", "down")
        await d.until(lambda: (screen.query_one(VersionList).current or {}).get("version") == "2")
        await d.press("d")
        await d.shows("Delete v2 of “csv-summary”?")
        await d.press("y")
        await d.until(lambda: [v["version"] for v in fake.versions[skill_id]] == ["1", "3"])


async def test_deleting_asks_first_and_no_keeps_it() -> None:
    fake = FakeDaemon()
    _skill(fake)
    async with deck(fake) as d:
        await _open(d)
        await d.shows("csv-summary")
        await d.press("d")
        await d.shows("Delete “csv-summary” with all its versions?")
        await d.press("n")
        await d.hides("with all its versions")
        assert fake.objects["skill"]
        await d.press("d")
        await d.shows("with all its versions")
        await d.press("y")
        await d.shows("No skills yet")


async def test_the_diff_shows_files_and_lines_of_any_two_versions() -> None:
    fake = FakeDaemon()
    _skill(fake)
    async with deck(fake, size=(100, 30)) as d:
        await _open(d)
        await d.shows("2 files in v3")
        await d.press("v")
        await d.shows("2 files differ · +1 −1", "− old.txt", "~ run.py +1")
        await d.press("n")
        await d.shows(" print(2)", "+print(3)")
        await d.press("left_square_bracket")
        await d.shows("+2 −2")
        assert isinstance(d.app.screen, DiffScreen)
        await d.press("s")
        await d.shows("+ old.txt")
        await d.press("c")
        await d.until(lambda: "--- a/run.py\n+++ b/run.py\n" in d.app.clipboard)
        await d.press("escape")
        await d.until(lambda: isinstance(d.app.screen, SkillsScreen))


async def test_a_skill_is_chosen_for_the_chat() -> None:
    fake = FakeDaemon()
    _skill(fake)
    async with deck(fake) as d:
        await _open(d)
        await d.shows("csv-summary")
        await d.press("u")
        await d.until(lambda: d.app.current_mode == "chat")
        await d.shows("◆ csv-summary ×")


async def test_a_long_source_shows_its_end_and_goes_when_there_is_no_room() -> None:
    fake = FakeDaemon()
    skill = fake.add_skill("notes")
    fake.put("skill", {**skill, "source": "/srv/shared/team/skills/library/notes"})
    async with deck(fake, size=(100, 24)) as d:
        screen = await _open(d)
        await d.shows("…", "library/notes", "Source")
        screen.query_one("#list").styles.width = 30
        await d.until(lambda: "Source" not in d.text() and "library" not in d.text())
        await d.shows("notes")


def test_trees_are_compared_by_content_and_mode() -> None:
    def entry(path: str, digest: str, executable: bool = False) -> dict[str, object]:
        return {"path": path, "sha256": digest, "executable": executable}

    old = [entry("a", "1"), entry("b", "1"), entry("c", "1"), entry("d", "1")]
    new = [entry("b", "1"), entry("c", "2"), entry("d", "1", True), entry("e", "1")]
    assert [(c.path, c.kind) for c in changes(old, new)] == [
        ("a", "removed"), ("c", "changed"), ("d", "mode"), ("e", "added"),
    ]  # fmt: skip


def test_a_diff_of_binary_files_is_a_note_and_of_text_a_patch() -> None:
    change = changes([{"path": "x", "sha256": "1"}], [{"path": "x", "sha256": "2"}])[0]
    assert [row.kind for row in lines(change, b"\0\1", b"\0\2")] == ["note"]
    rows = lines(change, b"one\ntwo\n", b"one\nthree\n")
    assert as_patch("x", rows) == "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n one\n-two\n+three\n"
    assert lines(change, b"one", b"one\n")[-1].kind == "note"


def test_the_state_is_what_the_daemon_last_said() -> None:
    state = DaemonState()
    assert state.apply(Change("skill", "put", "s", {"id": "s", "name": "b"})) == {"skill"}
    state.apply(Change("skill", "put", "t", {"id": "t", "name": "a"}))
    assert [skill["id"] for skill in state.skills] == ["t", "s"]
    state.apply(Change("skill", "delete", "s"))
    assert [skill["id"] for skill in state.skills] == ["t"]


def _nothing() -> os.PathLike[str]:
    from contextlib import nullcontext

    return nullcontext()  # type: ignore[return-value]


async def test_skills_on_disk_are_listed_with_what_keeps_them_back(tmp_path: Path) -> None:
    def lying(name: str, **fields: object) -> dict[str, object]:
        path = str(tmp_path / ".agents/skills" / name)
        return {
            "id": f"disk:{path}", "name": name, "description": f"Does {name}.", "path": path, "scope": "project",
            "project": str(tmp_path), "trusted": True, "offered": True, "warnings": [], **fields,
        }  # fmt: skip

    fake = FakeDaemon()
    fake.disk_skills = [lying("ready"), lying("secret", trusted=False, offered=False), lying("twin", offered=False)]
    async with deck(fake, size=(130, 40)) as d:
        await _open(d)
        await d.shows("ready", "○ on disk", "✗ not trusted", "○ hidden", "Does ready.", "Prompts that say /ready")
        await d.press("down")
        await d.shows("Does secret.", "trust the project")
        # They are looked for again whenever the screen comes up.
        fake.disk_skills = [lying("other")]
        await d.press("f2")
        await d.until(lambda: d.app.current_mode == "chat")
        await _open(d)
        await d.shows("○ on disk", "other", "Does other.")
        assert [request.path for request in fake.called("ListDiskSkills")][-1] == os.getcwd()


async def test_a_project_is_trusted_from_the_list_and_its_skills_complete_in_the_chat(tmp_path: Path) -> None:
    fake = FakeDaemon()
    fake.add_skill("notes", {"SKILL.md": b"---\nname: notes\ndescription: d\n---\n"})
    fake.disk_skills = [disk_skill("release-notes", trusted=False, offered=False)]
    async with deck(fake, size=(130, 40)) as d:
        await d.type("/re")
        await d.press("ctrl+c")
        assert "release-notes" not in d.text()
        await _open(d)
        await d.shows("release-notes", "✗ not trusted")
        await d.press("G", "r")
        await d.shows("Trust the skills of “/home/ann/shop”?")
        await d.press("n")
        assert not fake.trusted
        await d.press("r")
        await d.shows("Trust (y)")
        await d.press("y")
        await d.shows("○ on disk", "Prompts that say /release-notes")
        assert fake.trusted == {"/home/ann/shop"}
        await d.press("f2")
        await d.until(lambda: d.app.current_mode == "chat")
        await d.type("/re")
        await d.shows("◇ release-notes  on disk")
        await d.press("enter")
        # It is not chosen by id: the prompt names it, and what was uploaded stays as it is.
        await d.until(lambda: d.chat.composer.text.text == "/release-notes ")
        assert d.chat.composer.draft.skills == []
        await _open(d)
        await d.press("r")
        await d.shows("✗ not trusted")
        assert not fake.trusted


async def test_a_file_that_is_read_has_the_whole_of_a_small_screen() -> None:
    fake = FakeDaemon()
    body = "".join(f"Line {number} of the instructions.\n\n" for number in range(40))
    manifest = f"---\nname: notes\ndescription: Keeps notes.\n---\n{body}"
    fake.add_skill("notes", {"SKILL.md": manifest.encode(), "scripts/a.py": b"1\n"})
    async with deck(fake, size=(80, 24)) as d:
        screen = await _open(d)
        await d.shows("2 files in v1", "name: notes")
        await d.press("tab", "tab", "enter")
        await d.shows("SKILL.md · v1 · esc back", "Line 6 of")
        assert "a.py" not in d.text()
        assert screen.query_one(Preview).size.width > 70
        await d.press("escape")
        await d.shows("a.py", "2 files in v1")
        assert isinstance(screen.focused, FileTree)
        await d.press("enter")
        await d.shows("esc back")
        # On a screen that has room nothing is folded.
        await d.pilot.resize_terminal(130, 45)
        await d.shows("a.py", "2 files in v1")


def test_what_stands_before_markdown_has_the_colours_of_yaml() -> None:
    text = "---\nname: notes\ndescription: Keeps notes.\n---\n# Notes\n\nText."
    found = coloured(text, "markdown")
    assert found.plain == text

    def style(word: str) -> list[str]:
        at = text.index(word)
        return [str(span.style) for span in found.spans if span.start <= at < span.end and span.style != "$text"]

    alone = coloured("description: Keeps notes.", "yaml")
    assert style("description") == [str(s.style) for s in alone.spans if s.start == 0 and s.style != "$text"] != []
    assert style("# Notes") != []
