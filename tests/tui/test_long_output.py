"""A hundred thousand lines on their way to the screen, and output that stops coming before its command ends."""

from __future__ import annotations

from skilldeck_shared.output_limits import DEFAULT_MAX_OUTPUT, live_part
from skilldeck_tui.chat.transcripts.output import MAX_LINES as KEPT_LINES
from skilldeck_tui.widgets.transcript.view import MAX_LINES
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeCall, FakeRun
from support.tui import deck

PIECE = 1_000


def _print(call: FakeCall, command: int, first: int, lines: int) -> None:
    for start in range(first, first + lines, PIECE):
        call.output(command, stdout="".join(f"row {number}\n" for number in range(start, start + PIECE)))


def _long_run(fake: FakeDaemon, session: str, name: str) -> FakeRun:
    run = fake.start(f"Print it: {name}", session_id=session)
    call = run.shell(["seq 1 40000", "seq 40001 60000"], limit=10_000_000)
    _print(call, 0, 1, 40_000)
    _print(call, 1, 40_001, 20_000)
    call.exit([0, 0])
    run.text(f"Printed {name}.")
    run.complete()
    return run


async def test_a_hundred_thousand_lines_are_pruned_with_a_note_and_keys_still_work() -> None:
    fake = FakeDaemon()
    session = fake.add_session("Long")["id"]
    _long_run(fake, session, "first")
    _long_run(fake, session, "second")
    async with deck(fake) as d:
        d.chat.open(f"session:{session}")
        await d.shows("Printed second.", "row 60000")
        transcript = d.chat.transcript
        assert sum(view.lines for view in transcript.turn_views) <= MAX_LINES
        await d.type("still here")
        await d.shows("still here")
        transcript.focus()
        await d.press("g")
        await d.shows("1 earlier turn no longer shown", "f9 exports all", "Print it: second")
        # What left the screen is still there to be exported.
        assert "row 12345" in d.chat.as_markdown()
        assert "Print it: first" in d.chat.as_markdown()


async def test_lines_that_come_live_are_all_counted_and_the_newest_kept() -> None:
    fake = FakeDaemon()
    run = fake.start("Print it", session_id=fake.add_session("Long")["id"])
    async with deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.until(lambda: d.chat.live)
        call = run.shell(["seq 1 100000"], limit=10_000_000)
        _print(call, 0, 1, 100_000)
        await d.shows("row 100000", "lines folded")
        await d.type("typed meanwhile")
        await d.shows("typed meanwhile")
        call.exit([0])
        run.complete()
        await d.shows("✓ 0")
        output = d.chat.turns[0].items[0].commands[0].output  # type: ignore[attr-defined]
        assert output.total == 100_000
        assert KEPT_LINES <= len(output.lines) < 100_000
        d.chat.transcript.focus()
        await d.press("enter", "g")
        await d.shows("earlier lines not kept · the daemon has them")


async def test_a_command_whose_output_stops_coming_says_so_until_it_ends() -> None:
    fake = FakeDaemon()
    run = fake.start("Print it", session_id=fake.add_session("Much")["id"])
    async with deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        call = run.shell(["yes", "true"])
        call.output(stdout="y\n" * (live_part(DEFAULT_MAX_OUTPUT) // 2 - 1))
        await d.shows("lines folded", "running a command")
        assert "shown live" not in d.text()
        call.output(stdout="y\n")
        await d.shows("32,768 of at most 65,536 characters shown live")
        call.output(stdout="the end\n")
        call.exit([0, 0])
        await d.shows("the end", "✓ 0")
        await d.hides("shown live")


async def test_the_limit_of_a_call_tells_when_its_live_output_ends() -> None:
    fake = FakeDaemon()
    run = fake.start("Print it", session_id=fake.add_session("Little")["id"])
    async with deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        call = run.shell(["yes"], limit=1_000)
        call.output(stdout="y\n" * 250)
        await d.shows("500 of at most 1,000 characters shown live")
