"""Find, in the transcript and in the log: letters are text until escape, the match itself is marked, n and N go on."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from textual.widgets import Input

from skilldeck_tui.widgets.find_bar import FindBar
from skilldeck_tui.widgets.log_pane import LogPane
from support.fake_daemon import FakeDaemon
from support.pictures import go
from support.tui import Deck, deck

ANSWER = """\
First a needle in a **bold needle** sentence.

| column | other |
|---|---|
| a needle | hay |

```python
needle = 1
```
"""


def _answered(fake: FakeDaemon, text: str) -> None:
    run = fake.start("where?", session_id=fake.add_session("Finding")["id"])
    run.text(text)
    run.complete()


def _marked(d: Deck) -> list[str]:
    """The texts with the background of a mark, in the order of the screen."""
    found = []
    bar = d.chat.query_one(FindBar).region
    for y, strip in enumerate(d.app.screen._compositor.render_strips()):
        row = [] if bar.contains(bar.x, y) else list(strip)
        for before, part in pairwise(row):
            ground = part.style.bgcolor if part.style else None
            if part.text == "needle" and before.style and ground != before.style.bgcolor:
                found.append(part.text)
    return found


async def test_typing_after_enter_goes_on_in_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fake = FakeDaemon()
    _answered(fake, ANSWER)
    async with deck(fake) as d:
        d.chat.open(d.chat.rows[0].key)
        await d.shows("sentence.")
        await d.press("ctrl+f")
        await d.type("needl")
        await d.press("enter", "e", "enter")
        await d.shows("needle", "/3")
        assert d.app.focused is d.chat.query_one(FindBar).query_one(Input)
        assert not list(tmp_path.iterdir())
        await d.press("escape")
        assert d.app.focused is d.chat.transcript
        at = d.chat.transcript._match
        await d.press("n")
        assert d.chat.transcript._match == (at + 1) % 3
        await d.press("N", "N")
        assert d.chat.transcript._match == (at - 1) % 3


async def test_the_match_is_marked_wherever_it_stands() -> None:
    fake = FakeDaemon()
    _answered(fake, ANSWER)
    async with deck(fake) as d:
        d.chat.open(d.chat.rows[0].key)
        await d.shows("sentence.", "= 1")
        assert _marked(d) == []
        await d.press("ctrl+f")
        await d.type("needle")
        await d.until(lambda: len(_marked(d)) == 4)
        # They stay while n and N use them, the second escape takes them away.
        await d.press("escape")
        await d.handled()
        assert len(_marked(d)) == 4
        await d.press("escape")
        await d.until(lambda: _marked(d) == [])
        assert d.app.focused is d.chat.transcript


async def test_a_match_far_down_in_an_answer_is_scrolled_to() -> None:
    fake = FakeDaemon()
    _answered(fake, "".join(f"paragraph {n}{' needle' if n == 30 else ''}\n\n" for n in range(60)))
    other = fake.start("where?", session_id=fake.add_session("Another")["id"])
    other.text("a needle\n\nand a needle")
    other.complete()
    async with deck(fake) as d:
        d.chat.open(next(row.key for row in d.chat.rows if row.title == "Finding"))
        await d.shows("paragraph 59")
        await d.press("ctrl+f")
        await d.type("needle")
        await d.shows("1/1", "paragraph 30 needle")
        # In another session the line that is open looks for the same, and one that was closed for nothing.
        d.chat.open(next(row.key for row in d.chat.rows if row.title == "Another"))
        await d.shows("2/2", "and a needle")
        await d.press("escape")
        d.chat.open(next(row.key for row in d.chat.rows if row.title == "Finding"))
        await d.shows("paragraph 59")
        assert not d.chat.transcript.finding


async def test_what_streams_while_it_is_looked_for_is_marked() -> None:
    fake = FakeDaemon()
    session = fake.add_session("Finding")["id"]
    run = fake.start("where?", session_id=session)
    message = run.begin_text()
    message.delta("One needle here.\n\nThen ")
    async with deck(fake) as d:
        d.chat.open(f"session:{session}")
        await d.shows("Then")
        await d.press("ctrl+f")
        await d.type("needle")
        await d.until(lambda: len(_marked(d)) == 1)
        await d.shows("1/1")
        message.delta("a needle more")
        await d.until(lambda: len(_marked(d)) == 2)
        # What has come is counted, and gone through, too; where a person is they stay.
        await d.shows("1/2")
        message.delta(", and\nthe third needle")
        await d.until(lambda: len(_marked(d)) == 3)
        await d.shows("1/3")
        await d.press("down")
        await d.shows("2/3")
        message.finish()
        call = run.shell(["echo needle"])
        await d.shows("2/4")
        call.exit([0])
        run.complete()
        await d.shows("40 out", "2/4")
        await d.until(lambda: len(_marked(d)) == 4 and not d.chat.live)


async def test_in_the_log_typing_goes_on_too() -> None:
    fake = FakeDaemon()
    for number in range(5):
        fake.write_log(f"needle {number}", "info", "skilldeck_daemon.http")
    async with deck(fake) as d:
        await go(d, "f5", "daemon")
        await d.press("left_square_bracket")  # the last of the sections
        await d.shows("needle 4")
        await d.press("slash")
        await d.type("needl")
        await d.press("enter", "e", "enter", "l")
        pane = d.app.screen.query_one(LogPane)
        assert pane.level == "info"
        await d.shows("nothing found")
        await d.press("backspace", "escape")
        await d.until(lambda: d.app.focused is pane)
        at = pane._match
        await d.press("n")
        assert pane._match == (at + 1) % 5
