"""The `expect` of a test: what a person writes as checks, and checks as what a person writes.

Read strictly: an unknown field is an error that names it. `written` gives back a mapping that `read_expect` reads as
the same checks.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from skilldeck_tui.skill_tests.cases import Check, EvalError
from skilldeck_tui.skill_tests.checking.tables import steps

FIELDS = {
    "commands", "no_commands", "exit_codes", "files", "answer", "tokens", "turns", "seconds", "triggered", "script",
    "judge",
}  # fmt: skip
FILE_FIELDS = {"path", "contains", "text", "no_text", "json", "csv", "tolerance", "equals", "exists"}
COUNTS = {"total": "tokens", "input": "input_tokens", "output": "output_tokens"}

Object = dict[str, Any]

COMPLETED = Check("completed", {}, "the run completes")


def read_expect(where: str, value: Any, folder: Path) -> tuple[Check, ...]:
    """The checks of an `expect` mapping at `where`; `folder` is the skill's. Raises EvalError."""
    fields = mapping(where, value, FIELDS)
    checks = [_command(pattern, absent=False) for pattern in patterns(f"{where}.commands", fields.get("commands"))]
    checks += [
        _command(pattern, absent=True) for pattern in patterns(f"{where}.no_commands", fields.get("no_commands"))
    ]
    checks += _exit_codes(f"{where}.exit_codes", fields.get("exit_codes"))
    for number, item in enumerate(listed(fields.get("files"))):
        checks.append(_file(f"{where}.files[{number}]", item, folder))
    for number, item in enumerate(listed(fields.get("answer"))):
        checks.append(read_answer(f"{where}.answer[{number}]", item))
    checks += _tokens(f"{where}.tokens", fields.get("tokens"))
    for name in ("turns", "seconds"):
        if fields.get(name) is not None:
            checks.append(limit(name, number_of(f"{where}.{name}", fields[name], above=0)))
    if fields.get("triggered") is not None:
        checks.append(triggered(boolean(f"{where}.triggered", fields["triggered"])))
    for number, item in enumerate(listed(fields.get("script"))):
        checks.append(_script(f"{where}.script[{number}]", item, folder))
    checks += [sentence(text) for text in texts(f"{where}.judge", fields.get("judge"))]
    return tuple(checks)


def written(checks: tuple[Check, ...]) -> Object:
    """Checks as an `expect` mapping; a kind that nobody knows is left out."""
    out: Object = {}
    for check in checks:
        spec = check.spec
        if check.kind == "command":
            out.setdefault("no_commands" if spec.get("absent") else "commands", []).append(spec["pattern"])
        elif check.kind == "exit_codes":
            out["exit_codes"] = spec["codes"]
        elif check.kind == "file":
            entry = {key: value for key, value in spec.items() if key != "sample"}
            out.setdefault("files", []).append(entry["path"] if len(entry) == 1 else entry)
        elif check.kind == "answer":
            out.setdefault("answer", []).append(_answer_written(spec))
        elif check.kind == "limit" and spec["of"] in ("turns", "seconds"):
            out[spec["of"]] = spec["most"]
        elif check.kind == "limit":
            name = next(name for name, of in COUNTS.items() if of == spec["of"])
            out.setdefault("tokens", {})[name] = spec["most"]
        elif check.kind == "triggered":
            out["triggered"] = spec["wanted"]
        elif check.kind == "script":
            out.setdefault("script", []).append({key: value for key, value in spec.items() if key != "file"})
        elif check.kind == "sentence":
            out.setdefault("judge", []).append(check.text)
    return out


# ------------------------------------------------------------ kinds that other readers make as well


def sentence(text: str) -> Check:
    return Check("sentence", {"text": text}, text)


def triggered(wanted: bool) -> Check:
    return Check("triggered", {"wanted": wanted}, "the skill is opened" if wanted else "the skill is not opened")


def limit(of: str, most: float) -> Check:
    return Check("limit", {"of": of, "most": most}, f"at most {most:,} {of.replace('_', ' ')}")


def answer_text(text: str, *, absent: bool = False) -> Check:
    return _answer({"text": text}, absent)


def answer_words(words: list[str], *, absent: bool = False) -> Check:
    return _answer({"words": words}, absent)


