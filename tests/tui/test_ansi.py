"""Colours of commands: what is shown of SGR, and that nothing else passes."""

from __future__ import annotations

import io
import random

import pytest
from rich.color import Color
from rich.style import Style

from skilldeck_shared.terminal import clean
from skilldeck_tui.chat.transcripts.items import Command
from skilldeck_tui.chat.transcripts.output import OutputBuffer
from skilldeck_tui.cli.running.run import TextPrinter
from skilldeck_tui.client.types import RunEvent
from skilldeck_tui.text.ansi import PLAIN, Colours, Span, coloured
from skilldeck_tui.widgets.transcript.output_view import OutputView
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.tui import deck

RED, GREEN = Style(color=Color.from_ansi(1)), Style(color=Color.from_ansi(2))


@pytest.mark.parametrize(
    ("sequence", "style"),
    [
        ("31", RED), ("1;32", Style(bold=True) + GREEN), ("91", Style(color=Color.from_ansi(9))),
        ("44", Style(bgcolor=Color.from_ansi(4))), ("103", Style(bgcolor=Color.from_ansi(11))),
        ("38;5;208", Style(color=Color.from_ansi(208))), ("48;5;17", Style(bgcolor=Color.from_ansi(17))),
        ("38;2;1;2;3", Style(color=Color.from_rgb(1, 2, 3))), ("48:2:1:2:3", Style(bgcolor=Color.from_rgb(1, 2, 3))),
        ("4;7", Style(underline=True, reverse=True)), ("31;0", PLAIN), ("", PLAIN), ("8", PLAIN), ("5", PLAIN),
        ("38;5;999", PLAIN), ("38;2;1", PLAIN), ("38", PLAIN), ("777", PLAIN), ("1;22", Style(bold=False, dim=False)),
    ],
)  # fmt: skip
def test_a_sequence_means_its_style(sequence: str, style: Style) -> None:
    assert coloured(f"\x1b[{sequence}mx")[2] == style


def test_a_line_is_its_text_and_the_spans_of_it() -> None:
    text, spans, style = coloured("a \x1b[31mred\x1b[0m b\x1b]0;title\x07\x1b[2J \x1b[32mgo")
    assert text == "a red b go"
    assert spans == (Span(2, 5, RED), Span(8, 10, GREEN))
    assert coloured("on", style)[1] == (Span(0, 2, GREEN),)


def test_a_carriage_return_shows_what_was_written_last() -> None:
    text, spans, _ = coloured("\x1b[31m 10%\r\x1b[32m100%\x1b[0m\r")
    assert (text, spans) == ("100%", (Span(0, 4, GREEN),))


def test_no_other_sequence_passes() -> None:
    chance = random.Random(5)
    pieces = ["\x1b", "[", "]", "0;", "31", "m", "J", "H", "P", "\\", "\x07", "\r", "text", "\x9b", "?25l", "\t", "é"]
    for _ in range(3_000):
        line = "".join(chance.choice(pieces) for _ in range(chance.randrange(1, 14)))
        text, spans, _ = coloured(line)
        assert text == clean(text)
        assert all(0 <= span.start < span.end <= len(text) for span in spans)


def test_output_keeps_colours_over_pieces_and_lines() -> None:
    output = OutputBuffer()
    for piece in ("\x1b[3", "1mfa", "il\nnext\x1b[", "0m\n", "plain\n"):
        output.write("stdout", piece)
    assert output.lines == [("stdout", "fail"), ("stdout", "next"), ("stdout", "plain")]
    assert output.colours == {0: (Span(0, 4, RED),), 1: (Span(0, 4, RED),)}


@pytest.mark.parametrize("folded", [True, False])
def test_a_wrapped_row_is_coloured_where_its_line_is(folded: bool) -> None:
    command = Command()
    command.output.write("stdout", "123\x1b[31m4567\x1b[0m89\n")
    view = OutputView(command)
    view.folded, view._width = folded, 5
    view._build(True)
    assert [(row[1], row[2]) for row in view._rows] == [("12345", (Span(3, 7, RED),)), ("6789", (Span(0, 2, RED),))]


async def test_the_screen_shows_the_colours() -> None:
    fake = FakeDaemon()

    async def model(run: FakeRun) -> None:
        call = run.shell(["pytest"])
        call.output(stdout="\x1b[31mFAILED\x1b[0m test_a \x1b[38;2;10;200;30m1 passed\x1b[0m\x1b[2J\n")
        call.exit([1])
        run.complete()

    fake.on_run = model
    async with deck(fake) as d:
        await d.type("go")
        await d.press("enter")
        await d.shows("FAILED test_a 1 passed")
        strip = d.chat.query_one(OutputView).render_line(0)
        colours = {segment.text: segment.style.color for segment in strip if segment.style and segment.text.strip()}
        assert colours["FAILED"] == Color.from_ansi(1)
        assert colours["1 passed"] == Color.from_rgb(10, 200, 30)
        # Copies and files hold the text alone.
        assert "\x1b" not in d.chat.as_markdown()


def test_a_stream_to_a_terminal_keeps_its_colours_and_nothing_else() -> None:
    stream = Colours()
    written = "".join(
        stream.feed(piece) for piece in ("a\x1b[3", "1mred", " more\n", "line\x1b[0m\x1b[2", "J\x1b]0;x\x07b")
    )
    assert written == "a\x1b[31mred\x1b[0m\x1b[31m more\x1b[0m\n\x1b[31mline\x1b[0mb"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_command_line_shows_the_colours_of_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    printer = TextPrinter()
    deltas = (
        {"stdout": "\x1b[3"},
        {"stdout": "2mok\x1b[0m\x1b[2J\n"},
        {"stderr": "odd\n"},
        {"stderr": "\x1b[31mbad\x1b[m\n"},
    )
    for number, delta in enumerate(deltas):
        data = {"output_index": 0, "command_index": 0, "delta": delta}
        printer.show(RunEvent("resp_1", number, "response.shell_call_output_content.delta", data))
    assert terminal.getvalue() == "\x1b[32mok\x1b[0m\n\x1b[33modd\n\x1b[0m\x1b[31mbad\x1b[0m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    printer.show(
        RunEvent("resp_1", 9, "response.shell_call_output_content.delta", {**data, "delta": {"stdout": "\x1b[31mx\n"}})
    )
    assert terminal.getvalue().endswith("\x1b[0m\nx\n")
