"""The tests of the selected skill: how far they are, what failed and why. What needs a person comes first."""

from __future__ import annotations

from textwrap import wrap

from textual.content import Content
from textual.widgets import Static

from skilldeck_shared.terminal import clean
from skilldeck_tui.skill_tests.background import Suite
from skilldeck_tui.skill_tests.suite import Case, Result
from skilldeck_tui.text.format import duration, plural

BAR = 24
SHOWN_FAILURES = 3


class SuitePanel(Static):
    DEFAULT_CSS = """
    SuitePanel {
        display: none; height: auto; max-height: 16; padding: 0 1; border: round $border;
        border-title-color: $muted; border-subtitle-color: $faint;
    }
    SuitePanel.-open { display: block; }
    SuitePanel.-failed { border: round $error 50%; border-title-color: $error; }
    SuitePanel.-passed { border: round $success 50%; border-title-color: $success; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._suite: Suite | None = None

    def on_resize(self) -> None:
        if self._suite is not None:
            self.update(describe(self._suite, self.content_size.width))

    def show(self, suite: Suite | None, on_save: bool) -> None:
        """Nothing for a skill whose tests were not asked for."""
        self._suite = suite
        self.set_class(suite is not None, "-open")
        if suite is None:
            return
        bad = bool(suite.failed or suite.error)
        self.set_class(bad, "-failed")
        self.set_class(not bad and not suite.running and bool(suite.results), "-passed")
        self.border_title = title(suite)
        keys = ["t stops"] if suite.running else ["t again"]
        keys += ["o run"] if any(result.run_id for result in suite.results.values()) else []
        self.border_subtitle = " · ".join([*keys, f"T on save {'on' if on_save else 'off'}"])
        self.update(describe(suite, self.content_size.width or 50))


def title(suite: Suite) -> str:
    if suite.error is not None and not suite.results:
        return "Tests cannot run"
    total = len(suite.cases)
    if suite.running:
        return f"Testing {len(suite.results)} of {total}" if total else "Testing"
    failed = len(suite.failed)
    if len(suite.results) < total:
        return f"Tests stopped after {len(suite.results)} of {total}"
    return f"{failed} of {plural(total, 'test')} failed" if failed else f"{plural(total, 'test')} passed"


def describe(suite: Suite, width: int) -> Content:
    lines: list[Content] = []
    if suite.running and suite.cases:
        filled = round(BAR * len(suite.results) / len(suite.cases))
        lines.append(Content.assemble(("━" * filled, "$accent"), ("━" * (BAR - filled), "$faint")))
    if suite.error is not None:
        lines.append(Content.styled(clean(suite.error.title), "$error"))
        if suite.error.hint:
            lines.append(Content.styled(clean(suite.error.hint), "$muted"))
    order = {"failed": 0, "running": 1, "waiting": 2, "passed": 3}
    for case in sorted(suite.cases, key=lambda case: order[_state(suite, case)]):
        lines += _case(suite, case, width)
    return Content("\n").join(lines)


def _state(suite: Suite, case: Case) -> str:
    key = suite.key(case)
    if (result := suite.results.get(key)) is not None:
        return "passed" if result.passed else "failed"
    return "running" if suite.running and key in suite.started else "waiting"


def _case(suite: Suite, case: Case, width: int) -> list[Content]:
    glyph, style = {
        "failed": ("✗", "$error"), "running": ("◌", "$accent"), "waiting": ("·", "$faint"), "passed": ("✓", "$success"),
    }[_state(suite, case)]  # fmt: skip
    result = suite.results.get(suite.key(case))
    took = f"  {duration(result.seconds)}" if result is not None else ""
    lines = [Content.assemble((f"{glyph} ", style), clean(case.name), (took, "$faint"))]
    return lines + (_why(result, width) if result is not None else [])


def _why(result: Result, width: int) -> list[Content]:
    rows = [
        row
        for failure in result.failures[:SHOWN_FAILURES]
        for row in wrap(clean(failure), max(20, width), initial_indent="  ", subsequent_indent="    ")
    ]
    lines = [Content.styled(row, "$muted") for row in rows]
    more = len(result.failures) - SHOWN_FAILURES
    return [*lines, Content.styled(f"  and {more} more", "$faint")] if more > 0 else lines