def answer_regex(where: str, pattern: str, *, absent: bool = False) -> Check:
    return _answer({"regex": regex(where, pattern)}, absent)


def file_there(path: str, **more: Any) -> Check:
    spec = {"path": path, **more}
    what = "is not there" if more.get("exists") is False else "is there"
    content = [key for key in more if key not in ("exists", "sample", "tolerance")]
    return Check("file", spec, f"the file {path} {'is right: ' + ', '.join(content) if content else what}")


def _answer(spec: Object, absent: bool) -> Check:
    what = next(iter(spec))
    shown = {"regex": "matches", "text": "has", "words": "has one of", "number": "has the number"}[what]
    text = f"the answer {shown} {spec[what]}"
    if absent:
        return Check("answer", {**spec, "absent": True}, text.replace("the answer", "it is not that the answer"))
    return Check("answer", spec, text)


# ------------------------------------------------------------ fields


def _command(pattern: str, *, absent: bool) -> Check:
    if absent:
        return Check("command", {"pattern": pattern, "absent": True}, f"no command matches {pattern}")
    return Check("command", {"pattern": pattern}, f"a command matches {pattern}")


def _exit_codes(where: str, codes: Any) -> list[Check]:
    if codes is None:
        return []
    if not (isinstance(codes, list) and all(isinstance(c, int) and not isinstance(c, bool) for c in codes)):
        raise EvalError(f"{where} must be a list of numbers.")
    return [Check("exit_codes", {"codes": codes}, f"every command ends with one of {codes}")]


def _tokens(where: str, value: Any) -> list[Check]:
    if value is None:
        return []
    given = mapping(where, value, set(COUNTS)) if isinstance(value, dict) else {"total": value}
    return [limit(COUNTS[name], number_of(f"{where}.{name}", most, above=0)) for name, most in given.items()]


def _script(where: str, item: Any, folder: Path) -> Check:
    given = mapping(where, item, {"path", "timeout"}) if isinstance(item, dict) else {"path": item}
    path = text(f"{where}.path", given.get("path"))
    more = {"timeout": number_of(f"{where}.timeout", given["timeout"], above=0)} if "timeout" in given else {}
    file = inside(f"{where}.path", path, folder)
    return Check("script", {"path": path, "file": str(file), **more}, f"{path} says so")


def read_answer(where: str, item: Any) -> Check:
    """One entry of `answer`: a regular expression, or {text | regex | any | number, tolerance, absent}."""
    if isinstance(item, str):
        return answer_regex(where, item)
    if not isinstance(item, dict):
        raise EvalError(f"{where} must be text.", "Put it in quotes; a number is {number: 12.5, tolerance: 0.1}.")
    given = mapping(where, item, {"text", "regex", "any", "number", "tolerance", "absent"})
    kinds = [name for name in ("text", "regex", "any", "number") if name in given]
    if len(kinds) != 1:
        raise EvalError(f"{where} must have one of text, regex, any and number.")
    absent = boolean(f"{where}.absent", given.get("absent", False))
    if "number" in given:
        spec = {"number": number_of(f"{where}.number", given["number"])}
        if "tolerance" in given:
            spec["tolerance"] = number_of(f"{where}.tolerance", given["tolerance"], least=0)
        return _answer(spec, absent)
    if "any" in given:
        return answer_words(list(texts(f"{where}.any", given["any"])), absent=absent)
    if "text" in given:
        return answer_text(text(f"{where}.text", given["text"]), absent=absent)
    return answer_regex(f"{where}.regex", text(f"{where}.regex", given["regex"]), absent=absent)


def _answer_written(spec: Object) -> Any:
    if set(spec) == {"regex"}:
        return spec["regex"]
    return {"any" if key == "words" else key: value for key, value in spec.items()}


