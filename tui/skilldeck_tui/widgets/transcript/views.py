"""Which view shows an item: one entry for each kind; an item without one is shown by its type and its JSON.

A tool's item gets its view by an entry of its type on the wire here, or where a line and a body do, in
`described.DESCRIBED`. What its view needs beyond the item as last published
(output that joins the call, several streams) is kept by a class of its own in `chat/transcripts/items.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skilldeck_tui.chat.transcripts.items import Item
from skilldeck_tui.widgets.transcript.call_view import CallView
from skilldeck_tui.widgets.transcript.described import DESCRIBED
from skilldeck_tui.widgets.transcript.item_view import ItemView
from skilldeck_tui.widgets.transcript.other_item import OtherView
from skilldeck_tui.widgets.transcript.reasoning import ReasoningView
from skilldeck_tui.widgets.transcript.shell_call import ShellCallView
from skilldeck_tui.widgets.transcript.user_message import UserMessage


def _message(item: Any, lines: int) -> ItemView:
    # Here, not above: Markdown and its highlighting are a tenth of what the first paint would import.
    from skilldeck_tui.widgets.transcript.message import MessageView

    return MessageView(item)


VIEWS: dict[str, Callable[[Any, int], ItemView]] = {
    "user": lambda item, lines: UserMessage(item),
    "text": _message,
    "reasoning": lambda item, lines: ReasoningView(item),
    "shell": ShellCallView,
    **dict.fromkeys(DESCRIBED, CallView),
}
"""By `Item.shown_as`, from the item and how many lines of output a folded view shows."""


def view_of(item: Item, lines: int) -> ItemView:
    make = VIEWS.get(item.shown_as)
    return OtherView(item) if make is None else make(item, lines)
