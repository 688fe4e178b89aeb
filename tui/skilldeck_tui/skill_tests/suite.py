"""A test's last result as the TUI shows it beside its skill, and the names that screens need of tests."""

from __future__ import annotations

from dataclasses import dataclass, field

from skilldeck_tui.client.types import Object
from skilldeck_tui.skill_tests.cases import Case, EvalError
from skilldeck_tui.skill_tests.statistics import failures
from skilldeck_tui.skill_tests.written.reading import load_cases

__all__ = ["Case", "EvalError", "Result", "load_cases", "result_of"]


NOT_JUDGED = "not judged: it has sentences alone; `skilldeck test --judge MODEL` judges them"


@dataclass
class Result:
    """How a test ended. `failures` is empty when it passed; `commands` are (command, exit code or None)."""

    skill: str
    case: Case
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    run_id: str = ""
    commands: list[tuple[str, int | None]] = field(default_factory=list)
    answer: str = ""

    @property
    def passed(self) -> bool:
        return not self.failures


def result_of(skill: str, case: Case, trial: Object) -> Result:
    """A trial as the TUI shows it."""
    commands = [(entry["command"], entry["exit_code"]) for entry in trial["commands"]]
    reasons = [NOT_JUDGED] if trial["status"] == "not_judged" else failures(trial)
    return Result(skill, case, reasons, trial["seconds"], trial["run_id"], commands, trial["answer"])
