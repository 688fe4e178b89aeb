"""Two versions of a skill side by side: which files differ, and how."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import cast

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.css.query import NoMatches
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.terminal import clean
from skilldeck_tui import actions
from skilldeck_tui.client.client import read_all
from skilldeck_tui.screens.base import is_open
from skilldeck_tui.screens.deck import Deck
from skilldeck_tui.screens.dialogs.dialog import Dialog
from skilldeck_tui.skills.difference import LIMIT, FileChange, Line, as_patch, changes, lines
from skilldeck_tui.state import Object
from skilldeck_tui.text.format import age, plural
from skilldeck_tui.widgets.frame.key_line import KeyLine
from skilldeck_tui.widgets.options import Options

SIGNS = {"added": ("+", "$success"), "removed": ("−", "$error"), "changed": ("~", "$warning"), "mode": ("x", "$muted")}
STYLES = {
    "added": "$success on $success 12%", "removed": "$error on $error 12%", "place": "$accent", "context": "$muted",
    "note": "italic $faint",
}  # fmt: skip
SHOWN = 5000


class DiffScreen(Dialog[None]):
    """`versions` newest first; compares `older` with `newer` (indexes into it)."""

    BINDINGS = actions.bindings("diff")
    BINDING_GROUP_TITLE = "Diff"
    DEFAULT_CSS = """
    DiffScreen { background: $background; }
    DiffScreen .head { height: 2; padding: 0 2; background: $panel; }
    DiffScreen #changed { width: 34; height: 1fr; background: $surface; border: none; padding: 1 0; }
    DiffScreen VerticalScroll { width: 1fr; padding: 1 1; }
    DiffScreen VerticalScroll Static { width: 1fr; height: auto; }
    DiffScreen.-narrow Horizontal { layout: vertical; }
    DiffScreen.-narrow #changed { width: 1fr; height: auto; max-height: 8; padding: 0; }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (72, "-normal")]

    def __init__(self, skill: Object, versions: list[Object], older: int, newer: int) -> None:
        super().__init__()
        self.skill, self.versions, self.older, self.newer = skill, versions, older, newer
        self.changed: list[FileChange] = []
        self.rows: dict[str, list[Line]] = {}
        self.loaded = False

    def compose(self) -> ComposeResult:
        yield Static("", classes="head", markup=False)
        with Horizontal():
            yield Options(id="changed", markup=False)
            with VerticalScroll():
                yield Static("", classes="diff", markup=False)
        yield KeyLine()

    def on_mount(self) -> None:
        self.compare()
        self.query_one(OptionList).focus()

    def compare(self) -> None:
        self.loaded = False
        old, new = self.versions[self.older], self.versions[self.newer]
        self.query_one(".head", Static).update(self._head(old, new, ""))
        self.query_one(".diff", Static).update(Content.styled("Comparing…", "$faint"))
        self._compare(old, new)

    def _head(self, old: Object, new: Object, summary: str) -> Content:
        now = cast(Deck, self.app).clock()
        parts: list[str | tuple[str, str]] = [(clean(str(self.skill.get("name"))), "bold"), "   "]
        for version, style in ((old, "$error"), (new, "$success")):
            then = age(version.get("created_at"), now)
            parts.append((f"v{version['version']}", f"bold {style}"))
            parts.append((f" {then}" if then == "now" else f" {then} ago", "$faint"))
            if version is old:
                parts.append(("  →  ", "$muted"))
        return Content.assemble(*parts, (f"\n{summary}", "$muted"))

    @work(exclusive=True, group="compare")
    async def _compare(self, old: Object, new: Object) -> None:
        client, id_ = cast(Deck, self.app).client, self.skill["id"]
        try:
            before = await client.skill_tree(id_, old["version"])
            after = await client.skill_tree(id_, new["version"])
            self.changed = changes(before, after)
            self.rows = {}
            for change in self.changed:
                a = b = b""
                if change.kind in ("removed", "changed"):
                    a = await read_all(client.read_skill_file(id_, change.path, old["version"]), LIMIT)
                if change.kind in ("added", "changed"):
                    b = await read_all(client.read_skill_file(id_, change.path, new["version"]), LIMIT)
                self.rows[change.path] = await asyncio.to_thread(lines, change, a, b)
        except SkilldeckError as error:
            if is_open(self):
                self.query_one(".diff", Static).update(Content.styled(error.message, "$error"))
            return
        if is_open(self):
            self.loaded = True
            # When the whole app ends, the screen is open to the last but its parts are gone.
            with suppress(NoMatches):
                self._list(old, new)

    def _list(self, old: Object, new: Object) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        total = [0, 0]
        for change in self.changed:
            rows = self.rows[change.path]
            plus, minus = (sum(row.kind == kind for row in rows) for kind in ("added", "removed"))
            total[0], total[1] = total[0] + plus, total[1] + minus
            sign, style = SIGNS[change.kind]
            counts = [(f" +{plus}", "$success")] * bool(plus) + [(f" −{minus}", "$error")] * bool(minus)
            options.add_option(
                Option(Content.assemble((f"{sign} ", style), clean(change.path), *counts), id=change.path)
            )
        summary = (
            f"{plural(len(self.changed), 'file')} {'differs' if len(self.changed) == 1 else 'differ'}"
            f" · +{total[0]} −{total[1]}"
            if self.changed
            else "No difference"
        )
        self.query_one(".head", Static).update(self._head(old, new, summary))
        if self.changed:
            options.highlighted = 0
        else:
            text = "Both versions hold the same files. [ and ] choose other versions."
            self.query_one(".diff", Static).update(Content.styled(text, "$faint"))

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        rows = self.rows.get(str(event.option_id), [])
        parts = [(row.text + "\n", STYLES[row.kind]) for row in rows[:SHOWN]]
        if len(rows) > SHOWN:
            parts.append((f"⋯ {len(rows) - SHOWN:,} more lines", "$faint"))
        self.query_one(".diff", Static).update(Content.assemble(*parts))
        self.query_one(VerticalScroll).scroll_home(animate=False)

    # ------------------------------------------------------------ actions

    def action_shift(self, step: int) -> None:
        """Move the older (−1) or the newer version one step; both stay different."""
        if step < 0:
            older = self.older + 1
            if older >= len(self.versions):
                self.notify("There is no older version.", timeout=2)
                return
            self.older = older
        elif self.newer - 1 >= 0 and self.newer - 1 != self.older:
            self.newer -= 1
        elif self.older - 1 > self.newer:
            self.older -= 1
        else:
            self.notify("There is no newer version.", timeout=2)
            return
        self.compare()

    def action_swap(self) -> None:
        self.older, self.newer = self.newer, self.older
        self.compare()

    def action_file(self, step: int) -> None:
        options = self.query_one(OptionList)
        if options.option_count:
            options.highlighted = ((options.highlighted or 0) + step) % options.option_count

    def action_copy(self) -> None:
        if not self.loaded:
            self.notify("Still comparing.", timeout=2)
            return
        text = "".join(as_patch(change.path, self.rows[change.path]) for change in self.changed)
        cast(Deck, self.app).copy(text, "the diff")

    def action_close(self) -> None:
        self.dismiss()
