"""Tests in the one form written as the other: YAML, or the evals.json that other programs read as well.

In evals.json sentences are `expectations`, which every reader of the format knows; checks stand beside them as
`expect`, which only this program reads. Nothing is lost on the way there and back but a name that is not given.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from skilldeck_tui.skill_tests.cases import TIMEOUT_S, Case
from skilldeck_tui.skill_tests.written.expect import written

Object = dict[str, Any]


def as_json(cases: Sequence[Case], folder: Path) -> str:
    evals = []
    for number, case in enumerate(cases, 1):
        entry: Object = {"id": number, "name": case.name, "prompt": case.prompt}
        entry["expected_output"] = case.expected
        entry["files"] = _files(case, folder)
        checks = written(case.checks)
        entry["expectations"] = checks.pop("judge", [])
        if checks:
            entry["expect"] = checks
        if case.timeout != TIMEOUT_S:
            entry["timeout"] = case.timeout
        evals.append(entry)
    return json.dumps({"skill_name": folder.resolve().name, "evals": evals}, ensure_ascii=False, indent=2) + "\n"


def as_yaml(cases: Sequence[Case], folder: Path) -> str:
    entries = []
    for case in cases:
        entry: Object = {"name": case.name, "prompt": case.prompt}
        if case.files:
            entry["files"] = _files(case, folder)
        if case.timeout != TIMEOUT_S:
            entry["timeout"] = case.timeout
        if case.expected:
            entry["expected"] = case.expected
        if checks := written(case.checks):
            entry["expect"] = checks
        entries.append(entry)
    return str(yaml.safe_dump(entries, allow_unicode=True, sort_keys=False, width=120))


def lost(cases: Sequence[Case]) -> list[str]:
    """What the other form cannot say: checks of kinds that nobody knows here."""
    return [f"{case.name}: {check.text}" for case in cases for check in case.checks if check.kind == "unknown"]


def _files(case: Case, folder: Path) -> list[str]:
    return [path.relative_to(folder.resolve()).as_posix() for path in case.files]
