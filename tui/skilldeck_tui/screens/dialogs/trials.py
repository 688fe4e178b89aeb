"""The tries of one cell of a matrix: how each was judged, what it ran and said; two of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
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
from skilldeck_tui.screens.base import is_open
from skilldeck_tui.screens.deck import Deck
from skilldeck_tui.screens.dialogs.dialog import Dialog
from skilldeck_tui.skill_tests.checking.ran import commands_ran
from skilldeck_tui.state import Object
from skilldeck_tui.text.format import count, duration, plural
from skilldeck_tui.widgets.frame.key_line import KeyLine
from skilldeck_tui.widgets.options import Options

SIGNS = {
    "passed": ("✓", "$success"),
    "failed": ("✗", "$error"),
    "not_judged": ("?", "$warning"),
    "error": ("!", "$error"),
}
SHOWN_OUTPUT = 4000


class TrialsScreen(Dialog[None]):
    """`trials` as they are kept (docs/evals.md); runs are asked for when one is looked at."""

    BINDINGS = actions.bindings("trials")
    BINDING_GROUP_TITLE = "Tries"
    DEFAULT_CSS = """
    TrialsScreen { background: $background; }
    TrialsScreen .head { height: 1; padding: 0 2; background: $panel; }
    TrialsScreen #tries { width: 30; height: 1fr; background: $surface; border: none; padding: 1 0; }
    TrialsScreen VerticalScroll { width: 1fr; padding: 1 2; }
    TrialsScreen #other { border-left: solid $border; display: none; }
    TrialsScreen.-two #other { display: block; }
    TrialsScreen.-two #tries { display: none; }
    TrialsScreen VerticalScroll Static { width: 1fr; height: auto; }
    TrialsScreen.-narrow #tries { width: 24; }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal")]

    def __init__(self, title: str, trials: Sequence[Object]) -> None:
        super().__init__()
        self.heading, self.trials = title, list(trials)
        self.marked: int | None = None
        self._runs: dict[str, Object] = {}

    @property
    def deck(self) -> Deck:
        return cast(Deck, self.app)

    def compose(self) -> ComposeResult:
        yield Static(Content.assemble((clean(self.heading), "bold")), classes="head", markup=False)
        with Horizontal():
            yield Options(id="tries", markup=False)
            with VerticalScroll(id="one"):
                yield Static("", markup=False)
            with VerticalScroll(id="other"):
                yield Static("", markup=False)
        yield KeyLine()

    def on_mount(self) -> None:
        options = self.query_one(OptionList)
        options.add_options(Option(self._line(at)) for at in range(len(self.trials)))
        options.highlighted = next((at for at, trial in enumerate(self.trials) if trial["status"] != "passed"), 0)
        options.focus()

    def _line(self, at: int) -> Content:
        trial = self.trials[at]
        sign, style = SIGNS[trial["status"]]
        mark = ("▸ ", "$accent") if at == self.marked else ("  ", "")
        took = f"  {duration(float(trial['seconds']))}"
        columns = {(one["model"], one["variant"]) for one in self.trials}
        variant = f"{_version(trial)} " if len(columns) > 1 else ""
        return Content.assemble(mark, (f"{sign} ", style), f"{variant}try {int(trial['number']) + 1}", (took, "$faint"))

    @property
    def current(self) -> int:
        return self.query_one(OptionList).highlighted or 0

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._show("#one", self.current)

    def _show(self, pane: str, at: int) -> None:
        trial = self.trials[at]
        run = self._runs.get(str(trial["run_id"]))
        self.query_one(f"{pane} Static", Static).update(describe(trial, run))
        self.query_one(pane, VerticalScroll).scroll_home(animate=False)
        if run is None and trial["run_id"]:
            self._fetch(pane, at)

    @work(group="fetch")
    async def _fetch(self, pane: str, at: int) -> None:
        """The run, for what its commands printed; one that is gone is shown by what was kept of it."""
        trial = self.trials[at]
        # When the whole app ends, the screen is open to the last but its parts are gone.
        with suppress(SkilldeckError, NoMatches):
            detail = await self.deck.client.run(str(trial["run_id"]))
            self._runs[str(trial["run_id"])] = detail.response
            shown = self.marked if pane == "#other" else self.current
            if is_open(self) and shown == at:
                self.query_one(f"{pane} Static", Static).update(describe(trial, detail.response))

    # ------------------------------------------------------------ actions

    def action_compare(self) -> None:
        """Mark this try; then, at another, both side by side."""
        options = self.query_one(OptionList)
        if self.has_class("-two"):
            self.action_close()
            return
        if self.marked is None or self.marked == self.current:
            self.marked = None if self.marked == self.current else self.current
            for at in range(len(self.trials)):
                options.replace_option_prompt_at_index(at, self._line(at))
            if self.marked is not None:
                text = "Go to another try and press c again." if len(self.trials) > 1 else "There is one try only."
                self.notify(text, timeout=3)
            return
        self.add_class("-two")
        self._show("#other", self.marked)
        self.query_one("#one", VerticalScroll).focus()

    def action_open_run(self) -> None:
        run_id = str(self.trials[self.current]["run_id"])
        if not run_id:
            self.notify("This try made no run.", timeout=3)
            return
        deck = self.deck
        for screen in reversed(self.app.screen_stack):
            if isinstance(screen, Dialog):
                screen.dismiss()
        deck.open_run(run_id)

    def action_close(self) -> None:
        if self.has_class("-two"):
            self.remove_class("-two")
            self.query_one(OptionList).focus()
        else:
            self.dismiss()


