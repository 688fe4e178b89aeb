"""What every screen looks like, empty, busy and in trouble, at three sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.widgets import ProgressBar

from skilldeck_shared.skills.manifest import ManifestError, parse_manifest
from skilldeck_tui.client.client import DaemonUnreachable
from skilldeck_tui.skill_tests.background import Suite
from skilldeck_tui.skill_tests.suite import Case, Result
from skilldeck_tui.state import Sample
from skilldeck_tui.watching.watcher import WatchState
from skilldeck_tui.widgets.files.preview import Preview
from skilldeck_tui.widgets.session_list import SessionList
from support.fake_daemon import FakeDaemon
from support.pictures import BROKEN, EVERY, SIZES, answered, compare, disk_skill, go, library, still_deck, working


async def test_chat_empty(pictures: Any) -> None:
    async with still_deck(FakeDaemon()) as d:
        await d.shows("No skills yet")
        await compare(d, pictures)


async def test_chat_answered(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    answered(fake)
    async with still_deck(fake) as d:
        d.chat.open(d.chat.rows[0].key)
        await d.shows("Two rows had no region.")
        await compare(d, pictures, *EVERY)


async def test_chat_busy(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    answered(fake)
    run = working(fake)
    async with still_deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.shows("host-39", "running a command")
        await compare(d, pictures, *EVERY)


@pytest.mark.parametrize("theme", ["skilldeck-light", "ansi-dark"])
async def test_chat_busy_in_other_themes(theme: str, pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    run = working(fake)
    async with still_deck(fake, theme) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.shows("host-39", "running a command")
        await compare(d, pictures, SIZES[0])


async def test_chat_asking(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    run = fake.start("Clean up", session_id=fake.add_session("Cleaning")["id"])
    call = run.shell(["rm -r out"])
    asked = fake.add_approval(run, ["rm -r out"])
    fake.put("approval", {**asked, "call_id": call.call["call_id"]})
    async with still_deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.shows("May this run?", "waits for approval")
        await compare(d, pictures)


async def test_chat_failed_and_daemon_away(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    run = fake.start("Go", session_id=fake.add_session("Failing")["id"])
    run.text("I begin.")
    run.fail("The engine ran out of memory.")
    async with still_deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.shows("✗ The engine ran out of memory.")
        d.app.state.link = "stuck"
        d.app.state.link_error = DaemonUnreachable("No daemon listens at /run/user/1000/skilldeck/daemon.sock.")
        d.app.touch({"link"})
        await d.shows("Still trying")
        await compare(d, pictures)


async def test_skills_empty(pictures: Any) -> None:
    async with still_deck(FakeDaemon()) as d:
        await go(d, "f3", "skills")
        await d.shows("No skills yet")
        await compare(d, pictures)


async def test_skills_busy(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    async with still_deck(fake) as d:
        watching = WatchState(Path("csv-summary"), "current", "csv-summary", version="2")
        uploading = WatchState(Path("log-triage"), "uploading", "log-triage", done=120_000, total=480_000)
        d.app.state.watches = {watching.folder: watching, uploading.folder: uploading}
        await go(d, "f3", "skills")
        await d.shows("● watching", "↑ 120/480 KB", "run.py", "name: csv-summary")
        await compare(d, pictures, *EVERY)


async def test_skills_reading_a_file(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    async with still_deck(fake) as d:
        await go(d, "f3", "skills")
        await d.shows("run.py", "name: csv-summary")
        d.app.screen.query_one(Preview).focus()
        await d.shows("esc back")
        await compare(d, pictures, (80, 24), (60, 20))


async def test_sessions_and_runs_by_origin(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    answered(fake)
    for origin in ("test", "test", "OpenAI/Python"):
        fake._new_run({"model": "default", "input": f"asked by {origin}"}, origin).complete()
    async with still_deck(fake) as d:
        await d.shows("tests · 2")
        sessions = d.chat.query_one(SessionList)
        sessions.focus()
        heading = next(key for key in sessions._groups if key.endswith("tests"))
        sessions.highlighted = sessions.get_option_index(heading)
        await d.press("enter", "space")
        await d.shows("■ asked by test")
        await compare(d, pictures, (80, 24))


async def test_skills_broken(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    Path("csv-summary").mkdir()
    Path("csv-summary/SKILL.md").write_text(BROKEN)
    with pytest.raises(ManifestError) as broken:
        parse_manifest(BROKEN)
    async with still_deck(fake) as d:
        watch = WatchState(Path("csv-summary"), "error", "csv-summary", version="2", error=broken.value)
        d.app.state.watches = {watch.folder: watch}
        await go(d, "f3", "skills")
        await d.shows("✗ line 3", "▲", "run.py", "name: csv-summary")
        await compare(d, pictures)


async def test_skills_gone(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    # What lies on disk of a project that nobody trusted, and a name as long as one may be.
    name = "quarterly-report-of-every-region-and-product-in-one-long-table-x"
    fake.disk_skills = [disk_skill("release-notes", trusted=False, offered=False), disk_skill(name)]
    async with still_deck(fake) as d:
        watch = WatchState(Path("csv-summary"), "gone", "csv-summary", version="2")
        d.app.state.watches = {watch.folder: watch}
        await go(d, "f3", "skills")
        await d.shows("✗ folder gone", "goes on serving", "release-notes", "run.py", "name: csv-summary")
        await compare(d, pictures)


def case_named(name: str) -> Case:
    return Case("basic.yaml", name, name)


async def test_skills_tested(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    async with still_deck(fake) as d:
        watch = WatchState(Path("csv-summary"), "current", "csv-summary", version="2")
        d.app.state.watches = {watch.folder: watch}
        cases = [case_named(name) for name in ("counts rows", "names the region", "says what is missing")]
        suite = Suite(watch.folder, cases, running=False)
        failures = [
            "no command matches 'summarize' (commands: cat SKILL.md)",
            "the answer does not match 'north': 'I do'",
        ]
        for case in cases:
            result = Result("csv-summary", case, failures if case is cases[1] else [], 2.4, "resp_1")
            suite.results[suite.key(case)] = result
        d.app.tests.suites[watch.folder] = suite
        await go(d, "f3", "skills")
        await d.shows("1 of 3 tests failed", "run.py", "name: csv-summary")
        await compare(d, pictures, *EVERY)


async def test_skills_testing(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    async with still_deck(fake) as d:
        watch = WatchState(Path("csv-summary"), "current", "csv-summary", version="2")
        d.app.state.watches = {watch.folder: watch}
        cases = [case_named(name) for name in ("counts rows", "names the region", "says what is missing")]
        suite = Suite(watch.folder, cases, started={"basic.yaml:counts rows", "basic.yaml:names the region"})
        suite.results[suite.key(cases[0])] = Result("csv-summary", cases[0], [], 2.4, "resp_1")
        d.app.tests.suites[watch.folder] = suite
        await go(d, "f3", "skills")
        await d.shows("Testing 1 of 3", "run.py", "name: csv-summary")
        await compare(d, pictures, SIZES[1])


async def test_files_empty(pictures: Any) -> None:
    async with still_deck(FakeDaemon()) as d:
        await go(d, "f4", "files")
        await d.shows("No files yet")
        await compare(d, pictures)


async def test_files_busy(pictures: Any) -> None:
    fake = FakeDaemon()
    for name, data in (("orders.csv", b"region,amount\nnorth,12\n" * 9), ("photo.png", b"\x89PNG\0" * 2000)):
        fake.add_file(name, data)
    async with still_deck(fake) as d:
        await go(d, "f4", "files")
        await d.shows("orders.csv", "photo.png", "region,amount")
        await compare(d, pictures)


async def test_files_uploading(pictures: Any) -> None:
    fake = FakeDaemon()
    fake.add_file("orders.csv", b"region,amount\nnorth,12\n" * 9)
    async with still_deck(fake) as d:
        await go(d, "f4", "files")
        await d.shows("orders.csv", "region,amount")
        d.app.screen.add_class("-uploading")
        d.app.screen.query_one(ProgressBar).update(total=480_000, progress=120_000)
        await d.shows("25%")
        await compare(d, pictures)


async def test_files_and_the_daemon_away(pictures: Any) -> None:
    fake = FakeDaemon()
    fake.add_file("orders.csv", b"region,amount\nnorth,12\n" * 9)
    async with still_deck(fake) as d:
        await go(d, "f4", "files")
        await d.shows("orders.csv", "region,amount")
        d.app.state.link = "degraded"
        d.app.touch({"link"})
        await d.shows("Reconnecting")
        await compare(d, pictures)


async def test_files_of_which_one_is_no_text(pictures: Any) -> None:
    fake = FakeDaemon()
    fake.add_file("photo.png", b"\x89PNG\0" * 2000)
    async with still_deck(fake) as d:
        await go(d, "f4", "files")
        await d.shows("photo.png", "not text")
        await compare(d, pictures, SIZES[0])


async def test_daemon_without_its_model(pictures: Any) -> None:
    fake = FakeDaemon()
    model = {**fake.status["models"][0], "name": "big", "state": "failed"}
    detail = "big could not be loaded: it needs 24 GB of memory and 16 GB are free."
    fake.status = {**fake.status, "state": "degraded", "detail": detail, "models": [model]}
    fake.objects["model"] = {"big": {"id": "big", "object": "model", "state": "failed", "engine": "exllamav2"}}
    fake.write_log(detail, "error", "skilldeck_daemon.engine")
    async with still_deck(fake) as d:
        await go(d, "f5", "daemon")
        await d.shows("failed", "16 GB are free", "big could not")
        await compare(d, pictures)


async def test_daemon_idle(pictures: Any) -> None:
    async with still_deck(FakeDaemon()) as d:
        await go(d, "f5", "daemon")
        await d.shows("skilldeck-tiny is a small", "tokens/s 0")
        await compare(d, pictures)


async def test_daemon_busy(pictures: Any) -> None:
    fake = FakeDaemon()
    working(fake)
    fake.add_container("auto-7f3a", {"report.md": b"# Report\n" * 90, "chart.csv": b"1,2\n"})
    for number in range(30):
        level = ("info", "info", "debug", "warning", "error")[number % 5]
        fake.write_log(f"{number} ms, 200, POST /v1/responses", level, "skilldeck_daemon.http")
    async with still_deck(fake) as d:
        d.app.state.history.extend(Sample(100 + 5 * (n % 20), n / 150, 0.0) for n in range(100))
        await go(d, "f5", "daemon")
        await d.shows("Containers 1", "tokens/s 131")
        await compare(d, pictures, *EVERY)


async def test_daemon_sections(pictures: Any) -> None:
    fake = FakeDaemon()
    run = working(fake)
    fake.add_container(f"auto-{run.id}", {"report.md": b"# Report\n" * 90, "chart.csv": b"1,2\n"})
    prefix = "python3 /mnt/skills/csv-summary/scripts/run.py"
    fake.rules["r"] = {"id": "r", "kind": "shell", "prefix": prefix, "skills": [{"name": "csv-summary"}]}
    fake.write_log("29 ms, 200, POST /v1/responses", "info", "skilldeck_daemon.http")
    async with still_deck(fake) as d:
        await go(d, "f5", "daemon")
        await d.press("right_square_bracket")
        await d.shows("Failing hosts", "/mnt/data/")
        await compare(d, pictures, (80, 24))
        await d.press("right_square_bracket")
        await d.shows("when csv-summary changes.")
        await compare(d, pictures, (60, 20))
        await d.press("right_square_bracket")
        await d.shows("29 ms, 200")
        await compare(d, pictures, (81, 24))
