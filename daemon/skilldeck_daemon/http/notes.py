"""What was done otherwise than asked, where the answer itself has no place for it: response headers, and over a
WebSocket the field `skilldeck` of a response's first event."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from starlette.responses import Response

from skilldeck_daemon.agent.run import Run

PREFIX = "x-skilldeck-"


@dataclass(frozen=True)
class Notes:
    """`left_out`: types of tools, and fields, that the answer does without; `loosened`: tools whose schema no grammar
    holds whole; `ignored`: fields that no API has; `model`: the one that answered in place of the one named."""

    left_out: tuple[str, ...] = ()
    loosened: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    model: str = ""

    @classmethod
    def of(cls, run: Run, *, ignored: Iterable[str] = (), model: str = "") -> Notes:
        return cls(run.left_out, run.loosened, tuple(ignored), model)

    def headers(self) -> dict[str, str]:
        """What there is to say, by name."""
        said = {
            "left-out": ", ".join(dict.fromkeys(self.left_out)),
            "loosened": ", ".join(dict.fromkeys(self.loosened)),
            "ignored": ", ".join(dict.fromkeys(self.ignored)),
            "model": self.model,
        }
        return {name: text for name, text in said.items() if text}

    def put(self, response: Response) -> None:
        """Add them to the response's headers."""
        for name, text in self.headers().items():
            response.headers[PREFIX + name] = _ascii(text)[:LONGEST]


LONGEST = 4096
"""Characters of a header that every client takes."""


def _ascii(text: str) -> str:
    """As a header may hold it; names of models and tools may be of any script."""
    return "".join(char if " " <= char <= "~" else f"\\u{ord(char):04x}" for char in text)
