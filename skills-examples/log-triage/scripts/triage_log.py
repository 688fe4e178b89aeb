#!/usr/bin/env python3
"""Triage a log: how many errors and warnings, when, and which messages come again and again.

Understands application logs with a level word, syslog, JSON lines, and web access logs (status 5xx is an error, 4xx a
warning). Lines of a stack trace belong to the entry before them. Messages that differ only in numbers, addresses or ids
are one group, shown by its first message. The log is read once, line by line; at most 10,000 groups are kept.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from typing import NamedTuple

sys.dont_write_bytecode = True  # a run leaves the skill folder as it was
from textfile import TERMINAL, BadInput, open_text, run, short  # noqa: E402

LEVELS = {
    "fatal": "error", "critical": "error", "crit": "error", "emerg": "error", "alert": "error", "panic": "error",
    "severe": "error", "error": "error", "err": "error", "warning": "warning", "warn": "warning", "notice": "info",
    "info": "info", "debug": "debug", "trace": "debug", "verbose": "debug", "fine": "debug",
}  # fmt: skip
TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?")
CLOCK = re.compile(
    r"\[?(\d\d/[A-Z][a-z]{2}/\d{4}):(\d\d:\d\d:\d\d)[^\]]*\]?|([A-Z][a-z]{2} [ \d]\d) (\d\d:\d\d:\d\d)|(\d\d:\d\d:\d\d)"
)
WORDS = "|".join(sorted(LEVELS, key=len, reverse=True))
# In capitals anywhere; else only where a level stands: first, in brackets, after level=, before a colon.
LEVEL = re.compile(
    rf"(?<![\w./-])({WORDS.upper()})(?![\w./-])|(?i:(?:^\W*|\[|<|\b(?:level|severity|lvl)=\"?)({WORDS})\b|\b({WORDS}):)"
)
THREAD = re.compile(r"\[[^\]]{1,40}\]\s+(?=\S)")
ACCESS = re.compile(r'"([A-Z]{3,8}) ([^\s"]+)(?: [^"]*)?" (\d{3}) ')
TROUBLE = re.compile(r"\b(?:failed|failure|exception|traceback|segfault|denied|refused|out of memory)\b", re.I)
VARIABLE = re.compile(
    r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\b0x[0-9a-f]+\b|\b(?=[a-f]*\d)[0-9a-f]{7,}\b|\d+(?:[.:,]\d+)*|\"[^\"]*\"|'[^']*'",
    re.I,
)
TRACE = re.compile(r"\s|Traceback |Caused by: |\.\.\. \d+ more|at [\w.$]+\(")
GROUP_LIMIT = 10_000
LINE_LIMIT = 20_000


class Entry(NamedTuple):
    """One log line understood: level is error, warning, info, debug or empty; time is sortable only within one log."""

    level: str
    time: str
    message: str


class Group:
    """Entries of one level whose messages differ only in their variable parts."""

    def __init__(self, line: int, entry: Entry) -> None:
        self.count = 0
        self.line = line
        self.message = entry.message
        self.first = self.last = entry.time


def understand_json(line: str) -> Entry | None:
    """A line of JSON as an entry, or None when it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    known = {str(key).lower(): value for key, value in record.items()}

    def first(*names: str) -> str:
        return next((str(known[name]) for name in names if known.get(name) not in (None, "")), "")

    level = first("level", "severity", "levelname", "lvl", "log.level").lower()
    if level.isdigit():  # the numbers of bunyan and pino
        level = "error" if int(level) >= 50 else "warning" if int(level) >= 40 else "info"
    time = first("time", "timestamp", "ts", "@timestamp", "datetime")
    found = TIME.search(time)
    time = f"{found[1]} {found[2]}" if found else time
    return Entry(LEVELS.get(level, ""), short(time, 30), first("msg", "message", "event", "error") or short(line, 200))


def understand(line: str) -> Entry:
    """A line of any kind as an entry."""
    if line.startswith("{"):
        entry = understand_json(line)
        if entry:
            return entry
    found = TIME.search(line[:200])
    if found:
        time, end = f"{found[1]} {found[2]}", found.end()
    else:
        found = CLOCK.search(line[:200])
        parts = [part for part in found.groups() if part] if found else []
        time, end = " ".join(parts), found.end() if found and found.start() < 5 else 0
    access = ACCESS.search(line)
    if access:
        level = "error" if access[3] >= "500" else "warning" if access[3] >= "400" else "info"
        return Entry(level, time, f"{access[3]} {access[1]} {access[2].partition('?')[0]}")
    rest = line[end:]
    word = LEVEL.search(rest[:80])
    if word:
        level, rest = word[1] or word[2] or word[3], rest[word.end() :]
    else:  # some formats put the level before the time
        word = LEVEL.search(line[:end])
        level = (word[1] or word[2] or word[3]) if word else ""
    rest = rest.lstrip(' ]:)>|-\t"')
    message = THREAD.sub("", rest, count=1) if THREAD.match(rest) else rest
    if level:
        return Entry(LEVELS[level.lower()], time, message)
    return Entry("error" if TROUBLE.search(rest) else "", time, message)


