"""Lines of parts that stay whole. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content


def in_lines(parts: Sequence[Content], between: str, width: int) -> list[Content]:
    """The parts in as few lines as they need: a line ends between two of them, never inside one."""
    lines: list[Content] = []
    for part in parts:
        if lines and lines[-1].cell_length + len(between) + part.cell_length <= width:
            lines[-1] = Content.assemble(lines[-1], (between, "$faint"), part)
        else:
            lines.append(part)
    return lines
