"""The table of engines: what it names is there, also where the packages of an engine are not."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

from skilldeck_daemon.engine.engines import KINDS, EngineKind


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_engine_is_made_by_a_class_that_exists(kind: EngineKind) -> None:
    module, _, name = kind.made_by.partition(":")
    found = find_spec(module)
    assert found is not None
    assert found.origin is not None
    tree = ast.parse(Path(found.origin).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
