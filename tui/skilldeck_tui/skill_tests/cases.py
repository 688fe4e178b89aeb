"""What a test of a skill is, whichever file it was read from.

A `Case` is a prompt with files and its checks; a check is read by `expect.py`, held against what happened by
`checks.py`, or asked of a judge (`judge.py`) when it is a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skilldeck_shared.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_S = 300.0
SHOWN_CHARACTERS = 160


class EvalError(BadRequest):
    """An evals file cannot be used; the title names the file and the field."""

    code = "invalid_eval"


@dataclass(frozen=True)
class Check:
    """One thing that must hold.

    `kind` names a function of `checks.py`, or is "sentence" (a judge decides) or "unknown" (nobody does). `spec` is
    its JSON form, which is also what two checks are compared by. `text` is how people know it.
    """

    kind: str
    spec: dict[str, Any]
    text: str

    @property
    def judged(self) -> bool:
        """Whether a model has to say whether it holds."""
        return self.kind == "sentence"


@dataclass(frozen=True)
class Case:
    """One test. `source` is the evals file's name, `files` and `timeout` (seconds) belong to its prompt.

    `expected` describes a good result in words, for a judge. `problem`: why it cannot be run, though it could be read
    (a file it names is not there); empty when it can. `probe`: only whether the skill is opened is asked, and the run
    goes no further than that.
    """

    source: str
    name: str
    prompt: str
    files: tuple[Path, ...] = ()
    timeout: float = TIMEOUT_S
    checks: tuple[Check, ...] = ()
    expected: str = ""
    problem: str = ""
    id: str = ""
    probe: bool = False

    @property
    def key(self) -> str:
        """Names are unique within a file only."""
        return f"{self.source}:{self.name}"


@dataclass(frozen=True)
class Verdict:
    """How one check came out. `status`: passed, failed or not_judged; `evidence` is quoted from the run."""

    check: Check
    status: str
    reason: str = ""
    evidence: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.check.kind,
            "text": self.check.text,
            "status": self.status,
            "reason": self.reason,
            "evidence": self.evidence,
        }


def overall(verdicts: Sequence[Verdict]) -> str:
    """The status of a try. Checks decide; sentences do where there is nothing else. Never passed by default."""
    firm = [verdict for verdict in verdicts if not verdict.check.judged and verdict.check.kind != "completed"]
    statuses = [verdict.status for verdict in verdicts if verdict.check.kind == "completed"]
    deciding = firm or [verdict for verdict in verdicts if verdict.check.judged]
    statuses += [verdict.status for verdict in deciding]
    if "failed" in statuses:
        return "failed"
    if not deciding:  # a YAML test without checks asks that its run completes
        return "passed" if statuses else "not_judged"
    return "passed" if "passed" in [verdict.status for verdict in deciding] and all_settled(deciding) else "not_judged"


def all_settled(verdicts: Sequence[Verdict]) -> bool:
    return all(verdict.status != "not_judged" for verdict in verdicts)


def short(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """A command or an answer as a report shows it; a model that runs wild writes thousands of characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
