"""What the specification says of SKILL.md: fields, types, name, length of the body."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import yaml

from skilldeck_shared.lint.rules import Edit, Finding, Rule
from skilldeck_shared.lint.skill import Skill, prose
from skilldeck_shared.skills.manifest import Problem

BODY_TOKENS = 5000
"""The specification's recommendation for what is read when a skill is opened."""

OTHER_CLIENTS = frozenset(
    {"argument-hint", "arguments", "disable-model-invocation", "user-invocable", "model", "effort", "context", "agent",
     "hooks", "when_to_use", "paths", "shell", "disallowed-tools", "mode"}
)  # fmt: skip
"""Fields that a client with many users reads. Others pass over them."""

FORMAT = Rule("format", "error", "SKILL.md is against the specification", "Other clients and the HTTP API refuse it.")
FOLDER_NAME = Rule(
    "folder-name", "error", "folder and skill have different names",
    "The specification asks for one name, and clients that find skills by their folder do not find this one.",
)  # fmt: skip
UNKNOWN_FIELD = Rule(
    "unknown-field", "advice", "a field that the specification does not know",
    "Validators refuse it and clients pass over it; what is for people belongs below metadata.",
)  # fmt: skip
FIELD_TYPE = Rule(
    "field-type", "advice", "a field that should be text is a list or mapping",
    "Clients that follow the specification read text there and leave the value out.",
)  # fmt: skip
BODY_EMPTY = Rule(
    "body-empty", "warning", "nothing is written below the frontmatter",
    "The body is all that the model is given when it opens the skill.",
)  # fmt: skip
BODY_LONG = Rule(
    "body-long", "warning", f"SKILL.md is longer than {BODY_TOKENS:,} tokens",
    "All of it is read whenever the skill is opened: it costs time, and small models lose the beginning.",
)  # fmt: skip
PLACEHOLDER = Rule(
    "placeholder", "warning", "text of a template is left",
    "The model takes it for an instruction, or for the description.",
)  # fmt: skip
RULES = (FORMAT, FOLDER_NAME, UNKNOWN_FIELD, FIELD_TYPE, BODY_EMPTY, BODY_LONG, PLACEHOLDER)

_TEMPLATE = re.compile(
    r"\[(?:TODO|FIXME)\b|\bTODO: (?:Complete|describe|write)|Replace with description|\bLorem ipsum\b|"
    r"\[(?:Insert|Your|Add|Describe) [^\]\n]{2,60}\](?!\()",
    re.IGNORECASE,
)
_PIECE = re.compile(r"[A-Za-z]+|\d{1,3}|[^\sA-Za-z\d]")
_ONE_LINE = re.compile(r"([A-Za-z_][\w.-]*):[ \t]+(?![|>&*!\[{])(\S.*?)\s*$")


def problem(found: Problem, path: str, rule: Rule = FORMAT, fix: Edit | None = None) -> Finding:
    return rule.at(path, found.line, found.message, found.hint or "Mend the frontmatter.", column=found.column, fix=fix)


def check(skill: Skill) -> Iterator[Finding]:
    """What SKILL.md that can be read is warned of; what makes it unusable is `engine`'s."""
    if skill.manifest is None:
        return
    path = skill.manifest_path
    for warning in skill.manifest.warnings:
        field = skill.lines[warning.line - 1].partition(":")[0].strip("\"' ")
        if not warning.kind:
            yield problem(warning, path)  # read all the same, here and not elsewhere
        elif warning.kind == "folder-name":
            # A repository that is one skill lies in a folder that whoever cloned it has named.
            if not (skill.folder / ".git").exists():
                yield problem(warning, path, FOLDER_NAME)
        elif warning.kind == "unknown-field":
            if field in OTHER_CLIENTS:
                continue
            fix = _below_metadata(skill, warning.line, field)
            yield UNKNOWN_FIELD.at(
                path, warning.line, warning.message, f"Write it below metadata: as {field}.", fix=fix
            )
        else:
            yield problem(warning, path, FIELD_TYPE, _joined(skill) if "allowed-tools" in warning.message else None)
    yield from _body(skill, skill.manifest.body)


