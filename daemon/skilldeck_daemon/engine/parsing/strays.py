"""Marks of a chat template that a model writes in its answer: `</tool_response>`, `<tools>`, `<|im_end|>` in letters.

Small models repeat what their template shows them. Such a mark is never shown: a stray one (`Family.stray`, and the end
of reasoning that never began) is left out with the white space at one of its sides. One that ends a message
(`Family.ends`) ends the turn, as does `<tool_response>` behind other text, but for the first where an output was just
read, which may be quoted: what follows is the model's guess of the next message. Left alone is what somebody means by
it: a mark that stands in the text of the conversation, and one inside code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from skilldeck_daemon.engine.families import Family
from skilldeck_daemon.engine.messages import Message

GUESSED = "<tool_response>"


@dataclass(frozen=True)
class Marks:
    """Those that one turn leaves out, and those that end it; `guessed`: what ends it behind other text, `quotes`: the
    first may be a quotation; `own`: ends it the second time."""

    stray: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    guessed: str = ""
    quotes: bool = False
    own: str = ""

    @classmethod
    def of(cls, family: Family, messages: Sequence[Message] = (), offered: bool = True, own: str = "") -> Marks:
        """Of a turn that answers these messages.

        Args:
            offered: there are tools; without any, also in the messages, the marks of calls mean nothing and may be the
                answer's own.
            own: a sentence of ours that asks for the answer, which models repeat as well.
        """
        said = list(_texts(messages))

        def unquoted(marks: Iterable[str]) -> tuple[str, ...]:
            # Who quotes one of a pair means both.
            return tuple(
                mark
                for mark in marks
                if mark and not any(form in text for text in said for form in (mark, mark.replace("</", "<")))
            )

        offered = offered or any(message.get("role") == "tool" or message.get("tool_calls") for message in messages)
        stray = unquoted([*(family.stray if offered else ()), family.think_close, own])
        read = bool(messages) and messages[-1].get("role") == "tool"
        return cls(stray, unquoted(family.ends), GUESSED if GUESSED in stray else "", read, own if own in stray else "")


def _texts(messages: Sequence[Message]) -> Iterator[str]:
    for message in messages:
        content: Any = message.get("content")
        if isinstance(content, str):
            yield content
        elif content:
            yield from (part.get("text") or "" for part in content)


class Code:
    """Whether a text, given in pieces, stands inside a code block or between backticks."""

    def __init__(self) -> None:
        self._block = False
        self._line = ""

    @property
    def inside(self) -> bool:
        return self._block or self._line.count("`") % 2 == 1 or self._line.lstrip().startswith("```")

    def feed(self, text: str) -> None:
        *lines, rest = text.split("\n")
        for line in lines:
            if (self._line + line).lstrip().startswith("```"):
                self._block = not self._block
            self._line = ""
        self._line += rest
