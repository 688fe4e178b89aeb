"""What the commands of a Response did: the one reader of its shell items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skilldeck_tui.client.types import Object


@dataclass(frozen=True)
class Ran:
    """A command; `ended` is whether its output came, `exit_code` None where it did not end by itself."""

    command: str
    ended: bool
    exit_code: int | None
    stdout: str
    stderr: str


def commands_ran(output: Sequence[Object]) -> list[Ran]:
    """The commands of the output items, in order."""
    outputs = {item["call_id"]: item["output"] for item in output if item["type"] == "shell_call_output"}
    found = []
    for item in output:
        if item["type"] != "shell_call":
            continue
        results = outputs.get(item["call_id"]) or []
        for at, command in enumerate(item["action"]["commands"]):
            entry = results[at] if at < len(results) else {}
            code = (entry.get("outcome") or {}).get("exit_code")
            found.append(Ran(command, bool(entry), code, entry.get("stdout") or "", entry.get("stderr") or ""))
    return found


def containers_of(output: Sequence[Object]) -> tuple[str, ...]:
    """The containers that the commands ran in, by id."""
    environments = [item.get("environment") or {} for item in output if item["type"] == "shell_call"]
    return tuple(sorted({str(entry["container_id"]) for entry in environments if entry.get("container_id")}))
