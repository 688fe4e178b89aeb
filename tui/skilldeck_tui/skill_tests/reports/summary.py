"""An evaluation and its trials as figures: columns, tests, lift, what is flaky, what got worse. JSON as it is.

Rates, lifts and intervals are fractions; times are seconds, tokens and times means of a try.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skilldeck_tui.client.types import Object
from skilldeck_tui.skill_tests.matrix.variants import LATEST
from skilldeck_tui.skill_tests.statistics import Cell, Column, Difference, Matrix, Regression, why_failed


def summarise(evaluation: Object, trials: Sequence[Object], *, against: str = "") -> Object:
    """What all reports say.

    Args:
        against: the variant that the subject (`subject_of`) is compared with.
    """
    matrix = Matrix(trials)
    subject = subject_of(evaluation)
    regressions = matrix.regressions(subject, against) if against else []
    return {
        "object": "evaluation.report",
        "evaluation": evaluation,
        "subject": subject,
        "against": against,
        "columns": [_column(matrix, column, evaluation) for column in matrix.columns],
        "tests": [
            {
                "source": source,
                "name": name,
                "cells": [_cell(matrix.cell((source, name), column), column) for column in matrix.columns],
            }
            for source, name in matrix.tests
        ],
        "flaky": [
            {"source": test[0], "test": test[1], "model": column[0], "variant": column[1]}
            for test, column in matrix.flaky()
        ],
        "regressions": [_regression(found) for found in regressions],
    }


def subject_of(evaluation: Object) -> str:
    """The variant that is judged: the folder as it is, else the last version that was named."""
    labels = [variant["label"] for variant in evaluation["variants"] if not variant["baseline"]]
    return LATEST if LATEST in labels or not labels else labels[-1]


def _column(matrix: Matrix, column: Column, evaluation: Object) -> Object:
    model, variant = column
    known: dict[str, Any] = next((v for v in evaluation["variants"] if v["label"] == variant), {})
    baseline = bool(known.get("baseline"))
    lift = None
    if not baseline and any(v["baseline"] for v in evaluation["variants"]):
        lift = matrix.lift(model, variant)
    cell = matrix.column(column)
    return {
        **_cell(cell, column),
        "version": known.get("version", ""),
        "baseline": baseline,
        "lift": _difference(lift),
        "sentences": dict(zip(("passed", "failed", "not_judged"), cell.sentences, strict=True)),
        "triggered": sum(trial["triggered"] is True for trial in cell.trials),
        "reused": sum(bool(trial["reused"]) for trial in cell.trials),
    }


def _cell(cell: Cell, column: Column) -> Object:
    low, high = cell.interval
    return {
        "model": column[0],
        "variant": column[1],
        "passed": cell.passed,
        "tried": cell.tried,
        "not_judged": cell.of("not_judged"),
        "errors": cell.of("error"),
        "rate": cell.rate,
        "low": low,
        "high": high,
        "flaky": cell.flaky,
        "tokens": round(cell.tokens, 1),
        "seconds": round(cell.mean("seconds"), 3),
        "model_seconds": round(cell.mean("model_seconds"), 3),
        "turns": round(cell.mean("turns"), 2),
        "runs": [trial["run_id"] for trial in cell.trials if trial["run_id"]][:20],
        "reason": next((why for trial in cell.trials if (why := why_failed(trial))), ""),
    }


def _difference(found: Difference | None) -> Object | None:
    if found is None:
        return None
    return {"value": found.value, "low": found.low, "high": found.high, "certain": found.certain}


def _regression(found: Regression) -> Object:
    return {
        "source": found.test[0],
        "test": found.test[1],
        "model": found.model,
        "before": found.before,
        "now": found.now,
        "drop": _difference(found.drop),
        "certain": found.certain,
        "run_id": found.run_id,
        "reason": found.reason,
    }