def _body(skill: Skill, body: str) -> Iterator[Finding]:
    path, first = skill.manifest_path, skill.closing + 2
    if not body:
        cure = "Write what to do, step by step, and which script does it."
        yield BODY_EMPTY.at(path, skill.closing + 1, "there is nothing below the frontmatter.", cure)
    tokens = estimate(body)
    if tokens > BODY_TOKENS:
        yield BODY_LONG.at(
            path, first, f"the instructions have about {tokens:,} tokens; {BODY_TOKENS:,} are recommended at most.",
            "Move details into files below references/, and say in SKILL.md when to read which.",
        )  # fmt: skip
    for number, line, code in prose("\n".join(skill.lines[skill.closing + 1 :])):
        # In code and between back-ticks it is what the skill is to write.
        found = None if code else _TEMPLATE.search(re.sub(r"`[^`]*`", "", line))
        if found and (found[0].upper().startswith(("[TODO", "REPLACE", "TODO"))):
            yield PLACEHOLDER.at(
                path,
                number + skill.closing + 1,
                f"{found[0]!r} is text of a template.",
                "Write what is meant, or delete it.",
            )
    if skill.manifest and (left := _TEMPLATE.search(skill.manifest.description)):
        yield PLACEHOLDER.at(
            path, skill.field_line("description"), f"the description holds {left[0]!r}.", "Describe the skill."
        )


def estimate(text: str) -> int:
    """About how many tokens a text has: words by their length, numbers, signs. Of 244 published SKILL.md four in five
    come within 8 % of Qwen's count (a vocabulary of 150,000); that of smaller vocabularies is 7 to 13 % higher."""
    count = 0.0
    for piece in _PIECE.findall(text):
        if piece[0].isascii() and piece[0].isalpha():
            count += 1 if len(piece) <= 7 else len(piece) / 6
        elif piece[0].isascii():
            count += 0.75
        else:
            count += 0.7
    return round(count)


def _below_metadata(skill: Skill, line: int, field: str) -> Edit | None:
    """The frontmatter with a field of one line moved below `metadata`; None where that is not mechanical."""
    head = skill.lines[: skill.closing]
    found = _ONE_LINE.fullmatch(head[line - 1].rstrip("\r"))
    after = head[line] if line < len(head) else ""
    if found is None or found[1] != field or after[:1] in (" ", "\t", "-"):
        return None
    ending = "\r" if head[line - 1].endswith("\r") else ""
    place = skill.field_line("metadata") - 1
    moved = head[: line - 1] + head[line:]
    if place <= 0:
        moved[line - 1 : line - 1] = [f"metadata:{ending}", f"  {field}: {found[2]}{ending}"]
    else:
        place -= place > line - 1
        below = re.match(r"(\s+)(?![-\s])", moved[place + 1]) if place + 1 < len(moved) else None
        taken = any(re.match(rf"\s+{re.escape(field)}\s*:", other) for other in moved)
        if moved[place].strip() != "metadata:" or below is None or taken:
            return None
        moved.insert(place + 1, f"{below[1]}{field}: {found[2]}{ending}")
    # The whole head, so that two fields are moved one after the other.
    return Edit(skill.manifest_path, 0, len("\n".join(head)), "\n".join(moved))


def _joined(skill: Skill) -> Edit | None:
    """`allowed-tools` as the specification has it: names separated by blanks."""
    start = len(skill.lines[0]) + 1
    try:
        root = yaml.compose("\n".join(skill.lines[1 : skill.closing]), Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        return None
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    node = next((value for key, value in pairs if key.value == "allowed-tools"), None)
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        return None
    if any(not isinstance(item, yaml.ScalarNode) or re.search(r"\s", item.value) for item in node.value):
        return None
    text = " ".join(item.value for item in node.value)
    text = text if _plain_yaml(text) else json.dumps(text)
    key = next(key for key, _ in pairs if key.value == "allowed-tools")
    last = node.end_mark.index if node.flow_style else node.value[-1].end_mark.index
    return Edit(skill.manifest_path, start + key.end_mark.index, start + last, f": {text}")


def _plain_yaml(text: str) -> bool:
    try:
        return bool(yaml.load(f"key: {text}", Loader=yaml.BaseLoader) == {"key": text})
    except yaml.YAMLError:
        return False
