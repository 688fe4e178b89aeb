"""The last line: which keys it shows at which width, and that they can be clicked."""

from __future__ import annotations

from skilldeck_tui.widgets.frame.key_line import KeyLine, fitting
from support.fake_daemon import FakeDaemon
from support.tui import deck


def test_what_does_not_fit_goes_whole_and_the_kept_ones_never() -> None:
    assert fitting([5, 5, 5], {2}, 19) == ([0, 1, 2], 2)
    assert fitting([5, 5, 5], {2}, 17) == ([0, 1, 2], 1)
    assert fitting([5, 5, 5], {2}, 12) == ([0, 2], 1)
    assert fitting([5, 5, 5], {2}, 5) == ([2], 1)


async def test_a_click_on_a_key_presses_it_and_the_pointer_is_shown_where_it_is() -> None:
    async with deck(FakeDaemon(), size=(120, 40)) as d:
        line = d.app.screen.query_one(KeyLine)
        await d.until(lambda: any(key.description == "Help" for key in line.keys))
        number, key = next((n, key) for n, key in enumerate(line.keys) if key.description == "Help")
        at = (line.gutter.left + key.at + 1, 0)
        await d.pilot.hover(KeyLine, offset=at)
        await d.until(lambda: line.hovered == number)
        await d.pilot.click(KeyLine, offset=at)
        await d.shows("esc closes")


async def test_the_keys_follow_the_focus() -> None:
    async with deck(FakeDaemon(), size=(120, 40)) as d:
        line = d.app.screen.query_one(KeyLine)
        await d.until(lambda: "Send" in {key.description for key in line.keys})
        d.chat.transcript.focus()
        await d.until(lambda: "Send" not in {key.description for key in line.keys})
