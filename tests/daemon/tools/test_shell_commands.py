"""Commands as they are run."""

from __future__ import annotations

import pytest

from skilldeck_daemon.tools.shell import ended


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("python3 - <<'EOF'\nprint(1)", "\nEOF\n"),
        ("cat > a.txt <<-END\nx\n", "END\n"),
        ("python3 - <<'EOF'\nprint(1 << 2)\nEOF", ""),
        ("cat <<-END\n\tx\n\tEND\nls", ""),
        ('python3 -c "\nN = 1\nprint(1 << N)\n"', ""),
        ("ls", ""),
    ],
)
def test_a_here_document_without_its_end_gets_one(command: str, more: str) -> None:
    assert ended(command) == command + more
