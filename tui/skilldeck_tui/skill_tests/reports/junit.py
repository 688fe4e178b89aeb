"""JUnit XML: a suite for each skill, model and version, a case for each test, its failures those of its tries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from skilldeck_tui.client.types import Object
from skilldeck_tui.skill_tests.statistics import Cell, Matrix, failures

# What XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(evaluations: Sequence[tuple[Object, Sequence[Object]]]) -> ElementTree.Element:
    """The document of several evaluations with their trials."""
    root = ElementTree.Element("testsuites", name="skilldeck")
    for evaluation, trials in evaluations:
        matrix = Matrix(trials)
        for column in matrix.columns:
            alone = len(matrix.columns) == 1
            name = evaluation["skill"] if alone else f"{evaluation['skill']} ({column[0]}, {column[1]})"
            cells = [(test, matrix.cell(test, column)) for test in matrix.tests]
            suite = ElementTree.SubElement(
                root,
                "testsuite",
                name=_xml(name),
                tests=str(len(cells)),
                failures=str(sum(cell.of("failed") > 0 for _, cell in cells)),
                errors=str(sum(cell.of("error") > 0 for _, cell in cells)),
                skipped=str(sum(_skipped(cell) for _, cell in cells)),
                time=f"{sum(trial['seconds'] for _, cell in cells for trial in cell.trials):.3f}",
            )
            for (source, test), cell in cells:
                _case(suite, f"{evaluation['skill']}.{Path(source).stem}", test, cell)
    ElementTree.indent(root)
    return root


def _skipped(cell: Cell) -> bool:
    return bool(cell.of("not_judged")) and not cell.of("failed", "error")


def _case(suite: ElementTree.Element, group: str, name: str, cell: Cell) -> None:
    seconds = sum(trial["seconds"] for trial in cell.trials)
    case = ElementTree.SubElement(suite, "testcase", classname=_xml(group), name=_xml(name), time=f"{seconds:.3f}")
    reasons = [
        (f"try {trial['number'] + 1}: " if len(cell.trials) > 1 else "") + line
        for trial in cell.trials
        for line in failures(trial)
    ]
    if cell.of("failed") or cell.of("error"):
        kind = "failure" if cell.of("failed") else "error"
        element = ElementTree.SubElement(case, kind, message=_xml(reasons[0] if reasons else "it failed"))
        element.text = _xml("\n".join(reasons))
    elif _skipped(cell):
        ElementTree.SubElement(case, "skipped", message="not judged")
    log = []
    for trial in cell.trials:
        log += [f"$ {entry['command']}\n(exit code {entry['exit_code']})" for entry in trial["commands"]]
        log.append(trial["answer"])
    ElementTree.SubElement(case, "system-out").text = _xml("\n".join(log))


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
