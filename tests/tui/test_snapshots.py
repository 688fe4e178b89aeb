"""What every screen looks like, empty, busy and in trouble, at three sizes.

The clock stands still, so pictures differ only when the screen does. After a change that is meant, `pytest
tests/tui/test_snapshots.py --snapshot-update` takes them again; look at them before committing.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pytest_textual_snapshot import SVGImageExtension
from textual.widgets import Input

from skilldeck_shared.manifest import ManifestError, parse_manifest
from skilldeck_tui.client import DaemonUnreachable
from skilldeck_tui.skill_tests import Suite
from skilldeck_tui.skilltest import Case, Result
from skilldeck_tui.state import DaemonState, Sample
from skilldeck_tui.watch import WatchState
from skilldeck_tui.widgets import approval
from skilldeck_tui.widgets.composer import ComposerText
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.tui import Deck, deck

NOW = 1_790_000_000.0
SIZES = ((80, 24), (120, 40), (50, 30))
BROKEN = "---\nname: notes\ndescription: Keeps notes: short ones.\n---\n# Notes\n"
MANIFEST = "---\nname: {name}\ndescription: {text}\nlicense: MIT\n---\n# {name}\n\nRun `python3 scripts/run.py FILE`.\n"
SKILLS = {
    "csv-summary": "Summarises a CSV file by column, with counts, sums, means and missing cells.",
    "log-triage": "Groups the errors of a log file and shows the first of each.",
    "text-stats": "Counts words, sentences and syllables of a text.",
}
Drive = Callable[[Deck], Awaitable[None]]


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same instant, zone and folder every time."""
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DaemonState, "sample", lambda self: None)
    monkeypatch.setattr(approval, "GUARD_SECONDS", 0.0)


@pytest.fixture
def pictures(snapshot: Any) -> Any:
    return snapshot.use_extension(SVGImageExtension)


@asynccontextmanager
async def _deck(fake: FakeDaemon, theme: str = "") -> AsyncIterator[Deck]:
    async with deck(fake, size=SIZES[0], clock=lambda: NOW, toasts=False) as d:
        d.chat.query_one(ComposerText).cursor_blink = False
        if theme:
            d.app.theme = theme
        yield d


async def _compare(d: Deck, pictures: Any, *sizes: tuple[int, int]) -> None:
    for width, height in sizes or SIZES:
        await d.pilot.resize_terminal(width, height)
        await d.until(lambda width=width: d.app.size.width == width)  # type: ignore[misc]
        # Layout, Markdown and tables settle in steps, and each may take a moment on a busy machine.
        seen, same = "", 0
        while same < 3:
            await d.handled()
            await d.pilot.pause(0.2)
            before, seen = seen, d.app.export_screenshot(title="skilldeck")
            same = same + 1 if seen == before else 0
        assert seen == pictures(name=f"{width}x{height}")


def _library(fake: FakeDaemon) -> None:
    for name, text in SKILLS.items():
        manifest = MANIFEST.format(name=name, text=text).encode()
        skill = fake.add_skill(name, {"SKILL.md": manifest, "scripts/run.py": b"print('hello')\n"}, description=text)
        if name == "csv-summary":
            fake.add_version(
                skill["id"], {"SKILL.md": manifest + b"Answer in one line.\n", "scripts/run.py": b"print(2)\n"}
            )


def _answered(fake: FakeDaemon) -> FakeRun:
    run = fake.start(
        "Summarise orders.csv: which region sells most?", session_id=fake.add_session("Orders of March")["id"]
    )
    call = run.shell(["cat /mnt/skills/csv-summary/SKILL.md"])
    call.output(stdout="".join(f"line {n} of the instructions\n" for n in range(30)))
    call.exit([0])
    call = run.shell(["python3 scripts/run.py orders.csv --by region", "ls missing"])
    call.output(stdout="north 120 4810.20\nsouth 80 2204.00\n")
    call.output(stderr="warning: 2 rows skipped\n")
    call.output(1, stderr="ls: cannot access 'missing'\n")
    call.exit([0, 2])
    run.text("The **north** region sells most:\n\n- north 4,810.20\n- south 2,204.00\n\nTwo rows had no region.\n")
    spans = [
        {"kind": "turn", "end": NOW - 4.0, "prefill_s": 0.5, "decode_s": 1.0},
        {"kind": "call", "call_id": "x", "start": NOW - 4.0, "end": NOW - 3.0},
        {"kind": "turn", "end": NOW - 0.5, "prefill_s": 0.2, "decode_s": 2.0},
    ]
    fake.timelines[run.id] = {"times": [NOW - 6, NOW - 0.5], "spans": spans}
    run.complete()
    return run


def _working(fake: FakeDaemon) -> FakeRun:
    model = {**fake.status["models"][0], "active": 1, "queued": 2, "tokens_per_s": 131.4, "prefill_per_s": 1240.0,
             "cache_used": 0.12}  # fmt: skip
    fake.status = {**fake.status, "models": [model], "containers_running": 1}
    run = fake.start("Which hosts fail most?", session_id=fake.add_session("Failing hosts")["id"])
    run.text("I group the errors first.")
    call = run.shell(["python3 scripts/triage.py big.log"])
    call.output(stdout="".join(f"host-{n:02} 5{n % 10} errors\n" for n in range(40)), stderr="3 lines unreadable\n")
    return run


