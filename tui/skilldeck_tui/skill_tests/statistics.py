"""Pass rates and what can be said of them: intervals, the difference of two rates, what is flaky, what got worse.

Intervals are at 95 %. Tries of one test are alike, so where several tests are taken together their tries count for less
than as many independent ones (`effective`). What was not judged counts neither as passed nor as failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt

from skilldeck_tui.client.types import Object

Z = 1.959963984540054

Column = tuple[str, str]
"""(model, variant's label)."""
Test = tuple[str, str]
"""(source, name)."""


def wilson(passed: float, tried: float) -> tuple[float, float]:
    """The interval in which the true rate lies; (0, 1) when nothing was tried."""
    if not tried:
        return 0.0, 1.0
    rate, z2 = passed / tried, Z * Z
    middle = (rate + z2 / (2 * tried)) / (1 + z2 / tried)
    half = Z * sqrt(rate * (1 - rate) / tried + z2 / (4 * tried * tried)) / (1 + z2 / tried)
    return max(0.0, middle - half), min(1.0, middle + half)


def effective(tests: Sequence[tuple[int, int]]) -> float:
    """How many independent tries the tries of several tests, each (passed, tried), are worth.

    n / (1 + (m - 1) r): the design effect of clusters of m with the correlation r within them (its ANOVA estimate).
    Where nothing varies r cannot be estimated and is taken as 1: each test then counts once. One test by itself is not
    corrected.
    """
    tests = [(passed, tried) for passed, tried in tests if tried]
    count = sum(tried for _, tried in tests)
    if len(tests) < 2 or count == len(tests):
        return count
    mean, size = sum(passed for passed, _ in tests) / count, count / len(tests)
    between = sum(tried * (passed / tried - mean) ** 2 for passed, tried in tests) / (len(tests) - 1)
    within = sum(passed * (tried - passed) / tried for passed, tried in tests) / (count - len(tests))
    spread = between + (size - 1) * within
    alike = 1.0 if not spread else min(1.0, max(0.0, (between - within) / spread))
    return count / (1 + (size - 1) * alike)


@dataclass(frozen=True)
class Difference:
    """One rate less another, and the interval of that (Newcombe's, of two Wilson intervals)."""

    value: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether it is not zero."""
        return self.low > 0 or self.high < 0


@dataclass
class Cell:
    """Tries of one test in one column, or of many together; nothing is added once it was counted."""

    trials: list[Object] = field(default_factory=list)

    @cached_property
    def _counts(self) -> Counter[str]:
        return Counter(str(trial["status"]) for trial in self.trials)

    def of(self, *statuses: str) -> int:
        return sum(self._counts[status] for status in statuses)

    @property
    def passed(self) -> int:
        return self.of("passed")

    @property
    def tried(self) -> int:
        """Those that were decided."""
        return self.of("passed", "failed")

    @property
    def rate(self) -> float | None:
        return self.passed / self.tried if self.tried else None

    @cached_property
    def interval(self) -> tuple[float, float]:
        tried = effective([(cell.passed, cell.tried) for cell in self._tests()])
        return wilson((self.rate or 0.0) * tried, tried)

    def _tests(self) -> list[Cell]:
        """The tries of each test apart."""
        found: dict[Test, Cell] = {}
        for trial in self.trials:
            found.setdefault((trial["source"], trial["test"]), Cell()).trials.append(trial)
        return list(found.values())

    @property
    def flaky(self) -> bool:
        """The same question was answered well and badly."""
        return 0 < self.passed < self.tried

    @property
    def sentences(self) -> tuple[int, int, int]:
        """Of all sentences: (that hold, that do not, not judged)."""
        found = [check["status"] for trial in self.trials for check in trial["checks"] if check["kind"] == "sentence"]
        return found.count("passed"), found.count("failed"), found.count("not_judged")

    def mean(self, name: str) -> float:
        """Of a figure of those that ran to an end."""
        values = [float(trial.get(name) or 0) for trial in self.trials if trial["status"] != "error"]
        return sum(values) / len(values) if values else 0.0

    @property
    def tokens(self) -> float:
        return self.mean("input_tokens") + self.mean("output_tokens")


def difference(one: Cell, other: Cell) -> Difference | None:
    """By how much the first rate is above the second; None when either has nothing that was decided."""
    if one.rate is None or other.rate is None:
        return None
    (low, high), (low2, high2) = one.interval, other.interval
    value = one.rate - other.rate
    return Difference(
        value,
        value - sqrt((one.rate - low) ** 2 + (high2 - other.rate) ** 2),
        value + sqrt((high - one.rate) ** 2 + (other.rate - low2) ** 2),
    )


@dataclass(frozen=True)
class Regression:
    """A test that a version does worse than an earlier one. `certain`: it passed always and never does now, or the
    interval of the drop leaves zero out. `run_id` is a run that shows it."""

    test: Test
    model: str
    before: str
    now: str
    drop: Difference
    certain: bool
    run_id: str
    reason: str


class Matrix:
    """The trials of one or several evaluations, by test and column."""

    def __init__(self, trials: Iterable[Object]) -> None:
        self.cells: dict[tuple[Test, Column], Cell] = {}
        self.tests: list[Test] = []
        self.columns: list[Column] = []
        for trial in trials:
            test, column = (trial["source"], trial["test"]), (trial["model"], trial["variant"])
            if test not in self.tests:
                self.tests.append(test)
            if column not in self.columns:
                self.columns.append(column)
            self.cells.setdefault((test, column), Cell()).trials.append(trial)

    def cell(self, test: Test, column: Column) -> Cell:
        return self.cells.get((test, column), Cell())

    def column(self, column: Column, tests: Sequence[Test] | None = None) -> Cell:
        """All tries of a column together."""
        wanted = self.tests if tests is None else tests
        return Cell([trial for test in wanted for trial in self.cell(test, column).trials])

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(model for model, _ in self.columns))

    def variants(self, model: str) -> list[str]:
        return [variant for name, variant in self.columns if name == model]

    def lift(self, model: str, variant: str, baseline: str = "without") -> Difference | None:
        """What a version adds to the rate of a model without the skill, over the tests that both tried."""
        one, other = (model, variant), (model, baseline)
        shared = [test for test in self.tests if self.cell(test, one).tried and self.cell(test, other).tried]
        return difference(self.column(one, shared), self.column(other, shared)) if shared else None

    def flaky(self) -> list[tuple[Test, Column]]:
        return [place for place, cell in self.cells.items() if cell.flaky]

    def regressions(self, now: str, before: str) -> list[Regression]:
        """What the version `now` does worse than `before`, test by test and model by model."""
        found = []
        for model in self.models:
            for test in self.tests:
                new, old = self.cell(test, (model, now)), self.cell(test, (model, before))
                drop = difference(new, old)
                if drop is None or drop.value >= 0:
                    continue
                never = old.passed == old.tried and new.passed == 0
                failed = next(trial for trial in new.trials if trial["status"] == "failed")
                found.append(
                    Regression(
                        test, model, before, now, drop, never or drop.certain, failed["run_id"], why_failed(failed)
                    )
                )
        return found


def why_failed(trial: Object) -> str:
    """The first reason of a trial that failed; empty when it did not."""
    return next((c["reason"] or c["text"] for c in trial["checks"] if c["status"] == "failed"), "")


def failures(trial: Object) -> list[str]:
    """All reasons of a trial, one line each."""
    lines = [c["reason"] or c["text"] for c in trial["checks"] if c["status"] == "failed"]
    return [line for text in lines for line in text.split("\n")]
