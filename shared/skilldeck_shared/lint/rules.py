"""What a rule is, what a finding is, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["error", "warning", "advice"]


@dataclass(frozen=True)
class Edit:
    """Characters `start` to `end` of a text file (as decoded, line ends as they are) become `new`."""

    path: str
    start: int
    end: int
    new: str


@dataclass(frozen=True)
class Executable:
    """The file gets its executable bits."""

    path: str


Fix = Edit | Executable


@dataclass(frozen=True)
class Rule:
    """`level`: an error is refused by other clients, a warning makes runs worse, advice is a matter of taste in some
    skills and of failure in others. `why` is the reason, one sentence."""

    id: str
    level: Level
    title: str
    why: str

    def at(self, path: str, line: int, message: str, cure: str, *, column: int = 1, fix: Fix | None = None) -> Finding:
        return Finding(path, line, column, self.id, self.level, message, cure, fix)


@dataclass(frozen=True, order=True)
class Finding:
    """One fault. `line` and `column` count from 1; line 0 means the file as a whole."""

    path: str
    line: int
    column: int
    rule: str
    level: Level
    message: str
    cure: str
    fix: Fix | None = field(default=None, compare=False)

    @property
    def place(self) -> str:
        """`SKILL.md:3:1`, or the path alone."""
        return f"{self.path}:{self.line}:{self.column}" if self.line else self.path

    def as_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule, "level": self.level, "path": self.path, "line": self.line or None,
            "column": self.column if self.line else None, "message": self.message, "cure": self.cure,
            "fixable": self.fix is not None,
        }  # fmt: skip
