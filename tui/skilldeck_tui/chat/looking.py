"""Runs looked at in other ways: what their skills did, and two sessions side by side. A mixin of `ChatScreen`."""

from __future__ import annotations

import asyncio

from textual import on, work

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.chat.branching import asked
from skilldeck_tui.chat.compacting import ChatCompacting
from skilldeck_tui.chat.sessions import sessions
from skilldeck_tui.chat.transcripts.transcript import ShownRun
from skilldeck_tui.cited import made_by
from skilldeck_tui.client.types import Object
from skilldeck_tui.screens.dialogs.pick import Pick, Row
from skilldeck_tui.skills.skill_use import uses
from skilldeck_tui.text.format import age
from skilldeck_tui.widgets.session_list import SessionList


class ChatLooking(ChatCompacting):
    def action_skill_use(self) -> None:
        """What the skills of the run at the cursor did."""
        turn = self.transcript.current_turn
        if turn is None or not turn.run_id:
            self.notify("Nothing was asked yet.", timeout=3)
        else:
            self._show_use(turn)

    @work(exclusive=True, group="use")
    async def _show_use(self, turn: ShownRun) -> None:
        from skilldeck_tui.screens.dialogs.skill_use import SkillUse

        try:
            detail = await self.client.run(turn.run_id)
        except SkilldeckError as error:
            self.deck.show_error(error)
            return
        output = detail.response.get("output") or []
        found = uses(output, detail.timeline.get("opened") or [])
        names = {use.name for use in found}
        untouched = [name for name in self._offered(detail.response) if name not in names]
        self.app.push_screen(SkillUse(asked(turn), found, untouched, made_by(detail.response)))

    def _offered(self, response: Object) -> list[str]:
        """Names of the skills that a run could use, as far as they are still known."""
        found = []
        for tool in response.get("tools") or []:
            for skill in (tool.get("environment") or {}).get("skills") or []:
                known = self.state.get("skill", str(skill.get("skill_id") or "")) or skill
                found += [str(known["name"])] if known.get("name") else []
        return found

    # ------------------------------------------------------------ side by side

    def action_compare(self) -> None:
        """Choose a session to stand beside the one that is shown."""
        if not self.turns:
            self.notify("Nothing was asked yet.", timeout=3)
            return
        now, here = self.deck.clock(), self.current or f"session:{self.branch.session if self.branch else ''}"
        rows = [Row(row.key, row.title, age(row.at, now)) for row in sessions(self.state) if row.key != self.current]

        def picked(key: str | None) -> None:
            if key is not None:
                self._beside(here, key)

        self.app.push_screen(Pick("Compare with which session or run?", rows, empty="There is no other."), picked)

    @on(SessionList.CompareAsked)
    def _compare_asked(self, event: SessionList.CompareAsked) -> None:
        if self.current and event.key != self.current:
            self._beside(self.current, event.key)
        else:
            self.notify("Open one session, then go to another one in the list.", timeout=3)

    @work(exclusive=True, group="compare")
    async def _beside(self, one: str, other: str) -> None:
        from skilldeck_tui.compared import beside, lines
        from skilldeck_tui.screens.dialogs.compare import Compare

        try:
            left, right = await asyncio.gather(self._turns_of(one), self._turns_of(other))
        except SkilldeckError as error:
            self.deck.show_error(error)
            return
        titles = {row.key: row.title for row in sessions(self.state)}
        rows = await asyncio.to_thread(lambda: beside(lines(left), lines(right)))
        self.app.push_screen(Compare((titles.get(one, one), titles.get(other, other)), rows))

    async def _turns_of(self, key: str) -> list[ShownRun]:
        if key.startswith("run:"):
            return await self._chain(key.removeprefix("run:"))
        return (await self._session(key.removeprefix("session:")))[0]
