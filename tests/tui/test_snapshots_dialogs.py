"""What every dialog looks like, and what opens over a screen: at three sizes, empty, in use and refusing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.command import CommandPalette
from textual.widgets import Input

from skilldeck_shared.errors import BadRequest
from skilldeck_tui.screens.dialogs.jump import Jump
from skilldeck_tui.widgets.find_bar import FindBar
from support.fake_daemon import FakeDaemon
from support.pictures import EVERY, answered, compare, go, library, still_deck, working
from support.tui import Deck


async def _still(d: Deck) -> None:
    """A cursor that does not blink: pictures must differ only when the screen does."""
    for line in d.app.screen.query(Input):
        line.cursor_blink = False
    await d.handled()


async def _palette(d: Deck, *texts: str) -> None:
    await d.press("ctrl+p")
    await d.until(lambda: isinstance(d.app.screen, CommandPalette))
    await _still(d)
    await d.shows(*texts)


async def test_palette(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    answered(fake)
    async with still_deck(fake) as d:
        await _palette(d, "Chat: New", "Start a new session.")
        await compare(d, pictures)


async def test_palette_searched(pictures: Any) -> None:
    async with still_deck(FakeDaemon()) as d:
        await _palette(d, "Chat: New")
        await d.type("theme")
        await d.shows("Theme: ansi-dark")
        await compare(d, pictures)


async def test_palette_that_finds_nothing(pictures: Any) -> None:
    async with still_deck(FakeDaemon()) as d:
        await _palette(d, "Chat: New")
        await d.type("zzz")
        await d.shows("No matches found")
        await compare(d, pictures)


@pytest.mark.parametrize(("key", "mode"), [("f2", "chat"), ("f3", "skills"), ("f5", "daemon")])
async def test_help(key: str, mode: str, pictures: Any) -> None:
    async with still_deck(FakeDaemon()) as d:
        await go(d, key, mode)
        # Help begins with the keys of what has the focus.
        await d.until(lambda: mode == "skills" or d.app.screen.focused is not None)
        await d.handled()
        await d.press("f1")
        await d.shows("Keys", "esc closes", {"chat": "Composer", "skills": "Skills", "daemon": "Log"}[mode])
        await compare(d, pictures)


async def test_jump(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    async with still_deck(fake) as d:
        await go(d, "f3", "skills")
        await d.shows("run.py", "name: csv-summary")
        await d.press("f6")
        await d.until(lambda: isinstance(d.app.screen, Jump))
        await compare(d, pictures)


async def test_a_question_before_something_is_deleted(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    async with still_deck(fake) as d:
        await go(d, "f3", "skills")
        await d.shows("run.py", "name: csv-summary")
        await d.press("d")
        await d.shows("with all its versions?")
        await compare(d, pictures)


async def test_a_path_to_give(pictures: Any) -> None:
    async with still_deck(FakeDaemon()) as d:
        await go(d, "f3", "skills")
        await d.press("a")
        await d.shows("Add a skill folder")
        await _still(d)
        await compare(d, pictures)


async def test_a_path_being_completed(pictures: Any) -> None:
    for name in ("reports", "release-notes", "csv-summary"):
        Path(name).mkdir()
    async with still_deck(FakeDaemon()) as d:
        await go(d, "f3", "skills")
        await d.press("a")
        await d.shows("Add a skill folder")
        await _still(d)
        await d.type("re")
        await d.shows("release-notes/", "reports/")
        await d.press("down")
        await compare(d, pictures)


async def test_a_path_that_is_not_there(pictures: Any) -> None:
    async with still_deck(FakeDaemon()) as d:
        await go(d, "f4", "files")
        await d.press("u")
        await d.shows("Upload a file")
        await _still(d)
        await d.type("orders/2026/march-of-the-northern-regions.csv")
        await d.press("enter")
        await d.shows("There is no file")
        await compare(d, pictures)


async def test_a_name_to_give(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    answered(fake)
    async with still_deck(fake) as d:
        d.chat.open(d.chat.rows[0].key)
        await d.shows("Two rows had no region.")
        d.chat.action_rename()
        await d.shows("Rename the session")
        await _still(d)
        await compare(d, pictures)


async def test_skills_diff(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    async with still_deck(fake) as d:
        await go(d, "f3", "skills")
        await d.shows("2 files in v2")
        await d.press("v")
        await d.shows("2 files differ", "+Answer in one line.")
        await compare(d, pictures)


async def test_skills_diff_of_the_same(pictures: Any) -> None:
    fake = FakeDaemon()
    skill = fake.add_skill("notes", {"SKILL.md": b"---\nname: notes\ndescription: d\n---\n"})
    fake.add_version(skill["id"], dict(fake.contents[skill["id"], "1"]))
    async with still_deck(fake) as d:
        await go(d, "f3", "skills")
        await d.shows("1 file in v2")
        await d.press("v")
        await d.shows("No difference")
        await compare(d, pictures)


async def test_find(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    answered(fake)
    async with still_deck(fake) as d:
        d.chat.open(d.chat.rows[0].key)
        await d.shows("Two rows had no region.")
        await d.press("ctrl+f")
        await d.until(lambda: d.chat.query_one(FindBar).has_class("-open"))
        await _still(d)
        await d.type("region")
        await d.shows("4/4")
        await compare(d, pictures, *EVERY)


async def test_completions_of_skills(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    async with still_deck(fake) as d:
        await d.type("/")
        await d.shows("◆ csv-summary", "◆ text-stats")
        await compare(d, pictures)


async def test_completions_of_files(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    fake.add_file("orders.csv", b"region,amount\n")
    Path("reports").mkdir()
    Path("orders-of-last-year.csv").write_text("region,amount\n")
    async with still_deck(fake) as d:
        await d.type("compare @")
        await d.shows("orders.csv", "reports/", "orders-of-last-year.csv")
        await compare(d, pictures)


async def test_files_and_skills_of_the_next_message(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    Path("orders.csv").write_text("region,amount\nnorth,12\n")
    fake.fail["UploadFile"] = BadRequest("The file is larger than 512 MB.")
    async with still_deck(fake) as d:
        d.chat.attach_path(Path("orders.csv"))
        await d.shows("✗ orders.csv")
        d.chat.attach_file(fake.add_file("prices-of-all-regions-and-years.csv", b"a,b\n"))
        d.app.use_skill(next(iter(fake.objects["skill"])))
        await d.press("f7")
        await d.shows("◆ csv-summary")
        await compare(d, pictures)


async def test_approvals_that_queue(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    commands = [f"set -e\n{'rm -r out/2026/reports/of/every/region '}\n" + "echo cleaned\n" * 9, "ls"]
    run = fake.start("Clean up", session_id=fake.add_session("Cleaning")["id"])
    call = run.shell(commands)
    for number, command in enumerate(commands):
        asked = fake.add_approval(run, [command])
        fake.put("approval", {**asked, "call_id": call.call["call_id"], "created_at": number})
    async with still_deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.shows("May this run? 1 of 2", "more lines")
        await compare(d, pictures)


async def test_a_denial_with_a_note(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    run = fake.start("Clean up", session_id=fake.add_session("Cleaning")["id"])
    call = run.shell(["rm -r out"])
    fake.put("approval", {**fake.add_approval(run, ["rm -r out"]), "call_id": call.call["call_id"]})
    async with still_deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.shows("May this run?")
        await d.until(lambda: type(d.chat.focused).__name__ == "ApprovalBox")
        await d.press("d")
        await d.shows("why not?")
        await _still(d)
        await compare(d, pictures)


async def test_the_sessions_on_a_narrow_screen(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    answered(fake)
    working(fake)
    async with still_deck(fake) as d:
        await d.pilot.resize_terminal(50, 30)
        await d.until(lambda: d.chat.has_class("-narrow"))
        await d.press("ctrl+b")
        await d.shows("Orders of March", "Failing hosts")
        await compare(d, pictures, (50, 30))


async def test_the_versions_of_a_skill_on_a_narrow_screen(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    async with still_deck(fake) as d:
        await d.pilot.resize_terminal(50, 30)
        await go(d, "f3", "skills")
        await d.shows("csv-summary")
        await d.press("enter")
        await d.shows("2 files in v2", "name: csv-summary")
        await compare(d, pictures, (50, 30))
