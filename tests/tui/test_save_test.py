"""A run of Chat saved as a test of its skill."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from textual.widgets import Input

from skilldeck_tui.screens.dialogs.save_test import SaveTest
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.tui import deck

FRONT = "---\nname: counter\ndescription: Counts the rows of tables. Use when somebody brings one.\n---\n# Steps\n"


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_what_is_ticked_is_written_into_the_skills_folder(tmp_path: Path, size: tuple[int, int]) -> None:
    folder = tmp_path / "counter"
    folder.mkdir()
    (folder / "SKILL.md").write_text(FRONT)
    fake = FakeDaemon()

    async def counts(run: FakeRun) -> None:
        call = run.shell(["python3 /mnt/skills/counter/scripts/count.py a.csv"])
        call.output(0, stdout="rows: 3\nempty: 1\n")
        call.exit([0])
        run.text("rows: 3\nempty: 1")
        run.complete()

    fake.on_run = counts
    async with deck(fake, size=size) as d:
        await d.type("Count the rows")
        await d.press("enter")
        await d.shows("empty: 1")
        await d.until(lambda: not d.chat.live)
        await d.press("ctrl+t")
        await d.shows("Save as a test", "“Count the rows”", "a command matches count", "the answer says rows: 3")
        assert isinstance(d.app.screen, SaveTest)
        # The first check is about opening the skill or its command; the last one is not wanted.
        await d.press("end", "space")
        await d.press("ctrl+s")
        await d.shows("Name the skill's folder.")
        d.app.screen.query_one(".folder", Input).value = str(folder)
        await d.press("ctrl+s")
        await d.shows("Written to")
    (entry,) = yaml.safe_load((folder / "evals/recorded.yaml").read_text())
    assert (entry["name"], entry["expect"]["answer"]) == ("Count the rows", ["rows: 3"])


async def test_before_anything_was_asked_there_is_nothing_to_save() -> None:
    async with deck(FakeDaemon()) as d:
        await d.press("ctrl+t")
        await d.shows("Nothing was asked yet.")
