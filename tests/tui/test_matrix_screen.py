"""Tests of a skill in Skills: the matrix fills live, a cell opens its runs, two of them stand side by side; versions
carry their pass rates, and a save says what it gained and lost."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from skilldeck_tui.screens.dialogs.matrix import MatrixScreen
from skilldeck_tui.screens.dialogs.trials import TrialsScreen
from skilldeck_tui.skill_tests.background import _before
from skilldeck_tui.skill_tests.matrix.plan import Plan
from skilldeck_tui.skill_tests.matrix.variants import Variant
from support.counter_skill import counter, save, watching
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.tui import Deck, deck


@pytest.fixture
def skill(tmp_path: Path) -> Path:
    return counter(tmp_path)


def mounted(run: FakeRun) -> bool:
    return bool(json.loads(json.dumps(run.request))["tools"][0]["environment"]["skills"])


async def by_skill(run: FakeRun) -> None:
    """With the skill everything is right; without it nothing is."""
    call = run.shell(["wc -l orders.csv"])
    call.output(0, stdout="12 orders.csv\n")
    call.exit([0])
    run.text("12 lines in orders.csv" if mounted(run) else "I do not know.")
    run.complete()


def answers(text: str) -> FakeDaemon:
    fake = FakeDaemon()

    async def play(run: FakeRun) -> None:
        run.text(text)
        run.complete()

    fake.on_run = play
    return fake


async def ended(d: Deck, tries: int) -> None:
    await d.until(lambda: f"{tries} tries" in d.text() and "◌" not in d.text())


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_matrix_fills_while_it_runs_and_a_cell_opens_its_runs(skill: Path, size: tuple[int, int]) -> None:
    fake, go_on = FakeDaemon(), asyncio.Event()

    async def play(run: FakeRun) -> None:
        if len(fake.called("StartRun")) > 2:
            await go_on.wait()
        await by_skill(run)

    fake.on_run = play
    async with deck(fake, size=size) as d:
        await watching(d, skill)
        await d.press("m")
        await d.shows("No evaluation of this skill is kept yet.", "r runs one")
        await d.press("r")
        await d.shows("◌ 2 of 12 tries", "✓ 1/1 ◌2", "✗ 0/1 ◌2")
        go_on.set()
        await ended(d, 12)
        await d.shows("12 tries", "✓ 3/3", "✗ 0/3", "100 %", "0 %", "+100 %", "lift", "3 of 3 passed")
        await d.press("right")
        await d.shows("0 of 3 passed", "the answer does not match")
        await d.press("enter")
        await d.until(lambda: isinstance(d.app.screen, TrialsScreen))
        await d.shows("counts lines · without", "✗ failed", "$ wc -l orders.csv", "12 orders.csv", "I do not know.")
        await d.press("escape", "escape")
        await d.shows("watching")


async def test_two_runs_stand_side_by_side_and_one_opens_in_chat(skill: Path) -> None:
    fake = FakeDaemon()
    texts = iter(["12 lines, first"] + ["12 of orders"] * 20)

    async def play(run: FakeRun) -> None:
        run.text(next(texts))
        run.complete()

    fake.on_run = play
    async with deck(fake, size=(120, 40)) as d:
        await watching(d, skill)
        await d.press("m", "r")
        await ended(d, 12)
        await d.press("enter")
        await d.shows("12 lines, first")
        await d.press("c")
        await d.shows("Go to another try and press c again.")
        await d.press("down", "c")
        await d.until(lambda: d.app.screen.has_class("-two"))
        await d.shows("12 lines, first", "12 of orders")
        await d.press("escape")
        await d.until(lambda: not d.app.screen.has_class("-two"))
        await d.press("o")
        await d.until(lambda: d.app.current_mode == "chat")
        await d.shows("12 of orders")


async def test_a_matrix_that_runs_can_be_stopped_and_an_older_one_shown(skill: Path) -> None:
    fake, never = FakeDaemon(), asyncio.Event()
    fake.on_run = by_skill
    async with deck(fake, size=(120, 40)) as d:
        await watching(d, skill)
        await d.press("m", "r")
        await ended(d, 12)

        async def waits(run: FakeRun) -> None:
            await never.wait()

        fake.on_run = waits
        save(skill, "More.\n")
        await d.press("r")
        await d.shows("◌ ", "of 18 tries", "1 of 2")  # the baseline's were asked before
        await d.press("r")
        await d.shows("cancelled")
        await d.press("left_square_bracket")
        await d.shows("2 of 2", "12 tries")
        await d.press("left_square_bracket")
        await d.shows("There is no older one.")
        assert isinstance(d.app.screen, MatrixScreen)


async def test_a_version_is_compared_with_the_newest_before_it_whatever_was_the_same_content() -> None:
    fake = FakeDaemon()
    for number, status in enumerate(("failed", "passed", "error", "", "failed"), start=1):
        trial = {"skill": "counter", "source": "a.yaml", "test": "t", "model": "m", "baseline": False}
        kept = {"id": f"trial_{number}", "created_at": number, "digest": "same", "version": str(number)}
        if status:
            fake.put("trial", {**trial, **kept, "status": status, "evaluation_id": "e", "key": "k"})
    now = Variant("latest", (), ("same",), "4")
    async with fake.client() as client:
        assert await _before(client, Plan(Path(), "counter", [], [{"id": "m"}], [now])) == {"a.yaml:t": True}


async def test_a_save_says_what_it_gained_and_lost_and_versions_carry_their_rates(skill: Path) -> None:
    fake = answers("12 lines")
    async with deck(fake, size=(120, 40)) as d:
        await watching(d, skill)
        await d.press("T")
        await d.shows("✗ 1/2 tests", "50 % of 2")
        assert "+1" not in d.text()
        fake.on_run = answers("all in orders").on_run
        save(skill, "Name the file.\n")
        await d.shows("✗ 1/2 tests +1 −1", "50 % of 2 =")
        fake.on_run = answers("12 lines in orders").on_run
        save(skill, "Name the file, count the lines.\n")
        await d.shows("✓ 2/2 tests +1", "100 % of 2 ▲50")


async def test_a_save_of_one_test_runs_that_one(skill: Path) -> None:
    fake = answers("12 lines in orders")
    async with deck(fake, size=(120, 40)) as d:
        await watching(d, skill)
        await d.press("T")
        await d.shows("✓ 2/2 tests")
        assert len(fake.called("StartRun")) == 2
        evals = skill / "evals/basic.yaml"
        evals.write_text(evals.read_text().replace("'orders'", "'none of it'"))
        await d.shows("✗ 1/2 tests", "does not match 'none of it'")
        assert len(fake.called("StartRun")) <= 3
        save(skill, "Other.\n")
        await d.until(lambda: len(fake.called("StartRun")) >= 4)


async def test_suites_beyond_those_that_are_kept_go(skill: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skilldeck_tui.skill_tests.background.KEPT", 2)
    fake = answers("12 lines in orders")
    async with deck(fake, size=(120, 40)) as d:
        await watching(d, skill)
        for _ in range(3):
            asked = len(fake.called("StartRun"))
            await d.press("t")
            await d.until(lambda asked=asked: len(fake.called("StartRun")) == asked + 2)
            await d.shows("✓ 2/2 tests")
        await d.until(lambda: len(fake.objects["evaluation"]) == 2)
