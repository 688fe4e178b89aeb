"""What happened in one run, as checks and judges look at it.

Built from the Response and its timeline; the files of its containers are listed and read when a check asks for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from skilldeck_tui.client.client import Client, read_all
from skilldeck_tui.skill_tests.checking.ran import commands_ran, containers_of

READ_BYTES = 4 << 20
ROOT = "/mnt/data/"
MOUNTS = "/mnt/skills/"

Object = dict[str, Any]


@dataclass
class Outcome:
    """One run. `commands` are (command, exit code or None); `outputs` what each wrote, in their order.

    `model_seconds` is the model's own time (prefill and decoding), `seconds` that of the whole run; tokens are those of
    all turns. `opened` are the skills that were put before the model or named by a command.
    """

    client: Client
    skill: str = ""
    prompt: str = ""
    status: str = ""
    why: str = ""
    commands: list[tuple[str, int | None]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    answer: str = ""
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    turns: int = 0
    seconds: float = 0.0
    model_seconds: float = 0.0
    opened: frozenset[str] = frozenset()
    containers: tuple[str, ...] = ()
    _files: dict[str, tuple[str, str]] | None = None
    _read: dict[str, bytes] = field(default_factory=dict)

    async def files(self) -> dict[str, tuple[str, str]]:
        """The files below /mnt/data by name, each with its container and id. Raises what listing raises."""
        if self._files is None:
            self._files = {}
            for container in self.containers:
                after = ""
                while True:
                    page = await self.client.container_files(container, limit=1000, after=after, order="asc")
                    for entry in page.data:
                        self._files[str(entry["path"]).removeprefix(ROOT)] = (container, str(entry["id"]))
                    if not page.has_more or not page.data:
                        break
                    after = str(page.data[-1]["id"])
        return self._files

    async def read(self, name: str) -> bytes:
        """The first 4 MiB of a file that `files` lists."""
        if name not in self._read:
            container, id_ = (await self.files())[name]
            self._read[name] = await read_all(self.client.read_container_file(container, id_), READ_BYTES)
        return self._read[name]


def read_outcome(client: Client, skill: str, prompt: str, response: Object, timeline: Object) -> Outcome:
    """What a Response that ended, and its timeline (see control.proto), say happened."""
    output: list[Object] = response.get("output") or []
    ran = commands_ran(output)
    reason = response.get("error") or response.get("incomplete_details") or {}
    usage = response.get("usage") or {}
    turns = [span for span in timeline.get("spans") or [] if span.get("kind") == "turn"]
    times = timeline.get("times") or []
    return Outcome(
        client,
        skill=skill,
        prompt=prompt,
        status=str(response.get("status")),
        why=str(reason.get("message") or reason.get("reason") or "no reason given"),
        commands=[(one.command, one.exit_code) for one in ran],
        outputs=[one.stdout + one.stderr for one in ran if one.ended],
        answer=answer_of(output),
        input_tokens=int(usage.get("input_tokens") or 0),
        cached_tokens=int((usage.get("input_tokens_details") or {}).get("cached_tokens") or 0),
        output_tokens=int(usage.get("output_tokens") or 0),
        turns=len(turns),
        seconds=max(0.0, times[-1] - times[0]) if times else 0.0,
        model_seconds=sum(float(span.get("prefill_s") or 0) + float(span.get("decode_s") or 0) for span in turns),
        opened=frozenset(timeline.get("opened") or ()) | named([one.command for one in ran]),
        containers=containers_of(output),
    )


def answer_of(output: list[Object]) -> str:
    """The text of all messages."""
    return "\n".join(
        part["text"]
        for item in output
        if item["type"] == "message"
        for part in item["content"]
        if part["type"] == "output_text"
    )


def named(commands: Iterable[str]) -> frozenset[str]:
    """The skills whose files commands name."""
    return frozenset(name for command in commands for name in re.findall(rf"{re.escape(MOUNTS)}([\w.-]+)", command))
