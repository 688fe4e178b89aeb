"""What the composer offers while `@` and `/` words are written, what is picked of it, and what a message names that is
not there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on, work
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList, TextArea
from textual.widgets.option_list import Option

from skilldeck_tui import actions
from skilldeck_tui.chat.composing import completion, mentions
from skilldeck_tui.state import DaemonState
from skilldeck_tui.text.format import clean
from skilldeck_tui.widgets.composing.candidates import offered
from skilldeck_tui.widgets.text_block import TextBlock

LOOK_SECONDS = 0.3  # of quiet, before it is looked whether what a message names is there


class Completing(Vertical):
    """The half of `Composer` that completes; it holds an `OptionList`, a `ComposerText` and a block `.lost`."""

    if TYPE_CHECKING:
        written: Callable[[str], None]

        @property
        def text(self) -> TextArea: ...
        def completing(self, offers: bool) -> None: ...
        def choose_skill(self, skill_id: str) -> None: ...

    class AttachAsked(Message):
        """`lines`: only these of the file."""

        def __init__(self, path: Path | None = None, file_id: str = "", lines: tuple[int, int] | None = None) -> None:
            super().__init__()
            self.path, self.file_id, self.lines = path, file_id, lines

    class CommandAsked(Message):
        """A command of `actions.SLASH`, and what was written behind it."""

        def __init__(self, name: str, argument: str = "") -> None:
            super().__init__()
            self.name, self.argument = name, argument

    def __init__(self, state: DaemonState) -> None:
        super().__init__()
        self.state = state
        self._candidates: list[completion.Candidate] = []
        self._offered: tuple[str, str] | None = None  # the sign and word that they are for
        self._picking: tuple[str, str] | None = None  # the sign and word for which a pick waits for them

    def _before(self) -> str:
        row, column = self.text.cursor_location
        return self.text.document.get_line(row)[:column]

    @on(TextArea.Changed)
    def _changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self.written(self.text.text)
        asked = completion.token(self._before())
        if asked != self._picking:  # a pick may come before the news of the change that it is for
            self._picking = None
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
        parts = [Content.styled(mentions.describe_lost(lost), "$warning")] if lost else []
        names = ", ".join(clean(mention.name) for mention in found)
        parts += [Content.styled(f"▤ goes with it: {names}", "$muted")] if found else []
        for said in self.query(".lost").results(TextBlock):  # none where the screen was left meanwhile
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
        self._candidates, self._offered = found, (sign, word)
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(Option(offered(candidate)) for candidate in found)
        options.highlighted = 0 if found else None
        self.completing(bool(found))
        self.set_class(bool(found), "-completing")
        if self._picking == (sign, word):
            self.pick()

    def close_completions(self) -> None:
        self.completing(False)
        self.remove_class("-completing")

    def move(self, step: int) -> None:
        options = self.query_one(OptionList)
        if self._candidates:
            options.highlighted = ((options.highlighted or 0) + step) % len(self._candidates)

    def pick(self) -> None:
        """Take what is highlighted; where it is being looked up for what was written last, as soon as it is there."""
        index = self.query_one(OptionList).highlighted
        asked = completion.token(self._before())
        if asked is not None and asked != self._offered:
            self._picking = asked
            self._complete(*asked)
            return
        self._picking = None
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
