"""Checks that need no judge: each a function that says why it does not hold, one line a reason; none: it holds.

`KINDS` maps a check's kind to its function, which gets the check's spec (as `expect.py` read it) and the outcome of the
run. Nothing here passes because something could not be looked at: a file that cannot be read is a reason.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import math
import re
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.skill_tests.cases import Check, Verdict, short
from skilldeck_tui.skill_tests.checking.outcome import Outcome
from skilldeck_tui.skill_tests.checking.tables import cell, close, found_in_json, same

SHOWN_COMMANDS = 8
SCRIPT_SECONDS = 60.0
REPORT_CHARACTERS = 48_000
"""Of the answer, for a check script: a command's line has room for 128 KiB, and base64 takes a third more."""
SHOWN_REASON = 400
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?")

Spec = dict[str, Any]
Holds = Callable[[Spec, Outcome], Awaitable[list[str]]]


async def hold(check: Check, seen: Outcome) -> Verdict:
    """One check against what happened. A sentence, and what nobody knows, is not judged here."""
    if check.kind not in KINDS:
        why = "no judge was asked; name one with --judge" if check.judged else "this kind of check is not known here"
        return Verdict(check, "not_judged", why)
    try:
        reasons = await KINDS[check.kind](check.spec, seen)
    except SkilldeckError as error:
        return Verdict(check, "failed", f"it could not be checked: {error}")
    return Verdict(check, "failed" if reasons else "passed", "\n".join(reasons))


def _line(command: str) -> str:
    """A command as a reason shows it: on one line, and not all of one that a model never ended."""
    return short(" ".join(command.split()))


def found(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.MULTILINE) is not None


# ------------------------------------------------------------ the run


async def _completed(spec: Spec, seen: Outcome) -> list[str]:
    return [] if seen.status == "completed" else [f"the run ended as {seen.status}: {seen.why}"]


async def _command(spec: Spec, seen: Outcome) -> list[str]:
    pattern = spec["pattern"]
    matching = [command for command, _ in seen.commands if found(pattern, command)]
    if spec.get("absent"):
        return [f"a command matches {pattern!r}: {_line(matching[0])}"] if matching else []
    if matching:
        return []
    ran = "; ".join(_line(command) for command, _ in seen.commands[:SHOWN_COMMANDS]) or "none ran"
    return [f"no command matches {pattern!r} (commands: {ran})"]


async def _exit_codes(spec: Spec, seen: Outcome) -> list[str]:
    codes = spec["codes"]
    if not seen.commands:
        return ["no command ran, so none exited as expected"]
    return [
        f"{_line(command)!r} {'did not end by itself' if code is None else f'exited with {code}'}, "
        f"expected one of {codes}"
        for command, code in seen.commands
        if code not in codes
    ]


async def _limit(spec: Spec, seen: Outcome) -> list[str]:
    """At most so much of something."""
    values = {
        "input_tokens": seen.input_tokens,
        "output_tokens": seen.output_tokens,
        "tokens": seen.input_tokens + seen.output_tokens,
        "turns": seen.turns,
        "seconds": round(seen.seconds, 3),
    }
    value, most = values[spec["of"]], spec["most"]
    return [f"{spec['of'].replace('_', ' ')}: {value:,}, at most {most:,} are allowed"] if value > most else []


async def _triggered(spec: Spec, seen: Outcome) -> list[str]:
    opened = seen.skill in seen.opened
    if opened == spec["wanted"]:
        return []
    return ["the skill was opened" if opened else "the skill was not opened"]


# ------------------------------------------------------------ the answer


async def _answer(spec: Spec, seen: Outcome) -> list[str]:
    answer, absent = seen.answer, bool(spec.get("absent"))
    if "number" in spec:
        holds, what = _has_number(spec, answer), f"the number {spec['number']}"
    elif "text" in spec:
        holds, what = spec["text"] in answer, repr(spec["text"])
    elif "words" in spec:
        said = answer.casefold()
        holds, what = any(text.casefold() in said for text in spec["words"]), f"any of {spec['words']!r}"
    else:
        holds, what = found(spec["regex"], answer), repr(spec["regex"])
        if not holds and not absent:
            return [f"the answer does not match {what}: {answer[:300]!r}"]
    if holds == absent:
        return [f"the answer has {what}" if absent else f"the answer does not have {what}: {answer[:300]!r}"]
    return []


