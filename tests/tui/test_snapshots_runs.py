"""What is looked at of a run, above the transcript: a file it made, what its skills did, two runs side by side."""

from __future__ import annotations

from typing import Any

from textual.widgets import Static

from skilldeck_tui.screens.dialogs.compare import Compare
from skilldeck_tui.screens.dialogs.look import Look
from skilldeck_tui.screens.dialogs.skill_use import SkillUse
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.pictures import answered, compare, library, still_deck
from support.tui import Deck

ANY = ((60, 20), (80, 24), (120, 40), (200, 60))


async def _opened(d: Deck, run: FakeRun, key: str, screen: type[Any]) -> None:
    d.chat.open(f"session:{run.session_id}")
    await d.until(lambda: [turn.run_id for turn in d.chat.turns] == [run.id])
    d.chat.transcript.focus()
    await d.press(key)
    await d.until(lambda: isinstance(d.app.screen, screen))


async def test_a_table_that_a_run_made(pictures: Any) -> None:
    fake = FakeDaemon()
    run = fake.start("Add them up", session_id=fake.add_session("Totals")["id"])
    rows = "".join(f"region-{n:02},{n * 471.5:.2f},{'x' * (n % 30)}\n" for n in range(90))
    container = fake.add_container("auto-1", {"totals.csv": f"region,amount,note\n{rows}".encode()})
    run.text("Here it is.")
    (file, _), *_ = fake.container_files[container["id"]].values()
    run.response["output"][-1]["content"][0]["annotations"] = [
        {"type": "container_file_citation", "container_id": container["id"], "file_id": file["id"],
         "filename": "totals.csv", "start_index": 0, "end_index": 0}
    ]  # fmt: skip
    run.complete()
    async with still_deck(fake) as d:
        await _opened(d, run, "f", Look)
        await d.shows("90 rows", "region-00")
        await compare(d, pictures, *ANY)


async def test_what_the_skills_of_a_run_did(pictures: Any) -> None:
    fake = FakeDaemon()
    library(fake)
    run = answered(fake)
    async with still_deck(fake) as d:
        await _opened(d, run, "s", SkillUse)
        await d.shows("csv-summary", "SKILL.md")
        await compare(d, pictures, *ANY)


async def test_two_sessions_side_by_side(pictures: Any) -> None:
    fake = FakeDaemon()
    other = answered(fake)
    run = fake.start("Summarise orders.csv", session_id=fake.add_session("Orders of April")["id"])
    call = run.shell(["python3 scripts/run.py orders.csv --by region"])
    call.output(stdout="north 98 3120.00\nsouth 80 2204.00\n")
    call.exit([0])
    run.text("The **north** region sells most: 3,120.00.\n")
    run.complete()
    async with still_deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.until(lambda: [turn.run_id for turn in d.chat.turns] == [run.id])
        d.chat._beside(f"session:{run.session_id}", f"session:{other.session_id}")
        await d.until(lambda: isinstance(d.app.screen, Compare) and d.app.screen.query(Static))
        await d.shows("lines differ")
        await compare(d, pictures, *ANY)
