"""What a message is that begins with a slash: a command of the terminal, run instead of being sent.

Each is an action of `actions.ACTIONS` with a name there; those that take words have a method `command_NAME` here.
"""

from __future__ import annotations

from collections.abc import Callable

from textual import on
from textual.widgets import Input

from skilldeck_tui import actions
from skilldeck_tui.chat.sending import ChatSending
from skilldeck_tui.chat.sessions import sessions
from skilldeck_tui.format import age, plural
from skilldeck_tui.screens.confirm import Confirm
from skilldeck_tui.screens.pick import Pick, Row
from skilldeck_tui.widgets.composer import Composer
from skilldeck_tui.widgets.find_bar import FindBar
from skilldeck_tui.widgets.session_list import SessionList


class ChatCommands(ChatSending):
    @on(Composer.CommandAsked)
    async def _command(self, event: Composer.CommandAsked) -> None:
        event.stop()
        action = actions.SLASH[event.name]
        takes: Callable[[str], None] | None = getattr(self, f"command_{event.name}", None)
        if event.argument and takes is not None:
            takes(event.argument)
            return
        if event.argument:
            self.notify(f"/{event.name} takes no words; they are left out.", severity="warning")
        places = {"app": self.app, "transcript": self.transcript, "composer": self.composer.text}
        await self.app.run_action(action.action, places.get(action.scope, self))

    def command_model(self, wanted: str) -> None:
        """Choose a model by its name, or the beginning of it when only one begins so."""
        names = [str(model["id"]) for model in self.state.models]
        found = [name for name in names if name == wanted] or [n for n in names if n.lower().startswith(wanted.lower())]
        if len(found) == 1:
            self.composer.choose_model(found[0])
        else:
            said = f"Several models begin with {wanted}" if found else f"No model {wanted} is loaded"
            self.notify(f"{said}: {', '.join(found or names) or 'there is none'}.", severity="warning", markup=False)

    def action_sessions(self) -> None:
        """Go to a session by its title."""
        found = [Row(row.key, row.title, age(row.at, self.deck.clock())) for row in sessions(self.state)]

        def picked(key: str | None) -> None:
            if key is not None:
                self.open(key)

        self.app.push_screen(Pick("Sessions and runs", found, empty="There is none of these letters."), picked)

    @on(SessionList.BulkAsked)
    def action_delete_runs(self) -> None:
        """Delete the runs that belong to no session and have ended."""
        runs = [row for row in sessions(self.state) if row.is_run and row.state not in ("busy", "asking")]
        if not runs:
            self.notify("There is no run outside the sessions.", severity="warning")
            return

        async def delete(yes: bool | None) -> None:
            for row in runs if yes else ():
                await self.client.delete_run(row.id)
            if yes and self.current in {row.key for row in runs}:
                self.open("")

        question = f"Delete {plural(len(runs), 'run')} that belong{'s' if len(runs) == 1 else ''} to no session?"
        self.app.push_screen(
            Confirm(question, "Runs of commands, tests and other clients, with their transcripts."),
            self.deck.doing(delete),
        )

    def command_rename(self, title: str) -> None:
        if not self.current.startswith("session:"):
            self.notify("Only sessions have a name; send a message to start one.", severity="warning")
            return
        self.deck.attempt(self.client.update_session(self.current.removeprefix("session:"), {"title": title}))

    def command_find(self, text: str) -> None:
        bar = self.query_one(FindBar)
        bar.open()
        bar.query_one(Input).value = text

    def command_new(self, text: str) -> None:
        """Begin a session with what it begins with, ready to be sent."""
        self.open("")
        self.composer.text.load_text(text)
        self.composer.text.move_cursor(self.composer.text.document.end)

    def command_export(self, kind: str) -> None:
        if kind in ("md", "markdown", "json"):
            self.export("json" if kind == "json" else "md")
        else:
            self.notify("/export takes md or json.", severity="warning")

    def export(self, kind: str) -> None:
        """Save the transcript in the current directory."""
        raise NotImplementedError
