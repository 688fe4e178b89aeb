#!/usr/bin/env python3
"""Check subtitles (SubRip .srt or WebVTT .vtt): timing, overlaps, reading speed, line length.

The limits are those broadcasters commonly ask for: at most 20 characters a second, 42 characters a line, two lines, a
cue on screen between 0.7 and 7 seconds. Exit status 0 with a report, whatever it says (1 with --strict when it holds
problems), and 2 when the file holds no cues.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import NamedTuple

sys.dont_write_bytecode = True  # a run leaves the skill folder as it was
from textfile import BadInput, read_text, run, short  # noqa: E402

STAMP = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})"
TIMING = re.compile(rf"\s*{STAMP}\s*-->\s*{STAMP}")
MARKUP = re.compile(r"<[^>]{0,80}>|\{\\[^}]{0,80}\}")
SHOWN_PROBLEMS = 6


class Cue(NamedTuple):
    """One subtitle: its number in the file, the line of its timing, milliseconds from start to end, its lines."""

    number: int
    line: int
    start: int
    end: int
    text: list[str]


def milliseconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> int:
    """A time stamp's parts as milliseconds."""
    return ((int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(fraction.ljust(3, "0"))


def clock(value: int) -> str:
    """Milliseconds as h:mm:ss.mmm."""
    seconds, fraction = divmod(value, 1000)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{fraction:03d}"


def read_cues(text: str) -> tuple[list[Cue], list[str]]:
    """The cues in file order, and what is wrong with the way they are written."""
    cues: list[Cue] = []
    problems: list[str] = []
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number][:4000]
        number += 1
        if "-->" not in line:
            continue
        found = TIMING.match(line)
        if not found:
            problems.append(f"line {number}: the timing cannot be read")
            continue
        timing_line = number
        written: list[str] = []
        while number < len(lines) and lines[number].strip() and "-->" not in lines[number]:
            written.append(MARKUP.sub("", lines[number][:4000]).strip())
            number += 1
        if number < len(lines) and "-->" in lines[number] and written and written[-1].isdigit():
            written.pop()  # the next cue's number: its blank line before is missing
            problems.append(f"line {number}: a blank line is missing before this cue")
        parts = found.groups()
        cues.append(Cue(len(cues) + 1, timing_line, milliseconds(*parts[:4]), milliseconds(*parts[4:]), written))
    return cues, problems


def check(cues: list[Cue], speed: float, width: int) -> list[str]:
    """The problems of the cues, in order."""
    problems = []
    for position, cue in enumerate(cues):
        length = cue.end - cue.start
        name = f"cue {cue.number}"
        if position and cue.start < cues[position - 1].start:
            problems.append(f"{name}: starts before cue {cues[position - 1].number}")
        elif position and cue.start < cues[position - 1].end:
            problems.append(
                f"{name}: overlaps cue {cues[position - 1].number} by {cues[position - 1].end - cue.start} ms"
            )
        if length <= 0:
            problems.append(f"{name}: ends at or before its start")
            continue
        characters = sum(len(line) for line in cue.text)
        if not characters:
            problems.append(f"{name}: has no text")
        elif characters * 1000 / length > speed:
            problems.append(f"{name}: {characters * 1000 / length:.0f} characters a second, at most {speed:g}")
        if length < 700 or length > 7000:
            problems.append(f"{name}: on screen for {length / 1000:.1f} s, expected 0.7 to 7")
        longest = max((len(line) for line in cue.text), default=0)
        if longest > width:
            problems.append(f"{name}: a line of {longest} characters, at most {width}")
        if len(cue.text) > 2:
            problems.append(f"{name}: {len(cue.text)} lines, at most 2")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description="Check subtitles for timing and readability.")
    parser.add_argument("file", help="the subtitles: SubRip (.srt) or WebVTT (.vtt)")
    parser.add_argument("--speed", type=float, default=20, metavar="N", help="characters a second allowed (default 20)")
    parser.add_argument("--width", type=int, default=42, metavar="N", help="characters a line allowed (default 42)")
    parser.add_argument("--full", action="store_true", help="every problem")
    parser.add_argument("--json", action="store_true", help="all facts as JSON")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when there are problems")
    options = parser.parse_args()
    text = read_text(options.file, limit=32 << 20)
    cues, problems = read_cues(text)
    if not cues:
        raise BadInput("no subtitles found; expected cues timed like 00:00:01,000 --> 00:00:03,500")
    problems += check(cues, options.speed, options.width)
    shown_time = sum(max(0, cue.end - cue.start) for cue in cues)
    characters = sum(len(line) for cue in cues for line in cue.text)
    facts = {
        "format": "WebVTT" if text.startswith("WEBVTT") else "SubRip",
        "cues": len(cues),
        "from": clock(min(cue.start for cue in cues)),
        "to": clock(max(cue.end for cue in cues)),
        "characters_per_second": round(characters * 1000 / shown_time, 1) if shown_time else 0,
        "problems": problems,
    }
    if options.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return int(options.strict and bool(problems))
    print(f"format: {facts['format']}")
    print(f"cues: {facts['cues']}")
    print(f"time: {facts['from']} to {facts['to']}")
    print(f"reading speed: {facts['characters_per_second']} characters a second")
    print(f"problems: {len(problems)}")
    shown = problems if options.full else problems[:SHOWN_PROBLEMS]
    for problem in shown:
        print(short(problem, 80))
    if len(shown) < len(problems):
        print(f"more problems: {len(problems) - len(shown)}")
    return int(options.strict and bool(problems))


if __name__ == "__main__":
    run(main)
