"""A run made into a test: what was asked and attached, and what of its outcome may be held against later runs.

`propose` reads a run that is over and returns a `Proposal`: its checks are tied to what commands printed and made, so
that chance words of the answer are not taken for facts. A person ticks those that must hold; `write` puts the prompt,
the files and those checks into the skill's folder, as one more test of `evals/recorded.yaml`.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from skilldeck_shared.errors import BadRequest, NotFound, SkilldeckError
from skilldeck_tui.client.client import Client, read_all
from skilldeck_tui.client.types import Object
from skilldeck_tui.skill_tests.checking.outcome import answer_of
from skilldeck_tui.skill_tests.checking.ran import commands_ran, containers_of

RECORDED = "recorded.yaml"
SKILLS, DATA = "/mnt/skills/", "/mnt/data/"
FILE_BYTES = 25 << 20
TEXT_BYTES = 64 << 10
FACTS, TICKED_FACTS, LONGEST = 8, 3, 100
_PROGRAM = re.compile(r"[\w./-]+\.(?:py|sh|bash|js|mjs|cjs|ts|rb|pl)\b")
_SPECIAL = re.compile(r"([.^$*+?{}\[\]\\|()])")


@dataclass(frozen=True)
class Check:
    """One thing that may be demanded. `text` is what a person reads; `expect` what stands in the test for it; `ticked`
    whether it is likely meant."""

    text: str
    expect: Object
    ticked: bool = True


@dataclass(frozen=True)
class Proposal:
    """`skill` is the name of the skill that was used (empty: none), `folder` where it lies here; `files` are the
    attached files as (name, content)."""

    run_id: str
    prompt: str
    skill: str
    folder: Path | None
    files: tuple[tuple[str, bytes], ...] = field(repr=False)
    checks: tuple[Check, ...]

    @property
    def name(self) -> str:
        return " ".join(self.prompt.split())[:60]

    def as_json(self) -> Object:
        return {
            "run_id": self.run_id, "name": self.name, "prompt": self.prompt, "skill": self.skill or None,
            "folder": str(self.folder) if self.folder else None, "files": [name for name, _ in self.files],
            "checks": [{"text": c.text, "expect": c.expect, "ticked": c.ticked} for c in self.checks],
        }  # fmt: skip


async def propose(client: Client, run_id: str) -> Proposal:
    """Read a run. Raises BadRequest for one that is not over or has no prompt, NotFound for none."""
    detail = await client.run(run_id)
    response = detail.response
    if response.get("status") in ("queued", "in_progress"):
        raise BadRequest(f"{run_id} is still under way.", "Wait for its end.", param="run")
    prompt, attached = _asked(detail.input)
    if not prompt.strip():
        raise BadRequest(f"{run_id} has no prompt of a person.", "Name the run that answers one.", param="run")
    files = await _contents(client, response, attached)
    calls = [(one.command, one.exit_code, one.stdout) for one in commands_ran(response.get("output") or [])]
    used = [part for command, _, _ in calls for part in re.findall(rf"{SKILLS}([\w.-]+)", command)]
    skill, folder = await _skill(client, response, used)
    names = [name for name, _ in files]
    checks = [*_triggered(skill, used), *_commands(calls, names), *await _made(client, response, set(names))]
    checks += _facts(answer_of(response.get("output") or []), [stdout for _, _, stdout in calls])
    return Proposal(run_id, prompt, skill, folder, tuple(files), tuple(checks))


def write(proposal: Proposal, folder: Path, ticked: Sequence[Check], name: str = "") -> tuple[Path, str]:
    """Add the test to the skill's folder; returns the evals file and the test's name there. Blocks on the disk.

    A file of the same name and content in samples/ is used as it is, another one is never overwritten. Raises
    BadRequest when nothing is ticked, or something cannot be written or read.
    """
    if not (folder / "SKILL.md").is_file():
        raise BadRequest(f"{folder} holds no SKILL.md.", "Name the skill's folder.", param="folder")
    if not ticked:
        raise BadRequest("A test without checks cannot fail.", "Tick what must hold.", param="checks")
    target = folder / "evals" / RECORDED
    try:
        before = target.read_text(encoding="utf-8") if target.exists() else ""
        taken = _names(target, before)
        wanted = " ".join(name.split()) or proposal.name
        called = next(n for n in (wanted, *(f"{wanted} ({i})" for i in range(2, 10_000))) if n not in taken)
        placed = {file: _sample(folder, file, data) for file, data in proposal.files}
        entry: Object = {"name": called, "prompt": _renamed(proposal.prompt, placed)}
        if placed:
            entry["files"] = list(placed.values())
        entry["expect"] = _renamed(_merged(ticked), placed)
        text = yaml.safe_dump([entry], sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)
        target.parent.mkdir(exist_ok=True)
        gap = "" if not before or before.endswith("\n") else "\n"
        target.write_text(f"{before}{gap}{text}", encoding="utf-8")
    except OSError as error:
        raise BadRequest(f"{error.filename or folder} cannot be written: {error.strerror}.") from error
    return target, called


# ------------------------------------------------------------ reading the run


def _asked(items: Sequence[Object]) -> tuple[str, list[Object]]:
    """The text and the attachments of the last message of a person."""
    said = [item for item in items if item.get("type", "message") == "message" and item.get("role") == "user"]
    if not said:
        return "", []
    content = said[-1].get("content")
    if isinstance(content, str):
        return content, []
    parts = content or []
    text = "\n".join(str(part.get("text")) for part in parts if part.get("type") == "input_text")
    return text, [part for part in parts if part.get("type") in ("input_file", "input_image")]


async def _contents(client: Client, response: Object, attached: Sequence[Object]) -> list[tuple[str, bytes]]:
    """The attached files. Uploads that are gone by now (those of tests are) still lie in the run's container."""
    found, gone = list[tuple[str, bytes]](), 0
    for part in attached:
        try:
            found.append(await _content(client, part))
        except NotFound:
            gone += 1
    if not gone:
        return found
    lying = [
        (PurePosixPath(str(entry["path"])).name, container, entry)
        for container, entries in (await _in_containers(client, response)).items()
        for entry in entries
        if entry.get("source") == "user"
    ]
    rest = [one for one in lying if one[0] not in [name for name, _ in found]]
    if len(rest) < gone:
        raise BadRequest(
            "A file that was attached is gone.", "Ask again with the file, and save that run.", param="run"
        )
    for name, container, entry in rest[:gone]:
        found.append((name, await read_all(client.read_container_file(container, str(entry["id"])), FILE_BYTES)))
    return found


