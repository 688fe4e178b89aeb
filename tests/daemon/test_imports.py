"""The direction of imports: surfaces over the run over parts, no cycles, and the client side apart from the daemon.

And the rooms themselves: each says what it is, and is small enough to be seen at once.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAEMON = ROOT / "daemon/skilldeck_daemon"
PARTS = ("engine", "containers", "skills", "store")
"""They know neither each other nor what is built of them."""
FLOORS = ("wire", "events", "libraries", "attachments", "tools", "agent")
"""Each may use the parts and the floors below it."""
ALLOWED = {part: {part} for part in PARTS}
ALLOWED |= {floor: {"settings", *PARTS, *FLOORS[: at + 1]} for at, floor in enumerate(FLOORS)}
ALLOWED |= {surface: {surface, "settings", *PARTS, *FLOORS} for surface in ("http", "rpc")}


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
        ("tui/skilldeck_tui", ("torch", "starlette", "skilldeck_daemon")),
        ("shared/skilldeck_shared", ("torch", "starlette", "textual", "skilldeck_daemon", "skilldeck_tui")),
        ("daemon/skilldeck_daemon", ("textual", "skilldeck_tui")),
    ],
)
def test_client_and_daemon_stay_apart(package: str, banned: tuple[str, ...]) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for name in imported_modules(path):
            assert name.split(".")[0] not in banned, f"{path.relative_to(ROOT)} imports {name}"
        text = path.read_text(encoding="utf-8")  # programs that are handed to an interpreter as text import, too
        for name in banned:
            assert f"from {name}" not in text, f"{path.relative_to(ROOT)} holds a program that imports {name}"


def module_of(path: Path, base: Path) -> str:
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions and for type checkers count: what knows each other cannot be read alone."""
    paths = {
        module_of(path, ROOT / top): path for top in ("daemon", "tui", "shared") for path in (ROOT / top).rglob("*.py")
    }
    graph = {
        name: {
            other
            for other in imported_modules(path) & paths.keys()
            if other != name and not name.startswith(f"{other}.")
        }
        for name, path in paths.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these import each other: {' → '.join(error.args[1])}")


UNNEEDED = {"cryptography", "packaging", "httpx", "mcp", "numpy", "jinja2", "llguidance", "openai", "alembic"}
"""What no start of the daemon needs: together a third of a second."""


def imported_at_start(path: Path) -> set[str]:
    """What a module imports when it is imported itself, and nothing that is for type checkers alone."""
    left, names = list(ast.parse(path.read_text(encoding="utf-8")).body), set()
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Try | ast.With | ast.If) and "TYPE_CHECKING" not in ast.dump(node):
            left += node.body
    return names


def test_a_start_imports_nothing_that_it_does_not_need() -> None:
    paths = {module_of(path, ROOT / top): path for top in ("daemon", "shared") for path in (ROOT / top).rglob("*.py")}
    left, seen = ["skilldeck_daemon.__main__", "skilldeck_daemon.cli", "skilldeck_daemon.app"], set()
    while left:
        name = left.pop()
        seen.add(name)
        for other in imported_at_start(paths[name]):
            assert other.split(".")[0] not in UNNEEDED, f"{name} imports {other}"
            parts = other.split(".")
            packages = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
            left += [found for found in packages & paths.keys() if found not in seen]
    assert len(seen) > 200


ROOMS = sorted(
    folder.parent
    for top in ("daemon/skilldeck_daemon", "tui/skilldeck_tui", "shared/skilldeck_shared")
    for folder in (ROOT / top).rglob("__init__.py")
    if not {"proto", "versions", "skill_tasks", "templates"} & set(folder.parts)
)
MODULES = 24
LINES = 450


def test_every_room_says_what_it_is_and_can_be_seen_at_once() -> None:
    """A room with more modules than this holds several things, and so does a module with more lines."""
    for room in ROOMS:
        name = room.relative_to(ROOT)
        assert ast.get_docstring(ast.parse((room / "__init__.py").read_text("utf-8"))), f"{name} says nothing"
        modules = list(room.glob("*.py"))
        assert len(modules) <= MODULES, f"{name} has {len(modules)} modules: which of them have a meaning of their own?"
        for path in modules:
            lines = len(path.read_text("utf-8").splitlines())
            assert lines <= LINES, (
                f"{path.relative_to(ROOT)} has {lines} lines: which of them are a thing of their own?"
            )
