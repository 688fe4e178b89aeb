"""Runs as transcripts: from events, from storage, at speed, and as text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from skilldeck_shared.terminal import clean
from skilldeck_tui.chat.transcripts.export import as_json, item_markdown, markdown, save
from skilldeck_tui.chat.transcripts.items import ShellItem, TextItem, UserItem
from skilldeck_tui.chat.transcripts.output import MAX_LINES, OutputBuffer
from skilldeck_tui.chat.transcripts.transcript import ShownRun, Span, spans
from skilldeck_tui.client.client import RunDetail, RunEvent
from skilldeck_tui.text.format import age, count, duration, size
from skilldeck_tui.widgets.transcript.message import split
from skilldeck_tui.widgets.transcript.run_footer import timeline
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun


async def test_a_run_reads_the_same_from_its_events_and_from_storage() -> None:
    run = _run()
    live = ShownRun(run.id)
    for number, (event, at) in enumerate(run.log):
        live.apply(RunEvent(run.id, number, event["type"], event, at))
    stored = ShownRun.stored(RunDetail(run.response, [], {}))
    assert [type(item) for item in live.items] == [type(item) for item in stored.items]
    assert [item.plain() for item in live.items] == [item.plain() for item in stored.items]
    assert (live.status, live.usage) == (stored.status, stored.usage)
    shell = live.items[0]
    assert isinstance(shell, ShellItem)
    assert [command.outcome for command in shell.commands] == [0, 2]
    assert shell.commands[1].output.lines == [("stderr", "ls: no")]


async def test_an_event_that_comes_twice_changes_nothing() -> None:
    run = _run()
    turn = ShownRun(run.id)
    for _ in range(2):
        for number, (event, at) in enumerate(run.log):
            turn.apply(RunEvent(run.id, number, event["type"], event, at))
    assert [item.kind for item in turn.items] == ["shell", "text"]
    assert turn.items[1].plain() == "The **north**."


async def test_a_command_that_was_cut_off_is_shown_as_stopped() -> None:
    run = FakeDaemon().start("x")
    run.shell(["sleep 100"]).output(stdout="began\n")
    run.cancel()
    turn = _apply(run)
    shell = turn.items[0]
    assert isinstance(shell, ShellItem)
    assert shell.stopped
    assert not shell.commands[0].running
    assert turn.status == "cancelled"


async def test_what_was_left_out_for_the_model_is_counted() -> None:
    run = FakeDaemon().start("x")
    call = run.shell(["yes"])
    call.output(stdout="y\n[... 120000 bytes left out ...]\ny\n")
    call.exit([0])
    shell = _apply(run).items[0]
    assert isinstance(shell, ShellItem)
    command = shell.commands[0]
    assert command.omitted == 120_000
    # Of what was printed, not of the part that was shown live.
    assert command.printed == 120_000 + len("y\n\ny\n")


def test_where_time_went_is_told_in_order_with_the_waiting_between() -> None:
    timeline = {
        "times": [10.0, 20.0],
        "spans": [
            {"kind": "turn", "end": 13.0, "prefill_s": 1.0, "decode_s": 1.5},
            {"kind": "call", "call_id": "c", "start": 13.0, "end": 15.0},
        ],
    }
    assert [(s.kind, s.start, s.end) for s in spans(timeline)] == [
        ("wait", 10.0, 10.5), ("prefill", 10.5, 11.5), ("generate", 11.5, 13.0), ("call", 13.0, 15.0),
    ]  # fmt: skip


def test_output_keeps_the_order_of_both_streams_and_joins_pieces_of_a_line() -> None:
    output = OutputBuffer()
    for stream, text in (("stdout", "a"), ("stdout", "b\nc"), ("stderr", "oops\n"), ("stdout", "d\n")):
        output.write(stream, text)  # type: ignore[arg-type]
    assert output.lines == [("stdout", "ab"), ("stdout", "c"), ("stderr", "oops"), ("stdout", "d")]
    assert output.bytes == {"stdout": 6, "stderr": 5}


def test_a_progress_bar_shows_its_last_state_also_when_it_comes_in_pieces() -> None:
    output = OutputBuffer()
    for piece in ("10%\r", "50", "%\r", "100%\n"):
        output.write("stdout", piece)
    assert output.lines == [("stdout", "100%")]


def test_output_without_end_keeps_the_newest_lines_and_counts_the_rest() -> None:
    output = OutputBuffer()
    for number in range(MAX_LINES * 2):
        output.write("stdout", f"{number}\n")
    assert output.total == MAX_LINES * 2
    assert len(output.lines) < MAX_LINES * 1.2
    assert output.lines[-1] == ("stdout", str(MAX_LINES * 2 - 1))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]52;c;aGk=\x1b\\x", "x"),
        ("a\x07\x08b", "ab"),
        ("a\tb", "a    b"),
        ("\u202eevil", "evil"),
        ("one\r\ntwo\rthree", "one\nthree"),
        ("\x9b31mx", "31mx"),
    ],
)
def test_nothing_a_terminal_would_act_on_reaches_it(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("text", "commit", "rest"),
    [
        ("one\n\ntwo", "one\n\n", "two"),
        ("```\na\n\nb", "", "```\na\n\nb"),
        ("```\na\n\nb\n```\n\nc", "```\na\n\nb\n```\n\n", "c"),
        ("no end", "", "no end"),
        ("", "", ""),
    ],
)
def test_text_is_committed_at_blank_lines_outside_fences(text: str, commit: str, rest: str) -> None:
    assert split(text) == (commit, rest)


async def test_a_transcript_is_exported_as_markdown_and_as_json(tmp_path: Any) -> None:
    turn = _apply(_run())
    turn.asked = [UserItem("", {}, 1, True, "Which region?", ["orders.csv"])]
    text = markdown("Orders", [turn])
    assert text.startswith("# Orders\n\n> Which region?\n> 📎 orders.csv\n\n```console\n$ summary.py\nnorth 12")
    assert "*exit code 2*" in text
    assert text.rstrip().endswith("default*")
    exported = json.loads(as_json([turn]))
    assert [item["type"] for item in exported[0]["output"]] == ["shell_call", "shell_call_output", "message"]
    first, second = save("Orders: March!", "md", text, tmp_path), save("Orders: March!", "md", "other", tmp_path)
    assert (first.name, second.name) == ("orders-march.md", "orders-march-2.md")
    assert first.read_text("utf-8") == text


def test_a_fence_is_longer_than_any_in_the_output() -> None:
    shell = ShellItem()
    shell.command(0).text = "cat x.md"
    shell.command(0).output.write("stdout", "````\ncode\n````\n")
    assert item_markdown(shell).startswith("`````console\n")


def test_numbers_are_short() -> None:
    assert [size(n) for n in (0, 999, 14_200, 3_100_000_000)] == ["0 B", "999 B", "14.2 KB", "3.1 GB"]
    assert [duration(s) for s in (0.012, 3.21, 125, 3780)] == ["12 ms", "3.2s", "2m 05s", "1h 03m"]
    assert [age(100, now) for now in (100, 105, 100 + 720, 100 + 3 * 3600, 100 + 9 * 86400)] == [
        "now",
        "5s",
        "12m",
        "3h",
        "9d",
    ]
    assert [count(n) for n in (950, 1240, 34_400, 1_200_000)] == ["950", "1.2k", "34k", "1.2M"]


def test_text_grows_by_pieces() -> None:
    item = TextItem()
    for piece in ("a", "b"):
        item.write(piece)
    assert (item.text, item.pieces, item.revision) == ("ab", ["a", "b"], 2)


def _run() -> FakeRun:
    run = FakeDaemon().start("Which region?")
    call = run.shell(["summary.py", "ls x"])
    call.output(stdout="north 12\nsouth 9\n")
    call.output(1, stderr="ls: no\n")
    call.exit([0, 2])
    run.text("The **north**.")
    run.complete()
    return run


def _apply(run: FakeRun) -> ShownRun:
    turn = ShownRun(run.id)
    for number, (event, at) in enumerate(run.log):
        turn.apply(RunEvent(run.id, number, event["type"], event, at))
    return turn


async def test_of_a_daemon_that_died_the_next_ones_account_is_taken() -> None:
    live = FakeDaemon().start("go")
    live.shell(["make"]).output(stdout="half of")
    turn = _apply(live)
    (shown,) = turn.items
    outcome = {"type": "exit", "exit_code": 137}
    output = [
        {**shown.raw, "status": "completed"},
        {"type": "shell_call_output", "call_id": shown.call_id, "status": "incomplete",
         "output": [{"stdout": "half of", "stderr": "", "outcome": outcome}]},
        {"type": "message", "status": "incomplete", "content": [{"type": "output_text", "text": "and more"}]},
    ]  # fmt: skip
    turn.settle({**live.response, "status": "failed", "error": {"message": "It stopped."}, "output": output})
    assert (turn.status, turn.error, turn.items[0] is shown) == ("failed", "It stopped.", True)
    assert isinstance(shown, ShellItem)
    assert (shown.commands[0].outcome, shown.output_raw["status"], shown.running) == (137, "incomplete", False)
    assert [item.plain() for item in turn.items] == ["$ make\nhalf of", "and more"]


def test_where_time_went_is_told_in_one_line_of_any_width() -> None:
    turn = ShownRun("resp_1")
    kinds = {"wait": 0.2, "prefill": 3.0, "generate": 12.0, "call": 70.0}
    at = 0.0
    for kind, seconds in kinds.items():
        turn.timeline.append(Span(kind, at, at + seconds))
        at += seconds
    for width in range(30, 130):
        line = timeline(turn, width)
        assert "\n" not in line.plain
        assert line.cell_length <= width
        assert "commands 1m 10s" in line.plain  # the longest is told first
    assert all(word in line.plain for word in ("waiting", "prefill", "generate"))


def test_an_answer_that_called_nothing_is_not_outweighed_by_where_its_time_went() -> None:
    spans = [Span("prefill", 0.0, 1.0), Span("generate", 1.0, 4.0)]
    assert timeline(ShownRun("resp_1", timeline=spans)).plain == ""
    assert "commands" in timeline(ShownRun("resp_1", timeline=[*spans, Span("call", 4.0, 5.0)])).plain
    assert "generate" in timeline(ShownRun("resp_1", timeline=[*spans, Span("generate", 4.0, 14.0)])).plain
