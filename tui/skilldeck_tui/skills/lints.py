"""What lint finds in the folders of skills, beside the event loop: after every save, and when a skill is selected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skilldeck_shared.lint.rules import Finding
    from skilldeck_shared.lint.skill import Neighbour


class SkillLints:
    """`found` holds the last findings of each folder that was looked at, sorted by place. Call everything in the event
    loop; `changed` is called when a folder's findings are others, and must not block."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.found: dict[Path, list[Finding]] = {}
        self._changed = changed
        self._tasks: dict[Path, asyncio.Task[None]] = {}
        self._again: dict[Path, Sequence[Neighbour]] = {}

    def look(self, folder: Path, others: Sequence[Neighbour]) -> None:
        """Look at a folder; `others` are the skills that it is offered among."""
        if folder in self._tasks:
            self._again[folder] = others  # it changed while it was looked at
            return
        self._tasks[folder] = asyncio.create_task(self._look(folder, others))

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _look(self, folder: Path, others: Sequence[Neighbour]) -> None:
        from skilldeck_shared.lint.engine import lint

        try:
            while True:
                findings = await asyncio.to_thread(lint, folder, others=others)
                if self.found.get(folder) != findings:
                    self.found[folder] = findings
                    self._changed()
                if (again := self._again.pop(folder, None)) is None:
                    return
                others = again
        finally:
            del self._tasks[folder]


def grave(findings: Sequence[Finding]) -> list[Finding]:
    """Those that are more than advice, errors first."""
    return sorted((found for found in findings if found.level != "advice"), key=lambda found: found.level != "error")
