"""`!command`: a command of the person's own in the session's container, shown with the runs.

It needs no permission: whoever writes it here is the one who would be asked. The model reads it, and what it printed,
with the next message.
"""

from __future__ import annotations

import re

from textual import on, work

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.chat.draft import Outgoing
from skilldeck_tui.chat.items import Command, ShellItem
from skilldeck_tui.chat.made import ChatMade
from skilldeck_tui.chat.transcript import Turn
from skilldeck_tui.widgets.composer import Composer

TOLD = 8_000
"""Characters of the output that the model reads: its beginning and its end."""


class ChatOwnCommands(ChatMade):
    def init_runs(self) -> None:
        super().init_runs()
        self._done: dict[str, list[Command]] = {}  # by session: what the model does not know yet

    @on(Composer.ShellAsked)
    def _shell_asked(self, event: Composer.ShellAsked) -> None:
        event.stop()
        container = next((turn.container for turn in reversed(self.turns) if turn.container), "")
        if container:
            self._run(self.current, container, event.command)
        else:
            self.notify("This session has no container yet: the first command of a run starts one.", severity="warning")
            self.composer.text.load_text(f"!{event.command}")

    @work(group="own")
    async def _run(self, key: str, container: str, text: str) -> None:
        command = Command(text, started=self.deck.clock())
        item = ShellItem("", {"environment": {"container_id": container}}, commands=[command], running=True)
        turn = Turn("", items=[item], status="in_progress", started=command.started, container=container)
        self.turns.append(turn)
        await self.transcript.add(turn)
        self.animate_live(True)
        try:
            result = await self.client.exec_in_container(container, text)
        except SkilldeckError as error:
            turn.error, turn.status, command.outcome = f"{error.title} {error.hint}".strip(), "failed", -1
        else:
            command.output.set(str(result.get("stdout") or ""), str(result.get("stderr") or ""))
            code = result.get("exit_code")
            command.outcome = "timeout" if result.get("timed_out") else code if isinstance(code, int) else -1
            turn.status = "completed"
            self._done.setdefault(key, []).append(command)
        command.printed = command.output.total_bytes
        turn.ended = command.ended = self.deck.clock()
        item.running, item.done = False, True
        turn.revision += 1
        item.touch()
        if self.is_running:
            self.animate_live(bool(self._reading))
            self.deck.touch({"run"})

    async def _mentioned(self, message: Outgoing) -> str:
        text = await super()._mentioned(message)
        return "\n\n".join([*map(told, self._done.pop(self.current, [])), text])


def told(command: Command) -> str:
    """A command and what it printed, for the model."""
    printed = command.output.text()
    if len(printed) > TOLD:
        printed = f"{printed[: TOLD // 2]}\n[…]\n{printed[-TOLD // 2 :]}"
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", printed)), 0)
    ended = "" if command.outcome == 0 else f"\n(exit code {command.outcome})"
    return f"I ran this in the container myself:\n{fence}\n$ {command.text}\n{printed}{ended}\n{fence}"
