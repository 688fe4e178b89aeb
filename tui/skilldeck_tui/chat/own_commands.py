"""`!command`: a command of the person's own in the session's container, shown with the runs.

It needs no permission: whoever writes it here is the one who would be asked. A session that has no container yet is
given one, which its first run goes on in. The model reads the command, and what it printed, with the next message.
"""

from __future__ import annotations

import asyncio
import re

from textual import on, work

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.chat.draft import Object, Outgoing
from skilldeck_tui.chat.items import Command, ShellItem
from skilldeck_tui.chat.made import ChatMade
from skilldeck_tui.chat.transcript import ShownRun
from skilldeck_tui.widgets.composing.composer import Composer

SHOWN = 8_000
"""Characters of the output that the model reads: its beginning and its end."""


class ChatOwnCommands(ChatMade):
    def init_runs(self) -> None:
        super().init_runs()
        self._done: dict[str, list[Command]] = {}  # by session: what the model does not know yet
        # By session: the container that was made for one's own commands, before any run had one, and what it was asked
        # to be.
        self._own: dict[str, tuple[str, Object]] = {}

    def open(self, key: str) -> None:
        if not key:  # a new session knows nothing of the one that was new before
            self._done.pop("", None)
            self._own.pop("", None)
        super().open(key)

    @on(Composer.ShellAsked)
    def _shell_asked(self, event: Composer.ShellAsked) -> None:
        event.stop()
        self._run(self.current, event.command)

    @work(group="own")
    async def _run(self, key: str, text: str) -> None:
        command = Command(text, started=self.deck.clock())
        item = ShellItem("", commands=[command], running=True)
        turn = ShownRun("", items=[item], status="in_progress", started=command.started)
        self.turns.append(turn)
        self.remove_class("-empty")
        await self.transcript.add(turn)
        self.animate_live(True)
        try:
            turn.container = await self._place(key)
            item.raw = {"environment": {"container_id": turn.container}}
            result = await self.client.exec_in_container(turn.container, text)
        except SkilldeckError as error:
            turn.error, turn.status, command.outcome = f"{error.title} {error.hint}".strip(), "failed", -1
        except asyncio.CancelledError:
            turn.status = "cancelled"
            item.stop(self.deck.clock())
            raise
        else:
            command.output.set(str(result.get("stdout") or ""), str(result.get("stderr") or ""))
            code = result.get("exit_code")
            command.outcome = "timeout" if result.get("timed_out") else code if isinstance(code, int) else -1
            turn.status = "completed"
            # A session that was new may have its id by now.
            self._done.setdefault(self.current if turn in self.turns else key, []).append(command)
        finally:
            command.printed = command.output.total_bytes
            turn.ended = command.ended = self.deck.clock()
            item.running, item.done = False, True
            turn.revision += 1
            item.touch()
            if self.is_running:
                self.animate_live(bool(self._reading))
                self.deck.touch({"run"})

    async def _place(self, key: str) -> str:
        """The session's container: the one of its runs, else one made for it, as its next run would be given."""
        used = next((turn.container for turn in reversed(self.turns) if turn.container), "")
        if used and self._alive(used):
            return used
        made, asked = self._own.get(key, ("", {}))
        environment = self.composer.draft.environment(self.state)
        if not made or asked != environment or not self._alive(made):
            contents = {name: value for name, value in environment.items() if name != "type"}
            made = str((await self.client.create_container({"name": "session", **contents}))["id"])
            self._own[key] = made, environment
        return made

    def _alive(self, container: str) -> bool:
        return bool((self.state.get("container", container) or {}).get("status", "running") == "running")

    def _body(self, key: str, message: Outgoing, text: str) -> Object:
        """As it is, in the container of one's own commands until a run of the session has used it."""
        body, (made, asked) = super()._body(key, message, text), self._own.get(key, ("", {}))
        used = any(turn.container == made for turn in self.turns if turn.run_id)
        for tool in body["tools"] if made and self._alive(made) and not used else ():
            if tool.get("environment") == asked:
                tool["environment"] = {"type": "container_reference", "container_id": made}
        return body

    def _moved(self, before: str, key: str) -> None:
        super()._moved(before, key)
        if before in self._own:
            self._own[key] = self._own.pop(before)
        if before in self._done:
            self._done[key] = self._done.pop(before)

    async def _mentioned(self, key: str, message: Outgoing) -> str:
        text = await super()._mentioned(key, message)
        return "\n\n".join([*map(as_text, self._done.pop(key, [])), text])


def as_text(command: Command) -> str:
    """A command and what it printed, for the model."""
    printed = command.output.text()
    if len(printed) > SHOWN:
        printed = f"{printed[: SHOWN // 2]}\n[…]\n{printed[-SHOWN // 2 :]}"
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", printed)), 0)
    ended = "" if command.outcome == 0 else f"\n(exit code {command.outcome})"
    return f"I ran this in the container myself:\n{fence}\n$ {command.text}\n{printed}{ended}\n{fence}"
