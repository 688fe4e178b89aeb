"""The tests in a skill's folder: evals/evals.json and evals/*.yaml, every one checked before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from skilldeck_tui.skill_tests.cases import TIMEOUT_S, Case, EvalError
from skilldeck_tui.skill_tests.written.evals_json import read_evals
from skilldeck_tui.skill_tests.written.expect import inside, mapping, read_expect, texts

PUBLISHED = "evals.json"


def eval_files(folder: Path) -> list[Path]:
    """The files that hold tests, the published form first. Raises EvalError when there is no such folder."""
    if not folder.is_dir():
        raise EvalError(f"{folder} is no folder.", "Give the folder that holds SKILL.md.")
    evals = folder / "evals"
    published = [evals / PUBLISHED] if (evals / PUBLISHED).is_file() else []
    return published + sorted(path for path in evals.glob("*") if path.suffix in (".yaml", ".yml"))


def load_cases(folder: Path) -> list[Case]:
    """The tests of a skill folder, in order of files and within them. Raises EvalError when there is none, or one is
    wrong."""
    files = eval_files(folder)
    if not files:
        raise EvalError(
            f"{folder} holds no evals/*.yaml and no evals/evals.json.", "Write tests as `skilldeck test --help` shows."
        )
    return [case for path in files for case in read_file(folder, path)]


def read_file(folder: Path, path: Path) -> list[Case]:
    """The tests of one file."""
    if path.suffix == ".json":
        return read_evals(folder, path)
    where = f"{folder.name}/evals/{path.name}"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise EvalError(f"{where} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise EvalError(f"{where}{place} is not YAML: {getattr(error, 'problem', error)}.") from error
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list) or not content:
        raise EvalError(f"{where} must be a list of tests.")
    cases = [_case(folder, path.name, f"{where}[{number}]", entry) for number, entry in enumerate(content)]
    names = [case.name for case in cases]
    for name in names:
        if names.count(name) > 1:
            raise EvalError(f"{where} has two tests named {name!r}.", "Give each a name of its own.")
    return cases


def _case(folder: Path, source: str, where: str, entry: Any) -> Case:
    fields = mapping(where, entry, {"name", "prompt", "files", "timeout", "expect", "expected"})
    prompt = fields.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise EvalError(f"{where}.prompt must be text.")
    timeout = fields.get("timeout", TIMEOUT_S)
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or timeout <= 0:
        raise EvalError(f"{where}.timeout must be a number of seconds.")
    return Case(
        source=source,
        name=str(fields.get("name") or " ".join(prompt.split())[:60]),
        prompt=prompt,
        files=tuple(inside(f"{where}.files", name, folder) for name in texts(f"{where}.files", fields.get("files"))),
        timeout=float(timeout),
        checks=read_expect(f"{where}.expect", fields.get("expect") or {}, folder),
        expected=str(fields.get("expected") or ""),
    )
