"""What a message is that begins with a slash: a command of the terminal, run instead of being sent.

Each is an action of `actions.ACTIONS` with a name there; those that take words have a method `command_NAME` here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from textual import on
from textual.widgets import Input

from skilldeck_shared.errors import NotFound, SkilldeckError
from skilldeck_shared.terminal import clean
from skilldeck_tui import actions
from skilldeck_tui.chat.sending import ChatSending
from skilldeck_tui.chat.sessions import Session, sessions
from skilldeck_tui.screens.dialogs.confirm import Confirm
from skilldeck_tui.screens.dialogs.pick import Pick, Row
from skilldeck_tui.text.format import age, plural
from skilldeck_tui.widgets.composing.composer import Composer
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
        """Go to a session by its title, or by what was said in it."""
        known, now = sessions(self.state), self.deck.clock()
        rows = [Row(row.key, row.title, " · ".join(filter(None, (age(row.at, now), row.origin)))) for row in known]

        async def said(text: str) -> list[Row]:
            try:
                hits = await self.client.search(text)
            except SkilldeckError as error:
                self.deck.show_error(error)
                return []
            titles = {row.key: row.title for row in known}
            keys = [f"session:{hit['session']}" if hit["session"] else f"run:{hit['run']}" for hit in hits]
            return [
                Row(key, titles.get(key, "An earlier one"), str(hit["excerpt"]))
                for key, hit in zip(keys, hits, strict=True)
            ]

        def picked(key: str | None) -> None:
            if key is not None:
                self.open(key)

        empty = "Nothing found." if rows else "There is none yet."
        self.app.push_screen(Pick("Sessions and runs", rows, empty=empty, search=said), picked)

    # ------------------------------------------------------------ deleting

    @on(SessionList.DeleteAsked)
    def _delete_asked(self, event: SessionList.DeleteAsked) -> None:
        self._delete([row for row in sessions(self.state) if row.key in event.keys], event.group)

    def action_delete_session(self) -> None:
        self._delete([row for row in sessions(self.state) if row.key == self.current])

    def action_delete_runs(self) -> None:
        """Delete the runs that belong to no session and have ended."""
        runs = [row for row in sessions(self.state) if row.is_run and row.state not in ("busy", "asking")]
        if runs:
            self._delete(runs, "no session")
        else:
            self.notify("There is no run outside the sessions.", severity="warning")

    def _delete(self, rows: list[Session], group: str = "") -> None:
        """Ask, then delete; `group` says what runs that are deleted together have in common."""
        if not rows:
            return

        async def delete(yes: bool | None) -> None:
            for row in rows if yes else ():
                if not row.is_run:
                    with suppress(NotFound):  # somebody else was faster
                        await self.client.delete_session(row.id)
                for run in (row.id, *row.earlier) if row.is_run else ():
                    with suppress(NotFound):
                        await self.client.delete_run(run)
                self.forget(row.key)
            if yes and self.current in {row.key for row in rows}:
                self.open("")
                self.composer.text.focus()

        title, detail = f"“{rows[0].title}”", "Its transcript goes with it."
        if group == "no session":
            title = f"{plural(len(rows), 'run')} that belong{'s' if len(rows) == 1 else ''} to no session"
            detail = "Runs of commands, tests and other clients, with their transcripts."
        elif group:
            title, detail = f"{plural(len(rows), 'run')} of {clean(group)}", "Their transcripts go with them."
        elif len(rows) > 1:
            title, detail = f"the {len(rows)} that are marked", "Their transcripts go with them."
        self.app.push_screen(Confirm(f"Delete {title}?", detail), self.deck.doing(delete))

    def command_rename(self, title: str) -> None:
        if not self.current.startswith("session:"):
            self.notify("Only sessions have a name; send a message to start one.", severity="warning")
            return
        self.deck.attempt(self.retitle(self.current.removeprefix("session:"), title))

    async def retitle(self, session_id: str, title: str) -> None:
        """Name a session; the rest of its metadata stays."""
        known = (self.state.get("session", session_id) or {}).get("metadata") or {}
        await self.client.update_session(session_id, {**known, "title": title})

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
