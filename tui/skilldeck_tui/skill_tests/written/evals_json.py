"""`evals/evals.json`, as published collections write it, read as tests.

agentskills.io and skill-creator name the fields; collections in the wild have many more, and kinds of their own. What
means something here is read, what does not is left, and a check of an unknown kind is kept as one that nobody judges.
Only what makes a test unusable (no prompt, a field of another type) is an error, which names the field.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from skilldeck_tui.skill_tests.cases import TIMEOUT_S, Case, Check, EvalError
from skilldeck_tui.skill_tests.written import expect
from skilldeck_tui.skill_tests.written.expect import listed, read_expect, sentence

LISTS = ("evals", "cases", "tests", "test_cases", "testCases")
PROMPTS = ("prompt", "query", "input", "task", "user_prompt", "question", "message", "user_message")
NAMES = ("name", "eval_name", "title", "id", "case")
EXPECTED = (
    "expected_output",
    "expected_outputs",
    "expected_behavior",
    "expected",
    "expected_result",
    "success_criteria",
)
STATEMENTS = (
    "assertions",
    "expectations",
    "checks",
    "criteria",
    "rubric",
    "expected_behaviors",
    "deterministic_assertions",
)
MUST_NOT = ("anti_expectations", "negative_expectations", "must_not", "fail", "forbidden", "forbidden_outputs")
TRIGGERS = ("should_trigger", "expected_activation", "should_activate", "triggered")
TIMEOUTS = ("timeout", "timeout_seconds")
TEXTS = ("text", "description", "assertion", "expectation", "statement", "criterion", "question", "name", "label", "id")
VALUES = ("value", "expected", "pattern", "text", "contains", "target", "regex", "substring")
PATHS = ("path", "file", "filename", "filepath", "target")

_FLAGS = re.compile(r"\(\?([aimsux]+)\)")

Object = dict[str, Any]


def read_evals(folder: Path, path: Path, *, where: str = "") -> list[Case]:
    """The tests of one file; `folder` is the skill's. Raises EvalError naming the field."""
    where = where or f"{folder.name}/evals/{path.name}"
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise EvalError(f"{where} cannot be read: {error}.") from error
    except json.JSONDecodeError as error:
        raise EvalError(f"{where} line {error.lineno}, column {error.colno} is not JSON: {error.msg}.") from error
    entries, field = _entries(where, content)
    cases = [_case(folder, path, f"{where}: {field}[{number}]", number, entry) for number, entry in enumerate(entries)]
    return _named_apart(cases)


def _entries(where: str, content: Any) -> tuple[list[Any], str]:
    if isinstance(content, list):
        entries, field = content, "evals"
    elif isinstance(content, dict):
        field = next((name for name in LISTS if name in content), "")
        if not field:
            raise EvalError(
                f"{where} has no field evals.", 'Tests stand in {"skill_name": …, "evals": [{"prompt": …}]}.'
            )
        entries = content[field]
    else:
        raise EvalError(f"{where} must be an object with the field evals.")
    if not isinstance(entries, list) or not entries:
        raise EvalError(f"{where}: {field} must be a list of tests.")
    return entries, field


def _case(folder: Path, path: Path, where: str, number: int, entry: Any) -> Case:
    if not isinstance(entry, dict):
        raise EvalError(f"{where} must be an object.", 'Like {"id": 1, "prompt": …}.')
    prompt = _prompt(where, entry)
    if isinstance(entry.get("execution"), dict):  # what a good result is, apart from which skill is chosen
        entry = {**entry["execution"], **entry}
    files, problem = _files(where, entry.get("files"), folder, path)
    problem = problem if prompt else "its prompt is empty"
    checks: list[Check] = []
    if isinstance(entry.get("expect"), dict):
        checks += read_expect(f"{where}.expect", entry["expect"], folder)
    elif entry.get("expect") is not None:
        checks += _statements(f"{where}.expect", entry["expect"])
    for name in STATEMENTS:
        if entry.get(name) is not None:
            checks += _statements(f"{where}.{name}", entry[name])
    for name, absent in (("must_include", False), ("must_not_include", True)):
        checks += [expect.answer_words([text], absent=absent) for text in _plain(f"{where}.{name}", entry.get(name))]
    for name, absent in (("must_have", False), ("must_not_have", True)):
        checks += [_pattern(f"{where}.{name}", text, absent) for text in _plain(f"{where}.{name}", entry.get(name))]
    for name in MUST_NOT:
        checks += [sentence(f"This did not happen: {text}") for text in _plain(f"{where}.{name}", entry.get(name))]
    for name in TRIGGERS:
        if isinstance(entry.get(name), bool):
            checks.append(expect.triggered(entry[name]))
    expected = next((_sentence(entry[name]) for name in EXPECTED if entry.get(name)), "")
    if expected and not any(check.kind != "triggered" for check in checks):
        checks.append(sentence(f"The result is what was expected: {expected}"))
    if not checks:
        checks.append(_unknown("nothing says what a good result is", {}))
    context = entry.get("context")
    return Case(
        source=path.name,
        name=_name(entry, number, prompt),
        prompt=f"{prompt}\n\n{context}" if isinstance(context, str) and context.strip() else prompt,
        files=files,
        timeout=_timeout(where, entry),
        checks=tuple(checks),
        expected=expected,
        problem=problem,
        id=str(entry.get("id", number + 1)),
    )


