"""Tests of a skill: prompts in `evals/*.yaml`, run on the daemon's model, and what must have happened.

    - name: by name                        # optional
      prompt: Summarize orders.csv for me.
      files: [samples/orders.csv]          # in the skill's folder; attached to the prompt
      timeout: 120                         # seconds, 300 when left out
      expect:
        commands: ['summarize_csv\\.py']    # each found (as a regular expression) in a command that ran
        exit_codes: [0]                    # every command ended with one of these
        files: [{path: '*.png'}, {path: out.txt, contains: [total]}]   # made in the container, below /mnt/data
        answer: ['rows: 12']               # each found in the answer's text

All patterns are searched for with multi-line `^` and `$`. A test passes when its run completes and every expectation
holds; what failed is told one line each. Runs stay in the daemon, to be looked at; the attached uploads are deleted.
"""

from __future__ import annotations

import asyncio
import fnmatch
import json
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_tui.client.client import Client, read_all
from skilldeck_tui.client.types import Object, UploadedSkill
from skilldeck_tui.client.upload import upload_folder

TIMEOUT_S = 300.0
READ_BYTES = 4 << 20
SHOWN_COMMANDS = 8
SHOWN_CHARACTERS = 160
ROOT = "/mnt/data/"


class EvalError(BadRequest):
    """An evals file cannot be used; the title names the file and the field."""

    code = "invalid_eval"


@dataclass(frozen=True)
class ProducedFile:
    path: str
    contains: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One test. `source` is the evals file's name."""

    source: str
    name: str
    prompt: str
    files: tuple[Path, ...] = ()
    timeout: float = TIMEOUT_S
    commands: tuple[str, ...] = ()
    exit_codes: tuple[int, ...] | None = None
    produced: tuple[ProducedFile, ...] = ()
    answer: tuple[str, ...] = ()


@dataclass
class Result:
    """How a test ended. `failures` is empty when it passed; `commands` are (command, exit code or None)."""

    skill: str
    case: Case
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    run_id: str = ""
    commands: list[tuple[str, int | None]] = field(default_factory=list)
    answer: str = ""

    @property
    def passed(self) -> bool:
        return not self.failures

    def as_json(self) -> Object:
        return {
            "skill": self.skill,
            "file": self.case.source,
            "name": self.case.name,
            "passed": self.passed,
            "failures": self.failures,
            "seconds": round(self.seconds, 3),
            "run_id": self.run_id or None,
            "commands": [{"command": command, "exit_code": code} for command, code in self.commands],
            "answer": self.answer,
        }


# ------------------------------------------------------------ reading


def load_cases(folder: Path) -> list[Case]:
    """The tests of a skill folder, in order of files and within them. Raises EvalError when there is none, or one is
    wrong: everything is checked before anything runs."""
    files = sorted(path for path in (folder / "evals").glob("*") if path.suffix in (".yaml", ".yml"))
    if not files:
        raise EvalError(f"{folder} holds no evals/*.yaml.", "Write tests as `skilldeck test --help` shows.")
    return [case for path in files for case in _read(folder, path)]


def _read(folder: Path, path: Path) -> list[Case]:
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
    fields = _fields(where, entry, {"name", "prompt", "files", "timeout", "expect"})
    prompt = fields.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise EvalError(f"{where}.prompt must be text.")
    timeout = fields.get("timeout", TIMEOUT_S)
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or timeout <= 0:
        raise EvalError(f"{where}.timeout must be a number of seconds.")
    files = []
    for name in _texts(f"{where}.files", fields.get("files")):
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            raise EvalError(f"{where}.files: {name!r} is no file in the skill's folder.")
        files.append(path)
    expect = _fields(f"{where}.expect", fields.get("expect") or {}, {"commands", "exit_codes", "files", "answer"})
    codes = expect.get("exit_codes")
    if codes is not None and not (
        isinstance(codes, list) and all(isinstance(code, int) and not isinstance(code, bool) for code in codes)
    ):
        raise EvalError(f"{where}.expect.exit_codes must be a list of numbers.")
    return Case(
        source=source,
        name=str(fields.get("name") or " ".join(prompt.split())[:60]),
        prompt=prompt,
        files=tuple(files),
        timeout=float(timeout),
        commands=_patterns(f"{where}.expect.commands", expect.get("commands")),
        exit_codes=None if codes is None else tuple(codes),
        produced=tuple(
            _produced(f"{where}.expect.files[{number}]", item)
            for number, item in enumerate(_list(f"{where}.expect.files", expect.get("files")))
        ),
        answer=_patterns(f"{where}.expect.answer", expect.get("answer")),
    )


