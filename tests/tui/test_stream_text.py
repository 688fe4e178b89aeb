"""Text that grows: drawn as a whole text would be, and laid out only where that changes something."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult
from textual.content import Content

from skilldeck_tui.widgets.text_block import TextBlock
from skilldeck_tui.widgets.transcript.item_view import Stack
from skilldeck_tui.widgets.transcript.stream_text import StreamText

TEXT = (
    "Three regions were read from the file, and north sells most of all.\n\n- north  4,810.20\n"
    "- south  2,204.00\n\n東京の売上は北部より少ないが、南部より多いと書かれています。\n\n\n"
    "averyveryveryverylongwordthatfitsonnoline and\tthe rest"
)


class Growing(App[None]):
    layouts = 0

    def compose(self) -> ComposeResult:
        with Stack():
            yield StreamText()
            yield TextBlock(Content("0"), classes="clock")

    def on_mount(self) -> None:
        def count(_screen: object) -> None:
            self.layouts += 1

        self.screen.screen_layout_refresh_signal.subscribe(self.screen, count)

    def lines(self) -> list[str]:
        view = self.query_one(StreamText)
        return [view.render_line(y).text.rstrip() for y in range(view.size.height)]


@pytest.mark.parametrize("piece", [1, 7, 1000])
async def test_text_in_pieces_looks_like_the_whole_at_every_width(piece: int) -> None:
    app = Growing()
    async with app.run_test(size=(40, 40)) as pilot:
        for at in range(0, len(TEXT), piece):
            app.query_one(StreamText).append(TEXT[at : at + piece])
        for width in (40, 23, 60):
            await pilot.resize_terminal(width, 40)
            await pilot.pause()
            whole = Content(TEXT.replace("\t", "    ")).wrap(width)
            assert app.lines() == [row.plain.rstrip() for row in whole]


async def test_blank_lines_show_once_something_follows_them() -> None:
    app = Growing()
    async with app.run_test(size=(40, 10)) as pilot:
        for text, shown in (("a", ["a"]), ("\n\n", ["a"]), ("b", ["a", "", "b"])):
            app.query_one(StreamText).append(text)
            await pilot.pause()
            assert app.lines() == shown
        app.query_one(StreamText).write("c")
        await pilot.pause()
        assert app.lines() == ["c"]


async def test_a_line_that_grows_is_drawn_and_only_a_new_line_is_laid_out_once() -> None:
    app = Growing()
    async with app.run_test(size=(40, 10)) as pilot:
        stream, clock = app.query_one(StreamText), app.query_one(TextBlock)
        stream.append("one")
        await pilot.pause()
        before = app.layouts
        stream.append(" two")
        clock.write(Content("1"))
        await pilot.pause()
        assert (app.lines(), app.layouts) == (["one two"], before)
        stream.append("\nthree")
        await pilot.pause()
        assert (app.lines(), app.layouts) == (["one two", "three"], before + 1)
        assert clock.region.y == 2
        clock.write(Content("a\nb"))
        await pilot.pause()
        assert (clock.size.height, app.layouts) == (2, before + 2)
