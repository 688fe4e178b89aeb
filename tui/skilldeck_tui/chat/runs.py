"""The runs behind the chat screen: opening a session, reading live runs (sending.py sends).

A mixin of `ChatScreen`, apart from it because this half talks to the daemon and that half to the person. Every call
that fails is shown to the person; none ends the program.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from textual import work
from textual.css.query import NoMatches

from skilldeck_shared.errors import NotFound, SkilldeckError
from skilldeck_tui.chat.composing.draft import Object
from skilldeck_tui.chat.sessions import Branch, branch_of
from skilldeck_tui.chat.transcripts.transcript import ShownRun
from skilldeck_tui.client.types import RunDetail
from skilldeck_tui.screens.base import ModeScreen
from skilldeck_tui.state import session_of

if TYPE_CHECKING:
    from skilldeck_tui.widgets.composing.composer import Composer
    from skilldeck_tui.widgets.transcript.view import TranscriptView

PAGE = 20
CHAIN = 20
"""How many earlier responses of a chain (previous_response_id) are shown."""


class ChatRuns(ModeScreen):
    if TYPE_CHECKING:

        @property
        def transcript(self) -> TranscriptView: ...
        @property
        def composer(self) -> Composer: ...

        permission: str

        def animate_live(self, live: bool) -> None: ...
        def arrived(self) -> None: ...
        def show_chips(self) -> None: ...

    def init_runs(self) -> None:
        self.current = ""
        self.branch: Branch | None = None  # where the next session begins: it is made when something is sent
        self.turns: list[ShownRun] = []
        self.loading_session = False
        self._more = False
        self._reading: set[str] = set()
        self._adopting: set[str] = set()
        self._sending = False
        self.steered: set[str] = set()  # runs that were asked to end before their next turn

    # ------------------------------------------------------------ what is shown

    @property
    def live(self) -> list[ShownRun]:
        return [turn for turn in self.turns if turn.live and turn.run_id]

    @property
    def run_ids(self) -> set[str]:
        return {turn.run_id for turn in self.turns}

    def pending(self) -> list[Object]:
        return self.state.approvals

    def open(self, key: str) -> None:
        """Show a session (`session:ID`), a run (`run:ID`), or an empty new session (empty)."""
        self.current, self.branch = key, None
        self.turns = []
        self._reading.clear()
        self.workers.cancel_group(self, "read")
        self.loading_session = bool(key)
        self.show_state({"session"})
        self._load(key)

    def unsent(self, key: str) -> list[ShownRun]:
        """What belongs behind the runs of a session and is known here only."""
        return []

    def began(self, key: str) -> None:
        """The daemon has begun the run of a message of this session."""

    def forget(self, key: str) -> None:
        """A session, or a run of none, was deleted."""

    @work(exclusive=True, group="load")
    async def _load(self, key: str) -> None:
        turns: list[ShownRun] = []
        self._more = False
        try:
            if key.startswith("session:"):
                turns, self._more = await self._session(key.removeprefix("session:"))
            elif key:
                turns = await self._chain(key.removeprefix("run:"))
        except SkilldeckError as error:
            self.deck.show_error(error)
        if self.current != key or not self.is_running:
            return
        turns = self.turns = [*turns, *self.unsent(key)]
        self.loading_session = False
        # Parts are missing when the screen is on its way out: who quits while a session loads is shown no traceback.
        with suppress(NoMatches):
            await self.transcript.show(turns, more=self._more)
            self.transcript.prune()
        for turn in turns:
            if turn.live:
                self._read(turn)
        self.show_state({"run"})
        self.animate_live(bool(self.live))

    async def _session(self, session_id: str, after: str = "") -> tuple[list[ShownRun], bool]:
        page = await self.client.runs(session=session_id, limit=PAGE, after=after)
        details = await asyncio.gather(*(self.client.run(run["id"]) for run in reversed(page.data)))
        turns = [ShownRun.stored(detail) for detail in details]
        origin = branch_of(self.state, session_id)
        if page.has_more or origin is None:
            return turns, page.has_more
        if turns:
            turns[0].branch = origin.title
        before, more = await self._kept(origin)
        return before + turns, more

    async def _kept(self, branch: Branch) -> tuple[list[ShownRun], bool]:
        """What a branch begins with: runs of the session that it comes from."""
        turns, more = await self._session(branch.session, branch.after)
        with suppress(NotFound):  # it was deleted since
            turns.append(ShownRun.stored(await self.client.run(branch.after)))
        return turns, more

    async def _chain(self, run_id: str) -> list[ShownRun]:
        """A run and those it goes on from, oldest first."""
        turns: list[ShownRun] = []
        next_: str | None = run_id
        while next_ and len(turns) < CHAIN:
            try:
                detail: RunDetail = await self.client.run(next_)
            except SkilldeckError:
                # An earlier response may have been deleted; the one asked for may not.
                if not turns:
                    raise
                break
            turns.insert(0, ShownRun.stored(detail))
            next_ = detail.response.get("previous_response_id")
        return turns

    def load_earlier(self) -> None:
        owner = session_of(self.turns[0].response) if self._more and self.turns else ""
        if owner and (self.branch or self.current.startswith("session:")):
            self._load_earlier(self.current, owner)

    @work(exclusive=True, group="earlier")
    async def _load_earlier(self, key: str, owner: str) -> None:
        try:
            turns, more = await self._session(owner, self.turns[0].run_id)
        except SkilldeckError as error:
            self.deck.show_error(error)
            return
        if self.current == key:
            self._more = more
            # Of runs that began in one second, some may have been taken for new ones.
            turns = [turn for turn in turns if turn.run_id not in self.run_ids]
            self.turns[:0] = turns
            await self.transcript.prepend(turns, more=more)

    def adopt(self) -> None:
        """Show runs that another client started in this session."""
        if not self.current.startswith("session:") or self.loading_session or self._sending:
            return
        last = max((t.response.get("created_at") or 0 for t in self.turns), default=0)
        for run in reversed(self.state.runs):
            known = run["id"] in self.run_ids | self._adopting
            if session_of(run) == self.current[8:] and not known and (run.get("created_at") or 0) >= last:
                self._adopting.add(run["id"])
                self._adopt(self.current, run["id"])

    @work(group="adopt")
    async def _adopt(self, key: str, run_id: str) -> None:
        try:
            turn = ShownRun.stored(await self.client.run(run_id))
        except SkilldeckError:
            return
        finally:
            self._adopting.discard(run_id)
        if self.current == key and run_id not in self.run_ids:
            self.turns.append(turn)
            await self.transcript.add(turn)
            if turn.live:
                self._read(turn)
            self.show_state({"run"})

    # ------------------------------------------------------------ reading

    @work(group="read")
    async def _read(self, turn: ShownRun) -> None:
        """Follow a run to its end; resumes by itself when the daemon comes back."""
        if not turn.run_id or turn.run_id in self._reading:
            return
        self._reading.add(turn.run_id)
        self.animate_live(True)
        try:
            async for event in self.client.follow_run(turn.run_id, turn.sequence):
                turn.apply(event)
                self.arrived()
            detail = await self.client.run(turn.run_id)
            if turn.live:  # its daemon died, and the next one has a shorter account of it: what was stored
                turn.settle(detail.response)
            turn.fill(detail.response.get("output") or [])
            turn.time(detail.timeline)
            if turn.status == "cancelled" and turn.run_id in self.steered:
                turn.error = "went on with your message"
        except SkilldeckError as error:
            turn.error, turn.status = error.title, "failed"
            turn.revision += 1
            self.deck.show_error(error)
        finally:
            self._reading.discard(turn.run_id)
            if self.is_running:
                self.animate_live(bool(self._reading))
                self.deck.touch({"run"})

    async def stop_run(self, turn: ShownRun) -> None:
        try:
            await self.client.cancel_run(turn.run_id)
        except SkilldeckError as error:
            self.deck.show_error(error)
