"""SKILL.md: YAML frontmatter between two `---` lines, then Markdown (the Agent Skills format).

`parse_manifest` accepts what the format's reference validator accepts, and more leniently: unknown fields, a BOM, a
folder of another name and lists where strings belong are warnings. Every scalar is text, as in the reference
(`version: 1.0` is the string "1.0"). Errors carry line and column within the file, counted from 1.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from skilldeck_shared.errors import BadRequest
from skilldeck_shared.skills.frontmatter_repair import NESTING, repaired

NAME_CHARACTERS = 64
DESCRIPTION_CHARACTERS = 1024
COMPATIBILITY_CHARACTERS = 500
FRONTMATTER_CHARACTERS = 32_768
FIELDS = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")


@dataclass(frozen=True)
class Problem:
    """One finding in SKILL.md; `hint` says what mends it. `kind` is for programs: unknown-field, folder-name,
    field-type, or "" for what makes the file unusable."""

    line: int
    column: int
    message: str
    hint: str = ""
    kind: str = ""

    def __str__(self) -> str:
        return f"SKILL.md line {self.line}, column {self.column}: {self.message} {self.hint}".strip()


class ManifestError(BadRequest):
    """SKILL.md cannot be used. `problems` holds every finding, sorted by place; `line` and `column` are the first's."""

    code = "invalid_skill"

    def __init__(self, problems: list[Problem], *, param: str | None = "files") -> None:
        self.problems = sorted(problems, key=lambda problem: (problem.line, problem.column))
        first = self.problems[0]
        self.line, self.column = first.line, first.column
        title = f"SKILL.md line {first.line}, column {first.column}: {first.message}"
        others = "".join(f" Also line {p.line}: {p.message}" for p in self.problems[1:4])
        super().__init__(title + others, first.hint, param=param)


@dataclass(frozen=True)
class Manifest:
    """A valid SKILL.md. `allowed_tools` is the field's text, `body` the Markdown without surrounding blank lines."""

    name: str
    description: str
    license: str | None = None
    compatibility: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    allowed_tools: str | None = None
    body: str = ""
    warnings: tuple[Problem, ...] = ()


def parse_manifest(
    text: str, directory: str | None = None, *, lenient: bool = False, any_length: bool = False
) -> Manifest:
    """Parse and validate the text of a SKILL.md.

    Args:
        text: the whole file, decoded.
        directory: name of the folder it lies in; a difference from the skill's name is a warning.
        lenient: for skills from disk, which other clients wrote and read: a name that is missing or against the rule
            is mended (from the folder's name), values that are not YAML are the text they are (see
            `frontmatter_repair`), and texts may have any length, each with a warning.
        any_length: only the last of these.
    Raises:
        ManifestError: with every problem found.
    """
    # A bare CR is no line break to YAML's neighbours (editors, the model), so only CRLF is folded.
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    frontmatter, body = _split(lines)
    fields = _Fields(frontmatter, lenient, lenient or any_length)
    name = fields.name(directory)
    if lenient and name is None:
        name = fields.mended_name(directory)
    description = fields.text("description", DESCRIPTION_CHARACTERS, required=True)
    compatibility = fields.text("compatibility", COMPATIBILITY_CHARACTERS)
    license = fields.lenient("license")
    allowed_tools = fields.lenient("allowed-tools")
    metadata = fields.metadata()
    fields.unknown()
    if fields.problems:
        raise ManifestError(fields.problems)
    # Their absence is among the problems.
    assert name is not None
    assert description is not None
    warnings = tuple(sorted(fields.warnings, key=lambda problem: (problem.line, problem.column)))
    return Manifest(name, description, license, compatibility, metadata, allowed_tools, body, warnings)


