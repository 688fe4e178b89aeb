"""Commands that take many skills: the good ones go through, the others are listed by folder and reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from skilldeck_shared.errors import SkilldeckError, Unavailable
from skilldeck_tui.cli import output as out
from skilldeck_tui.client.types import Object, UploadedSkill


def uploaded(done: UploadedSkill) -> Object:
    """What an upload made, as JSON."""
    return {"skill": done.skill, "version": done.version, "unchanged": done.unchanged}


class Several:
    """Goes on after a skill that is refused, and remembers it. A daemon that is away ends everything.

    Args:
        done: what is done to each, for the last line ("16 installed, 2 not").
        count: how many there are.
        as_json: errors are JSON lines with the key `folder`.
    """

    def __init__(self, done: str, count: int, as_json: bool) -> None:
        self._done = done
        self._count = count
        self._as_json = as_json
        self._code = out.OK
        self._refused = 0

    @contextmanager
    def each(self, folder: str) -> Iterator[None]:
        """Around the work on one skill."""
        try:
            yield
        except Unavailable:
            raise
        except SkilldeckError as error:
            self._refused += 1
            self._code = out.explain(error, self._as_json, folder=folder if self._count > 1 or self._as_json else "")

    def warn(self, done: UploadedSkill) -> None:
        """What SKILL.md was found to have (where there are many skills the first and the number), what was not sent."""
        warnings = [str(warning) for warning in done.version.get("warnings") or ()]
        if self._count > 1 and len(warnings) > 1:
            warnings = [f"{warnings[0]} And {len(warnings) - 1} more."]
        for warning in (*warnings, *done.left_out):
            out.note(f"  {warning}", "yellow")

    def end(self) -> int:
        """The last line, and the exit code."""
        if self._count > 1 and self._refused and not self._as_json:
            out.note(f"{self._count - self._refused} {self._done}, {self._refused} not", "yellow")
        return self._code