def _file(where: str, item: Any, folder: Path) -> Check:
    if isinstance(item, str):
        return file_there(item)
    given = mapping(where, item, FILE_FIELDS)
    if not isinstance(given.get("path"), str):
        raise EvalError(f"{where}.path must be a file name or pattern.")
    more: Object = {}
    if "exists" in given:
        more["exists"] = boolean(f"{where}.exists", given["exists"])
    if "contains" in given:
        more["contains"] = list(patterns(f"{where}.contains", given["contains"]))
    for name in ("text", "no_text"):
        if name in given:
            more[name] = list(texts(f"{where}.{name}", given[name]))
    if "json" in given:
        if not isinstance(given["json"], dict) or not given["json"]:
            raise EvalError(f"{where}.json must be a mapping of paths to values.", "Like {'$.total': 7}.")
        for path in given["json"]:
            try:
                steps(str(path))
            except ValueError as error:
                raise EvalError(f"{where}.json: {error}.") from None
        more["json"] = {str(path): value for path, value in given["json"].items()}
    if "csv" in given:
        more["csv"] = [_cell(f"{where}.csv[{n}]", entry) for n, entry in enumerate(listed(given["csv"]))]
    if "tolerance" in given:
        more["tolerance"] = number_of(f"{where}.tolerance", given["tolerance"], least=0)
    if "equals" in given:
        sample = text(f"{where}.equals", given["equals"])
        more |= {"equals": sample, "sample": str(inside(f"{where}.equals", sample, folder))}
    if more.get("exists") is False and set(more) != {"exists"}:
        raise EvalError(f"{where} cannot be absent and have content.", "Leave `exists` out, or all others.")
    return file_there(given["path"], **more)


def _cell(where: str, item: Any) -> Object:
    given = mapping(where, item, {"row", "where", "column", "equals"})
    column = given.get("column")
    if isinstance(column, bool) or not isinstance(column, (str, int)) or column in ("", 0):
        raise EvalError(f"{where}.column must be a column's name, or its number from 1.")
    if "equals" not in given:
        raise EvalError(f"{where}.equals is missing: what stands in the cell.")
    if ("row" in given) == ("where" in given):
        raise EvalError(
            f"{where} must have one of row and where.", "row: 1 is the first below the heading, -1 the last."
        )
    if "where" in given:
        if not isinstance(given["where"], dict) or not given["where"]:
            raise EvalError(f"{where}.where must be a mapping of columns to values.")
        return {"where": given["where"], "column": column, "equals": given["equals"]}
    row = given["row"]
    if not isinstance(row, int) or isinstance(row, bool) or row == 0:
        raise EvalError(f"{where}.row must be a number: 1 is the first below the heading, -1 the last.")
    return {"row": row, "column": column, "equals": given["equals"]}


# ------------------------------------------------------------ values


def mapping(where: str, value: Any, known: set[str]) -> Object:
    if not isinstance(value, dict):
        raise EvalError(f"{where} must be a mapping.", f"Its fields: {', '.join(sorted(known))}.")
    unknown = sorted(str(key) for key in value if key not in known)
    if unknown:
        raise EvalError(f"{where} has the unknown field {unknown[0]!r}.", f"Known: {', '.join(sorted(known))}.")
    return value


def listed(value: Any) -> list[Any]:
    """A single value is a list of one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise EvalError(f"{where} must be text.", "Put it in quotes.")
    return value


def texts(where: str, value: Any) -> tuple[str, ...]:
    for number, entry in enumerate(listed(value)):
        if not isinstance(entry, str):
            raise EvalError(f"{where}[{number}] must be text.", "Put it in quotes.")
    return tuple(listed(value))


def regex(where: str, pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise EvalError(f"{where} is no regular expression: {error}.") from error
    return pattern


def patterns(where: str, value: Any) -> tuple[str, ...]:
    found = texts(where, value)
    for number, pattern in enumerate(found):
        regex(f"{where}[{number}]", pattern)
    return found


def boolean(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise EvalError(f"{where} must be true or false.")
    return value


def number_of(where: str, value: Any, *, above: float | None = None, least: float | None = None) -> float:
    wrong = not isinstance(value, (int, float)) or isinstance(value, bool)
    if wrong or (above is not None and value <= above) or (least is not None and value < least):
        raise EvalError(f"{where} must be a number{'' if above is None else f' above {above:g}'}.")
    number: float = value
    return number


def inside(where: str, name: str, folder: Path) -> Path:
    """A file of the skill's folder."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise EvalError(f"{where}: {name!r} is no file in the skill's folder.")
    return path