def _produced(where: str, item: Any) -> ProducedFile:
    if isinstance(item, str):
        return ProducedFile(item)
    fields = _fields(where, item, {"path", "contains"})
    if not isinstance(fields.get("path"), str):
        raise EvalError(f"{where}.path must be a file name or pattern.")
    return ProducedFile(fields["path"], _patterns(f"{where}.contains", fields.get("contains")))


def _fields(where: str, value: Any, known: set[str]) -> Object:
    if not isinstance(value, dict):
        raise EvalError(f"{where} must be a mapping.", f"Its fields: {', '.join(sorted(known))}.")
    unknown = sorted(str(key) for key in value if key not in known)
    if unknown:
        raise EvalError(f"{where} has the unknown field {unknown[0]!r}.", f"Known: {', '.join(sorted(known))}.")
    return value


def _list(where: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        return [value]
    return value


def _texts(where: str, value: Any) -> tuple[str, ...]:
    texts = _list(where, value)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise EvalError(f"{where}[{number}] must be text.", "Put it in quotes.")
    return tuple(texts)


def _patterns(where: str, value: Any) -> tuple[str, ...]:
    patterns = _texts(where, value)
    for number, pattern in enumerate(patterns):
        try:
            re.compile(pattern)
        except re.error as error:
            raise EvalError(f"{where}[{number}] is no regular expression: {error}.") from error
    return patterns


# ------------------------------------------------------------ running


async def run_cases(
    client: Client,
    folder: Path,
    cases: Sequence[Case],
    *,
    model: str = "default",
    jobs: int = 1,
    environment: Object | None = None,
    started: Callable[[Case], None] | None = None,
    finished: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Upload the folder and run its tests, `jobs` at a time; results come in the order of `cases`. Cancelling cancels
    the runs. Raises the upload's errors; an error of a run is a failure of its test.

    `environment`: further fields of the environment that commands run in.
    """
    uploaded = await upload_folder(client, folder)
    slots = asyncio.Semaphore(max(1, jobs))

    async def one(case: Case) -> Result:
        async with slots:
            if started is not None:
                started(case)
            result = await run_case(client, uploaded, case, model=model, environment=environment)
            if finished is not None:
                finished(result)
            return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(case)) for case in cases]
    return [task.result() for task in tasks]


async def run_case(
    client: Client, uploaded: UploadedSkill, case: Case, *, model: str = "default", environment: Object | None = None
) -> Result:
    """Run one test against the uploaded version."""
    result = Result(str(uploaded.skill["name"]), case)
    began = time.monotonic()
    files: list[str] = []
    try:
        content: list[Object] = [{"type": "input_text", "text": case.prompt}]
        for path in case.files:
            stored = await client.upload_file(path)
            files.append(str(stored["id"]))
            content.append({"type": "input_file", "file_id": stored["id"]})
        # "latest", which it is, and not its number: a version that a request names by number is kept for ever, and with
        # tests after every save that would be each of them.
        reference = {"type": "skill_reference", "skill_id": uploaded.skill["id"], "version": "latest"}
        shell = {"type": "container_auto", "skills": [reference], **(environment or {})}
        request = {
            "model": model,
            "input": [{"type": "message", "role": "user", "content": content}],
            "tools": [{"type": "shell", "environment": shell}],
            "metadata": {"title": f"{result.skill}: {case.name}"[:500]},
        }
        result.run_id = str((await client.start_run(request))["id"])
        response = await _watched(client, result.run_id, case.timeout)
        await _judge(client, result, response)
    except TimeoutError:
        result.failures.append(f"the run did not end within {case.timeout:g} s")
    except SkilldeckError as error:
        result.failures.append(str(error))
    finally:
        result.seconds = time.monotonic() - began
        for file_id in files:
            with suppress(SkilldeckError):
                await client.delete_file(file_id)
    return result


async def _watched(client: Client, run_id: str, timeout: float) -> Object:
    """The response a run ended with; a run that takes too long, or whose test is cancelled, is cancelled."""
    try:
        async with asyncio.timeout(timeout):
            async for event in client.follow_run(run_id):
                if event.terminal:
                    return dict(event.data.get("response") or {})
    except (TimeoutError, asyncio.CancelledError):
        with suppress(SkilldeckError):
            await asyncio.shield(client.cancel_run(run_id))
        raise
    raise SkilldeckError("The run's events ended without a last one.")


async def _judge(client: Client, result: Result, response: Object) -> None:
    """Compare what happened with what was expected."""
    case, failures = result.case, result.failures
    output: list[Object] = response.get("output") or []
    commands = [c for item in output if item["type"] == "shell_call" for c in item["action"]["commands"]]
    outcomes = [c["outcome"] for item in output if item["type"] == "shell_call_output" for c in item["output"]]
    codes = [outcome.get("exit_code") for outcome in outcomes]
    result.commands = list(zip(commands, [*codes, *[None] * (len(commands) - len(codes))], strict=False))
    result.answer = "\n".join(
        part["text"]
        for item in output
        if item["type"] == "message"
        for part in item["content"]
        if part["type"] == "output_text"
    )
    if response.get("status") != "completed":
        reason = (response.get("error") or response.get("incomplete_details") or {}) or {}
        why = reason.get("message") or reason.get("reason") or "no reason given"
        failures.append(f"the run ended as {response.get('status')}: {why}")
    for pattern in case.commands:
        if not any(_found(pattern, command) for command in commands):
            ran = "; ".join(_short(command) for command in commands[:SHOWN_COMMANDS]) or "none ran"
            failures.append(f"no command matches {pattern!r} (commands: {ran})")
    if case.exit_codes is not None:
        for command, code in result.commands:
            if code not in case.exit_codes:
                ended = "did not end by itself" if code is None else f"exited with {code}"
                failures.append(f"{_short(command)!r} {ended}, expected one of {list(case.exit_codes)}")
        if not result.commands:
            failures.append("no command ran, so none exited as expected")
    for pattern in case.answer:
        if not _found(pattern, result.answer):
            failures.append(f"the answer does not match {pattern!r}: {result.answer[:300]!r}")
    if case.produced:
        await _judge_files(client, result, output)


async def _judge_files(client: Client, result: Result, output: list[Object]) -> None:
    containers = {
        str(item["environment"]["container_id"])
        for item in output
        if item["type"] == "shell_call" and (item.get("environment") or {}).get("container_id")
    }
    made = [
        (container, entry)
        for container in sorted(containers)
        for entry in (await client.container_files(container, limit=1000)).data
    ]
    names = [str(entry["path"]).removeprefix(ROOT) for _, entry in made]
    for wanted in result.case.produced:
        matching = [index for index, name in enumerate(names) if fnmatch.fnmatchcase(name, wanted.path)]
        if not matching:
            result.failures.append(f"no file {wanted.path!r} (files: {', '.join(sorted(names)) or 'none'})")
            continue
        for pattern in wanted.contains:
            texts = [
                (await read_all(client.read_container_file(made[i][0], made[i][1]["id"]), READ_BYTES)).decode(
                    errors="replace"
                )
                for i in matching
            ]
            if not any(_found(pattern, text) for text in texts):
                result.failures.append(f"{wanted.path!r} does not contain {pattern!r}")


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.MULTILINE) is not None


def _short(command: str) -> str:
    """A command as a failure shows it; a model that runs wild writes thousands of characters."""
    return command if len(command) <= SHOWN_CHARACTERS else command[: SHOWN_CHARACTERS - 1] + "…"


def dumps(results: Sequence[Result]) -> str:
    """All results as one JSON document."""
    return json.dumps([result.as_json() for result in results], ensure_ascii=False, indent=2)
