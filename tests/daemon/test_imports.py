"""The direction of imports: surfaces over agent over parts, and the client side apart from the daemon."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAEMON = ROOT / "daemon/skilldeck_daemon"
PARTS = ("engine", "containers", "skills", "store")
ALLOWED = {part: {part} for part in PARTS} | {
    "agent": {"agent", "settings", *PARTS},
    "http": {"http", "agent", "settings", *PARTS},
    "rpc": {"rpc", "agent", "settings", *PARTS},
}


def imported_modules(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_nothing_in_the_daemon_imports_upwards(package: str) -> None:
    for path in (DAEMON / package).rglob("*.py"):
        for name in imported_modules(path):
            if name.startswith("skilldeck_daemon."):
                assert name.split(".")[1] in ALLOWED[package], f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize(
    ("package", "banned"),
    [
        ("tui/skilldeck_tui", ("torch", "fastapi", "skilldeck_daemon")),
        ("shared/skilldeck_shared", ("torch", "fastapi", "textual", "skilldeck_daemon", "skilldeck_tui")),
        ("daemon/skilldeck_daemon", ("textual", "skilldeck_tui")),
    ],
)
def test_client_and_daemon_stay_apart(package: str, banned: tuple[str, ...]) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for name in imported_modules(path):
            assert name.split(".")[0] not in banned, f"{path.relative_to(ROOT)} imports {name}"
