"""What of a folder is left out when it is uploaded: `.gitignore` and `.skillignore`, packages, caches, `.env`.

The files are read in every folder and count below it, in Git's syntax; `.skillignore` has the last word and may bring
back with `!name` what is left out otherwise. `.env` files hold secrets: they travel only when it names them so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from skilldeck_shared.skills.clutter import CACHES, PACKAGES, VERSION_CONTROL

FILES = (".gitignore", ".skillignore")
FILE_BYTES = 256 * 1024
FOLDERS = VERSION_CONTROL | CACHES | PACKAGES - {"site-packages", "dist-packages"}
SECRET = re.compile(r"\.env(?!\.(?:example|sample|template|dist)$)(?:\..+)?")


@dataclass(frozen=True)
class Rule:
    """One line of an ignore file. `pattern` is matched against the path relative to the file's folder."""

    prefix: str
    pattern: re.Pattern[str]
    folders_only: bool
    brings_back: bool


@dataclass(frozen=True)
class Ignoring:
    """The rules that hold in a folder, the strongest last."""

    rules: tuple[Rule, ...] = ()

    def below(self, folder: Path, prefix: str) -> Ignoring:
        """Those inside `folder`, whose path in the upload is `prefix` (with a slash at its end, or empty)."""
        more = [rule for name in FILES for rule in _read(folder / name, prefix)]
        return Ignoring((*self.rules, *more)) if more else self

    def leaves_out(self, path: str, *, folder: bool) -> bool:
        """Whether a file or folder of the upload stays behind."""
        name = path.rsplit("/", 1)[-1]
        out = name in FOLDERS if folder else SECRET.fullmatch(name) is not None
        for rule in self.rules:
            if (folder or not rule.folders_only) and rule.pattern.fullmatch(path[len(rule.prefix) :]):
                out = not rule.brings_back
        return out


def secret(path: str) -> bool:
    """Whether a file is one that holds secrets by its name."""
    return SECRET.fullmatch(path.rsplit("/", 1)[-1]) is not None


def _read(file: Path, prefix: str) -> list[Rule]:
    try:
        with file.open("rb") as opened:
            text = opened.read(FILE_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    return [rule for line in text.splitlines() if (rule := _rule(line, prefix)) is not None]


def _rule(line: str, prefix: str) -> Rule | None:
    line = re.sub(r"(?<!\\)\s+$", "", line)
    if not line or line.startswith("#"):
        return None
    brings_back = line.startswith("!")
    line = line[brings_back:].removeprefix("\\")
    folders_only = line.endswith("/")
    line = line.rstrip("/")
    if not line:
        return None
    # Without a slash inside, a name counts at any depth.
    anchored = "/" in line
    pattern = _translated(line.removeprefix("/"))
    try:
        return Rule(prefix, re.compile(pattern if anchored else f"(?:.*/)?{pattern}"), folders_only, brings_back)
    except re.error:  # such as [z-a]: it names nothing
        return None


def _translated(glob: str) -> str:
    result, at = "", 0
    while at < len(glob):
        if glob.startswith("**/", at) and (at == 0 or glob[at - 1] == "/"):
            result, at = result + "(?:[^/]+/)*", at + 3
        elif glob.startswith("**", at):
            result, at = result + ".*", at + 2
        elif glob[at] in "*?":
            result, at = result + ("[^/]*" if glob[at] == "*" else "[^/]"), at + 1
        elif glob[at] == "[" and (end := glob.find("]", at + 2)) > 0:
            inner = glob[at + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            result, at = result + f"[{'^' + inner[1:] if inner[0] in '!^' else inner}]", end + 1
        elif glob[at] == "\\" and at + 1 < len(glob):
            result, at = result + re.escape(glob[at + 1]), at + 2
        else:
            result, at = result + re.escape(glob[at]), at + 1
    return result
