#!/usr/bin/env python3
"""Lint a configuration file: syntax errors, keys set twice, empty values, placeholders left in, undefined references.

Reads .env, .ini, .cfg, .conf, .properties, .json and, on Python 3.11 or later, .toml; an unknown ending is guessed from
the content. Values are never printed, so that a report may be shared. Exit status 0 with a report, whatever it says
(1 with --strict when it holds problems), and 2 when the file cannot be read as configuration.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from typing import Any, NamedTuple

sys.dont_write_bytecode = True  # a run leaves the skill folder as it was
from textfile import BadInput, read_text, run, short  # noqa: E402

ENDINGS = {
    "env": "env",
    "ini": "ini",
    "cfg": "ini",
    "conf": "ini",
    "properties": "properties",
    "json": "json",
    "toml": "toml",
}
SECTION = re.compile(r"\s*\[([^\[\]]*)\]\s*(?:[#;].*)?$")
ENV_LINE = re.compile(r"(?:export\s+)?([^=\s]*)(\s*)=(\s*)(.*)$")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*$")
REFERENCE = re.compile(r"(?<!\\)\$\{([A-Za-z_]\w*)\}")
PLACEHOLDER = re.compile(
    r"change[ _-]?me|fix[ _-]?me|to[ _-]?do|tbd|xxx+|replace[ _-]?(?:me|this)|<[\w ._-]+>"
    r"|(?:your|insert)[ _-][\w -]+",
    re.I,
)
SHOWN_PROBLEMS = 8


class Problem(NamedTuple):
    """Something to look at: its line (0 for the whole file) and what is wrong."""

    line: int
    text: str


class Report:
    """Keys seen so far, with their lines, and the problems found."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self.count = 0
        self.problems: list[Problem] = []

    def problem(self, line: int, text: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(line, text))

    def key(self, line: int, key: str, value: str, shown: str = "") -> None:
        """Note a key; `value` is what it is set to, without its quotes."""
        shown = short(shown or key, 40)
        self.count += 1
        if key in self.lines:
            first = f", first set on line {self.lines[key]}" if line else ""
            self.problem(line, f"{shown} is set twice{first}")
        self.lines.setdefault(key, line)
        if not value.strip():
            self.problem(line, f"{shown} is empty")
        elif PLACEHOLDER.fullmatch(value.strip()[:200]):
            self.problem(line, f"{shown} still holds a placeholder")


def lint_env(text: str, report: Report) -> None:
    """Lines of NAME=value, as shells and container tools read them."""
    references: list[tuple[int, str, str]] = []
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        number += 1
        line = lines[number - 1]
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = ENV_LINE.match(line.strip())
        if not found:
            report.problem(number, "no = on this line")
            continue
        name, before, after, value = found.groups()
        first = number
        quote = value[:1] if value[:1] in ("'", '"') else ""
        if quote:
            body = value[1:]
            while closing(body, quote) < 0 and number < len(lines):
                body += "\n" + lines[number]
                number += 1
            if closing(body, quote) < 0:
                report.problem(first, f"{short(name, 40)} has a quote that is never closed")
                number = first
                continue
            value = body[: closing(body, quote)]
        else:
            value = re.sub(r"(?:^|\s+)#.*$", "", value).rstrip()
            if re.search(r"\s", value):
                report.problem(first, f"{short(name, 40)} has a space in its value but no quotes")
        if not ENV_NAME.match(name):
            report.problem(first, "no valid variable name before the =")
            continue
        if before or after:
            report.problem(first, f"{short(name, 40)} has spaces around its =")
        report.key(first, name, value)
        if quote != "'":
            references += [(first, name, other) for other in REFERENCE.findall(value)]
    for line_number, name, other in references:
        if other not in report.lines:
            report.problem(line_number, f"{short(name, 40)} refers to {short(other, 40)}, which is not set here")


def closing(body: str, quote: str) -> int:
    """Where `quote` closes `body`, or -1; in double quotes a backslash escapes."""
    position = 0
    while position < len(body):
        if body[position] == "\\" and quote == '"':
            position += 1
        elif body[position] == quote:
            return position
        position += 1
    return -1


def lint_ini(text: str, report: Report, sections: bool) -> None:
    """Lines of key = value, under [sections] in .ini files; indented lines go on with the value before."""
    section = ""
    open_value = False
    joined = False
    for number, line in enumerate(text.splitlines(), 1):
        if joined:
            joined = line.rstrip().endswith("\\")
            continue
        if not line.strip() or line.lstrip()[0] in ("#;" if sections else "#!"):
            continue
        if sections and line[0] in " \t" and open_value:
            continue
        heading = SECTION.match(line) if sections else None
        if heading:
            section, open_value = heading[1].strip(), False
            marker = f"[{section}]"
            if marker in report.lines:
                report.problem(
                    number, f"section {short(marker, 40)} appears twice, first on line {report.lines[marker]}"
                )
            report.lines.setdefault(marker, number)
            continue
        if sections and line.lstrip().startswith("["):
            report.problem(number, "section heading without its closing ]")
            continue
        found = re.search(r"[=:]", line)
        name = line[: found.start()].strip() if found else ""
        if not found or not name:
            report.problem(number, "no key and = on this line")
            continue
        open_value = True
        joined = not sections and line.rstrip().endswith("\\")
        name = f"{section}.{name}" if section else name
        key = name.lower() if sections else name  # .ini readers fold the case of keys
        report.key(number, key, line[found.end() :].strip().strip("\"'"), shown=name)