async def _in(d: Deck, key: str, mode: str) -> None:
    await d.press(key)
    await d.until(lambda: d.app.current_mode == mode and d.app.screen.is_mounted)


async def test_chat_empty(pictures: Any) -> None:
    async with _deck(FakeDaemon()) as d:
        await d.shows("No skills yet")
        await _compare(d, pictures)


async def test_chat_answered(pictures: Any) -> None:
    fake = FakeDaemon()
    _library(fake)
    _answered(fake)
    async with _deck(fake) as d:
        d.chat.open(d.chat.rows[0].key)
        await d.shows("Two rows had no region.")
        await _compare(d, pictures)


async def test_chat_busy(pictures: Any) -> None:
    fake = FakeDaemon()
    _library(fake)
    _answered(fake)
    run = _working(fake)
    async with _deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.shows("host-39", "running a command")
        await _compare(d, pictures)


@pytest.mark.parametrize("theme", ["skilldeck-light", "ansi-dark"])
async def test_chat_busy_in_other_themes(theme: str, pictures: Any) -> None:
    fake = FakeDaemon()
    _library(fake)
    run = _working(fake)
    async with _deck(fake, theme) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.shows("host-39", "running a command")
        await _compare(d, pictures, SIZES[0])


async def test_chat_asking(pictures: Any) -> None:
    fake = FakeDaemon()
    _library(fake)
    run = fake.start("Clean up", session_id=fake.add_session("Cleaning")["id"])
    call = run.shell(["rm -r out"])
    asked = fake.add_approval(run, ["rm -r out"])
    fake.put("approval", {**asked, "call_id": call.call["call_id"]})
    async with _deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.shows("May this run?", "waits for approval")
        await _compare(d, pictures)


async def test_chat_failed_and_daemon_away(pictures: Any) -> None:
    fake = FakeDaemon()
    _library(fake)
    run = fake.start("Go", session_id=fake.add_session("Failing")["id"])
    run.text("I begin.")
    run.fail("The engine ran out of memory.")
    async with _deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.shows("✗ The engine ran out of memory.")
        d.app.state.link = "stuck"
        d.app.state.link_error = DaemonUnreachable("No daemon listens at /run/user/1000/skilldeck/daemon.sock.")
        d.app.touch({"link"})
        await d.shows("Still trying")
        await _compare(d, pictures)


async def test_skills_empty(pictures: Any) -> None:
    async with _deck(FakeDaemon()) as d:
        await _in(d, "f3", "skills")
        await d.shows("No skills yet")
        await _compare(d, pictures)


async def test_skills_busy(pictures: Any) -> None:
    fake = FakeDaemon()
    _library(fake)
    async with _deck(fake) as d:
        watching = WatchState(Path("csv-summary"), "current", "csv-summary", version="2")
        uploading = WatchState(Path("log-triage"), "uploading", "log-triage", done=120_000, total=480_000)
        d.app.state.watches = {watching.folder: watching, uploading.folder: uploading}
        await _in(d, "f3", "skills")
        await d.shows("● watching", "↑ uploading", "run.py", "name: csv-summary")
        await _compare(d, pictures)


async def test_skills_broken(pictures: Any) -> None:
    fake = FakeDaemon()
    Path("notes").mkdir()
    Path("notes/SKILL.md").write_text(BROKEN)
    with pytest.raises(ManifestError) as broken:
        parse_manifest(BROKEN)
    async with _deck(fake) as d:
        watch = WatchState(Path("notes"), "error", "notes", version="4", error=broken.value)
        d.app.state.watches = {watch.folder: watch}
        await _in(d, "f3", "skills")
        await d.shows("✗ line 3", "▲")
        await _compare(d, pictures)


def _case(name: str) -> Case:
    return Case("basic.yaml", name, name)


async def test_skills_tested(pictures: Any) -> None:
    fake = FakeDaemon()
    _library(fake)
    async with _deck(fake) as d:
        watch = WatchState(Path("csv-summary"), "current", "csv-summary", version="2")
        d.app.state.watches = {watch.folder: watch}
        cases = [_case(name) for name in ("counts rows", "names the region", "says what is missing")]
        suite = Suite(watch.folder, cases, running=False)
        failures = [
            "no command matches 'summarize' (commands: cat SKILL.md)",
            "the answer does not match 'north': 'I do'",
        ]
        for case in cases:
            result = Result("csv-summary", case, failures if case is cases[1] else [], 2.4, "resp_1")
            suite.results[suite.key(case)] = result
        d.app.tests.suites[watch.folder] = suite
        await _in(d, "f3", "skills")
        await d.shows("1 of 3 tests failed", "run.py", "name: csv-summary")
        await _compare(d, pictures)


