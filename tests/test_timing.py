"""Tests that depend on the clock are few, and each says why: every other failure counts the first time."""

from __future__ import annotations

import ast
from pathlib import Path

MOST = 5


def test_few_tests_depend_on_the_clock_and_each_says_why() -> None:
    marks, reasons = [], []
    for file in Path(__file__).parent.rglob("*.py"):
        text = file.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if "mark.timing" in text else ():
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "pytest.mark.timing":
                marks.append(f"{file.name}:{node.lineno}")
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.timing":
                (reason,) = node.args
                assert isinstance(reason, ast.Constant)
                assert len(str(reason.value).split()) > 5, f"{file.name}:{node.lineno}: say why"
                reasons.append(reason.value)
    assert len(marks) == len(reasons), f"a mark without its reason: {marks}"
    assert len(marks) <= MOST, marks
