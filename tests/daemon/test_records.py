"""Data has types: objects of ours are records whose keys the type checker knows, raw JSON is called so."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

DAEMON = Path(__file__).resolve().parents[2] / "daemon/skilldeck_daemon"
RAW = {
    # What programs inside a sandbox or a disposable process say: they import the standard library alone.
    "attachments/convert_document.py": 1,
    "containers/sandbox/interpreter_program.py": 1,
    "engine/grammar/trial.py": 1,
    "engine/grammar/trial_child.py": 3,
    "tools/web/ddgs_program.py": 2,
    # Settings by name, of any type.
    "cli.py": 1,
    "cli_settings.py": 2,
    "settings.py": 3,
    # Key-value data of other formats: GGUF, ctypes, families, file systems, OpenTelemetry, logs, backups.
    "agent/accounts/traces.py": 1,
    "engine/families/__init__.py": 2,
    "engine/llamacpp/gguf.py": 2,
    "engine/llamacpp/library.py": 1,
    "engine/llamacpp/vocabulary.py": 2,
    "logs.py": 1,
    "store/upkeep/backup.py": 1,
    "store/shared_blobs.py": 1,
    # Rows of any table, by column.
    "store/tables/documents.py": 1,
}
"""Where an untyped dict may be, and how many: everything else is a record, or `JsonObject` where it is raw JSON."""
PRIVATE = re.compile(r"_[a-z]")
BENCH = "bench"
"""The measurements of a benchmark have any names."""


@cache
def modules() -> dict[str, ast.Module]:
    paths = {path.relative_to(DAEMON).as_posix(): path for path in DAEMON.rglob("*.py")}
    return {
        name: ast.parse(path.read_text(encoding="utf-8"))
        for name, path in sorted(paths.items())
        if not name.startswith(BENCH)
    }


def untyped(tree: ast.AST) -> int:
    """How often `dict[str, Any]` or `dict[str, object]` is said."""
    return sum(
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "dict"
        and ast.unparse(node.slice).strip("()") in ("str, Any", "str, object")
        for node in ast.walk(tree)
    )


def keys(tree: ast.AST) -> Iterator[str]:
    """Names that a dict is asked for or made with, and those of records."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            yield str(node.slice.value)
        elif isinstance(node, ast.Dict):
            yield from (str(key.value) for key in node.keys if isinstance(key, ast.Constant))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop"):
            yield from (str(given.value) for given in node.args[:1] if isinstance(given, ast.Constant))
        elif isinstance(node, ast.ClassDef) and is_record(node):
            yield from (field.target.id for field in node.body if isinstance(field, ast.AnnAssign))  # type: ignore[union-attr]


def is_record(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base) == "TypedDict" for base in node.bases)


def test_an_untyped_dict_is_listed_with_its_reason() -> None:
    found = Counter({name: count for name, tree in modules().items() if (count := untyped(tree))})
    assert found == RAW, (
        "make it a record (store/records.py, the tool's own module), or JsonObject where it is raw JSON"
    )


def test_no_key_of_a_dict_is_private() -> None:
    """What stays inside has a name in its record, and `public_…` leaves it out."""
    private = {name: key for name, tree in modules().items() for key in keys(tree) if PRIVATE.match(key)}
    assert private == {}


@pytest.mark.parametrize("room", ["store", "events", "libraries"])
def test_what_a_room_of_our_own_objects_returns_is_a_record(room: str) -> None:
    raw = [
        f"{name}: {node.name}"
        for name, tree in modules().items()
        if name.startswith(f"{room}/")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None
        if "JsonObject" in ast.unparse(node.returns)
    ]
    # A chat completion is kept as the dialect wrote it.
    assert raw == [f"store/tables/objects.py: {name}" for name in RETURNED.get(room, ())]


RETURNED = {"store": ("get", "list", "_page")}
