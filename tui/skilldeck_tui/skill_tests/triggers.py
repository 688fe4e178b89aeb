"""Whether a skill is opened when it should be, and left alone when it should not: prompts against the installed set.

The prompts are those of `evals/triggers.json` (`[{"query": "…", "should_trigger": true}, …]`, as skill-creator has
them) and of all tests that say `triggered`. Of each only that is asked, and its run ends once it is opened. The skill
stands among all others that the daemon has, as it would for a request that names none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from skilldeck_tui.client.types import Object
from skilldeck_tui.skill_tests.cases import Case, EvalError
from skilldeck_tui.skill_tests.statistics import Cell
from skilldeck_tui.skill_tests.written.evals_json import read_evals
from skilldeck_tui.skill_tests.written.reading import eval_files, load_cases

FILE = "triggers.json"


def trigger_cases(folder: Path) -> list[Case]:
    """The prompts, each with the one check. Raises EvalError when there is none, or a file is wrong."""
    place = folder / "evals" / FILE
    cases = read_evals(folder, place) if place.is_file() else []
    if eval_files(folder):
        cases += load_cases(folder)
    found = []
    for case in cases:
        checks = tuple(check for check in case.checks if check.kind == "triggered")
        if checks:
            found.append(replace(case, checks=checks, expected="", probe=True))
    if not found:
        raise EvalError(
            f"{folder} says of no prompt whether it should open the skill.",
            f'Write evals/{FILE}: [{{"query": "…", "should_trigger": true}}, …].',
        )
    return found


@dataclass(frozen=True)
class Triggers:
    """How one model chose. `wrong` are the tries that went wrong: (prompt's name, whether it should open the skill, the
    other skills that were opened)."""

    model: str
    should: Cell
    should_not: Cell
    wrong: tuple[tuple[str, bool, tuple[str, ...]], ...]

    def as_json(self) -> Object:
        def rate(cell: Cell) -> Object:
            low, high = cell.interval
            return {"right": cell.passed, "tried": cell.tried, "rate": cell.rate, "low": low, "high": high}

        return {
            "object": "evaluation.triggers", "model": self.model, "should": rate(self.should),
            "should_not": rate(self.should_not),
            "wrong": [{"test": name, "should": should, "opened": list(opened)} for name, should, opened in self.wrong],
        }  # fmt: skip

    def lines(self) -> list[str]:
        """For people."""
        said = [f"{self.model}: opened {_rate(self.should)} when it should, left {_rate(self.should_not)} when not"]
        for name, should, opened in self.wrong:
            instead = f"opened {', '.join(opened)} instead" if opened and should else "not opened"
            said.append(f"  {name}: {instead if should else 'opened, and should not be'}")
        return said


def triggers_of(skill: str, cases: Sequence[Case], trials: Sequence[Object]) -> list[Triggers]:
    """The trials of the prompts, model by model; those of the baseline are left out."""
    wanted = {(case.source, case.name): bool(case.checks[0].spec["wanted"]) for case in cases}
    mine = [trial for trial in trials if not trial["baseline"] and (trial["source"], trial["test"]) in wanted]
    found = []
    for model in dict.fromkeys(str(trial["model"]) for trial in mine):
        of = [trial for trial in mine if trial["model"] == model]
        sides = {
            side: Cell([trial for trial in of if wanted[trial["source"], trial["test"]] is side])
            for side in (True, False)
        }
        wrong = tuple(
            (str(t["test"]), wanted[t["source"], t["test"]], _others(t, skill)) for t in of if t["status"] == "failed"
        )
        found.append(Triggers(model, sides[True], sides[False], wrong))
    return found


def _others(trial: Object, skill: str) -> tuple[str, ...]:
    return tuple(name for name in trial.get("opened") or () if name != skill)


def _rate(cell: Cell) -> str:
    if cell.rate is None:
        return "none of none"
    low, high = cell.interval
    return f"{cell.passed} of {cell.tried} ({100 * cell.rate:.0f} %, {100 * low:.0f}–{100 * high:.0f})"
