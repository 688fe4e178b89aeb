"""Every way of foreign text to a terminal: the CLI's and skilldeckd's by their one sink, the TUI's by its lines."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.content import Content
from textual.widgets import Static

from skilldeck_daemon import cli, demo, logs
from skilldeck_shared import terminal
from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.cli import output as out
from skilldeck_tui.terminal.notices import notice
from skilldeck_tui.terminal.safe_lines import SafeLines
from support.fake_daemon import FakeDaemon
from support.tui import deck

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = (
    "\x1b[2Jgone\x1b]0;title\x07 \x1b]52;c;aGk=\x1b\\\x1bPq#0\x1b\\ \x9b31mred\x9d0;t\x9c \x1bc\x08\x08ok\x7f\r"
    "\u202egpj.exe\u2066 \x1b[8mhidden\x1b[6n \x00\x05 \x1b" + "]8;;https://evil.example\x07link\x1b]8;;\x07"
)
OURS = re.compile(r"\x1b\[(?:0|1|2|31|32|33|36)m|\r\x1b\[K|\r\n|\n")


def assert_harmless(written: str) -> None:
    """Nothing a terminal acts on but our own styles, bars and line ends."""
    rest = OURS.sub("", written)
    assert not [character for character in rest if not character.isprintable()], rest
    assert "[31mred" not in written.replace("\x1b[31m", ""), written  # nor what is left of a sequence


class Terminal(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "utf-8", newline="")

    def isatty(self) -> bool:
        return True

    @property
    def written(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined, no-any-return]


def opened(patch: pytest.MonkeyPatch) -> Terminal:
    """A terminal in the place of both streams; inside the test, since pytest puts its own there before."""
    both = Terminal()
    patch.setattr(sys, "stdout", both)
    patch.setattr(sys, "stderr", both)
    patch.delenv("NO_COLOR", raising=False)
    patch.setenv("TERM", "xterm-256color")
    return both


def _log(text: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logs.PlainFormatter())
    handler.emit(logging.makeLogRecord({"msg": text, "levelname": "INFO", "name": text}))


def _fail(text: str) -> None:
    with contextlib.suppress(SystemExit):
        cli.fail(SkilldeckError(text, text))


SINKS: dict[str, Callable[[str], Any]] = {
    "a note": out.note,
    "a painted note": lambda text: out.note(text, "yellow"),
    "a line of the result": out.data,
    "JSON": lambda text: out.data_json({"name": text}),
    "an error": lambda text: out.explain(SkilldeckError(text, text), folder=text),
    "an error as JSON": lambda text: out.explain(SkilldeckError(text, text), as_json=True),
    "a table": lambda text: out.table([(text, 1)], ("name", "size")),
    "the bar of an upload": lambda text: out.progress(f"uploading {text}")(1, 2),
    "the bar of a test": lambda text: out.draw(text, 0.5, text),
    "a question": lambda text: out.question(f"Update {text}?"),
    "a file": lambda text: out.content()(text.encode()),
    "skilldeckd": terminal.say,
    "skilldeckd's errors": _fail,
    "skilldeckd's bars": lambda text: terminal.live(text, sys.stderr),
    "skilldeckd's log": _log,
    "the demo": lambda text: demo.Printer().write(text, demo.CYAN),
    "a step of the demo": demo.step,
}


@pytest.mark.parametrize("name", SINKS)
def test_no_sink_lets_through_what_a_terminal_acts_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = opened(monkeypatch)
    SINKS[name](HOSTILE)
    out.progress_off()
    assert "ok" in screen.written or "gone" in screen.written or "exe" in screen.written
    assert_harmless(screen.written)


def test_a_file_that_comes_in_pieces_is_as_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = opened(monkeypatch)
    write = out.content()
    for byte in HOSTILE.encode():
        write(bytes([byte]))
    assert not [c for c in OURS.sub("", screen.written) if not c.isprintable()]


def test_our_styles_stay_and_nobody_can_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = opened(monkeypatch)
    out.note(f"{out.paint('error:', 'red')} \x1b[32mfine\x1b[0m", "dim")
    assert screen.written == "\x1b[2m\x1b[31merror:\x1b[0m fine\x1b[0m\n"


def test_into_a_pipe_text_goes_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    out.data(HOSTILE)
    out.data(out.paint("x", "red", sys.stdout))
    assert pipe.getvalue() == f"{HOSTILE}\nx\n"


def test_a_name_stays_on_its_line_of_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = opened(monkeypatch)
    out.table([("a\nb", "1"), ("c", "2")], ("name", "n"))
    assert screen.written.count("\n") == 3


CHILDREN = ("convert_document", "measuring", "supervisor", "ddgs_program", "trial_child", "worker_main")
"""Programs whose streams the daemon or the bench reads."""
ELSEWHERE = {"bench", "containers", "templates"}
"""Tools of developers, what runs inside, what skills are made of."""


_WRITES = re.compile(
    r"print|(?:.*\.)?(?:stdout|stderr|stream)(?:\.buffer)?\.write(?:lines)?|(?:typer|click)\.(?:echo|secho)"
)


def _writes(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called == "print" or re.fullmatch(
            r"(?:.*\.)?(?:stdout|stderr|stream)(?:\.buffer)?\.write(?:lines)?|(?:typer|click)\.(?:echo|secho)",
            called,
        ):
            yield node.lineno


def test_nothing_else_writes_to_a_terminal() -> None:
    sinks = {ROOT / "tui/skilldeck_tui/cli/output.py", ROOT / "shared/skilldeck_shared/terminal.py"}
    found = []
    for room in ("tui/skilldeck_tui", "shared/skilldeck_shared", "daemon/skilldeck_daemon"):
        for path in (ROOT / room).rglob("*.py"):
            if path in sinks or path.stem in CHILDREN or not ELSEWHERE.isdisjoint(path.parts):
                continue
            found += [f"{path.relative_to(ROOT)}:{line}" for line in _writes(ast.parse(path.read_text()))]
    assert found == []


# -- the TUI


def test_a_line_of_the_tui_is_harmless_whatever_its_widget_did() -> None:
    style = Style(link=f"https://example.org/{HOSTILE}", bold=True)
    line = [Segment(HOSTILE, style), Segment("\x1b[2J", None), Segment("plain", Style(link="https://example.org"))]
    safe = SafeLines().apply(line, Color(0, 0, 0))
    assert all(character.isprintable() for segment in safe for character in segment.text)
    assert [segment.style.link if segment.style else None for segment in safe] == [None, None, "https://example.org"]
    assert safe[2] is line[2]
    plain = [Segment("plain"), Segment("\u200d👩‍🚀é")]
    assert SafeLines().apply(plain, Color(0, 0, 0)) is plain


async def test_what_the_app_paints_goes_through_the_filter() -> None:
    async with deck(FakeDaemon()) as screen:
        await screen.app.screen.mount(Static(Content(f"first {HOSTILE} last"), markup=False))
        await screen.shows("first")
        text = screen.text()
    assert "exe" in text
    assert all(character.isprintable() for character in text.replace("\n", ""))


def test_a_notice_to_the_terminal_holds_nothing_of_others_that_ends_it() -> None:
    written = notice("done", f"run {HOSTILE}")
    assert re.fullmatch(r"\a\x1b\]9;[^\x00-\x1f\x7f-\x9f]*\x1b\\\x1b\]777;[^\x00-\x1f\x7f-\x9f]*\x1b\\", written)
