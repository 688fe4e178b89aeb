"""Where a message is written: text, `@` files, `/` skills and commands, pasted paths.

It owns the draft; uploading and sending are the screen's (`AttachAsked`, `Sent`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from textual import events, on
from textual.app import ComposeResult, SuspendNotSupported
from textual.binding import Binding
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.widgets import TextArea

from skilldeck_tui import actions, editor
from skilldeck_tui.chat.composing import completion, mentions
from skilldeck_tui.chat.composing.draft import Draft, Outgoing
from skilldeck_tui.chat.composing.history import History
from skilldeck_tui.network import read_words
from skilldeck_tui.screens.dialogs.pick import Pick, Row
from skilldeck_tui.state import DaemonState
from skilldeck_tui.widgets.composing.chips import Chips
from skilldeck_tui.widgets.composing.completing import Completing
from skilldeck_tui.widgets.composing.waiting_list import WaitingList
from skilldeck_tui.widgets.options import Options
from skilldeck_tui.widgets.text_block import TextBlock

PLACEHOLDER = "Ask for something · @ file · / skill"
LIVE = "enter steers · tab sends after · ctrl+c stops"


class ComposerText(TextArea):
    """The text itself. While completions are open, the arrows, tab, enter and escape belong to them; while a run is
    live, tab sends the message at its end.

    These keys are priority bindings (a text area would take them for itself), and those the app runs at once, before
    letters that were typed earlier but wait in this widget's queue. So each action queues itself behind them: who types
    fast, or a terminal that sends a line as one burst, gets the whole line sent and not its beginning.
    """

    BINDINGS = [
        *actions.bindings("composer"),
        Binding("up", "complete(-1)", "Previous", show=False, priority=True),
        Binding("down", "complete(1)", "Next", show=False, priority=True),
        Binding("tab", "pick", "Pick", show=False, priority=True),
        Binding("escape", "dismiss", "Close", show=False, priority=True),
        Binding("backspace", "chip", "Remove", show=False, priority=True),
        Binding("ctrl+c", "interrupt", "Clear", show=False, priority=True),
    ]
    BINDING_GROUP_TITLE = "Composer"

    class Pasted(Message):
        def __init__(self, paths: list[Path]) -> None:
            super().__init__()
            self.paths = paths

    completing = False
    live = False  # whether a run of the session goes on

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "dismiss":
            return self.completing
        if action == "pick":
            # Not whether there is text: keys typed before this one may still be on their way here.
            return self.completing or self.live
        return super().check_action(action, parameters)

    def render_line(self, y: int) -> Strip:
        # Between its borders there may be no column left, and Textual (8.2.8) wraps the placeholder to no width.
        return super().render_line(y) if self.content_size.width else Strip.blank(0)

    async def _on_paste(self, event: events.Paste) -> None:
        paths = await asyncio.to_thread(completion.pasted_paths, event.text)
        if paths:
            event.stop()
            event.prevent_default()
            self.post_message(self.Pasted(paths))
        # Else the text area's own handler goes on: Textual calls it after this one.

    def action_newline(self) -> None:
        self.call_later(self.insert, "\n")

    def action_interrupt(self) -> None:
        """Copy what is selected, stop the run, or clear the text; what is left then is the app's."""
        if self.selected_text:
            self.action_copy()
        elif self.live or not self.text:
            self.app.call_later(self.app.run_action, "interrupt")
        else:
            self.call_later(self.load_text, "")

    @property
    def composer(self) -> Composer:
        parent = self.parent
        assert isinstance(parent, Composer)
        return parent

    def action_send(self) -> None:
        self.call_later(lambda: self.composer.pick() if self.completing else self.composer.send())

    def action_later(self) -> None:
        self.call_later(self.composer.send, later=True)

    def action_page(self, step: int) -> None:
        self.post_message(Composer.Paged(step))

    def action_complete(self, step: int) -> None:
        self.call_later(self._vertical, step)

    def _vertical(self, step: int) -> None:
        if self.completing:
            self.composer.move(step)
        elif step < 0 and not self.text:
            self.composer.post_message(Composer.TakeBack())
        elif self.composer.history.shows(self.text) and self.cursor_location[0] == (
            0 if step < 0 else self.document.line_count - 1
        ):
            self.composer.recall(step)
        elif step < 0:
            self.action_cursor_up()
        else:
            self.action_cursor_down()

    def action_pick(self) -> None:
        self.call_later(self._pick)

    def _pick(self) -> None:
        if self.completing:
            self.composer.pick()
        elif self.text.strip():
            self.composer.send(later=True)
        else:  # nothing to send: the key goes on as everywhere
            self.screen.focus_next()

    def action_dismiss(self) -> None:
        self.call_later(self.composer.close_completions)

    def action_chip(self) -> None:
        self.call_later(lambda: self.action_delete_left() if self.text else self.composer.drop_last())

    def action_search(self) -> None:
        """Choose one of the messages that were sent."""
        composer, entries = self.composer, self.composer.history.entries

        def picked(at: str | None) -> None:
            if at is not None:
                composer.fill(entries[int(at)])

        rows = [Row(str(at), entries[at]) for at in range(len(entries) - 1, -1, -1)]
        self.app.push_screen(Pick("What was sent before", rows, empty="Nothing was sent yet."), picked)

    def action_editor(self) -> None:
        """Write on in the editor."""
        try:
            text = editor.edited(self.text, self.app.suspend)
        except (OSError, SuspendNotSupported) as error:
            self.notify(f"The editor did not open: {error}", severity="error", markup=False)
        else:
            if text is not None:
                self.composer.fill(text)

    def action_choose_skill(self) -> None:
        self.insert("/" if not self.text or self.text[-1].isspace() else " /")


