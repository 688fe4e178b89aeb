"""What lint finds, in Skills: at its line, in a list with reasons, mended by a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from skilldeck_tui.screens.dialogs.lint import LintScreen
from skilldeck_tui.screens.skills import SkillsScreen
from support.fake_daemon import FakeDaemon
from support.tui import Deck, deck

ABOUT = "Keeps the notes of meetings in order. Use when somebody brings notes."
GOOD = f"---\nname: notes\ndescription: {ABOUT}\n---\n# Notes\n\nKeep them.\n"
FAULTY = GOOD.replace("Keep them.", "See [rules](references/rules.md) first.")


def folder(tmp_path: Path, text: str) -> Path:
    made = tmp_path / "notes"
    made.mkdir()
    (made / "SKILL.md").write_text(text)
    return made


async def skills(d: Deck) -> SkillsScreen:
    await d.press("f3")
    await d.until(lambda: d.app.current_mode == "skills" and d.app.screen.is_mounted)
    screen = d.app.screen
    assert isinstance(screen, SkillsScreen)
    return screen


async def test_a_fault_is_shown_at_its_line_and_goes_with_the_save_that_mends_it(tmp_path: Path) -> None:
    notes = folder(tmp_path, FAULTY)
    async with deck(FakeDaemon(), size=(120, 40)) as d:
        (await skills(d)).watch_folder(notes)
        await d.shows("● watching ✓ !1", "Works, but", "SKILL.md:7:13 references/rules.md is not in the skill.")
        await d.shows("7 │ See [rules](references/rules.md) first.", "▲", "Add the file, or take", "l shows it")
        (notes / "SKILL.md").write_text(GOOD)
        await d.hides("Works, but")
        await d.hides("!1")


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_list_tells_reason_and_cure_and_mends(tmp_path: Path, size: tuple[int, int]) -> None:
    notes = folder(tmp_path, FAULTY.replace("name: notes\n", "name: notes\nversion: 1\n"))
    async with deck(FakeDaemon(), size=size) as d:
        (await skills(d)).watch_folder(notes)
        await d.shows("!1")
        await d.press("l")
        await d.shows("2 findings · f mends 1", "unknown-field", "missing-file", "Why", "Cure", "Off")
        assert isinstance(d.app.screen, LintScreen)
        await d.press("f")
        await d.shows("1 finding")
        await d.hides("unknown-field")
        assert (notes / "SKILL.md").read_text() == FAULTY.replace(
            "name: notes\n", "name: notes\nmetadata:\n  version: 1\n"
        )
        (notes / "references").mkdir()
        (notes / "references" / "rules.md").write_text("# Rules\n")
        await d.shows("Nothing found", "nothing is known against it")
        await d.press("escape")
        await d.until(lambda: isinstance(d.app.screen, SkillsScreen))


async def test_a_description_like_that_of_another_skill_is_found_among_those_of_the_daemon(tmp_path: Path) -> None:
    fake = FakeDaemon()
    fake.add_skill("minutes", description=ABOUT)
    async with deck(fake, size=(120, 40)) as d:
        screen = await skills(d)
        await d.shows("minutes")
        screen.watch_folder(folder(tmp_path, GOOD))
        await d.shows("!1")
        await d.press("down")
        await d.shows("6 of 6 words are also in the description", "of minutes: bring")


async def test_a_new_skill_is_made_and_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with deck(FakeDaemon(), size=(120, 40)) as d:
        await skills(d)
        await d.press("n")
        await d.shows("What does the new skill begin as?", "script", "prose", "data", "node")
        await d.press("enter")
        await d.shows("New skill", "lowercase letters")
        await d.type("my-count")
        await d.press("enter")
        await d.shows("my-count", "● watching ✓")
        await d.hides("!1")
        assert (tmp_path / "my-count" / "evals" / "basics.yaml").is_file()