def decode_manifest(data: bytes) -> str:
    """SKILL.md's bytes as text. Raises `ManifestError` at the place of the first byte that is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        problem = Problem(line, column, "the file is not UTF-8 text.", "Save it as UTF-8.")
        raise ManifestError([problem]) from error


def _split(lines: list[str]) -> tuple[str, str]:
    """Frontmatter text (first line is line 2 of the file) and body."""
    if lines[0].rstrip() != "---":
        message = "the file must start with a line of three hyphens, ---, that opens the frontmatter."
        raise ManifestError([Problem(1, 1, message, "Put name and description between two --- lines at the top.")])
    for index in range(1, len(lines)):
        if lines[index].rstrip() == "---":
            break
    else:
        message = "the frontmatter is not closed by a second line of three hyphens, ---."
        raise ManifestError([Problem(1, 1, message, "Add a --- line after the last field.")])
    frontmatter = "\n".join(lines[1:index])
    if len(frontmatter) > FRONTMATTER_CHARACTERS:
        message = f"the frontmatter has {len(frontmatter):,} characters; at most {FRONTMATTER_CHARACTERS:,} are read."
        raise ManifestError([Problem(2, 1, message, "Move the text below the closing ---.")])
    return frontmatter, "\n".join(lines[index + 1 :]).strip()


def _place(mark: Any) -> tuple[int, int]:
    # The frontmatter's first line is the file's second.
    return mark.line + 2, mark.column + 1


def _compose(frontmatter: str) -> yaml.MappingNode:
    """The YAML tree, or `ManifestError` where the text is no plain mapping."""
    try:
        depth = 0
        for event in yaml.parse(frontmatter, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > NESTING:
                problem = Problem(*_place(event.start_mark), "the frontmatter is nested too deeply.", "Keep it flat.")
                raise ManifestError([problem])
            anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
            if anchor is not None or (tag is not None and tag != "!"):
                kind = "anchors and aliases (& and *)" if anchor is not None else "tags (!)"
                hint = "Quote the value if it is text."
                raise ManifestError([Problem(*_place(event.start_mark), f"YAML {kind} are not allowed here.", hint)])
        root = yaml.compose(frontmatter, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _place(mark) if mark is not None else (2, 1)
        reason = (error.problem or "it cannot be read").rstrip(".")
        if "unexpected end of stream" in reason and error.context_mark is not None:
            # Where the quote opens helps; where the frontmatter ends does not.
            place, reason = _place(error.context_mark), "a quote or bracket is not closed"
        raise ManifestError([Problem(*place, f"the frontmatter is not YAML: {reason}.", _yaml_hint(reason))]) from error
    except yaml.reader.ReaderError as error:
        before = frontmatter[: error.position]
        place = before.count("\n") + 2, len(before) - (before.rfind("\n") + 1) + 1
        code = error.character if isinstance(error.character, int) else ord(str(error.character)[:1])
        problem = Problem(*place, f"the character U+{code:04X} is not allowed in YAML.", "Remove it.")
        raise ManifestError([problem]) from error
    if root is None:
        raise ManifestError([Problem(2, 1, "the frontmatter is empty.", "Add name and description.")])
    if not isinstance(root, yaml.MappingNode):
        problem = Problem(*_place(root.start_mark), "the frontmatter must be a mapping.", "Write name: value.")
        raise ManifestError([problem])
    return root


def _yaml_hint(reason: str) -> str:
    if "mapping values are not allowed" in reason:
        return 'A value that holds ": " must be in quotes.'
    if "\\t" in reason:
        return "Indent with spaces, not tabs."
    if "cannot start any token" in reason:
        return "A value that starts with this character must be in quotes."
    return "Check the quotes and the indentation."


class _Fields:
    """The frontmatter's fields with their places; collects problems and warnings."""

    def __init__(self, frontmatter: str, lenient: bool, any_length: bool) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._any_length = any_length
        self._values: dict[str, yaml.Node] = {}
        self._keys: dict[str, yaml.Node] = {}
        for key, value in self._read(frontmatter, lenient).value:
            self._check_characters(key)
            self._check_characters(value)
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, "a field's name must be plain text.")
            elif key.value in self._values:
                self._problem(key, f"the field {key.value!r} is given twice.", "Keep one of them.")
            else:
                self._keys[key.value], self._values[key.value] = key, value

    def _read(self, frontmatter: str, lenient: bool) -> yaml.MappingNode:
        """The YAML tree; when `lenient` and it is none, that of the mended text."""
        try:
            return _compose(frontmatter)
        except ManifestError as error:
            mended, changes = repaired(frontmatter) if lenient else (frontmatter, [])
            if not changes:
                raise
            try:
                root = _compose(mended)
            except ManifestError:
                raise error from None
            # The mended text has the lines of the file.
            self.warnings += [Problem(line + 2, 1, message, hint) for line, message, hint in changes]
            return root

    def _problem(self, node: yaml.Node, message: str, hint: str = "") -> None:
        self.problems.append(Problem(*_place(node.start_mark), message, hint))

    def _warn(self, node: yaml.Node, message: str, hint: str = "", kind: str = "field-type") -> None:
        self.warnings.append(Problem(*_place(node.start_mark), message, hint, kind))

    def _check_characters(self, node: yaml.Node) -> None:
        """Escapes in double quotes can spell what no text may hold."""
        if isinstance(node, yaml.ScalarNode):
            if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in node.value):
                self._problem(node, "the value holds a NUL or half a surrogate pair.", "Remove the escape.")
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                self._check_characters(item)
        elif isinstance(node, yaml.MappingNode):
            for pair in node.value:
                for item in pair:
                    self._check_characters(item)

    def text(self, key: str, limit: int, *, required: bool = False) -> str | None:
        """A field that must be a string of at most `limit` characters."""
        node = self._values.get(key)
        if node is None:
            if required:
                message = f"the required field {key!r} is missing."
                self.problems.append(Problem(1, 1, message, f"Add a line {key}: … between the --- lines."))
            return None
        if not isinstance(node, yaml.ScalarNode):
            self._problem(node, f"{key} must be text, not a {_kind(node)}.", "Write it on one line, in quotes.")
            return None
        value = str(node.value)
        # As the reference counts: description and compatibility with the blanks around them, if quoted.
        if required and not value.strip():
            self._problem(node, f"{key} is empty.", "Write what the skill does and when to use it.")
            return None
        if len(value) > limit:
            message = f"{key} has {len(value):,} characters; at most {limit:,} are allowed."
            if not self._any_length:
                self._problem(node, message, "Shorten it.")
                return None
            self._warn(node, message, "It is kept whole here; other clients and the HTTP API refuse it.", "")
        return value.strip() if required else value

    def name(self, directory: str | None) -> str | None:
        """The name, checked by the format's rule."""
        before = len(self.problems)
        raw = self.text("name", 100_000, required=True)
        if raw is None:
            # The text of `text` is about descriptions.
            if len(self.problems) > before and "empty" in self.problems[-1].message:
                node = self._values["name"]
                self.problems[-1] = Problem(*_place(node.start_mark), "name is empty.", "Write the skill's name.")
            return None
        node = self._values["name"]
        name = unicodedata.normalize("NFKC", raw)
        broken = list(_name_faults(name))
        for message in broken:
            hint = f"For instance: {_suggest(name)}." if _suggest(name) else ""
            self._problem(node, message, hint)
        if broken:
            return None
        if directory and unicodedata.normalize("NFKC", directory) != name:
            message = f"the folder is called {directory!r}, the skill {name!r}."
            self._warn(node, message, "Give both one name: other clients require it.", "folder-name")
        return name

    def mended_name(self, directory: str | None) -> str | None:
        """A valid name near to the one that was refused, or the folder's; the problems become warnings."""
        node = self._values.get("name")
        given = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
        name = _suggest(given) or _suggest(directory or "")
        if not name or any(_name_faults(name)):
            return None
        self.warnings += [Problem(p.line, p.column, p.message, f"It is called {name!r} here.") for p in self.problems]
        self.problems.clear()
        return name

    def lenient(self, key: str) -> str | None:
        """A field that should be text; a list of texts is joined with blanks, anything else is left out."""
        node = self._values.get(key)
        if node is None:
            return None
        if isinstance(node, yaml.ScalarNode):
            return str(node.value)
        self._warn(node, f"{key} should be text, not a {_kind(node)}.", "Separate the entries with blanks.")
        if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
            return " ".join(str(item.value) for item in node.value)
        return None

    def metadata(self) -> dict[str, str]:
        """The mapping `metadata`, text to text."""
        node = self._values.get("metadata")
        if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
            return {}
        if not isinstance(node, yaml.MappingNode):
            self._warn(node, "metadata should be a mapping of text to text; it is left out.")
            return {}
        found: dict[str, str] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, "a key of metadata must be plain text.")
                continue
            if key.value in found:
                self._problem(key, f"metadata gives {key.value!r} twice.", "Keep one of them.")
                continue
            if isinstance(value, yaml.ScalarNode):
                found[key.value] = str(value.value)
            else:
                self._warn(value, f"metadata.{key.value} should be text; it is kept as JSON.")
                found[key.value] = json.dumps(_plain(value), ensure_ascii=False)
        return found

    def unknown(self) -> None:
        for key, node in self._keys.items():
            if key not in FIELDS:
                known = ", ".join(FIELDS)
                self._warn(node, f"the field {key!r} is not part of the format.", f"It knows {known}.", "unknown-field")


