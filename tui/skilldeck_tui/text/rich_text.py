"""Content as Rich text, for the widgets of Textual that measure and draw Rich texts (DataTable, Tree)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rich.text import Text
from textual.content import Content


def rich_text(content: Content | str, variables: Mapping[str, str]) -> Text:
    """The same text; the theme's variables are given their values (`App.theme_variables`)."""
    if isinstance(content, str):
        return Text(content, no_wrap=True, end="")
    text = Text(content.plain, no_wrap=True, end="")
    for span in content.spans:
        style = re.sub(r"\$([\w-]+)", lambda found: variables.get(found[1], ""), str(span.style))
        text.stylize(style.replace("ansi_default", "default").replace("ansi_", ""), span.start, span.end)
    return text