async def test_skills_testing(pictures: Any) -> None:
    fake = FakeDaemon()
    _library(fake)
    async with _deck(fake) as d:
        watch = WatchState(Path("csv-summary"), "current", "csv-summary", version="2")
        d.app.state.watches = {watch.folder: watch}
        cases = [_case(name) for name in ("counts rows", "names the region", "says what is missing")]
        suite = Suite(watch.folder, cases, started={"basic.yaml:counts rows", "basic.yaml:names the region"})
        suite.results[suite.key(cases[0])] = Result("csv-summary", cases[0], [], 2.4, "resp_1")
        d.app.tests.suites[watch.folder] = suite
        await _in(d, "f3", "skills")
        await d.shows("Testing 1 of 3", "run.py", "name: csv-summary")
        await _compare(d, pictures, SIZES[1])


async def test_skills_diff(pictures: Any) -> None:
    fake = FakeDaemon()
    _library(fake)
    async with _deck(fake) as d:
        await _in(d, "f3", "skills")
        await d.shows("2 files in v2")
        await d.press("v")
        await d.shows("2 files differ", "+Answer in one line.")
        await _compare(d, pictures)


async def test_files_empty(pictures: Any) -> None:
    async with _deck(FakeDaemon()) as d:
        await _in(d, "f4", "files")
        await d.shows("No files yet")
        await _compare(d, pictures)


async def test_files_busy(pictures: Any) -> None:
    fake = FakeDaemon()
    for name, data in (("orders.csv", b"region,amount\nnorth,12\n" * 9), ("photo.png", b"\x89PNG\0" * 2000)):
        fake.add_file(name, data)
    async with _deck(fake) as d:
        await _in(d, "f4", "files")
        await d.shows("orders.csv", "photo.png", "region,amount")
        await _compare(d, pictures)


async def test_files_of_which_one_is_no_text(pictures: Any) -> None:
    fake = FakeDaemon()
    fake.add_file("photo.png", b"\x89PNG\0" * 2000)
    async with _deck(fake) as d:
        await _in(d, "f4", "files")
        await d.shows("photo.png", "not text")
        await _compare(d, pictures, SIZES[0])


async def test_daemon_without_its_model(pictures: Any) -> None:
    fake = FakeDaemon()
    model = {**fake.status["models"][0], "name": "big", "state": "failed"}
    detail = "big could not be loaded: it needs 24 GB of memory and 16 GB are free."
    fake.status = {**fake.status, "state": "degraded", "detail": detail, "models": [model]}
    fake.objects["model"] = {"big": {"id": "big", "object": "model", "state": "failed", "engine": "exllamav2"}}
    fake.write_log(detail, "error", "skilldeck_daemon.engine")
    async with _deck(fake) as d:
        await _in(d, "f5", "daemon")
        await d.shows("failed", "16 GB are free", "big could not")
        await _compare(d, pictures)


async def test_help(pictures: Any) -> None:
    async with _deck(FakeDaemon()) as d:
        await d.press("f1")
        await d.shows("Keys")
        await _compare(d, pictures)


async def test_jump(pictures: Any) -> None:
    fake = FakeDaemon()
    _library(fake)
    async with _deck(fake) as d:
        await _in(d, "f3", "skills")
        await d.shows("run.py", "name: csv-summary")
        await d.press("f6")
        await d.until(lambda: type(d.app.screen).__name__ == "Jump")
        await _compare(d, pictures, SIZES[0])


async def test_a_question_and_a_path_to_give(pictures: Any) -> None:
    fake = FakeDaemon()
    _library(fake)
    async with _deck(fake) as d:
        await _in(d, "f3", "skills")
        await d.shows("run.py", "name: csv-summary")
        await d.press("d")
        await d.shows("with all its versions?")
        await _compare(d, pictures, SIZES[0])
        await d.press("escape", "a")
        await d.shows("Add a skill folder")
        d.app.screen.query_one(Input).cursor_blink = False
        await _compare(d, pictures, SIZES[2])


async def test_daemon_idle(pictures: Any) -> None:
    async with _deck(FakeDaemon()) as d:
        await _in(d, "f5", "daemon")
        await d.shows("skilldeck-tiny is a small", "Log info and above")
        await _compare(d, pictures)


async def test_daemon_busy(pictures: Any) -> None:
    fake = FakeDaemon()
    _working(fake)
    fake.add_container("auto-7f3a", {"report.md": b"# Report\n" * 90, "chart.csv": b"1,2\n"})
    for number in range(30):
        level = ("info", "info", "debug", "warning", "error")[number % 5]
        fake.write_log(f"{number} ms, 200, POST /v1/responses", level, "skilldeck_daemon.http")
    async with _deck(fake) as d:
        d.app.state.history.extend(Sample(100 + 5 * (n % 20), n / 150, 0.0) for n in range(100))
        await _in(d, "f5", "daemon")
        await d.shows("auto-7f3a", "/mnt/data/", "29 ms, 200")
        await _compare(d, pictures)