def _name_faults(name: str) -> Iterator[str]:
    if len(name) > NAME_CHARACTERS:
        yield f"name has {len(name):,} characters; at most {NAME_CHARACTERS} are allowed."
    elif len(name.encode("utf-8", "replace")) > 200:
        # It names a folder in the container, and file systems count bytes.
        yield "name takes more than 200 bytes in UTF-8."
    if name != name.lower():
        yield "name must be lowercase."
    if not all(character.isalnum() or character == "-" for character in name):
        yield "name may hold only lowercase letters, digits and hyphens."
    elif name.startswith("-") or name.endswith("-"):
        yield "name cannot start or end with a hyphen."
    elif "--" in name:
        yield "name cannot hold two hyphens in a row."


def _suggest(name: str) -> str:
    """A valid name near to this one, empty when nothing of it remains."""
    mapped = "".join(character if character.isalnum() else "-" for character in name.lower())
    return "-".join(part for part in mapped.split("-") if part)[:NAME_CHARACTERS].rstrip("-")


def _kind(node: yaml.Node) -> str:
    return "list" if isinstance(node, yaml.SequenceNode) else "mapping"


def _plain(node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {
            json.dumps(_plain(key)) if key.id != "scalar" else key.value: _plain(value) for key, value in node.value
        }
    return str(node.value)
