"""`!command`: a command of the person's own in the session's container, shown with the runs.

It needs no permission: whoever writes it here is the one who would be asked. A session that has no container yet is
given one, which its first run goes on in. The model reads the command, and what it printed, with the next message;
until then both are kept here (`own_kept`), and shown whenever the session is opened.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from functools import cached_property

from textual import on, work

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.chat.composing.draft import Object, Outgoing
from skilldeck_tui.chat.made import ChatMade
from skilldeck_tui.chat.own_kept import Done, OwnCommands
from skilldeck_tui.chat.transcripts.items import Command, ShellItem
from skilldeck_tui.chat.transcripts.transcript import ShownRun
from skilldeck_tui.widgets.composing.composer import Composer

SHOWN = 8_000
"""Characters of the output that the model reads: its beginning and its end."""


@dataclass
class Running:
    key: str
    turn: ShownRun


class ChatOwnCommands(ChatMade):
    def init_runs(self) -> None:
        super().init_runs()
        self._commands_running: list[Running] = []
        self._telling: dict[str, list[Done]] = {}  # what a message tells that is being sent

    @cached_property
    def own(self) -> OwnCommands:
        """Of each session what the model does not know yet, and the container that was made for its commands before any
        run had one."""
        path = self.deck.memory.path
        return OwnCommands(path and path.with_name("own-commands.json"))

    def open(self, key: str) -> None:
        if not key:  # a new session knows nothing of the one that was new before
            self.own.forget("")
        super().open(key)

    def unsent(self, key: str) -> list[ShownRun]:
        done = [done.shown() for done in self.own.of(key).commands]
        return [*done, *(running.turn for running in self._commands_running if running.key == key)]

    @on(Composer.ShellAsked)
    def _shell_asked(self, event: Composer.ShellAsked) -> None:
        event.stop()
        self._run(self.current, event.command)

    @work(group="own")
    async def _run(self, key: str, text: str) -> None:
        command = Command(text, started=self.deck.clock())
        item = ShellItem("", commands=[command], running=True)
        turn = ShownRun("", items=[item], status="in_progress", started=command.started)
        running = Running(key, turn)
        self._commands_running.append(running)
        self.turns.append(turn)
        self.remove_class("-empty")
        await self.transcript.add(turn)
        self.animate_live(True)
        result: Object | None = None
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
        finally:
            command.printed = command.output.total_bytes
            turn.ended = command.ended = self.deck.clock()
            item.running, item.done = False, True
            turn.revision += 1
            item.touch()
            self._commands_running = [other for other in self._commands_running if other is not running]
            if result is not None and command.outcome is not None:
                printed = str(result.get("stdout") or ""), str(result.get("stderr") or "")
                done = Done(text, *printed, command.outcome, command.started, command.ended, turn.container)
                self.own.add(running.key, done)
            if self.is_running:
                self.animate_live(bool(self._reading))
                self.deck.touch({"run"})

    async def _place(self, key: str) -> str:
        """The session's container: the one of its runs, else one made for it, as its next run would be given."""
        used = next((turn.container for turn in reversed(self.turns) if turn.container), "")
        if used and self._alive(used):
            return used
        kept, environment = self.own.of(key), self.composer.draft.environment(self.state)
        if not kept.container or kept.asked != environment or not self._alive(kept.container):
            contents = {name: value for name, value in environment.items() if name != "type"}
            made = str((await self.client.create_container({"name": "session", **contents}))["id"])
            self.own.made(key, made, environment)
            return made
        return kept.container

    def _alive(self, container: str) -> bool:
        return bool((self.state.get("container", container) or {}).get("status", "running") == "running")

    def _body(self, key: str, message: Outgoing, text: str) -> Object:
        """As it is, in the container of one's own commands until a run of the session has used it."""
        body, kept = super()._body(key, message, text), self.own.of(key)
        made = kept.container
        used = any(turn.container == made for turn in self.turns if turn.run_id)
        for tool in body["tools"] if made and self._alive(made) and not used else ():
            if tool.get("environment") == kept.asked:
                tool["environment"] = {"type": "container_reference", "container_id": made}
        return body

    def _moved(self, before: str, key: str) -> None:
        super()._moved(before, key)
        self.own.move(before, key)
        for running in self._commands_running:
            running.key = key if running.key == before else running.key
        if before in self._telling:
            self._telling[key] = self._telling.pop(before)

    async def _mentioned(self, key: str, message: Outgoing) -> str:
        text = await super()._mentioned(key, message)
        self._telling[key] = self.own.of(key).commands
        return "\n\n".join([*(as_text(done.command()) for done in self._telling[key]), text])

    def began(self, key: str) -> None:
        super().began(key)
        self.own.told(key, self._telling.pop(key, []))

    def forget(self, key: str) -> None:
        super().forget(key)
        self.own.forget(key)


def as_text(command: Command) -> str:
    """A command and what it printed, for the model."""
    printed = command.output.text()
    if len(printed) > SHOWN:
        printed = f"{printed[: SHOWN // 2]}\n[…]\n{printed[-SHOWN // 2 :]}"
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", printed)), 0)
    ended = "" if command.outcome == 0 else f"\n(exit code {command.outcome})"
    return f"I ran this in the container myself:\n{fence}\n$ {command.text}\n{printed}{ended}\n{fence}"
