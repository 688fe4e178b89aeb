"""Files that a skill's Markdown names: whether they are there, and named so that they are found wherever it lies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from posixpath import normpath
from urllib.parse import unquote

from skilldeck_shared.lint.rules import Edit, Finding, Rule
from skilldeck_shared.lint.skill import Skill, aside, offset, prose

MISSING = Rule(
    "missing-file", "warning", "a file that is named is not there",
    "The model looks for it, fails, and searches on or makes it up.",
)  # fmt: skip
OUTSIDE = Rule(
    "outside-file", "advice", "a link leads out of the skill's folder",
    "A skill is installed alone: what lies beside it here is not there.",
)  # fmt: skip
BACKSLASH = Rule(
    "backslash-path", "warning", "a path is written with backslashes",
    "Commands run on Linux and macOS, where it names no file.",
)  # fmt: skip
CLIENT_PATH = Rule(
    "client-path", "warning", "a file of the skill is named by the place where one client keeps skills",
    "Other clients keep them elsewhere; relative paths are found by all.",
)  # fmt: skip
RULES = (MISSING, OUTSIDE, BACKSLASH, CLIENT_PATH)

OWN_FOLDERS = frozenset({"scripts", "references", "assets"})
"""Folders that the specification names: what is written below them is meant to lie in the skill."""

_LINK = re.compile(r"\]\(\s*<?([^()\s<>]+(?:\([^()\s]*\)[^()\s<>]*)?)>?(?:\s+[\"'][^\"']*[\"'])?\s*\)")
_SPAN = re.compile(r"(`+)(.+?)\1")
_PATH = re.compile(
    r"(?<!\]\()(?<!\]\(\./)(?<![\w/.~$}{\\@:>*-])(?:\./)?((?:[\w.-]+/)+[\w.-]*\w\.[A-Za-z]\w{0,8})(?!\.?[\w/*{<\[-])"
)
_BACKSLASHED = re.compile(r"(?<![\w/.~$}{\\:-])((?:[\w.-]+\\)+[\w.-]+\.[A-Za-z]\w{0,5})(?![\w\\])")
_CLIENT = re.compile(
    r"(?:~|\$HOME|\$\{HOME\}|\.)/\.(?:agents|claude|codex|copilot|cursor|gemini|github|opencode)/skills/([\w.-]+)/"
    r"([\w./-]*[\w-])"
)
_EXAMPLE = re.compile(
    r"[{}<>*$|…]|\.\.\.|%[sd]|\b(?:path/to|example|your-|my-|foo|bar|xxx|NNN?|filename)", re.IGNORECASE
)
_INSTANCE = re.compile(r"\be\.g\.|\bfor (?:example|instance)|\bexamples?\b", re.IGNORECASE)
_PROBE = re.compile(r"2>\s*/dev/null|\btest -[defr]\b|\[ -[defr]\b|\bls\b.*\|\|")
"""A command that asks whether a file of the project is there."""
_OTHERS = re.compile(r"`([\w-]+)`(?:'s|’s|:)?\s+$")
"""Another skill, whose file the next span names."""
_NAMED_FILE = re.compile(r"\.[A-Za-z]\w{0,5}$|/$")


def check(skill: Skill) -> Iterator[Finding]:
    for path, text in skill.texts.items():
        if path == skill.manifest_path:
            yield from _links(skill, path, text)
            yield from _mentions(skill, text)
        elif path.lower().endswith(".md") and not aside(path) and not _for_people(path):
            yield from _links(skill, path, text)


def _for_people(path: str) -> bool:
    """README.md, README.ja.md, CHANGELOG.md."""
    return PurePosixPath(path).name.partition(".")[0].isupper()


def _links(skill: Skill, path: str, text: str) -> Iterator[Finding]:
    """Markdown links and pictures of prose."""
    folder = str(PurePosixPath(path).parent)
    for number, line, code in prose(text):
        if code or line.startswith(("    ", "\t")) or "<!--" in line:
            continue
        plain = _SPAN.sub(lambda match: " " * len(match[0]), line)
        for found in _LINK.finditer(plain):
            target = unquote(found[1].partition("#")[0].partition("?")[0])
            if not target or re.match(r"[A-Za-z][\w+.-]*:|/", target) or _EXAMPLE.search(target):
                continue
            if not _NAMED_FILE.search(target):  # [text](link) as a manual shows it
                continue
            # A model reads paths from where the skill lies as often as from the file that names them.
            reached = {normpath(target), normpath(f"{folder}/{target}")}
            if all(name == ".." or name.startswith("../") for name in reached):
                where = "Copy what is needed into the skill, or say in words which other skill is meant."
                yield OUTSIDE.at(path, number, f"{found[1]} lies outside the skill.", where, column=found.start(1) + 1)
            elif not any(_there(skill, name) for name in reached):
                yield _missing(skill, path, text, number, found.start(1), found[1].partition("#")[0], target)


def _mentions(skill: Skill, text: str) -> Iterator[Finding]:
    """Paths in the code of SKILL.md: spans and fences."""
    tops = OWN_FOLDERS | {name.partition("/")[0] for name in skill.folders}
    reported: set[str] = set()
    for number, line, code in prose(text):
        if number <= skill.closing + 1:
            continue
        if _PROBE.search(line) if code else _INSTANCE.search(line):
            continue
        for start, piece in [(0, line)] if code else [(m.start(2), m[2]) for m in _SPAN.finditer(line)]:
            yield from _placed(skill, text, number, start, piece)
            owner = None if code else _OTHERS.search(line[: line.rfind("`", 0, start)])
            if owner and skill.manifest and owner[1] != skill.manifest.name and "-" in owner[1]:
                continue
            for found in _PATH.finditer(piece):
                name = normpath(found[1])
                if name.partition("/")[0] not in tops or name in reported or _EXAMPLE.search(name):
                    continue
                # Folders that skills share with the projects they work in are theirs only if they hold such a file.
                if name.partition("/")[0] not in OWN_FOLDERS & skill.folders and not _close(skill, name):
                    continue
                if not _there(skill, name):
                    reported.add(name)
                    yield _missing(skill, skill.manifest_path, text, number, start + found.start(1), found[1], name)


def _placed(skill: Skill, text: str, number: int, start: int, piece: str) -> Iterator[Finding]:
    """Paths of the skill's own files, written so that they are not found everywhere."""
    path = skill.manifest_path
    for found in _BACKSLASHED.finditer(piece):
        name = found[1].replace("\\", "/")
        if _there(skill, name):
            at = offset(text, number) + start + found.start(1)
            fix = Edit(path, at, at + len(found[1]), name)
            yield BACKSLASH.at(
                path, number, f"{found[1]} is written with backslashes.", f"Write {name}.",
                column=start + found.start(1) + 1, fix=fix,
            )  # fmt: skip
    name = skill.manifest.name if skill.manifest else ""
    for found in _CLIENT.finditer(piece):
        if found[1] == name and _there(skill, found[2]):
            at = offset(text, number) + start + found.start()
            yield CLIENT_PATH.at(
                path, number, f"{found[0]} is where one client keeps this skill.", f"Write {found[2]}.",
                column=start + found.start() + 1, fix=Edit(path, at, at + len(found[0]), found[2]),
            )  # fmt: skip


def _there(skill: Skill, name: str) -> bool:
    name = name.rstrip("/")
    return name in (".", "") or name in skill.files or name in skill.folders


def _close(skill: Skill, name: str) -> list[str]:
    """Files of the skill that may be meant: of the same name, whatever its case, somewhere else."""
    base = PurePosixPath(name).name.casefold()
    return [path for path in skill.files if PurePosixPath(path).name.casefold() == base]


def _missing(skill: Skill, path: str, text: str, line: int, column: int, written: str, name: str) -> Finding:
    meant = _close(skill, name)
    cure = "Add the file, or take the reference out."
    fix = None
    if len(meant) == 1:
        up = "../" * (len(PurePosixPath(path).parts) - 1)
        right = f"{up}{meant[0]}"
        cure = f"Write {right}."
        at = offset(text, line) + column
        if text[at : at + len(written)] == written:
            fix = Edit(path, at, at + len(written), right)
    return MISSING.at(path, line, f"{written} is not in the skill.", cure, column=column + 1, fix=fix)
