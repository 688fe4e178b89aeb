"""What is allowed always: a row for each rule, and what the chosen one covers in words."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from skilldeck_shared.terminal import clean
from skilldeck_tui import actions
from skilldeck_tui.state import Object
from skilldeck_tui.text.format import one_line
from skilldeck_tui.widgets.data_rows import DataRows

NONE = "Nothing. Where commands wait for a yes, a in the question allows one always."


class RuleRows(DataRows):
    BINDINGS = actions.bindings("rules")
    BINDING_GROUP_TITLE = "Always allowed"

    def __init__(self) -> None:
        super().__init__(("Commands that begin with", "Skills"))
        self._rules: dict[str, Object] = {}

    def fill(self, rules: Sequence[Object]) -> None:
        self._rules = {str(rule["id"]): rule for rule in rules}
        self.show([
            (id_, (one_line(str(rule["prefix"])), Content.styled(_skills(rule), "$muted")))
            for id_, rule in self._rules.items()
        ])  # fmt: skip

    @property
    def rule(self) -> Object | None:
        return self._rules.get(self.current)

    @property
    def detail(self) -> Content:
        rule = self.rule
        if rule is None:
            return Content.styled(NONE, "$faint")
        also = ", also with more plain arguments" if rule["kind"] == "shell" else f", a call of {rule['kind']}"
        skills = f". Asked again when {_skills(rule)} changes" if rule.get("skills") else ""
        return Content.assemble((clean(str(rule["prefix"])), "$foreground"), (f"{also}{skills}.", "$faint"))


def _skills(rule: Object) -> str:
    return ", ".join(str(skill.get("name")) for skill in rule.get("skills") or [])
