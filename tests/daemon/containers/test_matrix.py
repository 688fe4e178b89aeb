"""The attack matrix of docs/sandbox.md is the one that runs: every line by tests that exist, as root and as a user."""

from __future__ import annotations

import re
from pathlib import Path

from daemon.containers.test_as_user import NAMES
from daemon.containers.test_attacks import ROWS

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "sandbox.md"


def test_every_line_of_the_matrix_is_run_by_tests_for_both_kinds_of_user() -> None:
    page = PAGE.read_text()
    matrix = page[page.index("| attack |") :].split("\n\n")[0]
    table = [line.split("|")[1:-1] for line in matrix.splitlines()[2:]]
    assert len(table) > 25
    assert len({row.name for row in ROWS}) == len(ROWS) >= 42
    assert all((HERE / name).exists() for name in NAMES)
    run_as_user = {Path(name).stem for name in NAMES}
    for attack, _, shown_by in table:
        named = {Path(name).stem for name in re.findall(r"`([\w/.]+)`", shown_by)}
        named |= {"test_attacks"} if "attacks" in shown_by else set()
        assert named, attack
        assert named <= run_as_user, attack