def _has_number(spec: Spec, answer: str) -> bool:
    numbers = (float(text.replace(",", "")) for text in _NUMBER.findall(answer))
    return any(close(number, spec["number"], spec.get("tolerance", 0.0)) for number in numbers if math.isfinite(number))


# ------------------------------------------------------------ files


async def _file(spec: Spec, seen: Outcome) -> list[str]:
    names = list(await seen.files())
    matching = [name for name in names if fnmatch.fnmatchcase(name, spec["path"])]
    if spec.get("exists") is False:
        return [f"there is a file {matching[0]!r}"] if matching else []
    if not matching:
        return [f"no file {spec['path']!r} (files: {', '.join(sorted(names)) or 'none'})"]
    # A pattern asks that one of the files is right, so the reasons given are those of the one that comes closest.
    return min([await _content(spec, name, await seen.read(name)) for name in matching], key=len)


async def _content(spec: Spec, name: str, data: bytes) -> list[str]:
    text = data.decode(errors="replace")
    shown = spec["path"]
    reasons = [f"{shown!r} does not contain {p!r}" for p in spec.get("contains", ()) if not found(p, text)]
    reasons += [f"{shown!r} does not have the text {t!r}" for t in spec.get("text", ()) if t not in text]
    reasons += [f"{shown!r} has the text {t!r}" for t in spec.get("no_text", ()) if t in text]
    tolerance = spec.get("tolerance", 0.0)
    if spec.get("json"):
        reasons += found_in_json(shown, text, spec["json"], tolerance)
    for wanted in spec.get("csv", ()):
        reasons += cell(shown, text, wanted, tolerance)
    if "equals" in spec:
        reasons += same(shown, data, Path(spec["sample"]), spec["equals"])
    return reasons


# ------------------------------------------------------------ a script


async def _script(spec: Spec, seen: Outcome) -> list[str]:
    """Copy the bundle's script and a report of the run into the container, and run it there."""
    name = spec["path"]
    try:
        script = Path(spec["file"]).read_bytes()
    except OSError as error:
        return [f"{name} cannot be read: {error.strerror}"]
    report = {
        "prompt": seen.prompt,
        "answer": seen.answer[:REPORT_CHARACTERS],
        "status": seen.status,
        "commands": [{"command": short(c, 2000), "exit_code": code} for c, code in seen.commands[:100]],
        "files": sorted(await seen.files())[:1000],
    }
    folder = "/tmp/skilldeck-check"
    target = f"{folder}/{Path(name).name}"
    place = shlex.quote(target)
    seconds = float(spec.get("timeout", SCRIPT_SECONDS))
    container = seen.containers[-1] if seen.containers else ""
    # Two calls where the two would not fit on one line; a new container goes after each, so there it is one.
    steps = [
        f"mkdir -p {folder} && base64 -d > {place} <<'END'\n{_packed(script)}END\nchmod 755 {place}",
        f"base64 -d > {folder}/run.json <<'END'\n{_packed(json.dumps(report).encode())}END",
        f"cd /mnt/data && {_starts(script, place)} {folder}/run.json",
    ]
    for command in steps if container else [" && ".join([f"{{ {steps[0]}\n}}", f"{{ {steps[1]}\n}}", steps[2]])]:
        done = await seen.client.exec_in_container(container, command, timeout_s=seconds)
        if done["timed_out"]:
            return [f"{name} did not end within {seconds:g} s"]
        if done["exit_code"] != 0:
            said = (str(done["stdout"]).strip() or str(done["stderr"]).strip()).splitlines()
            return [
                f"{name} exited with {done['exit_code']}: {short(' · '.join(said[-3:]), SHOWN_REASON) or 'no word'}"
            ]
    return []


def _packed(data: bytes) -> str:
    return base64.encodebytes(data).decode()


def _starts(script: bytes, place: str) -> str:
    """A script with a first line of its own starts itself; one without is Python or shell, as its name says."""
    if script.startswith(b"#!"):
        return place
    runner = {".py": "python3", ".js": "node", ".mjs": "node"}.get(Path(place.strip("'")).suffix, "bash")
    return f"{runner} {place}"


KINDS: dict[str, Holds] = {
    "completed": _completed,
    "command": _command,
    "exit_codes": _exit_codes,
    "limit": _limit,
    "triggered": _triggered,
    "answer": _answer,
    "file": _file,
    "script": _script,
}
