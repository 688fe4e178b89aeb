"""The README's pictures, from the real thing: `cd tests && python -m readme` writes them to docs/.

A daemon with the bundled model, the example skills in a folder of their own, and the TUI that is typed into, as people
do: a run of a skill on a file; a skill saved and tested; a skill broken. Each screen is drawn with the characters it
uses embedded (`fonts.py`), since a page that shows a picture gives it no font. Needs `pip install fonttools brotli` and
the font DejaVu Sans Mono.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
from pathlib import Path

from readme.fonts import embedded, regular_and_bold
from skilldeck_daemon.demo import daemon
from skilldeck_shared.paths import examples_dir
from skilldeck_tui.app import SkilldeckApp
from skilldeck_tui.client.client import Client
from skilldeck_tui.preferences import Memory, Preferences
from skilldeck_tui.widgets.composing.composer import ComposerText
from support.tui import Deck

DOCS = Path(__file__).parents[2] / "docs"
SIZE, TALL = (100, 32), (100, 52)
"""Columns and rows: on a page 900 pixels wide a character is 9 of them. The second shows a run from its beginning."""
SKILLS = ("csv-summary", "invoice-check", "log-triage", "text-stats")
PATIENCE = 300.0


async def pictures(socket: Path, skills: list[Path]) -> dict[str, str]:
    """The screens as SVG, by name."""
    found: dict[str, str] = {}
    async with await Client.connect(socket) as client:
        memory = Memory(watched=[str(folder) for folder in skills])
        app = SkilldeckApp(lambda: client, preferences=Preferences(notify=False), memory=memory)
        async with app.run_test(size=SIZE, notifications=False) as pilot:
            deck = Deck(app, pilot, None)  # type: ignore[arg-type]
            await deck.until(lambda: len(app.state.skills) == len(skills), PATIENCE)
            deck.chat.query_one(ComposerText).cursor_blink = False

            async def draw(name: str) -> None:
                before = ""
                while before != (now := app.export_screenshot(title="skilldeck")):
                    before = now
                    await deck.handled()
                    await asyncio.sleep(0.5)
                found[name] = now

            await deck.type("Use the invoice-check skill on @larkfield.txt ")  # the space leaves the completions
            await deck.press("enter")
            await deck.until(lambda: deck.chat.turns and deck.chat.turns[-1].status == "completed", PATIENCE)
            await deck.until(lambda: not deck.chat.busy)
            await pilot.resize_terminal(*TALL)
            await draw("tui")
            await pilot.resize_terminal(*SIZE)

            await deck.press("f3")
            await deck.shows("csv-summary", "watching")
            manifest = skills[0] / "SKILL.md"
            manifest.write_text(manifest.read_text().rstrip() + "\n\nAnswer with the numbers first.\n")
            await deck.until(lambda: "v1 → v2" in deck.text(), PATIENCE)
            await deck.press("t")
            await deck.until(lambda: "tests passed" in deck.text() or "failed" in deck.text(), PATIENCE)
            broken = skills[2] / "SKILL.md"
            lines = broken.read_text().splitlines()
            lines[2] = "description: Groups errors: the first of each, and how often."
            broken.write_text("\n".join(lines) + "\n")
            await deck.until(lambda: "✗ line 3" in deck.text(), PATIENCE)
            await draw("skills")
            await deck.press("down", "down")
            await deck.shows("goes on serving")
            await draw("broken")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="readme", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--to", type=Path, default=DOCS)
    asked = parser.parse_args()
    target, fonts = asked.to.resolve(), regular_and_bold()
    home = Path(tempfile.mkdtemp(prefix="skilldeck-pictures-"))
    try:
        skills = [home / "skills" / name for name in SKILLS]
        for folder in skills:
            shutil.copytree(examples_dir() / folder.name, folder)
        work = home / "invoices"
        work.mkdir()
        shutil.copy(skills[1] / "samples" / "larkfield.txt", work)
        os.chdir(work)
        with daemon(home) as running:
            drawn = asyncio.run(pictures(running.socket, skills))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    for name, picture in drawn.items():
        (target / f"{name}.svg").write_text(embedded(picture, fonts), "utf-8")


if __name__ == "__main__":
    main()
