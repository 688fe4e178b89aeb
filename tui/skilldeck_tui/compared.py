"""Two sessions line by line, beside each other. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from skilldeck_shared.terminal import clean
from skilldeck_tui.chat.transcripts.items import ReasoningItem, ShellItem, UserItem
from skilldeck_tui.chat.transcripts.transcript import ShownRun
from skilldeck_tui.text.format import duration, plural

SHOWN = 400
"""Lines of one output that are compared."""
AROUND = 2
"""Equal lines that are shown beside what differs."""


@dataclass(frozen=True)
class Line:
    """`kind`: asked, command, output, answer, figures. Figures (time, tokens) are shown and not compared."""

    kind: str
    text: str

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, "" if self.kind == "figures" else self.text


@dataclass(frozen=True)
class Row:
    """Lines that stand beside each other; None where one side has none. `left_out`: so many equal lines are folded."""

    kind: Literal["equal", "differs", "folded"]
    left: Line | None = None
    right: Line | None = None
    left_out: int = 0


def lines(turns: Iterable[ShownRun]) -> list[Line]:
    """What was asked, run and answered."""
    found: list[Line] = []
    for turn in turns:
        for item in turn.all_items:
            if isinstance(item, UserItem):
                found += _lines("asked", f"› {item.text}")
            elif isinstance(item, ShellItem):
                for command in item.commands:
                    ended = "" if command.outcome in (0, None) else f"   ✗ {command.outcome}"
                    found += _lines("command", f"$ {command.text}{ended}")
                    found += _lines("output", command.output.text())
            elif not isinstance(item, ReasoningItem):
                found += _lines("answer", item.plain().strip("\n"))
        parts = [turn.model, duration(turn.ended - turn.started) if turn.ended > turn.started > 0 else ""]
        parts += [f"{turn.usage.input:,} in, {turn.usage.output:,} out"] if turn.usage else []
        parts += [turn.status] if turn.status not in ("completed", "") else []
        if figures := " · ".join(part for part in parts if part):
            found.append(Line("figures", clean(figures)))
    return found


def _lines(kind: str, text: str) -> list[Line]:
    rows = clean(text).split("\n") if text else []
    more = len(rows) - SHOWN
    return [Line(kind, row.rstrip()) for row in rows[:SHOWN]] + ([Line(kind, f"⋯ {more} more")] if more > 0 else [])


def beside(left: Sequence[Line], right: Sequence[Line]) -> list[Row]:
    """Both in rows, long stretches that are equal folded."""
    matcher = difflib.SequenceMatcher(None, [line.key for line in left], [line.key for line in right], autojunk=False)
    rows: list[Row] = []
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        one, other = left[i1:i2], right[j1:j2]
        if tag == "equal":
            rows += _folded([Row("equal", a, b) for a, b in zip(one, other, strict=True)], bool(rows), j2 < len(right))
            continue
        for at in range(max(len(one), len(other))):
            a, b = one[at] if at < len(one) else None, other[at] if at < len(other) else None
            rows.append(Row("differs", a, b))
    return rows


def _folded(rows: list[Row], before: bool, after: bool) -> list[Row]:
    first, last = AROUND if before else 0, AROUND if after else 0
    hidden = len(rows) - first - last
    if hidden <= 1:
        return rows
    return [*rows[:first], Row("folded", left_out=hidden), *rows[len(rows) - last :]]


def summary(rows: Sequence[Row]) -> str:
    differ = sum(row.kind == "differs" for row in rows)
    return f"{plural(differ, 'line')} differ{'s' if differ == 1 else ''}" if differ else "They are equal."