def _pattern(where: str, text: str, absent: bool) -> Check:
    """Text that the answer has, or a pattern, which is told by its backslashes."""
    if "\\" in text:
        with suppress(EvalError):
            return expect.answer_regex(where, text, absent=absent)
    return expect.answer_words([text], absent=absent)


def _prompt(where: str, entry: Object) -> str:
    if not any(entry.get(name) for name in PROMPTS) and any(entry.get(name) == "" for name in PROMPTS):
        return ""
    for name in PROMPTS:
        value = entry.get(name)
        if isinstance(value, dict):
            value = next((value[inner] for inner in (*PROMPTS, "text", "content") if inner in value), None)
        if isinstance(value, str) and value.strip():
            return value
        if name in entry and entry[name] is not None and not isinstance(entry[name], (str, dict)):
            raise EvalError(f"{where}.{name} must be text.")
    raise EvalError(f"{where}.prompt must be text.", "It is what the user says.")


def _name(entry: Object, number: int, prompt: str) -> str:
    for name in NAMES:
        value = entry.get(name)
        if isinstance(value, str) and value.strip():
            return " ".join(value.split())[:120]
    label = entry.get("id", number + 1)
    return f"{label}: {' '.join(prompt.split())[:60]}"


def _named_apart(cases: list[Case]) -> list[Case]:
    """Two tests of one name get their ids behind it: results are found by name."""
    counts = Counter(case.name for case in cases)
    seen: Counter[str] = Counter()
    out = []
    for case in cases:
        name = case.name if counts[case.name] == 1 else f"{case.name} ({case.id})"
        seen[name] += 1
        name = name if seen[name] == 1 else f"{name} #{seen[name]}"
        out.append(Case(**{**vars(case), "name": name}))
    return out


def _files(where: str, value: Any, folder: Path, path: Path) -> tuple[tuple[Path, ...], str]:
    """The files that are there, and why the test cannot be run when one is not. Paths are said to be relative to the
    skill; collections also mean the folder of the evals, or `files` in it."""
    if value is None:
        return (), ""
    if not isinstance(value, (list, str, dict)):
        raise EvalError(f"{where}.files must be a list of file names.")
    found: list[Path] = []
    problem = ""
    for number, item in enumerate(listed(value)):
        name = next((item[key] for key in PATHS if key in item), None) if isinstance(item, dict) else item
        if not isinstance(name, str):
            raise EvalError(f"{where}.files[{number}] must be a file name.")
        places = [(base / name).resolve() for base in (folder, path.parent, path.parent / "files", folder.parent)]
        there = next((p for p in places if p.is_relative_to(folder.resolve()) and p.is_file()), None)
        if there is None:
            problem = problem or f"files[{number}]: {name!r} is no file in the skill's folder"
        else:
            found.append(there)
    return tuple(found), problem


def _timeout(where: str, entry: Object) -> float:
    for name in TIMEOUTS:
        value = entry.get(name)
        if value is None:
            continue
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value <= 0:
            raise EvalError(f"{where}.{name} must be a number of seconds.")
        return float(value)
    return TIMEOUT_S


# ------------------------------------------------------------ checks


def _statements(where: str, value: Any) -> list[Check]:
    if isinstance(value, dict):  # {"name of a criterion": "what it says"}
        value = [
            f"{key}: {text}" if isinstance(text, str) else {"text": key, "check": text} for key, text in value.items()
        ]
    if not isinstance(value, (list, str)):
        raise EvalError(f"{where} must be a list of sentences or objects.")
    checks: list[Check] = []
    for number, item in enumerate(listed(value)):
        at = f"{where}[{number}]"
        if isinstance(item, str):
            if item.strip():
                checks.append(sentence(item))
        elif isinstance(item, dict):
            checks += _statement(at, item)
        else:
            raise EvalError(f"{at} must be a sentence or an object.")
    return checks


