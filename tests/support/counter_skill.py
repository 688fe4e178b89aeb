"""A skill with two tests of its own, for screens that run them: `counter`, watched in Skills mode."""

from __future__ import annotations

from pathlib import Path

from support.tui import Deck

EVALS = """
- name: counts lines
  prompt: Count the lines.
  expect: {%sanswer: ['12']}
- name: names the file
  prompt: Which file?
  expect: {answer: ['orders']}
"""


def counter(
    parent: Path, description: str = "Counts the rows of tables. Use when somebody brings one.", checks: str = ""
) -> Path:
    """Write the skill. `checks`: further ones of its first test."""
    folder = parent / "counter"
    (folder / "evals").mkdir(parents=True)
    (folder / "SKILL.md").write_text(f"---\nname: counter\ndescription: {description}\n---\n# Steps\n")
    (folder / "evals/basic.yaml").write_text(EVALS % checks)
    return folder


def save(folder: Path, steps: str) -> None:
    """Save the skill with other steps."""
    file = folder / "SKILL.md"
    front, heading, _ = file.read_text().partition("# Steps\n")
    file.write_text(front + heading + steps)


async def watching(d: Deck, folder: Path) -> None:
    """Open Skills on the folder, which is watched."""
    d.app.watcher.add(folder)
    await d.press("f3")
    await d.shows("counter", "● watching ✓")