class Triage:
    """Counts over all lines seen."""

    def __init__(self) -> None:
        self.lines = 0
        self.counts: Counter[str] = Counter()
        self.times: list[str] = []
        self.minutes: Counter[str] = Counter()
        self.first_error: tuple[int, Entry] | None = None
        self.groups: dict[tuple[str, str], Group] = {}
        self.in_entry = False

    def add(self, line: str) -> None:
        """Take in one line."""
        self.lines += 1
        line = TERMINAL.sub("", line[:LINE_LIMIT]).rstrip()
        if not line or (self.in_entry and TRACE.match(line) and not TIME.match(line.lstrip()[:30])):
            return
        entry = understand(line)
        self.in_entry = True
        self.counts[entry.level or "other"] += 1
        if entry.time:
            self.times = [self.times[0] if self.times else entry.time, entry.time]
        if entry.level not in ("error", "warning"):
            return
        if entry.level == "error":
            self.first_error = self.first_error or (self.lines, entry)
            if entry.time:
                self.minutes[entry.time[:-3]] += 1
        key = (entry.level, VARIABLE.sub("#", entry.message[:300]))
        if key not in self.groups:
            if len(self.groups) >= GROUP_LIMIT:
                return
            self.groups[key] = Group(self.lines, entry)
        group = self.groups[key]
        group.count += 1
        group.last = entry.time or group.last

    def top(self, level: str) -> list[Group]:
        """The groups of a level, the most frequent first, then the earliest."""
        groups = [group for (kind, _), group in self.groups.items() if kind == level]
        return sorted(groups, key=lambda group: (-group.count, group.line))

    def print_text(self, shown_errors: int, shown_warnings: int) -> None:
        """The summary, one fact a line."""
        print(f"lines: {self.lines}")
        if self.times:
            print(f"period: {self.times[0]} to {self.times[1]}")
        elif set(self.counts) == {"other"}:
            print("note: neither times nor levels found, this may be no log")
        print(f"errors: {self.counts['error']}")
        print(f"warnings: {self.counts['warning']}")
        if self.first_error:
            number, entry = self.first_error
            print(f"first error: line {number}" + (f" at {entry.time}" if entry.time else ""))
        if self.minutes and self.counts["error"] > 1:
            minute, count = min(self.minutes.items(), key=lambda pair: (-pair[1], pair[0]))
            print(f"worst minute: {minute} ({count} errors)")
        for level, shown in (("error", shown_errors), ("warning", shown_warnings)):
            for group in self.top(level)[:shown]:
                print(f"{level} x{group.count}: {short(group.message, 70)}")
            rest = len(self.top(level)) - shown
            if rest > 0:
                print(f"other kinds of {level}: {rest}")

    def print_json(self) -> None:
        """Everything, as JSON."""
        facts = {
            "lines": self.lines,
            "counts": dict(sorted(self.counts.items())),
            "from": self.times[0] if self.times else None,
            "to": self.times[1] if self.times else None,
            "groups": [
                {
                    "level": level,
                    "count": group.count,
                    "message": short(group.message, 300),
                    "first_line": group.line,
                    "first": group.first or None,
                    "last": group.last or None,
                }
                for level in ("error", "warning")
                for group in self.top(level)
            ],
        }
        print(json.dumps(facts, indent=2, ensure_ascii=False))


def main() -> int:
    parser = argparse.ArgumentParser(description="Count, date and group the errors and warnings of a log.")
    parser.add_argument("file", help="the log: plain text, JSON lines, syslog or web access log")
    parser.add_argument("--full", action="store_true", help="every group of messages")
    parser.add_argument("--json", action="store_true", help="all facts as JSON")
    options = parser.parse_args()
    triage = Triage()
    with open_text(options.file) as stream:
        while True:
            line = stream.readline(LINE_LIMIT)
            if not line:
                break
            rest = line
            while rest and not rest.endswith("\n"):  # an overlong line counts once, by its start
                rest = stream.readline(1 << 20)
            triage.add(line)
    if not triage.counts:
        raise BadInput("the file holds only blank lines, no log")
    if options.json:
        triage.print_json()
    elif options.full:
        triage.print_text(GROUP_LIMIT, GROUP_LIMIT)
    else:
        triage.print_text(3, 1)
    return 0


if __name__ == "__main__":
    run(main)