def _statement(where: str, item: Object) -> list[Check]:
    words = next((item[key] for key in TEXTS if isinstance(item.get(key), str) and item[key].strip()), "")
    longer = item.get("description")
    if isinstance(longer, str) and len(longer) > len(words):
        words = longer
    rule = item.get("check")
    if isinstance(rule, dict) and rule:
        pairs = [(key, value) for key, several in rule.items() for value in _apart(key, several)]
        return [known if known is not None else _unknown(words, {key: value}) for key, value in pairs
                for known in [_rule(f"{where}.check.{key}", key, value)]]  # fmt: skip
    kind = item.get("type") or item.get("kind") or item.get("check")
    if isinstance(kind, str):
        check = _typed(where, kind.replace("-", "_").lower(), item)
        if check is not None:
            return [check]
        if kind.replace("-", "_").lower() not in _PROSE and not any(key in item for key in ("text", "description")):
            return [_unknown(words or kind, item)]
    if words:
        return [sentence(words)]
    return [_unknown(json.dumps(item, ensure_ascii=False)[:200], item)]


def _apart(key: str, value: Any) -> list[Any]:
    """Of several files each is a check."""
    return value if key.startswith("file") and isinstance(value, list) else [value]


_PROSE = {"llm", "llm_judge", "llm_rubric", "judge", "rubric", "semantic", "manual", "quality", "behavior", "behaviour"}


def _unknown(words: str, spec: Object) -> Check:
    return Check("unknown", spec, words or "a check without words")


def _rule(where: str, key: str, value: Any) -> Check | None:
    """One rule of a `check` object."""
    if key in ("contains_any", "any_of"):
        return expect.answer_words(_plain(where, value))
    if key in ("contains_all", "contains", "includes", "all_of"):
        words = _plain(where, value)
        if len(words) == 1:
            return expect.answer_words(words)
        return Check("answer", {"regex": _all(words)}, f"the answer has all of {words}")
    if key in ("not_contains", "excludes", "none_of"):
        return expect.answer_words(_plain(where, value), absent=True)
    if key in ("matches_any", "matches", "regex"):
        return expect.answer_regex(where, _either(where, value))
    if key in ("not_matches", "not_regex"):
        return expect.answer_regex(where, _either(where, value), absent=True)
    if key == "file_contains" and isinstance(value, dict):
        return _typed(where, key, value)
    if key in ("file_exists", "files_exist"):
        return expect.file_there(_plain(where, value)[0]) if len(_plain(where, value)) == 1 else None
    return None


def _either(where: str, value: Any) -> str:
    """One of these patterns, in small or capital letters; flags in front of one stand in front of all."""
    patterns, flags = [], "i"
    for pattern in _plain(where, value):
        leading = _FLAGS.match(pattern)
        flags += leading[1] if leading else ""
        patterns.append(f"(?:{expect.regex(where, pattern[leading.end() :] if leading else pattern)})")
    return f"(?{''.join(sorted(set(flags)))}){'|'.join(patterns)}"


def _all(words: list[str]) -> str:
    return "(?is)" + "".join(f"(?=.*{re.escape(word)})" for word in words)


def _typed(where: str, kind: str, item: Object) -> Check | None:
    """One assertion of a known `type`; None when it is not known, or lacks what it needs."""
    value = next((item[key] for key in VALUES if item.get(key) is not None), None)
    path = next((item[key] for key in PATHS if isinstance(item.get(key), str)), None)
    for prefix in ("output_", "response_", "answer_", "text_"):
        kind = kind.removeprefix(prefix)
    if kind in ("file_exists", "file_created", "file") and path:
        return expect.file_there(path)
    if kind in ("file_not_exists", "file_absent") and path:
        return expect.file_there(path, exists=False)
    if kind in ("file_contains", "contains_in_file") and path:
        content = next((item[key] for key in ("value", "expected", "text", "contains", "content") if key in item), None)
        return expect.file_there(path, text=_plain(where, content)) if content is not None else None
    if kind in ("contains", "includes", "icontains", "substring") and value is not None:
        return _rule(f"{where}.value", "contains_all", value)
    if kind in ("not_contains", "excludes", "does_not_contain") and value is not None:
        return _rule(f"{where}.value", "not_contains", value)
    if kind in ("contains_any", "contains_all", "not_matches", "matches_any") and value is not None:
        return _rule(f"{where}.value", kind, value)
    if kind in ("regex", "matches", "pattern", "regexp") and isinstance(value, str):
        return expect.answer_regex(f"{where}.value", value)
    if kind in ("exit_code", "exit_codes") and value is not None:
        codes = listed(value)
        if all(isinstance(code, int) and not isinstance(code, bool) for code in codes):
            return Check("exit_codes", {"codes": codes}, f"every command ends with one of {codes}")
    if kind in ("command", "command_run", "command_matches") and isinstance(value, str):
        return Check("command", {"pattern": expect.regex(where, value)}, f"a command matches {value}")
    return None


def _plain(where: str, value: Any) -> list[str]:
    out = []
    for number, item in enumerate(listed(value)):
        if isinstance(item, (dict, list)) or item is None:
            raise EvalError(f"{where}[{number}] must be text.")
        out.append(str(item))
    return out


def _sentence(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return json.dumps(value, ensure_ascii=False)
