"""How large a client's Lark or regex grammar is, before anything reads it natively."""

from __future__ import annotations

import re

MAX_BYTES = 64 << 10
MAX_RULES = 2000
MAX_CHAIN = 256  # rules that lead to one another: llguidance takes 3 KB of stack for each, and ended at 2,588
MAX_LEVELS = 100  # groups inside one another

_STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')
_REGEX = re.compile(r"/(?:\\.|[^/\\\n])+/")
_COMMENT = re.compile(r"//[^\n]*")
_RULE = re.compile(r"^[ \t]*[?!]?([A-Za-z_]\w{0,200})(?:\.-?\d{1,9})?(?:\[[^\]\n]{0,500}\])?[ \t]*:", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_]\w{0,200}")


def too_large(syntax: str, definition: str) -> str:
    """Why a grammar is not even tried, "" when it is. Linear in its length."""
    if len(definition) > MAX_BYTES or len(definition.encode("utf-8", "replace")) > MAX_BYTES:
        return f"has more than {MAX_BYTES >> 10} KiB"
    if syntax != "lark":
        return ""
    bare = _COMMENT.sub("", _REGEX.sub("", _STRING.sub('""', definition)))
    heads = list(_RULE.finditer(bare))
    if len(heads) > MAX_RULES:
        return f"has more than {MAX_RULES} rules"
    ends = [*(head.start() for head in heads[1:]), len(bare)]
    bodies = {head[1]: bare[head.end() : end] for head, end in zip(heads, ends, strict=False)}
    uses = {
        name: [word for word in dict.fromkeys(_NAME.findall(body)) if word in bodies] for name, body in bodies.items()
    }
    if _longest(uses) > MAX_CHAIN:
        return f"has chains of more than {MAX_CHAIN} rules that lead to one another"
    level = 0
    for char in bare:
        level += (char in "([") - (char in ")]")
        if level > MAX_LEVELS:
            return f"has more than {MAX_LEVELS} groups inside one another"
    return ""


def _longest(uses: dict[str, list[str]]) -> int:
    """The longest chain of rules; circles are gone round once."""
    longest: dict[str, int] = {}
    under_way: set[str] = set()
    for first in uses:
        waiting = [first]
        while waiting:
            name = waiting[-1]
            if name not in under_way:
                under_way.add(name)
                waiting.extend(word for word in uses[name] if word not in under_way)
                continue
            waiting.pop()
            if name not in longest:
                longest[name] = 1 + max((longest.get(word, 0) for word in uses[name]), default=0)
    return max(longest.values(), default=0)