def describe(trial: Object, run: Object | None) -> Content:
    """A try: how it was judged, then what it ran (with what was printed, where the run is still there) and said."""
    sign, style = SIGNS[trial["status"]]
    tokens = count(float(trial["input_tokens"]) + float(trial["output_tokens"]))
    figures = f"{duration(float(trial['seconds']))} · {tokens} tokens · {plural(int(trial['turns']), 'turn')}"
    parts: list[str | tuple[str, str]] = [
        (f"{sign} {trial['status'].replace('_', ' ')}", f"bold {style}"),
        (f"   {_version(trial)} · {trial['model']}\n", "$muted"),
        (f"{figures}\n", "$faint"),
    ]  # fmt: skip
    for check in trial["checks"]:
        mark, colour = SIGNS[check["status"]]
        parts += [(f"\n{mark} ", colour), clean(str(check["text"]))]
        if check["status"] != "passed" and check["reason"]:
            parts.append((f"\n  {clean(str(check['reason']))}", "$muted"))
        if check["evidence"]:
            parts.append((f"\n  “{clean(str(check['evidence']))}”", "italic $faint"))
    parts.append("\n")
    for command, code, output in _calls(trial, run):
        ended = "" if code == 0 else f"  exit {code}" if code is not None else "  did not end"
        parts += [("\n$ ", "$accent"), (clean(command), "bold"), (ended, "$error")]
        if output:
            parts.append((f"\n{clean(output)}", "$muted"))
    if trial["answer"]:
        parts += [("\n\nanswer\n", "$faint"), clean(str(trial["answer"]))]
    return Content.assemble(*parts)


def _version(trial: Object) -> str:
    return f"v{trial['version']}" if trial.get("version") else clean(str(trial["variant"]))


def _calls(trial: Object, run: Object | None) -> list[tuple[str, int | None, str]]:
    if run is None:
        return [(str(entry["command"]), entry["exit_code"], "") for entry in trial["commands"]]
    found = []
    for one in commands_ran(run.get("output") or []):
        said = (one.stdout + one.stderr).rstrip()
        said = said if len(said) <= SHOWN_OUTPUT else said[:SHOWN_OUTPUT] + "\n⋯"
        found.append((one.command, one.exit_code, said))
    return found
