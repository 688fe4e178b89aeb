"""What lint finds in one skill: the findings, and the place of the selected one with its reason and cure."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.terminal import clean
from skilldeck_tui import actions, editor
from skilldeck_tui.screens.base import is_open
from skilldeck_tui.screens.deck import Deck
from skilldeck_tui.screens.dialogs.dialog import Dialog
from skilldeck_tui.text.format import plural
from skilldeck_tui.widgets.frame.key_line import KeyLine
from skilldeck_tui.widgets.options import Options
from skilldeck_tui.widgets.problem import excerpt

if TYPE_CHECKING:
    from skilldeck_shared.lint.rules import Finding

SIGNS = {"error": ("✗", "$error"), "warning": ("!", "$warning"), "advice": ("·", "$muted")}
AROUND = 2


class LintScreen(Dialog[None]):
    """Of the skill `name` in `folder`; follows what the deck finds there anew."""

    BINDINGS = actions.bindings("lint")
    BINDING_GROUP_TITLE = "Lint"
    DEFAULT_CSS = """
    LintScreen { background: $background; }
    LintScreen .head { height: 2; padding: 0 2; background: $panel; text-wrap: nowrap; text-overflow: ellipsis; }
    LintScreen #findings { width: 46; height: 1fr; background: $surface; border: none; padding: 1 0; }
    LintScreen VerticalScroll { width: 1fr; padding: 1 2; }
    LintScreen VerticalScroll Static { width: 1fr; height: auto; }
    LintScreen.-narrow Horizontal { layout: vertical; }
    LintScreen.-narrow #findings { width: 1fr; height: auto; max-height: 8; padding: 0; }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal")]

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__()
        self.skill, self.folder = name, folder
        self.findings: list[Finding] = []

    @property
    def deck(self) -> Deck:
        return cast(Deck, self.app)

    def compose(self) -> ComposeResult:
        yield Static("", classes="head", markup=False)
        with Horizontal():
            yield Options(id="findings", markup=False)
            with VerticalScroll():
                yield Static("", classes="finding", markup=False)
        yield KeyLine()

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()
        self.show()

    def show(self) -> None:
        """The deck's findings, the selected one selected still."""
        findings = self.deck.lints.found.get(self.folder, [])
        options = self.query_one(OptionList)
        at = options.highlighted or 0
        if findings == self.findings and options.option_count:
            return
        self.findings = findings
        options.clear_options()
        for found in findings:
            sign, style = SIGNS[found.level]
            where = f"{found.path}:{found.line}" if found.line else found.path
            label = Content.assemble((f"{sign} ", style), found.rule, (f"  {clean(where)}", "$faint"))
            options.add_option(Option(label))
        fixable = sum(found.fix is not None for found in findings)
        counted = plural(len(findings), "finding") if findings else "Nothing found"
        mend = f" · f mends {fixable}" if fixable else ""
        head = Content.assemble((clean(self.skill), "bold"), (f"   {clean(str(self.folder))}", "$faint"))
        self.query_one(".head", Static).update(Content.assemble(head, (f"\n{counted}{mend}", "$muted")))
        if findings:
            options.highlighted = min(at, len(findings) - 1)
        else:
            text = "The skill keeps the specification, and nothing is known against it."
            self.query_one(".finding", Static).update(Content.styled(text, "$success"))

    @property
    def current(self) -> Finding | None:
        at = self.query_one(OptionList).highlighted
        return self.findings[at] if at is not None and at < len(self.findings) else None

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._describe()

    def on_resize(self) -> None:
        # Lines are cut to the width, which is known only once the screen is laid out.
        self.call_after_refresh(self._describe)

    def _describe(self) -> None:
        found = self.current
        if found is not None:
            scroll = self.query_one(VerticalScroll)
            width = (scroll.content_size.width or 60) - 8
            self.query_one(".finding", Static).update(describe(found, self.folder, width))
            scroll.scroll_home(animate=False)

    # ------------------------------------------------------------ actions

    @on(OptionList.OptionSelected)
    def action_edit(self) -> None:
        found = self.current
        path = self.folder / (found.path if found and found.path != "." else "SKILL.md")
        if editor.opened(self.app, path, found.line or None if found else None, found.column if found else None):
            self._changed()

    @work(exclusive=True, group="fix")
    async def action_fix(self) -> None:
        from skilldeck_shared.lint import engine, fixing

        others = self.deck.neighbours()
        try:
            mended = await asyncio.to_thread(fixing.fix, self.folder, lambda: engine.lint(self.folder, others=others))
        except SkilldeckError as error:
            self.deck.show_error(error)
            return
        if is_open(self):
            self.notify(
                f"Mended {plural(len(mended), 'finding')}." if mended else "Nothing here is mended by a machine."
            )
            self._changed()

    def _changed(self) -> None:
        self.deck.watcher.saved(self.folder)
        self.deck.look_for_faults(self.folder)

    def action_close(self) -> None:
        self.dismiss()


def describe(found: Finding, folder: Path, width: int) -> Content:
    """A finding with its place in the file, its reason and its cure."""
    from skilldeck_shared.lint.engine import RULES

    rule, (sign, style) = RULES[found.rule], SIGNS[found.level]
    parts: list[str | tuple[str, str]] = [(f"{sign} {found.rule}", f"bold {style}"), (f"  {found.level}\n", "$faint")]
    parts += [(f"{clean(found.place)}\n\n", "$muted"), clean(found.message)]
    parts += excerpt(folder / found.path, found.line or None, found.column, width, around=AROUND)
    parts += [("\n\nWhy   ", "$faint"), rule.why, ("\nCure  ", "$faint"), clean(found.cure)]
    parts += [("  f", "bold $accent"), (" does it", "$faint")] if found.fix is not None else []
    parts += [
        ("\n\nOff   ", "$faint"),
        (f"<!-- skilldeck-lint: ignore {found.rule} -->", "$muted"),
        (" in SKILL.md", "$faint"),
    ]
    return Content.assemble(*parts)