def lint_tree(data: Any, report: Report) -> None:
    """The keys of parsed JSON or TOML."""
    stack: list[tuple[str, Any]] = [("", data)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            for key, item in value.items():
                name = f"{path}.{key}" if path else str(key)
                if isinstance(item, str):
                    report.key(0, name, item)
                elif not isinstance(item, (dict, list)):
                    report.count += 1
            members = [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
        else:
            members = [(f"{path}[{number}]", item) for number, item in enumerate(value)]
        stack.extend(member for member in reversed(members) if isinstance(member[1], (dict, list)))


def lint_json(text: str, report: Report) -> None:
    """JSON; a key written twice in one object is a problem too, though it parses."""

    def members(items: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in items:
            if key in seen:
                report.problem(0, f"{short(key, 40)} is set twice in one object")
            seen.add(key)
        return dict(items)

    try:
        data = json.loads(text, object_pairs_hook=members, parse_int=float)
        if not isinstance(data, (dict, list)):
            raise BadInput("the JSON holds a single value, no configuration")
        lint_tree(data, report)
    except json.JSONDecodeError as problem:
        report.problem(problem.lineno, f"syntax error: {problem.msg} at column {problem.colno}")
    except RecursionError:
        raise BadInput("the JSON is nested too deeply") from None


def lint_toml(text: str, report: Report) -> None:
    """TOML, where the standard library reads it."""
    try:
        import tomllib
    except ImportError:
        raise BadInput("TOML needs Python 3.11 or later") from None
    try:
        lint_tree(tomllib.loads(text), report)
    except tomllib.TOMLDecodeError as problem:
        place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", str(problem))
        line = int(place[1]) if place and place[1] else len(text.splitlines())
        report.problem(line, f"syntax error: {short(str(problem)[: place.start() if place else None])}")
    except RecursionError:
        raise BadInput("the TOML is nested too deeply") from None


def form_of(path: str, text: str) -> str:
    """The format by the file's name, else by what the text looks like."""
    name = os.path.basename(path).lower()
    ending = name.rpartition(".")[2]
    if ending in ("yaml", "yml"):
        raise BadInput("YAML is not supported; give a .env, .ini, .properties, .json or .toml file")
    if ending in ENDINGS or name.startswith(".env"):
        return ENDINGS.get(ending, "env")
    lines = [line for line in text.splitlines() if line.strip() and line.lstrip()[0] not in "#;"]
    if lines and lines[0].lstrip()[0] == "{":
        return "json"
    if any(SECTION.match(line[:2000]) for line in lines):
        return "ini"
    named = sum(1 for line in lines if re.match(r"\s*(?:export\s+)?[A-Za-z_]\w*=", line))
    if lines and named * 2 >= len(lines):
        return "env"
    raise BadInput("the file does not look like configuration; --format says which kind it is")


def main() -> int:
    parser = argparse.ArgumentParser(description="Find mistakes in a configuration file.")
    parser.add_argument("file", help="the configuration: .env, .ini, .cfg, .conf, .properties, .json or .toml")
    parser.add_argument("--format", choices=sorted(set(ENDINGS.values())), help="read it as this kind")
    parser.add_argument("--full", action="store_true", help="every problem")
    parser.add_argument("--json", action="store_true", help="all facts as JSON")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when there are problems")
    options = parser.parse_args()
    text = read_text(options.file, limit=8 << 20)
    if not text.strip():
        raise BadInput("the file holds only blank space, no configuration")
    form = options.format or form_of(options.file, text)
    report = Report()
    if form == "env":
        lint_env(text, report)
    elif form in ("ini", "properties"):
        lint_ini(text, report, sections=form == "ini")
    else:
        (lint_json if form == "json" else lint_toml)(text, report)
    problems = sorted(report.problems, key=lambda problem: problem.line)
    if options.json:
        found = [{"line": problem.line or None, "problem": problem.text} for problem in problems]
        print(json.dumps({"format": form, "keys": report.count, "problems": found}, indent=2, ensure_ascii=False))
        return int(options.strict and bool(problems))
    print(f"format: {form}")
    print(f"keys: {report.count}")
    print(f"problems: {len(problems)}")
    shown = problems if options.full else problems[:SHOWN_PROBLEMS]
    for problem in shown:
        print(f"line {problem.line}: {problem.text}" if problem.line else f"file: {problem.text}")
    if len(shown) < len(problems):
        print(f"more problems: {len(problems) - len(shown)}")
    return int(options.strict and bool(problems))


if __name__ == "__main__":
    run(main)
