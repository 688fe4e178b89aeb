"""A skill's own tests in Skills mode: run, judged, stopped, run again at each save, looked at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from skilldeck_tui.preferences import Memory
from support.counter_skill import counter, save, watching
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.tui import deck


@pytest.fixture
def skill(tmp_path: Path) -> Path:
    return counter(tmp_path, "Counts things.", "commands: ['^wc'], exit_codes: [0], ")


def _answers(text: str) -> Callable[[FakeRun], Awaitable[None]]:
    async def play(run: FakeRun) -> None:
        call = run.shell(["wc -l orders.csv"])
        call.exit([0])
        run.text(text)
        run.complete()

    return play


async def test_tests_run_from_the_list_and_a_failure_says_why_and_opens_its_run(skill: Path) -> None:
    fake = FakeDaemon()
    fake.on_run = _answers("12 lines.")
    async with deck(fake, size=(120, 40)) as d:
        await watching(d, skill)
        await d.press("t")
        await d.shows("1 of 2 tests failed", "✗ names the file", "does not match 'orders'", "✓ counts lines")
        await d.shows("✗ 1/2 tests", "t again · o run")
        fake.on_run = _answers("12 lines in orders.csv.")
        await d.press("t")
        await d.shows("2 tests passed", "✓ 2/2 tests")
        await d.press("o")
        await d.until(lambda: d.app.current_mode == "chat")
        await d.shows("wc -l orders.csv", "12 lines in orders.csv.")


async def test_a_failed_test_is_what_o_opens(skill: Path) -> None:
    fake = FakeDaemon()
    fake.on_run = _answers("orders")
    async with deck(fake, size=(120, 40)) as d:
        await watching(d, skill)
        await d.press("o")
        await d.shows("No test of this skill has run yet")
        await d.press("t")
        await d.shows("1 of 2 tests failed", "✗ counts lines")
        await d.press("o")
        await d.shows("Count the lines.")


async def test_a_suite_shows_how_far_it_is_and_can_be_stopped(skill: Path) -> None:
    fake, first = FakeDaemon(), True
    never = asyncio.Event()

    async def play(run: FakeRun) -> None:
        nonlocal first
        if first:
            first = False
            await _answers("12 lines")(run)
        else:
            await never.wait()

    fake.on_run = play
    async with deck(fake, size=(120, 40)) as d:
        await watching(d, skill)
        await d.press("t")
        await d.shows("Testing 1 of 2", "◌ names the file", "✓ counts lines", "t stops", "◌ 1/2 tests")
        await d.press("t")
        await d.shows("Tests stopped after 1 of 2")
        await d.until(lambda: fake.called("CancelRun"))


async def test_every_save_runs_the_tests_again_when_asked_and_the_choice_is_kept(skill: Path, tmp_path: Path) -> None:
    fake, memory = FakeDaemon(), Memory(path=tmp_path / "tui.json")
    fake.on_run = _answers("12 lines")
    async with deck(fake, size=(120, 40), memory=memory) as d:
        await watching(d, skill)
        await d.press("T")
        await d.shows("1 of 2 tests failed", "T on save on")
        assert Memory.read(tmp_path / "tui.json").tested == [str(skill)]
        fake.on_run = _answers("12 lines in orders")
        save(skill, "Say the file's name.\n")
        await d.shows("2 tests passed", "v2")
        # They ran on the version that the save made, once, and their own upload made none.
        assert [len(versions) for versions in fake.versions.values()] == [2]
        assert len(fake.called("StartRun")) == 4
        # Each names the version of its save, as a test, which does not keep that from being pruned.
        named = [
            (call.origin, skill_["version"])
            for call in fake.called("StartRun")
            for skill_ in json.loads(call.request_json)["tools"][0]["environment"]["skills"]
        ]
        assert named == [("test", "1")] * 2 + [("test", "2")] * 2
        await d.press("T")
        await d.shows("T on save off")
        assert Memory.read(tmp_path / "tui.json").tested == []


@pytest.mark.parametrize(
    ("text", "says"), [(None, "holds no evals/*.yaml"), ("- {prompt: x, expcet: {}}", "'expcet'.")]
)
async def test_tests_that_cannot_run_say_what_is_wrong(skill: Path, text: str | None, says: str) -> None:
    path = skill / "evals/basic.yaml"
    path.unlink() if text is None else path.write_text(text)
    fake = FakeDaemon()
    async with deck(fake, size=(120, 40)) as d:
        await watching(d, skill)
        await d.press("t")
        await d.shows("Tests cannot run", says, "✗ tests")
        assert not fake.called("StartRun")


async def test_a_skill_without_a_folder_here_cannot_be_tested() -> None:
    fake = FakeDaemon()
    fake.add_skill("elsewhere")
    async with deck(fake) as d:
        await d.press("f3")
        await d.shows("elsewhere")
        await d.press("t")
        await d.shows("Tests run from the skill's folder")
