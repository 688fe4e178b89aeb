"""What a `Runner` is asked, as a request of the agent: skills' folders, files, and the fields of a response."""

from __future__ import annotations

import copy
import difflib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from openai.types.responses import Response
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from skilldeck_daemon.libraries.containers.mounted import Mounted
from skilldeck_daemon.skills.needs import read_folder
from skilldeck_shared.errors import BadRequest
from skilldeck_shared.json_types import JsonObject
from skilldeck_shared.skills.manifest import ManifestError, decode_manifest, parse_manifest

File = str | Path | tuple[str, bytes]
Files = Sequence[File]
Skills = Sequence["SkillMount | str | Path"]
CHUNK = 1 << 20
# OpenAI's fields, and those of local servers (`sampling_fields.py`).
KNOWN = (frozenset(ResponseCreateParamsBase.__annotations__) - {"stream", "stream_options"}) | {
    "dry_allowed_length",
    "dry_base",
    "dry_multiplier",
    "frequency_penalty",
    "logit_bias",
    "min_p",
    "presence_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "top_k",
}


@dataclass(frozen=True)
class SkillMount:
    """A skill's folder on this machine, mounted at /mnt/skills/NAME (the name in its SKILL.md).

    Edits show at once, in running containers too.
    """

    path: str | Path

    def read(self, param: str = "skills") -> Mounted:
        """Validate it. Raises ManifestError (with line and column), or BadRequest when it is no skill's folder."""
        folder = Path(self.path).expanduser().absolute()
        try:
            found = [item for item in folder.iterdir() if item.name.lower() == "skill.md"]
            if len(found) != 1:
                raise BadRequest(f"{folder} holds no SKILL.md.", "Give the skill's own folder.", param=param)
            manifest = parse_manifest(decode_manifest(found[0].read_bytes()), folder.name, lenient=True)
        except ManifestError as error:
            error.param = param
            raise
        except OSError as error:
            raise BadRequest(f"The skill {folder} cannot be read: {error.strerror}.", param=param) from error
        needs = read_folder(folder.resolve())
        kept = needs.kept() if needs else {}
        return Mounted(manifest.name, manifest.description, str(folder.resolve()), "", "", kept)


@dataclass(frozen=True)
class Ask:
    """The arguments of one run."""

    prompt: str | None
    skills: Skills
    files: Files
    fields: Mapping[str, Any]


def body_of(prompt: str | None, fields: Mapping[str, Any]) -> JsonObject:
    for name in fields.keys() - KNOWN:
        # Over HTTP unknown fields are ignored for newer clients' sake; in a program it is a misspelt argument.
        near = difflib.get_close_matches(name, KNOWN, 1)
        hint = "Use runner.stream()." if name == "stream" else f"Did you mean {near[0]!r}?" if near else ""
        raise BadRequest(f"A response has no field {name!r}.", hint, param=name)
    body = copy.deepcopy(dict(fields))
    if prompt is not None:
        if body.get("input") is not None:
            raise BadRequest("Both a prompt and 'input' were given.", "Use one of them.", param="input")
        body["input"] = prompt
    if body.get("background"):
        raise BadRequest("A runner has no background: use a thread or a task.", param="background")
    return body


def give_shell(body: JsonObject, *, needed: bool) -> None:
    tools = body.setdefault("tools", []) or []
    shells = [tool for tool in tools if isinstance(tool, dict) and tool.get("type") == "shell"]
    if not shells:
        body["tools"] = [*tools, {"type": "shell", "environment": {"type": "container_auto"}}]
    elif needed and (shells[0].get("environment") or {}).get("type") != "container_auto":
        raise BadRequest(
            "Skills are mounted into a container of their own.", "Use the environment container_auto.", param="skills"
        )


def attach(body: JsonObject, ids: Sequence[str]) -> None:
    """Files go with the user's last message."""
    parts: list[Any] = [{"type": "input_file", "file_id": id} for id in ids]
    items = body.get("input") or []
    if isinstance(items, str):
        parts.insert(0, {"type": "input_text", "text": items})
        items = []
    body["input"] = [*items, {"type": "message", "role": "user", "content": parts}]


def cited(response: Response) -> list[tuple[str, str]]:
    """(container id, file id) of each file the response's text cites, in order."""
    parts = [part for item in response.output if item.type == "message" for part in item.content]
    notes = [note for part in parts if part.type == "output_text" for note in part.annotations]
    found = [(note.container_id, note.file_id) for note in notes if note.type == "container_file_citation"]
    return list(dict.fromkeys(found))


def copy_file(source: BinaryIO, size: int, target: Path) -> None:
    """At most `size` bytes, whole or not at all. Blocks."""
    with source:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".", delete=False) as file:
            try:
                while size > 0 and (piece := source.read(min(CHUNK, size))):
                    file.write(piece)
                    size -= len(piece)
                file.close()
                Path(file.name).chmod(0o644)
                os.replace(file.name, target)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
