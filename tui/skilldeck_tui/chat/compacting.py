"""How full the model's context is, and the summary that makes room in it. A mixin of `ChatScreen`.

The figure is that of the last prompt and its answer, by the daemon's count: what the next prompt begins with.
"""

from __future__ import annotations

from contextlib import suppress

from textual import work
from textual.content import Content
from textual.css.query import NoMatches

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.chat.branching import ChatBranching
from skilldeck_tui.chat.transcripts.items import OtherItem
from skilldeck_tui.chat.transcripts.transcript import ShownRun
from skilldeck_tui.text.format import count

FULL = 0.8
"""Of the context, from which on it is said how to make room."""


class ChatCompacting(ChatBranching):
    def about(self) -> list[Content]:
        shown = gauge(*self.context)
        return [*([shown] if shown is not None else []), *super().about()]

    @property
    def context(self) -> tuple[int, int]:
        """Tokens that the next prompt begins with, and those of the model's context; 0 where it is not known."""
        last = next((turn for turn in reversed(self.turns) if turn.context_tokens), None)
        if last is None:
            return 0, 0
        name = self.composer.draft.model or self.state.default_model or last.model
        model = self.state.get("model", name) or {}
        return last.context_tokens, int(model.get("context") or 0)

    def action_compact(self) -> None:
        session = self.current.removeprefix("session:")
        if not any(turn.run_id for turn in self.turns):
            self.notify("There is nothing to summarise yet.", severity="warning", timeout=4)
        elif session == self.current:
            said = "Only sessions are summarised, and this is a run without one. Begin one with a new chat (ctrl+n)."
            self.notify(said, severity="warning", timeout=6)
        elif self._free():
            self._sending = True  # what is sent meanwhile waits
            self._compact(self.current, session)

    @work(exclusive=True, group="compact")
    async def _compact(self, key: str, session: str) -> None:
        turn = ShownRun("", items=[OtherItem("", {"type": "compaction", "status": "in_progress"})])
        turn.status, turn.started = "in_progress", self.deck.clock()
        done: ShownRun | None = None
        try:
            self.turns.append(turn)
            await self.transcript.add(turn)
            self.animate_live(True)
            made = await self.client.compact_session(session, self.composer.draft.model)
            done = ShownRun.stored(await self.client.run(str(made["id"])))
        except SkilldeckError as error:
            self.deck.show_error(error)
        finally:
            self._sending = False
            if self.is_running:
                self._compacted(key, turn, done)

    @work(exclusive=True, group="compacted")
    async def _compacted(self, key: str, turn: ShownRun, done: ShownRun | None) -> None:
        """Show what came of it in place of what stood for it."""
        if self.current == key and turn in self.turns:
            self.turns.remove(turn)
            self.turns += [done] if done is not None and done.run_id not in self.run_ids else []
            with suppress(NoMatches):  # the screen is on its way out
                await self.transcript.show(self.turns, more=self._more)
        self.animate_live(bool(self._reading))
        self.deck.touch({"run", "session"})


def gauge(used: int, context: int) -> Content | None:
    """The share of the context that is taken."""
    if not used or not context:
        return None
    share = used / context
    text = f"context {share:.0%} of {count(context)}"
    if share < FULL:
        return Content.styled(text, "$faint")
    return Content.styled(f"{text} · /compact makes room", "$warning")
