"""What depends on the type of an item is asked of its kind: nobody else knows the tools' types by name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from skilldeck_daemon.tools import TOOLS

ROOT = Path(__file__).resolve().parents[3]
NAMED_ELSEWHERE = {
    "daemon/skilldeck_daemon/agent/planning/request.py": "the field `function_call` of an older API, which is no item",
    "daemon/skilldeck_daemon/bench": "a client of the API",
    "daemon/skilldeck_daemon/demo.py": "a client of the API",
    "daemon/skilldeck_daemon/engine/parsing/text_call_candidate.py": "a mark that models write around calls",
    "daemon/skilldeck_daemon/engine/remote/stream.py": "a reason to finish of other servers",
    "daemon/skilldeck_daemon/http/anthropic/answer.py": "Anthropic's blocks for some of our items",
    "daemon/skilldeck_daemon/http/anthropic/blocks.py": "our items for Anthropic's blocks",
    "daemon/skilldeck_daemon/http/chat/answer.py": "Chat's `tool_calls` are functions and custom tools",
    "daemon/skilldeck_daemon/http/chat/messages.py": "Chat's `tool_calls` are functions and custom tools",
    "daemon/skilldeck_daemon/http/chat/request.py": "the field `function_call` of an older API, which is no item",
    "daemon/skilldeck_daemon/wire/items_foreign.py": "items of tools that other servers have, read as ours",
    "daemon/skilldeck_daemon/wire/known_fields.py": "the field `function_call` of an older API, which is no item",
    "daemon/training": "writes what models are trained with",
    "tui/skilldeck_tui/chat/transcripts/items.py": "what a terminal keeps of each item",
    "tui/skilldeck_tui/cli/running/run.py": "what `skilldeck run` prints of commands and calls",
    "tui/skilldeck_tui/skill_tests/checking/ran.py": "what the commands of a run did, for tests of skills",
    "tui/skilldeck_tui/skills/skill_use.py": "what the commands of a run did with files of skills",
    "tui/skilldeck_tui/widgets/transcript": "the views of the tools' items",
}
"""Folders and files outside `tools/` that may name them, and why."""


def test_types_of_the_tools_items_are_named_by_their_tools_and_where_a_reason_is_given() -> None:
    types = {kind.type for tool in TOOLS.values() for kind in tool.items}
    assert len(types) > 9
    quoted = re.compile("|".join(f"[\"']{type}[\"']" for type in types))
    used, unknown = set(), []
    for folder in ("daemon", "shared/skilldeck_shared", "tui"):
        for path in (ROOT / folder).rglob("*.py"):
            place, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
            if place.startswith("daemon/skilldeck_daemon/tools/") or not quoted.search(text):
                continue
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in types:
                    excused = [known for known in NAMED_ELSEWHERE if place == known or place.startswith(f"{known}/")]
                    used |= set(excused)
                    unknown += [] if excused else [f"{place}:{node.lineno} names {node.value!r}"]
    assert unknown == [], "ask wire/item_kinds.py, or give the reason here"
    assert used == set(NAMED_ELSEWHERE), "a reason that nothing needs any more"
