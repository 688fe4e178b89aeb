"""Frontmatter that is not YAML, read as its author meant it.

Other clients read frontmatter line by line, so published skills hold `description: Use when: x`, `[beta] x`,
`"Quoted" beginnings` and tabs. Each field that is no YAML by itself is quoted, as the text that it is; every other
keeps its meaning, and every line its number. A quote or bracket that is never closed stays the mistake that it is.
"""

from __future__ import annotations

import json
import re

import yaml

FIELD = re.compile(r"([A-Za-z_][\w-]*)[ \t]*:(?:[ \t]+(.*))?$")
NESTED = re.compile(r"([ ]+)([A-Za-z_][\w.-]*)[ \t]*:[ \t]+(.+)$")

# The YAML scanner takes quadratic time in the depth: 5,000 brackets cost it 11 s.
NESTING = 32

Change = tuple[int, str, str]
"""Line, counted from 0; what was found; what mends it."""


def repaired(frontmatter: str) -> tuple[str, list[Change]]:
    """The text with its broken fields quoted, and what was changed: nothing that can be read, nothing left open."""
    lines = frontmatter.split("\n")
    starts = [number for number, line in enumerate(lines) if FIELD.match(line)]
    if not starts:
        return frontmatter, []
    changes: list[Change] = []
    result = lines[: starts[0]]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        block = lines[start:end]
        if not _readable(block) and not _open(block):
            block, change = _mended(block)
            changes.append((start, *change))
        result += block
    return "\n".join(result), changes


def _readable(block: list[str]) -> bool:
    """Whether a field is YAML by itself, as plain as a skill's may be."""
    try:
        depth = 0
        for event in yaml.parse("\n".join(block), Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > NESTING:
                return False
            if getattr(event, "anchor", None) is not None or getattr(event, "tag", None) not in (None, "!"):
                return False
        root = yaml.compose("\n".join(block), Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        return False
    return isinstance(root, yaml.MappingNode) and len(root.value) == 1


def _open(block: list[str]) -> bool:
    """Whether a quote or bracket of a field is opened and not closed."""
    value = " ".join([_parts(block[0])[1], *block[1:]]).strip()
    if value[:1] not in ("'", '"', "[", "{"):
        return False
    try:
        for number, _ in enumerate(yaml.parse(f"value: {value}", Loader=yaml.SafeLoader)):
            if number > 2 * NESTING:  # a long list: it is no text
                return True
    except yaml.MarkedYAMLError as error:
        return "end of stream" in str(error.problem) or "<stream end>" in str(error.problem)
    except yaml.YAMLError:
        pass
    return False


def _mended(block: list[str]) -> tuple[list[str], tuple[str, str]]:
    """The same number of lines, readable; the reason and the cure."""
    spaced = [re.sub(r"^[ \t]*", lambda indent: indent[0].replace("\t", "  "), line) for line in block]
    if spaced != block and _readable(spaced):
        return spaced, ("a tab indents; it is read as two spaces.", "Indent with spaces.")
    key, value = _parts(spaced[0])
    if not value and (nested := [_quoted(line) for line in spaced[1:]]) != spaced[1:]:
        inner = [spaced[0], *nested]
        if _readable(inner):
            return inner, (f"a value of {key!r} is not YAML; it is read as text.", "Put it in quotes.")
    text = " ".join(part for part in (value, *(line.strip() for line in spaced[1:])) if part)
    quoted = f"{key}: {json.dumps(text, ensure_ascii=False)}"
    cure = "Put it in quotes." if '"' not in text else "Put it in single quotes."
    return [quoted, *[""] * (len(block) - 1)], (f"the value of {key!r} is not YAML; it is read as text.", cure)


def _parts(line: str) -> tuple[str, str]:
    match = FIELD.match(line)
    assert match is not None, "a block begins with its field"
    return match[1], (match[2] or "").strip()


def _quoted(line: str) -> str:
    """A line of a mapping with its value in quotes, where it needs them."""
    match = NESTED.match(line)
    if match is None or _readable([line.strip()]):
        return line
    return f"{match[1]}{match[2]}: {json.dumps(match[3].strip(), ensure_ascii=False)}"