class Composer(Completing):
    DEFAULT_CSS = """
    Composer { height: auto; padding: 0 1; }
    Composer ComposerText {
        height: auto; min-height: 3; max-height: 10; border: round $border; background: transparent; padding: 0 1;
        scrollbar-size-vertical: 1;
    }
    Composer ComposerText:focus { border: round $primary; }
    Composer OptionList {
        display: none; height: auto; max-height: 8; border: round $border; background: $surface; padding: 0;
    }
    Composer.-completing OptionList { display: block; }
    Composer .lost { height: auto; padding: 0 1; display: none; }
    """

    class Sent(Message):
        """`text` and `draft` are what the composer held; `later`: not before the run that is live has ended."""

        def __init__(self, text: str, draft: Draft, later: bool = False) -> None:
            super().__init__()
            self.text, self.draft, self.later = text, draft, later

    class TakeBack(Message):
        """The last message that waits is to be changed."""

    class Paged(Message):
        """Scroll the transcript by a page."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    class ShellAsked(Message):
        """A command of the person's own, for the session's container."""

        def __init__(self, command: str) -> None:
            super().__init__()
            self.command = command

    class DraftChanged(Message):
        pass

    def __init__(self, state: DaemonState) -> None:
        super().__init__(state)
        self.draft = Draft()
        self.history = History(None)
        self.written: Callable[[str], None] = lambda text: None

    def compose(self) -> ComposeResult:
        # Not focusable: the text keeps the focus while a person chooses.
        options = Options(markup=False, compact=True)
        options.can_focus = False
        yield options
        yield WaitingList()
        yield ComposerText(
            soft_wrap=True, show_line_numbers=False, placeholder=PLACEHOLDER, highlight_cursor_line=False,
            tab_behavior="focus",
        )  # fmt: skip
        yield TextBlock(classes="lost")
        yield Chips()

    @property
    def text(self) -> ComposerText:
        return self.query_one(ComposerText)

    def completing(self, offers: bool) -> None:
        self.text.completing = offers

    def show(self, permission: str, about: Sequence[Content] = ()) -> None:
        """Bring the chips up to date. `about`: what is to be said of the session."""
        self.query_one(Chips).show(self.draft, self.state, permission, about)

    def live(self, live: bool) -> None:
        """Whether a run of the session goes on, and so what enter and tab do."""
        self.text.live = live
        self.text.placeholder = LIVE if live else PLACEHOLDER

    def waiting(self, messages: Sequence[Outgoing]) -> None:
        """Show the messages that wait for the run."""
        self.query_one(WaitingList).show(messages)

    def send(self, later: bool = False) -> None:
        text = self.text.text.strip()
        self.history.add(text)
        if text.startswith("!") and text[1:].strip():
            self.text.load_text("")
            self.post_message(self.ShellAsked(text[1:].strip()))
            return
        word, rest = mentions.leading(text)
        skill = next((s for s in self.state.skills if s.get("name") == word), None)
        if skill is not None:
            self.choose_skill(str(skill["id"]))
            text = rest
            if not text:
                self.text.load_text("")
        elif word in actions.SLASH:
            self.text.load_text("")
            self.post_message(self.CommandAsked(word, rest))
            return
        if text or self.draft.attachments:
            # Taken out here and now: what is typed next is the next message, however late the screen hears of this one.
            draft = self.draft.copy()
            self.clear()
            self.post_message(self.Sent(text, draft, later))

    def recall(self, step: int) -> None:
        """Put the message that was sent before (or after) the one that is shown in place of the text."""
        found = self.history.step(step, self.text.text)
        if found is not None:
            self.fill(found)

    def fill(self, text: str) -> None:
        """Put a text in place of what is there, to be gone on with."""
        self.text.load_text(text)
        self.text.move_cursor(self.text.document.end)

    def clear(self) -> None:
        """Text and files go, the skills and the model stay chosen for the session."""
        self.text.load_text("")
        self.draft.attachments = []
        self.post_message(self.DraftChanged())

    def drop_last(self) -> None:
        if self.draft.attachments:
            self.draft.attachments.pop()
        elif self.draft.skills:
            self.draft.skills.pop()
        self.post_message(self.DraftChanged())

    def choose_model(self, name: str) -> None:
        """The model of the next messages; empty: the daemon's default one."""
        self.draft.model = name
        self.post_message(self.DraftChanged())

    def choose_network(self, text: str) -> None:
        """Hosts and variables of the next messages, as a person writes them."""
        self.draft.allow, self.draft.env = read_words(text)
        self.post_message(self.DraftChanged())

    def choose_skill(self, skill_id: str) -> None:
        if skill_id not in self.draft.skills:
            self.draft.skills.append(skill_id)
            self.post_message(self.DraftChanged())

    @on(Chips.Removed)
    def _chip_removed(self, event: Chips.Removed) -> None:
        event.stop()
        entries = self.draft.attachments if event.kind == "file" else self.draft.skills
        if event.index < len(entries):
            del entries[event.index]
        self.post_message(self.DraftChanged())

    @on(ComposerText.Pasted)
    def _pasted(self, event: ComposerText.Pasted) -> None:
        event.stop()
        for path in event.paths:
            self.post_message(self.AttachAsked(path))
