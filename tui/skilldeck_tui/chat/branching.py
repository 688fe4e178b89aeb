"""Going back: a message asked again or changed, a session gone on with from an earlier point, a session doubled.

Nothing is taken away. What followed stays where it was; what is said from now on belongs to another session, which
begins with all that was said to that point and is made when something is sent. The commands of both run in one
container, as long as it lives: its files are as the last command left them, whichever session that was of. A mixin of
`ChatScreen`.
"""

from __future__ import annotations

from contextlib import suppress

from textual import work
from textual.content import Content
from textual.css.query import NoMatches
from textual.style import Style

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.chat.composing.draft import Attachment, Outgoing
from skilldeck_tui.chat.exporting import ChatExporting
from skilldeck_tui.chat.sessions import Branch, branch_of, branch_title, title_of
from skilldeck_tui.chat.transcripts.transcript import ShownRun
from skilldeck_tui.screens.dialogs.pick import Pick, Row
from skilldeck_tui.state import session_of
from skilldeck_tui.text.format import age, clean, one_line

KEPT = "The files in the container stay as they are."


class ChatBranching(ChatExporting):
    # ------------------------------------------------------------ what is asked for

    def action_retry(self) -> None:
        self._again(self.last_asked)

    def action_edit(self) -> None:
        self._edit(self.last_asked)

    def action_retry_here(self) -> None:
        self._again(self.transcript.current_turn)

    def action_edit_here(self) -> None:
        self._edit(self.transcript.current_turn)

    def action_fork(self) -> None:
        self._double(next((turn for turn in reversed(self.turns) if turn.run_id), None))

    def action_fork_here(self) -> None:
        self._double(self.transcript.current_turn)

    def action_rewind(self) -> None:
        """Choose a message to go back to."""
        turns = {turn.run_id: turn for turn in reversed(self.turns) if asked(turn)}
        now = self.deck.clock()
        rows = [Row(id_, one_line(asked(turn)), age(turn.started, now)) for id_, turn in turns.items()]

        def picked(run_id: str | None) -> None:
            if run_id is not None:
                self._edit(turns[run_id])

        if rows:
            self.app.push_screen(Pick("Back to which message?", rows), picked)
        else:
            self._nothing()

    @property
    def last_asked(self) -> ShownRun | None:
        """The last run that answers a person."""
        return next((turn for turn in reversed(self.turns) if asked(turn)), None)

    def _nothing(self) -> None:
        self.notify("There is no message to go back to.", severity="warning", timeout=3)

    # ------------------------------------------------------------ going back

    def _held_now(self, turn: ShownRun | None) -> ShownRun | None:
        """The run as the session holds it; while one that was read anew is drawn, the screen shows what was before."""
        if turn is None or not turn.run_id:
            return None
        return next((other for other in self.turns if other.run_id == turn.run_id), None)

    def _again(self, turn: ShownRun | None) -> None:
        turn = self._held_now(turn)
        if turn is None or not asked(turn):
            self._nothing()
        elif self._free():
            self._back(turn, again=True)

    def _edit(self, turn: ShownRun | None) -> None:
        turn = self._held_now(turn)
        if turn is None or not asked(turn):
            self._nothing()
        elif self._free():
            self._back(turn, again=False)

    def _free(self) -> bool:
        if self.busy:
            self.notify("The run goes on; ctrl+c stops it.", severity="warning", timeout=3)
        return not self.busy

    @work(exclusive=True, group="back")
    async def _back(self, turn: ShownRun, again: bool) -> None:
        """Leave out a run and what followed it, and send or give back its message."""
        before = self.current
        try:
            key, branch = await self._before(turn)
        except SkilldeckError as error:
            self.deck.show_error(error)
            return
        held = self._held_now(turn)
        if self.current != before or held is None or self.busy:
            return
        message = self._message(held)
        title = self.row.title if self.row else branch.title if branch is not None else ""
        self.current, self.branch = key, branch
        self.turns = self.turns[: self.turns.index(held)]
        with suppress(NoMatches):  # the screen is on its way out
            await self.transcript.show(self.turns, more=self._more)
        where = f"What followed stays in “{title}”. " if title else ""
        self.notify(where + (KEPT if branch is not None or key else ""), timeout=6, markup=False)
        if again:
            self.send(message)
        else:
            self.restore([message])
            self.composer.text.focus()
        self.show_waiting()
        self.show_state({"session", "run"})

    async def _before(self, turn: ShownRun) -> tuple[str, Branch | None]:
        """The key and the branch of a session that ends before a run."""
        session = session_of(turn.response)
        if not session:
            previous = str(turn.response.get("previous_response_id") or "")
            return (f"run:{previous}" if previous else ""), None
        earlier = [other for other in self.turns[: self.turns.index(turn)] if other.run_id]
        if earlier:
            last = earlier[-1]
            return "", Branch(session_of(last.response), last.run_id, self._title())
        page = await self.client.runs(session=session, limit=1, after=turn.run_id)
        if page.data:
            return "", Branch(session, str(page.data[0]["id"]), self._title())
        return "", branch_of(self.state, session)

    def _title(self) -> str:
        """Of the session that is shown, or that the one to be made comes from."""
        if self.branch is not None:
            return self.branch.title
        return title_of(self.state, self.current.removeprefix("session:"))

    def _message(self, turn: ShownRun) -> Outgoing:
        """What was asked, to be sent again with the skills and the model that are chosen now."""
        draft = self.composer.draft.copy()
        draft.attachments = []
        lost = []
        for item in turn.asked:
            content = item.raw.get("content")
            for part in content if isinstance(content, list) else []:
                if part.get("type") not in ("input_file", "input_image"):
                    continue
                file = self.state.get("file", str(part.get("file_id") or ""))
                name = str((file or part).get("filename") or part.get("file_url") or "a file")
                if file is None:
                    lost.append(name)
                else:
                    size = int(file.get("bytes") or 0)
                    draft.attachments.append(Attachment(name, file_id=str(file["id"]), size=size, sent=size))
        if lost:
            names = ", ".join(clean(name) for name in lost)
            self.notify(f"The daemon no longer has {names}; attach it again.", severity="warning", markup=False)
        return Outgoing(asked(turn), draft, self.permission)

    # ------------------------------------------------------------ a second session

    def _double(self, turn: ShownRun | None) -> None:
        if turn is None or not turn.run_id:
            self.notify("Nothing was said yet.", severity="warning", timeout=3)
        elif turn.live:
            self._free()
        else:
            self._fork(turn)

    @work(exclusive=True, group="back")
    async def _fork(self, turn: ShownRun) -> None:
        session = session_of(turn.response)
        if not session:  # a run goes on from another one without changing it
            self.open(f"run:{turn.run_id}")
            self.notify(f"What you send now goes on from here. {KEPT}", timeout=6)
            return
        title = branch_title(self._title() or asked(turn), self.state)
        try:
            made = await self.client.fork_session(session, turn.run_id, {"title": title})
        except SkilldeckError as error:
            self.deck.show_error(error)
            return
        self.open(f"session:{made['id']}")
        self.composer.text.focus()
        self.notify(f"This is “{title}”. {KEPT}", timeout=6, markup=False)

    # ------------------------------------------------------------ what the composer says

    def about(self) -> list[Content]:
        """What is to be said of the session beside what goes with the next message."""
        if self.branch is None:
            return []
        shown = one_line(self.branch.title, 40) or "a session"
        return [Content.assemble(("↳ ", "$accent"), f"branch of {shown}", (" ×", "$faint")).stylize(LEAVE)]

    def show_chips(self) -> None:
        self.composer.show(self.permission, self.about())

    def action_leave_branch(self) -> None:
        """Back to the session as it was."""
        if self.branch is not None:
            self.open(f"session:{self.branch.session}")


LEAVE = Style.from_meta({"@click": "screen.leave_branch"})


def asked(turn: ShownRun) -> str:
    """The person's words of a run; empty when it has none, or is none of the daemon's."""
    return "\n\n".join(item.text for item in turn.asked if item.role == "user" and item.text) if turn.run_id else ""
