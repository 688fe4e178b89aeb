"""What the Python files of a skill import that neither the standard library nor the skill itself holds.

Read from the syntax tree; nothing is run, and a file that cannot be parsed imports nothing. Left out is what a program
goes on without: imports below `except ImportError` and `if TYPE_CHECKING`, and those of tests.
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from skilldeck_shared.skills.base_packages import distribution

FILE_BYTES = 256 * 1024
TOTAL_BYTES = 4 * 1024 * 1024
SHOWN = 12
"""Modules of one skill that are warned of."""

_ASIDE = frozenset({"test", "tests", "evals"})
_FORGIVEN = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


def third_party_places(files: Iterable[tuple[str, Path]]) -> dict[str, list[tuple[str, int]]]:
    """Each module that has to come from elsewhere, with the files that import it, sorted, and the line, from 1, of the
    first import in each. Blocks.

    Args:
        files: path in the skill and place on disk of all its files.
    """
    every = list(files)
    own = {part.removesuffix(".py") for path, _ in every for part in PurePosixPath(path).parts}
    found: dict[str, dict[str, int]] = {}
    left = TOTAL_BYTES
    for path, place in every:
        if not path.endswith(".py") or _of_tests(PurePosixPath(path)):
            continue
        size = place.stat().st_size
        left -= size
        if size > FILE_BYTES or left < 0:
            continue
        for module, line in _imports(place.read_bytes()):
            if module not in own and module not in sys.stdlib_module_names:
                places = found.setdefault(module, {})
                places[path] = min(line, places.get(path, line))
    return {module: sorted(places.items()) for module, places in sorted(found.items())}


def _of_tests(path: PurePosixPath) -> bool:
    return not _ASIDE.isdisjoint(path.parts[:-1]) or path.name.startswith("test_") or path.name == "conftest.py"


def _imports(source: bytes) -> Iterator[tuple[str, int]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the skill's own doubtful escapes
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if not node.level and node.module:
                yield node.module.partition(".")[0], node.lineno
        elif isinstance(node, ast.Try) and any(_forgives(handler) for handler in node.handlers):
            waiting += [*node.orelse, *node.finalbody]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _forgives(handler: ast.ExceptHandler) -> bool:
    """Whether the program goes on, when an import above the handler fails. One that ends it is no forgiveness."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    caught = any(kind is None or (isinstance(kind, ast.Name) and kind.id in _FORGIVEN) for kind in kinds)
    return caught and not any(isinstance(node, ast.Raise) or _exits(node) for node in ast.walk(handler))


def _exits(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func
    return (isinstance(name, ast.Attribute) and name.attr in ("exit", "_exit")) or (
        isinstance(name, ast.Name) and name.id in ("exit", "quit")
    )


def warnings_of(
    imports: Mapping[str, Sequence[str]], importable: frozenset[str], cure: Callable[[str], str]
) -> list[str]:
    """A sentence for each module that nothing provides.

    Args:
        importable: modules that a container has.
        cure: what to do about it, by the name of the distribution that brings it.
    """
    lacking = {module: paths for module, paths in imports.items() if module not in importable}
    said = []
    for module, paths in list(lacking.items())[:SHOWN]:
        more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
        said.append(f"{paths[0]}{more} imports {module}: not in this sandbox; {cure(distribution(module))}")
    if len(lacking) > SHOWN:
        said.append(f"{len(lacking) - SHOWN} more modules are imported that are not in this sandbox")
    return said
