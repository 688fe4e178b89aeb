"""Response headers that say what was done otherwise than asked, where the answer itself has no place for it."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.responses import Response

LEFT_OUT = "x-skilldeck-left-out"
"""Types of tools, and fields, that the request had and the answer does without."""
MODEL = "x-skilldeck-model"
"""The model that answered in place of the one that was named, which is not served here."""


def note(response: Response, *, left_out: Iterable[str] = (), stand_in: str = "") -> None:
    """Add the headers for what there is to say."""
    told = ", ".join(dict.fromkeys(left_out))
    if told:
        response.headers[LEFT_OUT] = _ascii(told)
    if stand_in:
        response.headers[MODEL] = _ascii(stand_in)


def _ascii(text: str) -> str:
    """As a header may hold it; names of models may be of any script."""
    return "".join(char if " " <= char <= "~" else f"\\u{ord(char):04x}" for char in text)
