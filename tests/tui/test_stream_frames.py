"""What a stream has shown stays on the screen: every frame is compared with the text that was sent.

Each word of the generated Markdown is there once, so a frame that lost a block, or shows it twice, says which.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from textual.app import App
from textual.screen import Screen

from skilldeck_tui.widgets.transcript import message
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.tui import Deck, deck

WORD = re.compile(r"\bq\d{4}\b")


@pytest.fixture
def fake() -> FakeDaemon:
    made = FakeDaemon()
    made.add_skill("csv-summary")
    return made


def _block(kind: str, words: Iterator[str]) -> str:
    w = words.__next__
    match kind:
        case "heading":
            return f"## {w()} {w()}\n"
        case "underlined":
            return f"{w()} {w()}\n=====\n"
        case "paragraph":
            return f"{w()} **{w()}** `{w()}`\n{w()} [{w()}](http://localhost/x) *{w()}*\n"
        case "list":
            return f"- {w()}\n- {w()}\n  - {w()}\n- {w()}\n"
        case "loose list":
            return f"1. {w()}\n\n   {w()}\n\n2. {w()}\n\n   - {w()}\n\n3. {w()}\n"
        case "fence":
            return f"```python\n{w()} = {w()}\n\n\n# {w()}\n```\n"
        case "long fence":
            return f"````\n{w()}\n```\n{w()}\n\n{w()}\n```\n{w()}\n````\n"
        case "indented":
            return f"    {w()}\n\n    {w()} {w()}\n"
        case "quote":
            return f"> {w()} {w()}\n>\n> {w()}\n"
        case "table":
            return f"| {w()} | {w()} |\n|---|---|\n| {w()} | {w()} |\n| {w()} | {w()} |\n"
        case "html":
            return f"<div class='x'>\n{w()} <b>{w()}</b>\n</div>\n"
        case "rule":
            return "---\n"
    raise AssertionError(kind)


KINDS = ("heading", "underlined", "paragraph", "list", "loose list", "fence", "long fence", "indented", "quote",
         "table", "html", "rule")  # fmt: skip


def _pieces(text: str, rng: random.Random) -> Iterator[str]:
    at = 0
    while at < len(text):
        size = rng.choice((1, 6, 6, 20, 90))
        yield text[at : at + size]
        at += size


class Frames:
    """Compares each frame with `sent`, and with the words of the frame before it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent = ""
        self.shown: list[str] = []
        self.faults: list[str] = []
        self.frames = 0
        display = App._display

        def seen(app: App[Any], screen: Screen[Any], renderable: Any) -> None:
            if renderable is not None and not app._batch_count:
                self._compare(screen)
            display(app, screen, renderable)

        monkeypatch.setattr(App, "_display", seen)

    def _compare(self, screen: Screen[Any]) -> None:
        self.frames += 1
        text = "\n".join("".join(part.text for part in strip) for strip in screen._compositor.render_strips())
        words, sent = WORD.findall(text), WORD.findall(self.sent)
        if words != sent[: len(words)]:
            self.faults.append(f"frame {self.frames} shows {words}, of {sent}")
        elif len(words) < len(self.shown):
            self.faults.append(f"frame {self.frames} no longer shows {self.shown[len(words) :]}")
        self.shown = words


async def _watched(
    fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch, text: str, pieces: Iterator[str], pause: Callable[[], float]
) -> Frames:
    """All frames of a stream of `text`, until it is rendered as a whole."""
    frames = Frames(monkeypatch)
    ends = asyncio.Event()

    async def model(run: FakeRun) -> None:
        written = run.begin_text()
        for piece in pieces:
            frames.sent += piece
            written.delta(piece)
            await asyncio.sleep(pause())
        await ends.wait()
        written.finish()
        run.complete()

    fake.on_run = model
    async with deck(fake, size=(120, 250)) as d:
        await d.type("go")
        await d.press("enter")
        await d.until(lambda: frames.faults or frames.shown == WORD.findall(text))
        ends.set()
        await d.shows("40 out")
        await _rendered(d)
        await d.until(lambda: frames.faults or frames.shown == WORD.findall(text))
    return frames


async def _rendered(d: Deck) -> None:
    view = d.chat.query(message.MessageView).last()
    await d.until(lambda: view._rendering is not None and view._rendering.done())
    await d.handled()


@pytest.mark.parametrize("seed", range(4))
async def test_no_frame_of_a_stream_lacks_what_was_shown(
    fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(message, "COMMIT_SECONDS", 0.02)
    monkeypatch.setattr(message, "HURRY", 10**9)
    rng = random.Random(seed)
    words = (f"q{number:04}" for number in count())
    kinds = rng.sample(KINDS, len(KINDS))
    text = "\n".join(_block(kind, words) for kind in kinds)
    frames = await _watched(fake, monkeypatch, text, _pieces(text, rng), lambda: rng.choice((0, 0.01)))
    assert not frames.faults
    assert frames.frames > 10


async def test_the_first_block_stays_when_the_second_begins(fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a slow model writes: pieces of 6 characters, at the usual pace of commits."""
    text = "# q0001\n\nFirst paragraph q0002 with some words.\n\n## Second q0003\n\nq0004 and more.\n\nq0005 ends.\n"
    pieces = (text[at : at + 6] for at in range(0, len(text), 6))
    frames = await _watched(fake, monkeypatch, text, pieces, lambda: 0.05)
    assert not frames.faults


async def test_html_in_an_answer_is_shown_as_it_was_written(fake: FakeDaemon) -> None:
    async def model(run: FakeRun) -> None:
        run.text("Put this in:\n\n<main>\n<p>Hello</p>\n</main>\n\nand <b>reload</b> the page.\n")
        run.complete()

    fake.on_run = model
    async with deck(fake) as d:
        await d.type("go")
        await d.press("enter")
        await d.shows("<main>", "<p>Hello</p>", "</main>", "and <b>reload</b> the page.")
