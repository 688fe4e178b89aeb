"""Programs of a skill: whether they start in a container, and find what they import."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from pathlib import PurePosixPath

from skilldeck_shared.lint.rules import Edit, Executable, Finding, Rule
from skilldeck_shared.lint.skill import Skill, aside, prose
from skilldeck_shared.skills.base_packages import bring, distribution, usual
from skilldeck_shared.skills.python_imports import third_party_places

NOT_EXECUTABLE = Rule(
    "script-not-executable", "warning", "a script that is called by its path may not be executed",
    "The call ends with 'Permission denied', and the model goes looking for another way.",
)  # fmt: skip
NO_INTERPRETER = Rule(
    "script-no-interpreter", "warning", "a script that is called by its path does not name its interpreter",
    "The shell runs it as its own language and fails at the first line.",
)  # fmt: skip
LINE_ENDS = Rule(
    "script-line-ends", "warning", "the first line of a script ends with a carriage return",
    "The interpreter is looked for under a name that ends with it: 'bad interpreter'.",
)  # fmt: skip
SYNTAX = Rule("script-syntax", "warning", "a Python script cannot be parsed", "It fails before it does anything.")
ASKS = Rule(
    "script-asks", "advice", "a script waits for somebody to type",
    "A model has no keyboard there: the command hangs until its time is over.",
)  # fmt: skip
PACKAGE = Rule(
    "package-missing", "warning", "a script imports what neither the sandbox's base nor the skill provides",
    "It ends with ModuleNotFoundError, and containers have no network unless they are given one.",
)  # fmt: skip
RULES = (NOT_EXECUTABLE, NO_INTERPRETER, LINE_ENDS, SYNTAX, ASKS, PACKAGE)

INTERPRETERS = {
    ".py": "python3", ".sh": "bash", ".bash": "bash", ".js": "node", ".mjs": "node", ".cjs": "node", ".rb": "ruby",
    ".pl": "perl",
}  # fmt: skip
_CALL = re.compile(r"^\s*(?:[$>]\s+)?(?:sudo\s+)?(?:[A-Z_]\w*=\S*\s+)*(?:\./)?([\w.-]+(?:/[\w.-]+)*)(?=\s|$)")
_SHELL_ASKS = re.compile(r"^\s*(?:read\s+(?:-\w+\s+)*-\w*p\w*\s|select\s+\w+\s+in\b)", re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")
_DECLARED = re.compile(
    r"(?:pip3?|uv(?:\s+pip)?|poetry|pixi|conda|mamba)\s+(?:install|add)\s+([^\n`|&;]+)|--with[ =]([\w.\[\],-]+)"
    r"|\buvx\s+([\w.-]+)"
)
_NAME = re.compile(r"[A-Za-z][\w.-]*")


def check(skill: Skill) -> Iterator[Finding]:
    called = _called(skill)
    for path, text in skill.texts.items():
        if aside(path):
            continue
        suffix = PurePosixPath(path).suffix.lower()
        if suffix not in INTERPRETERS and not text.startswith("#!"):
            continue
        yield from _starts(skill, path, text, suffix, called)
        if suffix == ".py":
            yield from _python(path, text)
        elif suffix in (".sh", ".bash") and (asks := _SHELL_ASKS.search(text)) and "-t " not in text:
            yield _asking(path, text[: asks.start()].count("\n") + 1 + asks[0].count("\n"))
    yield from _packages(skill)


def _called(skill: Skill) -> dict[str, int]:
    """The files that SKILL.md calls by their path alone, with the line."""
    found: dict[str, int] = {}
    for number, line, code in prose(skill.source):
        if number <= skill.closing + 1:
            continue
        for piece in [line] if code else _SPAN.findall(line):
            call = _CALL.match(piece)
            # Prose names a file between back-ticks; a call has arguments, or says ./.
            runs = call and (code or "./" in piece[: call.end()] or piece[call.end() :].strip())
            if call and runs and call[1] in skill.files:
                found.setdefault(call[1], number)
    return found


def _starts(skill: Skill, path: str, text: str, suffix: str, called: dict[str, int]) -> Iterator[Finding]:
    first = text.partition("\n")[0]
    if path in called and not skill.files[path].executable:
        yield NOT_EXECUTABLE.at(
            path, 0, f"SKILL.md line {called[path]} calls it by its path, and it is not executable.",
            f"chmod +x {path}", fix=Executable(path),
        )  # fmt: skip
    if first.startswith("#!") and first.endswith("\r"):
        fix = Edit(path, 0, len(text), text.replace("\r\n", "\n"))
        yield LINE_ENDS.at(path, 1, f"{first.strip()!r} ends with a carriage return.", "Save it with LF.", fix=fix)
    if path in called and not first.startswith("#!") and suffix in INTERPRETERS:
        line = f"#!/usr/bin/env {INTERPRETERS[suffix]}"
        yield NO_INTERPRETER.at(
            path, 1, f"SKILL.md line {called[path]} calls it by its path, and its first line names no interpreter.",
            f"Begin it with {line}", fix=Edit(path, 0, 0, f"{line}\n"),
        )  # fmt: skip


def _python(path: str, text: str) -> Iterator[Finding]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the skill's own doubtful escapes
            tree = ast.parse(text)
    except SyntaxError as error:
        yield SYNTAX.at(
            path,
            error.lineno or 1,
            f"Python cannot parse it: {error.msg}.",
            "Mend the syntax.",
            column=error.offset or 1,
        )
        return
    except (ValueError, RecursionError, MemoryError):
        return
    if "isatty" in text:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "input":
            yield _asking(path, node.lineno)
            return


def _asking(path: str, line: int) -> Finding:
    return ASKS.at(path, line, "it waits for somebody to type.", "Take the answer as an option or from stdin.")


def _packages(skill: Skill) -> Iterator[Finding]:
    declared = _declared(skill)
    places = third_party_places((path, file.place) for path, file in skill.files.items())
    for module, imported in places.items():
        package = distribution(module)
        if usual(package) or {_plain(module), _plain(package)} & declared:
            continue
        wanted = [place for place in imported if not aside(place[0])]
        if not wanted:
            continue
        path, line = wanted[0]
        more = f" So do {len(wanted) - 1} more files." if len(wanted) > 1 else ""
        yield PACKAGE.at(
            path, line, f"it imports {module}, which is not in the sandbox's usual base.{more}",
            f"Say in compatibility that it needs {package}, and {bring(package)}.",
        )  # fmt: skip


def _declared(skill: Skill) -> set[str]:
    """Packages that the skill says it needs: by compatibility, in requirements, in a script's own header, by a command
    that installs them."""
    found: set[str] = set()
    if skill.manifest is not None and skill.manifest.compatibility:
        found |= set(_NAME.findall(skill.manifest.compatibility))
    for path, text in skill.texts.items():
        name = PurePosixPath(path).name.lower()
        if "requirements" in name and name.endswith((".txt", ".in")):
            found |= {match[0] for line in text.splitlines() if (match := _NAME.match(line.strip()))}
        elif name in ("pyproject.toml", "environment.yml", "environment.yaml", "setup.py", "setup.cfg"):
            found |= set(_NAME.findall(text))
        if path.endswith((".md", ".py", ".sh", ".txt")):
            for match in _DECLARED.finditer(text):
                found |= set(_NAME.findall(" ".join(filter(None, match.groups()))))
        if path.endswith(".py") and "# /// script" in text:
            header = text.partition("# /// script")[2].partition("# ///")[0]
            found |= set(_NAME.findall(header))
    return {_plain(name) for name in found}


def _plain(name: str) -> str:
    """As indexes compare names of packages."""
    return re.sub(r"[-_.]+", "-", name).lower()
