"""A person (and a cat) at the keyboard: random keys, pastes, resizes, sessions that come, stream and go, and calls that
fail: nothing ends the TUI. A failure names its seed; `SKILLDECK_TEST_KEYS` is how many steps each takes."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest
from textual.events import Resize
from textual.geometry import Size

from skilldeck_shared.errors import NotFound
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.pictures import answered, library
from support.tui import Deck, deck

STEPS = int(os.environ.get("SKILLDECK_TEST_KEYS", "120"))
SIZES = ((60, 20), (80, 24), (120, 40), (200, 60), (20, 6))
KEYS = [
    "enter",
    "escape",
    "tab",
    "shift+tab",
    "up",
    "down",
    "left",
    "right",
    "pageup",
    "pagedown",
    "home",
    "end",
    "backspace",
    "delete",
    "space",
    "f2",
    "f3",
    "f4",
    "f5",
    "f6",
    "f7",
    "f8",
    "ctrl+n",
    "ctrl+b",
    "ctrl+f",
    "ctrl+k",
    "ctrl+l",
    "ctrl+r",
    "ctrl+o",
    "ctrl+p",
    "ctrl+y",
    "ctrl+home",
    "ctrl+end",
    "alt+up",
    "alt+down",
    "alt+enter",
    "slash",
    "left_square_bracket",
    "right_square_bracket",
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    "g",
    "i",
    "j",
    "k",
    "l",
    "m",
    "n",
    "o",
    "p",
    "s",
    "t",
    "u",
    "v",
    "w",
    "x",
    "y",
    "z",
]
PASTES = (
    "hello",
    "/help",
    "!ls",
    "@notes.md#1-2 and @nope",
    "line one\nline two",
    "/model x",
    "日本語 🙂",
    "\x1b[31mred",
)


async def play(run: FakeRun) -> None:
    """A run that does a bit of everything."""
    run.text("# Title\n\nSome **text**.\n\n```python\nprint(1)\n```\n")
    call = run.shell(["ls", "cat x"])
    call.output(stdout="a\nb\n" * 20, stderr="warn\n")
    await asyncio.sleep(0)
    call.exit([0, 1])
    run.complete()


async def step(d: Deck, dice: random.Random, runs: list[FakeRun]) -> str:
    what = dice.random()
    if what < 0.62:
        key = dice.choice(KEYS)
        await d.press(key)
        return key
    if what < 0.72:  # as a terminal sends them that was stuck: all before the first is handled
        keys = dice.choices(KEYS, k=4)
        await d.burst(*keys)
        return " ".join(keys)
    if what < 0.8:
        text = dice.choice(PASTES)
        await d.paste(text)
        return f"paste {text!r}"
    if what < 0.88:
        size, driver = Size(*dice.choice(SIZES)), d.app._driver
        assert driver is not None
        driver._size = size  # type: ignore[attr-defined]
        d.app.post_message(Resize(size, size))
        await d.handled()
        return f"resize {size}"
    if what < 0.93:
        runs.append(d.fake.start("from elsewhere", session_id=d.fake.add_session("Elsewhere")["id"]))
        runs[-1].text("Streaming …")
        return "a run begins"
    if what < 0.97 and runs:
        run = dice.choice(runs)
        dice.choice((run.complete, run.cancel, lambda: run.fail("It broke.")))()
        return "a run ends"
    d.fake.fail[dice.choice(("GetRun", "StartRun", "ListContainerFiles", "DeleteRun", "ListRules"))] = NotFound("Gone.")
    return "a call fails"


@pytest.mark.parametrize("seed", range(3))
async def test_no_use_ends_it(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISUAL", "true")
    Path("notes.md").write_text("one\ntwo\n")
    dice, fake, runs = random.Random(seed), FakeDaemon(), list[FakeRun]()
    library(fake)
    answered(fake)
    fake.add_container("auto-1", {"report.md": b"# Report\n"})
    fake.on_run = play
    async with deck(fake, size=(80, 24)) as d:
        done: list[str] = []
        for _ in range(STEPS):
            done.append(await step(d, dice, runs))
            assert d.app._exception is None, f"seed {seed}, after {done[-6:]}"
            if d.app._exit:  # the palette has "Quit"
                return
            assert d.app.is_running, f"seed {seed}, after {done[-6:]}"