async def _in_containers(client: Client, response: Object) -> dict[str, list[Object]]:
    """The files of the containers that the run's commands ran in, by path; a container that is gone has none."""
    found: dict[str, list[Object]] = {}
    for container in containers_of(response.get("output") or []):
        with suppress(SkilldeckError):
            entries = (await client.container_files(container, limit=1000)).data
            found[container] = sorted(entries, key=lambda entry: str(entry["path"]))
    return found


async def _content(client: Client, part: Object) -> tuple[str, bytes]:
    name = PurePosixPath(str(part.get("filename") or part.get("file_id") or "file")).name
    if isinstance(given := part.get("file_data"), str):
        with suppress(binascii.Error, ValueError):
            return name, base64.b64decode(given.rpartition(",")[2], validate=True)
    file_id = str(part.get("file_id") or "")
    if not file_id:
        raise BadRequest(f"The attached {name} cannot be had again.", "Attach it as an uploaded file.", param="run")
    if not part.get("filename"):
        found = [file for file in (await client.files(limit=1000)).data if file["id"] == file_id]
        name = PurePosixPath(str(found[0]["filename"])).name if found else name
    data = await read_all(client.read_file(file_id), FILE_BYTES + 1)
    if len(data) > FILE_BYTES:
        raise BadRequest(f"{name} has more than {FILE_BYTES >> 20} MiB.", "A sample has to be smaller.", param="run")
    return name, data


async def _skill(client: Client, response: Object, used: Sequence[str]) -> tuple[str, Path | None]:
    """The skill that was used, or the only one that was offered, and its folder where that is here."""
    skills = (await client.skills(limit=1000)).data
    environments = [tool.get("environment") or {} for tool in response.get("tools") or []]
    given = {str(s.get("skill_id")) for environment in environments for s in environment.get("skills") or []}
    offered = [skill for skill in skills if skill["id"] in given]
    name = next(iter(used), "") or (str(offered[0]["name"]) if len(offered) == 1 else "")
    for skill in [*offered, *skills]:
        source = Path(str(skill.get("source") or ""))
        if skill["name"] == name and source.is_absolute() and os.path.isdir(source):
            return name, source
    return name, None


# ------------------------------------------------------------ what may be demanded


def _triggered(skill: str, used: Sequence[str]) -> Iterator[Check]:
    if skill in used:
        yield Check(f"the skill {skill} is opened", {"triggered": True})


def _commands(calls: Sequence[tuple[str, int | None, str]], files: Sequence[str]) -> Iterator[Check]:
    seen: set[str] = set()
    work = [call for call in calls if not re.fullmatch(rf"\s*cat {SKILLS}[\w.-]+/SKILL\.md\s*", call[0])]
    for command, code, _ in work:
        pattern = _pattern(command, files)
        if pattern and pattern not in seen:
            seen.add(pattern)
            yield Check(f"a command matches {pattern}", {"commands": [pattern]}, code == 0)
    if work:
        codes = [code for _, code, _ in work]
        yield Check("every command exits with 0", {"exit_codes": [0]}, all(code == 0 for code in codes))


def _pattern(command: str, files: Sequence[str]) -> str:
    """The program that a command runs and the attached files it is given, as a regular expression. Paths and the order
    of options are left open: the next run may spell them otherwise."""
    named = [name for name in files if name in command]
    program = _PROGRAM.search(command)
    if program is not None:
        words = [PurePosixPath(program[0]).name]
    else:
        last = re.split(r"&&|\|\||;|\|", command.partition("\n")[0])
        pieces = [piece for piece in last if not piece.strip().startswith("cd ")]
        try:
            words = shlex.split(pieces[0])[:1] if pieces else []
        except ValueError:
            words = []
    words += [name for name in named if name not in words]
    return " .*".join(literal(word) for word in words if word)


