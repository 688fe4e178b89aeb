"""Where a message is written: text, `@` files, `/` skills and commands, pasted paths.

It owns the draft; uploading and sending are the screen's (`AttachAsked`, `Sent`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from textual import events, on, work
from textual.app import ComposeResult, SuspendNotSupported
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.widgets import OptionList, TextArea
from textual.widgets.option_list import Option

from skilldeck_tui import actions, editor
from skilldeck_tui.chat import completion, mentions
from skilldeck_tui.chat.draft import Draft, Outgoing
from skilldeck_tui.chat.history import History
from skilldeck_tui.format import clean
from skilldeck_tui.network import read_words
from skilldeck_tui.screens.pick import Pick, Row
from skilldeck_tui.state import DaemonState
from skilldeck_tui.widgets.candidates import offered
from skilldeck_tui.widgets.chips import Chips
from skilldeck_tui.widgets.options import Options
from skilldeck_tui.widgets.text_block import TextBlock
from skilldeck_tui.widgets.waiting_list import WaitingList

PLACEHOLDER = "Ask for something · @ file · / skill"
LOOK_SECONDS = 0.3  # of quiet, before it is looked whether what a message names is there
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

    class AttachAsked(Message):
        """`lines`: only these of the file."""

        def __init__(self, path: Path | None = None, file_id: str = "", lines: tuple[int, int] | None = None) -> None:
            super().__init__()
            self.path, self.file_id, self.lines = path, file_id, lines

    class ShellAsked(Message):
        """A command of the person's own, for the session's container."""

        def __init__(self, command: str) -> None:
            super().__init__()
            self.command = command

    class CommandAsked(Message):
        """A command of `actions.SLASH`, and what was written behind it."""

        def __init__(self, name: str, argument: str = "") -> None:
            super().__init__()
            self.name, self.argument = name, argument

    class DraftChanged(Message):
        pass

    def __init__(self, state: DaemonState) -> None:
        super().__init__()
        self.state = state
        self.draft = Draft()
        self.history = History(None)
        self.written: Callable[[str], None] = lambda text: None
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
        yield TextBlock(classes="lost")
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

    # ------------------------------------------------------------ completions

    def _before(self) -> str:
        row, column = self.text.cursor_location
        return self.text.document.get_line(row)[:column]

    @on(TextArea.Changed)
    def _changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self.written(self.text.text)
        asked = completion.token(self._before())
        if asked is None:
            self.close_completions()
        else:
            self._complete(*asked)
        self._look()

    @work(exclusive=True, group="look")
    async def _look(self) -> None:
        """Say which of what the message names is not there, before it is sent."""
        text, lost, found = self.text.text, list[str](), list[mentions.Mention]()
        if "@" in text or text.startswith("/"):
            await asyncio.sleep(LOOK_SECONDS)
            found, lost = await asyncio.to_thread(mentions.mentions, text, Path.cwd())
            asked = completion.token(self._before())
            lost = [*mentions.lost_slash(text, self.names), *lost]
            lost = [word for word in lost if asked is None or word != asked[0] + asked[1]]  # it is still being written
        parts = [Content.styled(mentions.tell_lost(lost), "$warning")] if lost else []
        names = ", ".join(clean(mention.name) for mention in found)
        parts += [Content.styled(f"▤ goes with it: {names}", "$muted")] if found else []
        said = self.query_one(".lost", TextBlock)
        said.display = bool(parts)
        said.write(Content("\n").join(parts))

    @property
    def names(self) -> set[str]:
        """What may stand behind a slash at the beginning."""
        skills = {str(skill.get("name")) for skill in (*self.state.skills, *self.state.disk)}
        return skills | set(actions.SLASH)

    @work(exclusive=True, group="completion")
    async def _complete(self, sign: str, word: str) -> None:
        if sign == "/":
            found = completion.skills(word, self.state.skills, self.state.disk)
            if self._before() == f"/{word}" and self.text.cursor_location[0] == 0:
                known = [(name, action.help) for name, action in actions.SLASH.items()]
                found = sorted([*found, *completion.commands(word, known)], key=lambda row: row.label != word)
        else:
            found = await asyncio.to_thread(completion.files, word, self.state.files, Path.cwd())
        # The text may have moved on meanwhile.
        if completion.token(self._before()) != (sign, word):
            return
        self._candidates = found
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(Option(offered(candidate)) for candidate in found)
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
        if candidate.kind == "command":
            self.text.replace("", (row, start), (row, column))
            self.close_completions()
            self.post_message(self.CommandAsked(candidate.value))
            return
        if candidate.kind == "disk":
            # The daemon gives a skill on disk to a prompt that says its name so.
            self.text.replace(f"/{candidate.value} ", (row, start), (row, column))
            self.close_completions()
            return
        # Within a sentence the name stays, or it would say "summarise" of nothing; a message that begins with it loses
        # nothing.
        sentence = row > 0 or bool(self._before()[:start].strip())
        mention = mentions.find(candidate.value, Path()) if candidate.kind == "path" else None
        name = mention.name if mention is not None else Path(candidate.label).name
        self.text.replace(f"{name} " if sentence else "", (row, start), (row, column))
        self.close_completions()
        if candidate.kind == "skill":
            self.choose_skill(candidate.value)
        elif candidate.kind == "file":
            self.post_message(self.AttachAsked(file_id=candidate.value))
        elif mention is not None:
            self.post_message(self.AttachAsked(mention.path, lines=mention.lines))

    @on(OptionList.OptionSelected)
    def _option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.query_one(OptionList).highlighted = event.option_index
        self.pick()
        self.text.focus()
