"""Errors of a run under the field names of another API than Responses.

Chat Completions and Messages requests become Responses requests; what is then found wrong is reported by the field the
client really sent: `Names` knows where each input item and tool stood and rewrites `param` and the text.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from skilldeck_shared.errors import SkilldeckError

_ITEM = re.compile(r"input\[(\d+)\](.*)", re.DOTALL)
_PART = re.compile(r"input\[(\d+)\]\.content\[(\d+)\](.*)", re.DOTALL)
_TOOL = re.compile(r"tools\[(\d+)\](?:\.(.*))?", re.DOTALL)


@dataclass(frozen=True)
class Names:
    """Where everything stood.

    items: each input item. tool: (index, field of a Responses tool) → name. others: prefixes of names, and endings
    of parts' names (`*.file_id`). parts: by index of an item, each of its content parts, where those moved.
    """

    items: Sequence[str] = ()
    tool: Callable[[int, str], str] = lambda index, rest: f"tools[{index}].{rest}"
    others: dict[str, str] = field(default_factory=dict)
    parts: Mapping[int, Sequence[str]] = field(default_factory=dict)

    def of(self, param: str) -> str:
        """The client's name of a field."""
        if (match := _PART.fullmatch(param)) and int(match[1]) in self.parts:
            return self._part(self.parts[int(match[1])][int(match[2])] + match[3])
        if match := _ITEM.fullmatch(param):
            index = int(match[1])
            return self._part(self.items[index] + match[2]) if index < len(self.items) else self.of("input")
        if match := _TOOL.fullmatch(param):
            return self.tool(int(match[1]), match[2]) if match[2] else param
        for name, theirs in self.others.items():
            if param == name or param.startswith((f"{name}.", f"{name}[")):
                return theirs + param[len(name) :]
        return param

    def _part(self, path: str) -> str:
        for name, theirs in self.others.items():
            if name.startswith("*.") and path.endswith(name[1:]):
                return path.removesuffix(name[1:]) + theirs
        return path

    def translate(self, error: SkilldeckError) -> SkilldeckError:
        """The same error about the client's own fields."""
        old = error.param
        if old is not None:
            error.param = self.of(old)
            error.title = error.title.replace(f"'{old}'", f"'{error.param}'")
            error.hint = error.hint.replace(f"'{old}'", f"'{error.param}'")
        return error

    @contextlib.contextmanager
    def renamed(self) -> Iterator[None]:
        """Translate what is raised inside."""
        try:
            yield
        except SkilldeckError as error:
            self.translate(error)
            raise
