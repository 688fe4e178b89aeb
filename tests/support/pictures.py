"""Pictures of screens: a still clock, a library and runs worth drawing, and the comparison at three sizes.

The clock stands still, so pictures differ only when the screen does. After a change that is meant, `pytest tests/tui -k
snapshots --snapshot-update` takes them again; look at them before committing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from skilldeck_tui.widgets.composing.composer import ComposerText
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.tui import Deck, deck

NOW = 1_790_000_000.0
SIZES = ((80, 24), (120, 40), (50, 30))
EVERY = (*SIZES, (60, 20), (200, 60))
"""For the screens that people are in most."""
BROKEN = "---\nname: notes\ndescription: Keeps notes: short ones.\n---\n# Notes\n"
MANIFEST = "---\nname: {name}\ndescription: {text}\nlicense: MIT\n---\n# {name}\n\nRun `python3 scripts/run.py FILE`.\n"
SKILLS = {
    "csv-summary": "Summarises a CSV file by column, with counts, sums, means and missing cells.",
    "log-triage": "Groups the errors of a log file and shows the first of each.",
    "text-stats": "Counts words, sentences and syllables of a text.",
}


@asynccontextmanager
async def still_deck(fake: FakeDaemon, theme: str = "") -> AsyncIterator[Deck]:
    async with deck(fake, size=SIZES[0], clock=lambda: NOW, toasts=False) as d:
        d.chat.query_one(ComposerText).cursor_blink = False
        if theme:
            d.app.theme = theme
        yield d


async def compare(d: Deck, pictures: Any, *sizes: tuple[int, int]) -> None:
    for width, height in sizes or SIZES:
        name = f"{width}x{height}"
        await d.pilot.resize_terminal(width, height)
        await d.until(lambda width=width: d.app.size.width == width)  # type: ignore[misc]
        kept, _ = pictures._recall_data(index=name)
        # Layout, Markdown and tables settle in steps, and each may take a moment on a busy machine: what looks as it
        # should has settled, all else is given time.
        seen, same, right = "", 0, False
        while same < (1 if right else 6):
            await d.handled()
            await d.pilot.pause(0.05 if right else 0.2)
            before, seen = seen, d.app.export_screenshot(title="skilldeck")
            same = same + 1 if seen == before else 0
            right = pictures._serialize(seen) == kept
        assert seen == pictures(name=name)


def library(fake: FakeDaemon) -> None:
    for name, text in SKILLS.items():
        manifest = MANIFEST.format(name=name, text=text).encode()
        skill = fake.add_skill(name, {"SKILL.md": manifest, "scripts/run.py": b"print('hello')\n"}, description=text)
        if name == "csv-summary":
            fake.add_version(
                skill["id"], {"SKILL.md": manifest + b"Answer in one line.\n", "scripts/run.py": b"print(2)\n"}
            )


def answered(fake: FakeDaemon) -> FakeRun:
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


def working(fake: FakeDaemon) -> FakeRun:
    model = {**fake.status["models"][0], "active": 1, "queued": 2, "tokens_per_s": 131.4, "prefill_per_s": 1240.0,
             "cache_used": 0.12}  # fmt: skip
    fake.status = {**fake.status, "models": [model], "containers_running": 1}
    run = fake.start("Which hosts fail most?", session_id=fake.add_session("Failing hosts")["id"])
    run.text("I group the errors first.")
    call = run.shell(["python3 scripts/triage.py big.log"])
    call.output(stdout="".join(f"host-{n:02} 5{n % 10} errors\n" for n in range(40)), stderr="3 lines unreadable\n")
    return run


async def go(d: Deck, key: str, mode: str) -> None:
    await d.press(key)
    await d.until(lambda: d.app.current_mode == mode and d.app.screen.is_mounted)


def disk_skill(name: str, *, trusted: bool = True, offered: bool = True) -> dict[str, Any]:
    """A skill of a project that lies on disk."""
    path = f"/home/ann/shop/.agents/skills/{name}"
    return {
        "id": f"disk:{path}", "name": name, "description": f"What {name} does, in a sentence.", "path": path,
        "scope": "project", "project": "/home/ann/shop", "trusted": trusted, "offered": offered, "warnings": [],
    }  # fmt: skip
