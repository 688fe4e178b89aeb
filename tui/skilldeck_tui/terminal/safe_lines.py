"""The last thing before the terminal: every line that the screen is made of, without what a terminal would act on.

Widgets call `clean` where they take foreign text, which removes whole sequences and keeps columns straight. This holds
for those that do not: what is left of a sequence here is plain characters.
"""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from skilldeck_shared.terminal import acts


class SafeLines(LineFilter):
    """A filter of `App.get_line_filters`, after all others."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if not any(_acts(segment) for segment in segments):
            return segments
        return [_safe(segment) for segment in segments]


def _acts(segment: Segment) -> bool:
    link = segment.style.link if segment.style is not None else None
    return not segment.control and (acts(segment.text) or (link is not None and acts(link)))


def _safe(segment: Segment) -> Segment:
    if not _acts(segment):
        return segment
    style = segment.style
    if style is not None and style.link is not None and acts(style.link):
        style = style.update_link(None)
    # Character by character: a sequence in a colour of its own would be left in two segments.
    return Segment("".join(character for character in segment.text if not acts(character)), style)
