"""What is allowed always, on the Daemon screen: shown, changed, revoked."""

from __future__ import annotations

from textual import on, work
from textual.widgets import DataTable, Static

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.screens.base import ModeScreen
from skilldeck_tui.screens.dialogs.confirm import Confirm
from skilldeck_tui.screens.dialogs.prompt import Prompt
from skilldeck_tui.text.format import one_line
from skilldeck_tui.widgets.rule_rows import RuleRows


class DaemonRules(ModeScreen):
    def list_sections(self) -> None:
        """Bring the line of the sections up to date."""
        raise NotImplementedError

    @work(exclusive=True, group="rules")
    async def _read_rules(self) -> None:
        try:
            self.query_one(RuleRows).fill(await self.client.rules())
        except SkilldeckError:  # the banner says so
            return
        self._show_rule()
        self.list_sections()

    @on(DataTable.RowHighlighted, "RuleRows")
    def _show_rule(self) -> None:
        rows, note = self.query_one(RuleRows), self.query_one("#rule-note", Static)
        rows.display = bool(rows.row_count)
        # In the column of a wide screen there is something else to see.
        self.query_one("#rules").set_class(not rows.display, "-none")
        note.update(rows.detail)

    @on(DataTable.RowSelected, "RuleRows")
    def action_edit_rule(self) -> None:
        rule = self.query_one(RuleRows).rule
        if rule is None or rule["kind"] != "shell":
            return

        async def change(prefix: str | None) -> None:
            if prefix and prefix != rule["prefix"]:
                await self.client.change_rule(str(rule["id"]), prefix)
                self._read_rules()

        detail = "Commands that begin with these words run without a question. A folder ends with its slash."
        self.app.push_screen(Prompt("Always allowed", detail, value=str(rule["prefix"])), self.deck.doing(change))

    def action_revoke(self) -> None:
        rule = self.query_one(RuleRows).rule
        if rule is None:
            return

        async def revoke(yes: bool | None) -> None:
            if yes:
                await self.client.revoke_rule(str(rule["id"]))
                self._read_rules()

        question = f"Ask again about “{one_line(str(rule['prefix']), 60)}”?"
        self.app.push_screen(
            Confirm(question, "What begins with it waits for a yes again.", yes="Ask again"), self.deck.doing(revoke)
        )
