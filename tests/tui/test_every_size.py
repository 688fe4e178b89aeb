"""Every screen and dialog, and a run that streams, in every size of a terminal: none ends the TUI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from textual.events import Resize
from textual.geometry import Size

from skilldeck_tui.screens.dialogs.diff import DiffScreen
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.pictures import answered, go, library
from support.tui import Deck, deck

SIZES = ((1, 1), (40, 14), (2, 3), (3, 40), (12, 1), (120, 2), (5, 14), (72, 5), (1, 40), (120, 40))
"""The steps at which something is squeezed to no column or row, each from a larger one, since what is laid out for that
is drawn once more while the smaller one is laid out."""
Scene = Callable[[Deck], Awaitable[None]]


def _daemon() -> FakeDaemon:
    fake = FakeDaemon()
    library(fake)
    answered(fake)
    fake.add_file("orders.csv", b"region,amount\nnorth,1\n")
    fake.add_container("auto-7f3a", {"report.md": b"# Report\n"})
    fake.write_log("3 ms, 200", "info", "skilldeck_daemon.http")
    return fake


async def _resized(d: Deck, wanted: Sequence[tuple[int, int]]) -> None:
    for width, height in wanted:
        await _resize(d, width, height)
        assert d.app._exception is None, f"{width}x{height}"
        assert d.app.size == (width, height)


async def _resize(d: Deck, width: int, height: int) -> None:
    """As the terminal reports it. (The pilot's own way waits for an idle processor, a second a size.)"""
    size, driver = Size(width, height), d.app._driver
    assert driver is not None
    driver._size = size  # type: ignore[attr-defined]
    d.app.post_message(Resize(size, size))
    await d.handled()
    await d.handled()  # what the new layout asked to be called after it


def keys(*pressed: str, text: str = "") -> Scene:
    async def open_it(d: Deck) -> None:
        await d.press(*pressed)
        if text:
            await d.shows(text)

    return open_it


def mode(key: str, name: str, *then: str, text: str) -> Scene:
    async def open_it(d: Deck) -> None:
        await go(d, key, name)
        await d.press(*then)
        await d.shows(text)

    return open_it


async def transcript(d: Deck) -> None:
    d.chat.open(next(row.key for row in d.chat.rows if row.title == "Orders of March"))
    await d.shows("Two rows had no region.")


async def finding(d: Deck) -> None:
    await transcript(d)
    await d.press("ctrl+f")
    await d.type("region")
    await d.shows("4/4")


async def completing(d: Deck) -> None:
    await d.type("/")
    await d.shows("csv-summary")


async def asking(d: Deck) -> None:
    run = d.fake.start("Clean", session_id=d.fake.add_session("Cleaning")["id"])
    call = run.shell(["rm -r out"])
    d.fake.put("approval", {**d.fake.add_approval(run, ["rm -r out"]), "call_id": call.call["call_id"]})
    d.chat.open(f"session:{run.session_id}")
    await d.until(lambda: type(d.app.focused).__name__ == "ApprovalBox")


async def diffing(d: Deck) -> None:
    await go(d, "f3", "skills")
    await d.shows("files in v2")
    await d.press("v")
    await d.until(lambda: isinstance(d.app.screen, DiffScreen) and d.app.screen.loaded)


SCENES: dict[str, Scene] = {
    "welcome": keys(text="What shall it do?"),
    "transcript": transcript,
    "find": finding,
    "completions": completing,
    "approval": asking,
    "skills": mode("f3", "skills", text="files in v2"),
    "files": mode("f4", "files", text="orders.csv"),
    "daemon": mode("f5", "daemon", text="auto-7f3a"),
    "diff": diffing,
    "help": keys("f1", text="Keys"),
    "palette": keys("ctrl+p", text="Chat: New"),
    "jump": mode("f3", "skills", "f6", text="files in v2"),
    "prompt": mode("f3", "skills", "a", text="Add a skill folder"),
    "confirm": mode("f4", "files", "d", text="Delete"),
}


@pytest.mark.parametrize("scene", SCENES)
async def test_no_size_ends_a_screen(scene: str) -> None:
    Path("reports").mkdir(exist_ok=True)
    async with deck(_daemon(), size=(120, 40)) as d:
        await SCENES[scene](d)
        await _resized(d, SIZES)


async def test_no_size_ends_a_stream() -> None:
    over = asyncio.Event()
    fake = _daemon()

    async def model(run: FakeRun) -> None:
        written, number = run.begin_text(), 0
        call = None
        while not over.is_set():
            number += 1
            if number % 40 == 0:
                written.finish()
                call = run.shell([f"seq {number}"])
                call.output(stdout="a line of output that is longer than a narrow terminal\n" * 9)
                call.exit([0])
                written = run.begin_text()
            written.delta(f"## Part {number}\n\n- word\n\n```\ncode\n```\n\n" if number % 9 == 0 else f"word{number} ")
            await asyncio.sleep(0.005)
        written.finish()
        run.text("That was all.")
        run.complete()

    fake.on_run = model
    async with deck(fake, size=(120, 40)) as d:
        await d.type("go")
        await d.press("enter")
        await d.shows("word2")
        await _resized(d, SIZES)
        over.set()
        await _resize(d, 100, 30)
        await d.shows("That was all.")
