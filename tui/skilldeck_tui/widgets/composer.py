"""Where a message is written: text, `@` files, `/` skills, pasted paths.

It owns the draft; uploading and sending are the screen's (`AttachAsked`, `Sent`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.widgets import OptionList, TextArea
from textual.widgets.option_list import Option

from skilldeck_tui import actions
from skilldeck_tui.chat import completion
from skilldeck_tui.chat.draft import Draft, Outgoing
from skilldeck_tui.network import read_words
from skilldeck_tui.state import DaemonState
from skilldeck_tui.widgets.chips import Chips
from skilldeck_tui.widgets.options import Options
from skilldeck_tui.widgets.waiting_list import WaitingList

PLACEHOLDER = "Ask for something · @ file · / skill"
LIVE = "enter steers · tab sends after · ctrl+c stops"
SIGNS = {
    "skill": ("◆", "$accent"), "disk": ("◇", "$accent"), "file": ("▤", "$accent"), "path": ("·", "$muted"),
    "folder": ("▸", "$muted"),
}  # fmt: skip


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

    def action_choose_skill(self) -> None:
        self.insert("/" if not self.text or self.text[-1].isspace() else " /")


class Composer(Vertical):
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

    class AttachAsked(Message):
        def __init__(self, path: Path | None = None, file_id: str = "") -> None:
            super().__init__()
            self.path, self.file_id = path, file_id

    class DraftChanged(Message):
        pass

    def __init__(self, state: DaemonState) -> None:
        super().__init__()
        self.state = state
        self.draft = Draft()
        self._candidates: list[completion.Candidate] = []

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
        yield Chips()

    @property
    def text(self) -> ComposerText:
        return self.query_one(ComposerText)

    def show(self, permission: str) -> None:
        """Bring the chips up to date."""
        self.query_one(Chips).show(self.draft, self.state, permission)

    def live(self, live: bool) -> None:
        """Whether a run of the session goes on, and so what enter and tab do."""
        self.text.live = live
        self.text.placeholder = LIVE if live else PLACEHOLDER

    def waiting(self, messages: Sequence[Outgoing]) -> None:
        """Show the messages that wait for the run."""
        self.query_one(WaitingList).show(messages)

    def send(self, later: bool = False) -> None:
        text = self.text.text.strip()
        if text or self.draft.attachments:
            # Taken out here and now: what is typed next is the next message, however late the screen hears of this one.
            draft = self.draft.copy()
            self.clear()
            self.post_message(self.Sent(text, draft, later))

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

    # ------------------------------------------------------------ completions

    def _before(self) -> str:
        row, column = self.text.cursor_location
        return self.text.document.get_line(row)[:column]

    @on(TextArea.Changed)
    def _changed(self, event: TextArea.Changed) -> None:
        event.stop()
        asked = completion.token(self._before())
        if asked is None:
            self.close_completions()
        else:
            self._complete(*asked)

    @work(exclusive=True, group="completion")
    async def _complete(self, sign: str, word: str) -> None:
        if sign == "/":
            found = completion.skills(word, self.state.skills, self.state.disk)
        else:
            found = await asyncio.to_thread(completion.files, word, self.state.files, Path.cwd())
        # The text may have moved on meanwhile.
        if completion.token(self._before()) != (sign, word):
            return
        self._candidates = found
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(Option(_option(candidate)) for candidate in found)
        options.highlighted = 0 if found else None
        self.text.completing = bool(found)
        self.set_class(bool(found), "-completing")

    def close_completions(self) -> None:
        self.text.completing = False
        self.remove_class("-completing")

    def move(self, step: int) -> None:
        options = self.query_one(OptionList)
        if self._candidates:
            options.highlighted = ((options.highlighted or 0) + step) % len(self._candidates)

    def pick(self) -> None:
        index = self.query_one(OptionList).highlighted
        asked = completion.token(self._before())
        if index is None or asked is None or index >= len(self._candidates):
            self.close_completions()
            return
        candidate = self._candidates[index]
        row, column = self.text.cursor_location
        start = column - len(asked[1]) - 1
        if candidate.kind == "folder":
            self.text.replace(f"@{candidate.label}", (row, start), (row, column))
            return
        if candidate.kind == "disk":
            # The daemon gives a skill on disk to a prompt that says its name so.
            self.text.replace(f"/{candidate.value} ", (row, start), (row, column))
            self.close_completions()
            return
        # Within a sentence the name stays, or it would say "summarise" of nothing; a message that begins with it loses
        # nothing.
        sentence = row > 0 or bool(self._before()[:start].strip())
        name = Path(candidate.label).name if candidate.kind == "path" else candidate.label
        self.text.replace(f"{name} " if sentence else "", (row, start), (row, column))
        self.close_completions()
        if candidate.kind == "skill":
            self.choose_skill(candidate.value)
        elif candidate.kind == "file":
            self.post_message(self.AttachAsked(file_id=candidate.value))
        else:
            self.post_message(self.AttachAsked(Path(candidate.value)))

    @on(OptionList.OptionSelected)
    def _option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.query_one(OptionList).highlighted = event.option_index
        self.pick()
        self.text.focus()


def _option(candidate: completion.Candidate) -> Content:
    sign, style = SIGNS[candidate.kind]
    note = candidate.note if len(candidate.note) <= 60 else candidate.note[:59] + "…"
    return Content.assemble((f"{sign} ", style), candidate.label, (f"  {note}", "$faint"))