def literal(text: str) -> str:
    """A text as the regular expression that finds it, readable (`re.escape` spells blanks and hyphens, too)."""
    return _SPECIAL.sub(r"\\\1", text)


async def _made(client: Client, response: Object, given: set[str]) -> list[Check]:
    checks: list[Check] = []
    for container, entries in (await _in_containers(client, response)).items():
        for entry in entries:
            path = str(entry["path"]).removeprefix(DATA)
            if path in given or entry.get("source") == "user" or path.startswith("/"):
                continue
            checks.append(Check(f"{path} is made", {"files": [{"path": path}]}))
            data = await read_all(client.read_container_file(container, entry["id"]), TEXT_BYTES)
            line = _first_line(data)
            if line:
                checks.append(
                    Check(f"{path} holds {line!r}", {"files": [{"path": path, "contains": [literal(line)]}]}, False)
                )
    return checks


def _first_line(data: bytes) -> str:
    if b"\0" in data:
        return ""
    text = data.decode("utf-8", "replace")
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= LONGEST and "\ufffd" not in line else ""


def _facts(answer: str, outputs: Sequence[str]) -> Iterator[Check]:
    """What the answer says that a command printed: whole lines, else numbers."""
    plain = " ".join(answer.split())
    lines = dict.fromkeys(" ".join(line.split()) for output in outputs for line in output.splitlines())
    facts = [line for line in lines if 3 <= len(line) <= LONGEST and line in plain]
    numbers = {number for output in outputs for number in re.findall(r"(?<![\w.])\d[\d.,]*\d|(?<![\w.])\d", output)}
    if not facts:
        said = dict.fromkeys(re.findall(r"(?<![\w.])\d[\d.,]*\d|(?<![\w.])\d", plain))
        yield from (
            Check(f"the answer says {number}", {"answer": [rf"(?<![\d.]){literal(number)}(?![\d])"]}, at < TICKED_FACTS)
            for at, number in enumerate([number for number in said if number in numbers][:FACTS])
        )
        return
    # Lines with figures tell more than headings.
    facts.sort(key=lambda line: not any(character.isdigit() for character in line))
    for at, line in enumerate(facts[:FACTS]):
        yield Check(f"the answer says {line}", {"answer": [literal(line)]}, at < TICKED_FACTS)


# ------------------------------------------------------------ writing


def _merged(checks: Sequence[Check]) -> Object:
    """All checks as one `expect`; demands on one file are put together."""
    expect: Object = {}
    for check in checks:
        for key, value in check.expect.items():
            if key == "files":
                _merge_file(expect.setdefault("files", []), value[0])
            elif isinstance(value, list):
                expect.setdefault(key, []).extend(item for item in value if item not in expect[key])
            else:
                expect[key] = value
    return expect


def _merge_file(files: list[Object], wanted: Object) -> None:
    for file in files:
        if file["path"] == wanted["path"]:
            file.setdefault("contains", []).extend(wanted.get("contains", []))
            return
    files.append({name: list(value) if isinstance(value, list) else value for name, value in wanted.items()})


def _renamed(value: Any, placed: Mapping[str, str]) -> Any:
    """The same with the names that the attached files have as samples."""
    if isinstance(value, str):
        for name, place in placed.items():
            new = PurePosixPath(place).name
            value = value.replace(name, new).replace(literal(name), literal(new)) if new != name else value
        return value
    if isinstance(value, list):
        return [_renamed(item, placed) for item in value]
    return {key: _renamed(item, placed) for key, item in value.items()} if isinstance(value, dict) else value


def _names(target: Path, text: str) -> set[str]:
    """The names that the file's tests have. Raises BadRequest for one that is no list of tests."""
    try:
        content = yaml.safe_load(text) if text.strip() else []
    except yaml.YAMLError as error:
        raise BadRequest(f"{target} is not YAML.", "Mend it first.", param="folder") from error
    if not isinstance(content, list):
        raise BadRequest(f"{target} is no list of tests.", "Mend it first.", param="folder")
    return {str(entry.get("name")) for entry in content if isinstance(entry, dict)}


def _sample(folder: Path, name: str, data: bytes) -> str:
    """Where the file lies in the skill's folder, put there unless it does."""
    samples = folder / "samples"
    stem, dot, ending = name.partition(".")
    for candidate in (name, *(f"{stem}-{number}{dot}{ending}" for number in range(2, 10_000))):
        place = samples / candidate
        if place.is_file() and place.read_bytes() == data:
            return f"samples/{candidate}"
        if not place.exists():
            samples.mkdir(exist_ok=True)
            place.write_bytes(data)
            return f"samples/{candidate}"
    raise BadRequest(f"{samples} holds too many files called {name!r}.", param="folder")
