"""The pages for developers name files and folders that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"`((?:[a-z_]+/)+|(?:[a-z_.]+/)*[a-z_]+\.(?:py|md|json|proto|toml))`")
ELSEWHERE = {"config.toml", "generation_config.json", "openai.json", "openresponses.json"}
"""Files of users and of others."""


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/security.md", "CONTRIBUTING.md"])
def test_what_a_page_names_exists(page: str) -> None:
    there = [*ROOT.glob("*.*")]
    for part in ("daemon", "tui", "shared", "tests", "docs"):
        there += [ROOT / part, *(path for path in (ROOT / part).rglob("*") if "__pycache__" not in path.parts)]
    names = [f"/{path.relative_to(ROOT)}" for path in there]
    named = {name.rstrip("/") for name in NAMED.findall((ROOT / page).read_text("utf-8"))} - ELSEWHERE
    # `daemon/` stands for the daemon's package, `tui/` for the client's.
    homes = {"daemon/": "skilldeck_daemon/", "tui/": "skilldeck_tui/"}
    wanted = {
        name: next((new + name.removeprefix(old) for old, new in homes.items() if name.startswith(old)), name)
        for name in named
    }
    missing = [
        name for name, full in wanted.items() if not any(one.endswith((f"/{full}", f"/{name}")) for one in names)
    ]
    assert sorted(missing) == []
