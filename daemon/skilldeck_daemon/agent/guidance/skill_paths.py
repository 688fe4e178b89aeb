"""The paths in a skill's instructions, written out in full for the model.

A SKILL.md says `python3 scripts/x.py` and means its own folder, but each command runs in /mnt/data. Large models put
the two together; small ones run what they read. So what a command prints of a mounted skill's instructions reaches the
model with `/mnt/skills/NAME/scripts/x.py` instead. The stored output stays what the process wrote.

What is an instruction is known by the files, not by the command's grammar: a line of output is one when a Markdown
file of a skill that the command names has the same line. That holds for `cat`, `head`, `sed -n`, several files and
several skills at once, and leaves what else the command prints alone. What is a path is known by the folder: only what
exists there is written out.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

FOLDER = "/mnt/skills"
MAX_BYTES = 1 << 20
"""Of a Markdown file; what is longer is no instruction that a model reads whole."""

MAX_FILES = 1000  # of a skill, that are looked through for one that a command missed

REFERENCE = 8192
"""Bytes of a text that is read along with the instructions which name it."""

_REFERENCE = re.compile(rf"{re.escape(FOLDER)}/[\w./-]+\.(?:md|txt|csv|tsv)\b")
_FOLDER = re.compile(rf"{re.escape(FOLDER)}/[\w.-]+/[\w./-]+/(?![\w.])")
_VARIABLE = re.compile(r"\$?\{baseDir\}|\$\{CLAUDE_SKILL_DIR\}|\$CLAUDE_SKILL_DIR\b")
_MARKDOWN = re.compile(r"[^\s\"'`;|&<>(){}=]+\.md\b")
_NUMBERED = re.compile(r"\s*\d+[:\t]")
"""What `cat -n` and `grep -n` put before a line."""

_IMPORT = re.compile(r"^[ \t]*(?:from|import)[ \t]+(\w+)", re.MULTILINE)
_FRONT = re.compile(r"\A\ufeff?---\n.*?\n---[ \t]*(?:\n|\Z)", re.DOTALL)

_BEFORE = r"(?<![^\s\"'`(\[<>=,;|&])"
_QUOTED = re.compile(_BEFORE + r"(?P<quote>[\"'`])(?P<path>[^\"'`\n]*\s[^\"'`\n]*)(?P=quote)")
_WORD = re.compile(_BEFORE + r"(?:[^\s\"'`()\[\]<>=,;|&{}*?$:\\]|\\ )+(?=[\s\"'`)\]<>,;|&:]|$)")


class _Skill(NamedTuple):
    name: str
    root: Path


class _Document(NamedTuple):
    """A Markdown file of a skill; `folder` is where it lies in the skill, with a slash behind it unless empty."""

    skill: _Skill
    folder: str
    lines: frozenset[str]


class SkillPaths:
    """The mounted skills of one run, as (name at `FOLDER`, folder here). What was looked up is kept for the run."""

    def __init__(self, mounts: Iterable[tuple[str, str]] = ()) -> None:
        self._skills = [_Skill(name, Path(path)) for name, path in mounts]
        self._documents: dict[tuple[str, str], _Document | None] = {}
        self._found: dict[tuple[str, str], bool] = {}
        self._listed: dict[str, list[str]] = {}

    def written_out(self, output: str, command: str) -> str:
        """What the command printed, with the paths of the instructions in it written out."""
        documents = self._read_by(command) if output else []
        if not documents:
            return output
        current = documents[0]
        lines = output.split("\n")
        for number, line in enumerate(lines):
            numbered = _NUMBERED.match(line)
            for start in (0, numbered.end()) if numbered else (0,):
                text = line[start:].rstrip()
                having = [document for document in documents if text in document.lines] if text else []
                if having:
                    # A line that several files have belongs to the one that is being printed.
                    current = current if current in having else having[0]
                    lines[number] = line[:start] + self._line(line[start:], current)
                    break
        return "\n".join(lines)

    def instructions(self, name: str) -> str:
        """A skill's SKILL.md below its front matter, with the paths written out; "" when it cannot be read."""
        skill = next((skill for skill in self._skills if skill.name == name), None)
        document = self._document(skill, "SKILL.md") if skill is not None else None
        if skill is None or document is None:
            return ""
        try:
            with (skill.root / "SKILL.md").open("rb") as file:
                text = file.read(MAX_BYTES).decode("utf-8", "replace")
        except OSError:
            return ""
        body = _FRONT.sub("", text.replace("\r\n", "\n"))
        return "\n".join(self._line(line, document) for line in body.strip().split("\n"))

    def references(self, name: str) -> list[tuple[str, str]]:
        """The texts that a skill's instructions name, as (full path, text), none longer than `REFERENCE` bytes."""
        return self._texts(name, _REFERENCE.findall(self.instructions(name)))

    def shelves(self, name: str) -> list[tuple[str, str]]:
        """Those in the folders that they name, which are there to choose from; the first `MAX_FILES`."""
        skill = next((skill for skill in self._skills if skill.name == name), None)
        files = [f"{FOLDER}/{name}/{file}" for file in self._files(skill)] if skill is not None else []
        named = {f"{path.rstrip('/')}/" for path in _FOLDER.findall(self.instructions(name))}
        return self._texts(name, [path for path in files if f"{path.rpartition('/')[0]}/" in named])

    def _texts(self, name: str, paths: Iterable[str]) -> list[tuple[str, str]]:
        skill = next((skill for skill in self._skills if skill.name == name), None)
        found = []
        for path in dict.fromkeys(path for path in paths if _REFERENCE.fullmatch(path)):
            if skill is None or not path.startswith(f"{FOLDER}/{name}/"):
                continue
            file = skill.root / path.removeprefix(f"{FOLDER}/{name}/")
            with contextlib.suppress(OSError, UnicodeDecodeError):
                if file.is_file() and file.stat().st_size <= REFERENCE and file.name != "SKILL.md":
                    found.append((path, file.read_text(encoding="utf-8").strip()))
        return found

    def has_modules(self, name: str, code: str) -> bool:
        """Whether code imports something that lies in the skill's folder."""
        skill = next((skill for skill in self._skills if skill.name == name), None)
        found = set(_IMPORT.findall(code)) if skill is not None else set()
        return any(self._exists(skill, place) for module in found for place in (f"{module}/", f"{module}.py") if skill)

    def places(self, path: str, command: str) -> list[str]:
        """Full paths of files in the skills that end as `path` does, best those of skills that the command names."""
        wanted = path.strip("/").split("/")
        found: list[tuple[int, bool, str]] = []
        for skill in self._skills:
            named = skill.name in command
            for file in self._files(skill):
                parts = file.split("/")
                alike = next((n for n, (a, b) in enumerate(zip(parts[::-1], wanted[::-1], strict=False)) if a != b), 99)
                if alike:
                    found.append((-min(alike, len(parts), len(wanted)), not named, f"{FOLDER}/{skill.name}/{file}"))
        best = sorted(found)
        return [full for *rank, full in best if rank == list(best[0][:2])]

    def _files(self, skill: _Skill) -> list[str]:
        """A skill's files below its folder; the first `MAX_FILES`."""
        if skill.name not in self._listed:
            below = (path for path in skill.root.rglob("*") if path.is_file())
            self._listed[skill.name] = [path.relative_to(skill.root).as_posix() for path in islice(below, MAX_FILES)]
        return self._listed[skill.name]

    # -- which files a command reads

    def _read_by(self, command: str) -> list[_Document]:
        if "skills" not in command:
            return []
        named = [skill for skill in self._skills if re.search(rf"(?<![\w.-]){re.escape(skill.name)}(?![\w-])", command)]
        written = _MARKDOWN.findall(command)
        documents = []
        for skill in named or self._skills:
            places = ["SKILL.md", *(place.rpartition(f"/{skill.name}/")[2].removeprefix("./") for place in written)]
            documents += [self._document(skill, place) for place in dict.fromkeys(places)]
        return [document for document in documents if document is not None]

    def _document(self, skill: _Skill, place: str) -> _Document | None:
        key = (skill.name, place)
        if key not in self._documents:
            self._documents[key] = self._load(skill, place) if self._exists(skill, place) else None
        return self._documents[key]

    def _load(self, skill: _Skill, place: str) -> _Document | None:
        try:
            with (skill.root / place).open("rb") as file:
                text = file.read(MAX_BYTES).decode("utf-8", "replace")
        except OSError:
            return None
        folder = place.rpartition("/")[0]
        return _Document(skill, folder and folder + "/", frozenset(line.rstrip() for line in text.split("\n")))

    # -- the paths of a line

    def _line(self, line: str, document: _Document) -> str:
        line = _VARIABLE.sub(lambda match: f"{FOLDER}/{document.skill.name}", line)
        line = _QUOTED.sub(lambda match: self._quoted(match, document), line)
        return _WORD.sub(lambda match: self._word(match, document), line)

    def _quoted(self, match: re.Match[str], document: _Document) -> str:
        """A path with spaces stands in quotes; other quoted text is read word by word."""
        full = self._full(match["path"], document)
        return match[0] if full is None else f"{match['quote']}{full}{match['quote']}"

    def _word(self, match: re.Match[str], document: _Document) -> str:
        word = match[0]
        path = word.rstrip(".!")  # the end of a sentence
        if "/" not in path and "." not in path and not match.string[: match.start()].endswith("cd "):
            return word  # "the scripts in this folder"
        full = self._full(path.replace("\\ ", " "), document)
        return word if full is None else full.replace(" ", "\\ ") + word[len(path) :]

    def _full(self, path: str, document: _Document) -> str | None:
        """The full path of something in the skill, None when there is no such thing: from its root, or beside the
        document that names it."""
        path = path.removeprefix("./")
        for folder in dict.fromkeys(("", document.folder)):
            if self._exists(document.skill, folder + path):
                return f"{FOLDER}/{document.skill.name}/{folder}{path}"
        return None

    def _exists(self, skill: _Skill, path: str) -> bool:
        if "\0" in path or not {"", ".", ".."}.isdisjoint(path.removesuffix("/").split("/")):
            return False
        key = (skill.name, path)
        if key not in self._found:
            whole = f"{skill.root}/{path}"
            self._found[key] = os.path.isdir(whole) if path.endswith("/") else os.path.exists(whole)
        return self._found[key]
