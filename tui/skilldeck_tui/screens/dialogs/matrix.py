"""The matrix of a skill's tests: tests by models and versions, filled as tries end. A cell opens its runs."""

from __future__ import annotations

import asyncio
import os
import sys
import webbrowser
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.css.query import NoMatches
from textual.widgets import DataTable, Static

from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.terminal import clean
from skilldeck_tui import actions
from skilldeck_tui.screens.deck import Deck
from skilldeck_tui.screens.dialogs.dialog import Dialog
from skilldeck_tui.screens.dialogs.trials import TrialsScreen
from skilldeck_tui.state import Object
from skilldeck_tui.text.format import age, count, duration, one_line, plural
from skilldeck_tui.text.rich_text import rich_text
from skilldeck_tui.widgets.frame.key_line import KeyLine

if TYPE_CHECKING:
    from skilldeck_tui.skill_tests.statistics import Cell, Column, Matrix, Test

KEPT = 50
ALL, LIFT, COST = "all", "lift", "cost"
"""Rows below the tests."""


class MatrixScreen(Dialog[None]):
    """Of the skill `name`; `folder` (None: not here) is where its tests are. Shows the newest evaluation first, and
    follows the one that runs."""

    BINDINGS = actions.bindings("matrix")
    BINDING_GROUP_TITLE = "Matrix"
    DEFAULT_CSS = """
    MatrixScreen { background: $background; }
    MatrixScreen .head { height: 2; padding: 0 2; background: $panel; }
    MatrixScreen DataTable { height: 1fr; background: transparent; padding: 1 1; scrollbar-size-vertical: 1; }
    MatrixScreen .says { height: auto; max-height: 5; padding: 0 2 1 2; color: $muted; }
    """

    def __init__(self, name: str, folder: Path | None) -> None:
        super().__init__()
        self.skill, self.folder = name, folder
        self.evaluations: list[Object] = []
        self.at = 0
        self.trials: dict[str, Object] = {}
        self.matrix: Matrix | None = None
        self._shape: tuple[object, ...] = ()
        self._rows: list[Test] = []

    @property
    def deck(self) -> Deck:
        return cast(Deck, self.app)

    @property
    def evaluation(self) -> Object | None:
        return self.evaluations[self.at] if self.at < len(self.evaluations) else None

    def compose(self) -> ComposeResult:
        yield Static("", classes="head", markup=False)
        yield DataTable(cursor_type="cell", zebra_stripes=False)
        yield Static("", classes="says", markup=False)
        yield KeyLine()

    def on_mount(self) -> None:
        self.query_one(DataTable).focus()
        self._load()

    # ------------------------------------------------------------ what there is

    @work(exclusive=True, group="load")
    async def _load(self) -> None:
        from skilldeck_tui.skill_tests.matrix.runner import trials_of

        try:
            if not self.evaluations:
                self.evaluations = (await self.deck.client.evaluations(skill=self.skill, limit=KEPT)).data
            found = self.evaluation
            trials = await trials_of(self.deck.client, str(found["id"])) if found else []
        except SkilldeckError as error:
            self.deck.show_error(error)
            return
        # When the whole app ends, the screen is open to the last but its parts are gone.
        with suppress(NoMatches):
            self.trials = {str(trial["id"]): trial for trial in trials}
            self.show()

    def follow(self) -> None:
        """What the daemon published of evaluations and trials since."""
        objects = self.deck.state.objects
        mine = [one for one in objects.get("evaluation", {}).values() if one.get("skill") == self.skill]
        known = {str(one["id"]): at for at, one in enumerate(self.evaluations)}
        for one in sorted(mine, key=lambda one: (one["created_at"], one["id"])):
            at = known.get(str(one["id"]))
            if at is not None:
                self.evaluations[at] = one
                continue
            # A new one is shown by who looks at the newest.
            self.evaluations.insert(0, one)
            if self.at:
                self.at += 1
            else:
                self.trials = {}
            known = {str(one["id"]): at for at, one in enumerate(self.evaluations)}
        found = self.evaluation
        if found is not None:
            news = (trial for trial in objects.get("trial", {}).values() if trial.get("evaluation_id") == found["id"])
            self.trials |= {str(trial["id"]): trial for trial in news}
        self.show()

    # ------------------------------------------------------------ showing

    def show(self) -> None:
        from skilldeck_tui.skill_tests.statistics import Matrix

        found, table = self.evaluation, self.query_one(DataTable)
        self.query_one(".head", Static).update(self._head(found))
        if found is None:
            says = "No evaluation of this skill is kept yet."
            says += " r runs one: the last two versions, and none." if self.folder else ""
            self.query_one(".says", Static).update(says)
            table.clear(columns=True)
            return
        self.matrix = Matrix(sorted(self.trials.values(), key=lambda trial: (trial["created_at"], trial["id"])))
        listed = found.get("tests") or []
        tests = [(str(test["source"]), str(test["name"])) for test in listed] or self.matrix.tests
        columns: list[Column] = [(m, str(v["label"])) for m in found["models"] for v in found["variants"]]
        bottom = [ALL, *([LIFT] if any(v["baseline"] for v in found["variants"]) else []), COST]
        shape = (found["id"], tuple(tests), tuple(columns))
        if shape != self._shape:
            self._shape, self._rows = shape, tests
            table.clear(columns=True)
            table.add_column("Test", key="test")
            for column in columns:
                table.add_column(self._label(found, column), key=_key(column), width=13)
            for number, (_, name) in enumerate(tests):
                table.add_row(one_line(name)[:40], *[""] * len(columns), key=str(number))
            for key in bottom:
                table.add_row(
                    rich_text(Content.styled(key, "$faint"), self.app.theme_variables), *[""] * len(columns), key=key
                )
            table.move_cursor(row=0, column=1)
        for column in columns:
            self._show_column(table, found, column, tests, bottom)
        self._say()

    def _show_column(
        self, table: DataTable[object], found: Object, column: Column, tests: list[Test], bottom: list[str]
    ) -> None:
        assert self.matrix is not None
        runs, running = int(found.get("runs") or 1), found["status"] == "running"
        for number, test in enumerate(tests):
            self._put(table, str(number), column, cell_text(self.matrix.cell(test, column), runs if running else 0))
        whole = self.matrix.column(column)
        self._put(table, ALL, column, rate_text(whole))
        if LIFT in bottom:
            baseline = any(v["baseline"] and v["label"] == column[1] for v in found["variants"])
            lift = None if baseline else self.matrix.lift(*column)
            text = "" if lift is None else f"{100 * lift.value:+.0f} %"
            style = "$muted" if lift is None or not lift.certain else "$success" if lift.value > 0 else "$error"
            self._put(table, LIFT, column, Content.styled(text, style))
        cost = f"{count(whole.tokens)} tok {duration(whole.mean('seconds'))}" if whole.trials else ""
        self._put(table, COST, column, Content.styled(cost, "$faint"))

    def _put(self, table: DataTable[object], row: str, column: Column, text: Content) -> None:
        table.update_cell(row, _key(column), rich_text(text, self.app.theme_variables))

    def _label(self, found: Object, column: Column) -> str:
        model, variant = column
        version = next((str(v.get("version") or "") for v in found["variants"] if v["label"] == variant), "")
        label = f"v{version}" if version and version != variant else f"v{variant}" if variant.isdigit() else variant
        return f"{label} {model}"[:13] if len(found["models"]) > 1 else label[:13]

    def _head(self, found: Object | None) -> Content:
        parts: list[str | tuple[str, str]] = [(clean(self.skill), "bold")]
        if found is None:
            return Content.assemble(*parts)
        then = age(found.get("created_at") or None, self.deck.clock())
        parts.append((f"   {then}{' ago' if then not in ('', 'now') else ''}", "$faint"))
        parts.append((f"   {self.at + 1} of {len(self.evaluations)}", "$faint"))
        done = len(self.trials)
        if found["status"] == "running":
            parts.append((f"\n◌ {done} of {found['total']} tries", "$accent"))
        else:
            word = "" if found["status"] == "completed" else f", {found['status']}"
            parts.append((f"\n{plural(done, 'try')}{word}".replace("trys", "tries"), "$muted"))
        parts.append((f"   {clean(', '.join(found['models']))}", "$faint"))
        return Content.assemble(*parts)

    @property
    def current(self) -> tuple[str, Column | None]:
        """The row's key and the column under the cursor."""
        table, found = self.query_one(DataTable), self.evaluation
        if found is None or not table.row_count:
            return "", None
        row, column = table.cursor_coordinate
        columns: list[Column] = [(m, str(v["label"])) for m in found["models"] for v in found["variants"]]
        key = str(row) if row < len(self._rows) else ALL
        return key, columns[column - 1] if 0 < column <= len(columns) else None

    def _cell(self) -> Cell | None:
        row, column = self.current
        if self.matrix is None or not row:
            return None
        if column is None:  # the test's name: its tries in all columns, to be compared with each other
            return self._across(row)
        return self.matrix.column(column) if row == ALL else self.matrix.cell(self._rows[int(row)], column)

    def _across(self, row: str) -> Cell | None:
        if self.matrix is None or row == ALL:
            return None
        cells = [self.matrix.cell(self._rows[int(row)], column) for column in self.matrix.columns]
        return replace(cells[0], trials=[trial for cell in cells for trial in cell.trials]) if cells else None

    @on(DataTable.CellHighlighted)
    def _say(self) -> None:
        from skilldeck_tui.skill_tests.statistics import why_failed

        cell = self._cell()
        if cell is None or not cell.trials:
            self.query_one(".says", Static).update("")
            return
        low, high = cell.interval
        said = (
            f"{cell.passed} of {cell.tried} passed · the true rate lies between {100 * low:.0f} and {100 * high:.0f} %"
        )
        why = next((why for trial in cell.trials if (why := why_failed(trial))), "")
        flaky = " · flaky" if cell.flaky and self.current[0] != ALL else ""
        self.query_one(".says", Static).update(
            Content.assemble((said + flaky, "$muted"), (f"\n{clean(why)}" if why else "", "$error"))
        )

    # ------------------------------------------------------------ actions

    @on(DataTable.CellSelected)
    def action_open(self) -> None:
        cell, (row, column) = self._cell(), self.current
        if cell is None or not cell.trials:
            self.notify("No try of this cell has ended yet.", timeout=2)
            return
        test = "all tests" if row == ALL else self._rows[int(row)][1]
        where = f"{column[1]} · {column[0]}" if column is not None else "all columns"
        self.app.push_screen(TrialsScreen(f"{test} · {where}", cell.trials))

    def action_other(self, step: int) -> None:
        """An older (1) or newer (−1) evaluation."""
        if not 0 <= self.at + step < len(self.evaluations):
            self.notify(f"There is no {'older' if step > 0 else 'newer'} one.", timeout=2)
            return
        self.at += step
        self.trials = {}
        self._load()

    def action_run(self) -> None:
        if self.folder is None:
            self.notify("Tests run from the skill's folder, which is not here.", severity="warning")
            return
        if self.deck.tests.evaluating(self.folder):
            self.deck.tests.stop_evaluating(self.folder)
        else:
            self.deck.tests.evaluate(self.folder, on_error=self.deck.show_error)

    @work(exclusive=True, group="report")
    async def action_report(self) -> None:
        if (found := self.evaluation) is None:
            return
        from skilldeck_tui.skill_tests.reports.html import page
        from skilldeck_tui.skill_tests.reports.summary import summarise

        trials = list(self.trials.values())
        text = page(summarise(found, trials), trials)
        path = Path.cwd() / f"skilldeck-{found['id']}.html"
        try:
            await asyncio.to_thread(path.write_text, text, "utf-8", "replace")
        except OSError as error:
            self.notify(f"{path} cannot be written: {error.strerror}.", severity="error", markup=False)
            return
        # Without a desktop a browser of the terminal would draw over this.
        if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
            await asyncio.to_thread(webbrowser.open, path.as_uri())
        self.notify(f"Written to {path}", timeout=5, markup=False)

    def action_close(self) -> None:
        self.dismiss()


def _key(column: Column) -> str:
    return "\0".join(column)


def cell_text(cell: Cell, wanted: int) -> Content:
    """Passed of tried; `wanted` tries are still to come to (0: none)."""
    left = max(0, wanted - len(cell.trials))
    pending = (f" ◌{left}", "$accent") if left else ("", "")
    errors = cell.of("error", "not_judged")
    aside = (f" ?{errors}", "$warning") if errors else ("", "")
    if not cell.tried:
        return Content.assemble(("·", "$faint") if not errors else "", aside, pending)
    style = "$success" if cell.passed == cell.tried else "$error" if not cell.passed else "$warning"
    sign = "✓" if cell.passed == cell.tried else "✗" if not cell.passed else "~"
    return Content.assemble((f"{sign} {cell.passed}/{cell.tried}", style), aside, pending)


def rate_text(cell: Cell) -> Content:
    """The rate and its interval, in per cent."""
    if cell.rate is None:
        return Content("")
    low, high = cell.interval
    return Content.assemble((f"{100 * cell.rate:.0f} %", "bold"), (f" {100 * low:.0f}–{100 * high:.0f}", "$faint"))
