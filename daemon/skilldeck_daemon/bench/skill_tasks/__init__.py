"""The tasks of `skilldeckd bench --skills`, as data beside this file, and when one counts as done.

A task is judged by what ran and by what the answer and the files hold, never by how it was reached.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

from skilldeck_shared.paths import examples_dir

EXAMPLES, FIFTY = "examples", "fifty"
CALL = re.compile(r"\A\s*(?:```(?:bash|sh|shell|json)\b|\{\s*\"(?:name|function|commands?)\")")
"""An answer that is a call which nobody read."""


@dataclass(frozen=True)
class Task:
    """One task; the fields are described in tasks.toml."""

    name: str
    prompt: str
    skills: tuple[Path, ...]
    files: tuple[Path, ...] = ()
    ran: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    made: Mapping[str, str] = field(default_factory=dict)
    idle: bool = False
    late: bool = False


@dataclass
class Deed:
    """What came of a task in one arm: `commands` with their exit codes (None: timed out), in order."""

    answer: str = ""
    commands: list[tuple[str, int | None]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    turns: int = 0
    tokens: int = 0
    ended: str = ""  # completed, or why not
    unsupported: list[str] = field(default_factory=list)  # what of the answer nothing holds that was read
    printed: str = ""  # by the last command


class Verdict(NamedTuple):
    """`ran`: the skill's commands did; `right`: also the answer and the files are as they should be; `why` not."""

    ran: bool
    right: bool
    why: str = ""


def load(source: Path | None = None, fresh: bool = False) -> list[Task]:
    """All tasks, or those of fresh.toml. Raises KeyError, FileNotFoundError when one is not written well."""
    with as_file(files(__package__)) as folder:
        source = source or folder / ("fresh.toml" if fresh else "tasks.toml")
        raw = tomllib.loads(source.read_text(encoding="utf-8"))["task"]
        return [_task(entry, folder / "skills") for entry in raw]


def _task(raw: Mapping[str, Any], own: Path) -> Task:
    more, fresh = own.parent / "more", own.parent / "fresh"

    def place(name: str) -> Path:
        found = next((root / name for root in (own, more, fresh, examples_dir()) if (root / name).exists()), None)
        if found is None:
            raise FileNotFoundError(f"{raw['name']}: there is no {name}")
        return found

    skills: Sequence[str] | str = raw["skills"]
    if skills in (EXAMPLES, FIFTY):
        roots = (examples_dir(),) if skills == EXAMPLES else (examples_dir(), own, more)
        skills = sorted(path.parent.name for root in roots for path in root.glob("*/SKILL.md"))
    lists = {name: tuple(raw.get(name, ())) for name in ("ran", "answer", "absent")}
    return Task(
        raw["name"],
        raw["prompt"],
        tuple(place(name) for name in skills),
        tuple(place(name) for name in raw.get("files", ())),
        made=raw.get("made", {}),
        idle=raw.get("idle", False),
        late=raw.get("late", False),
        **lists,
    )


def judge(task: Task, deed: Deed) -> Verdict:
    def holds(pattern: str, text: str) -> bool:
        return re.search(pattern, text, re.IGNORECASE) is not None

    def missing(patterns: Sequence[str], found: Callable[[str], bool], what: str) -> str:
        return next((f"{what} {pattern}" for pattern in patterns if not found(pattern)), "")

    well = [command for command, code in deed.commands if code == 0]
    ran = not missing(task.ran, lambda pattern: any(holds(pattern, command) for command in well), "")
    if task.idle:
        ran = not deed.commands
    why = "" if ran else "a command ran" if task.idle else "the skill's command did not run"
    why = why or missing(task.answer, lambda pattern: holds(pattern, deed.answer), "the answer lacks")
    why = why or missing(task.absent, lambda pattern: not holds(pattern, deed.answer), "the answer holds")
    why = why or missing(
        tuple(task.made), lambda name: holds(task.made[name], deed.files.get(name, "")), "not made as it should be:"
    )
    if not why and CALL.match(deed.answer):
        why = "the answer is a call"
    if not why and deed.ended != "completed":
        why = f"ended: {deed.ended}"
    return Verdict(ran, not why, why)
