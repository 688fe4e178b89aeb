"""What the commands of a Response did: the one reader of its shell items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    found = []
    for _, commands in with_results(output):
        for command, entry in commands:
            code = (entry.get("outcome") or {}).get("exit_code")
            found.append(Ran(command, bool(entry), code, entry.get("stdout") or "", entry.get("stderr") or ""))
    return found


def with_results(output: Sequence[Object]) -> Iterator[tuple[Object, list[tuple[str, Object]]]]:
    """Every item, and of a shell's call its commands, each with its entry of the output, {} where that is not there."""
    outputs = {item.get("call_id"): item.get("output") for item in output if item.get("type") == "shell_call_output"}
    for item in output:
        commands = (item.get("action") or {}).get("commands") or [] if item.get("type") == "shell_call" else []
        entries = outputs.get(item.get("call_id")) or []
        yield item, [(str(command), entries[at] if at < len(entries) else {}) for at, command in enumerate(commands)]


def containers_of(output: Sequence[Object]) -> tuple[str, ...]:
    """The containers that the commands ran in, by id."""
    environments = [item.get("environment") or {} for item in output if item["type"] == "shell_call"]
    return tuple(sorted({str(entry["container_id"]) for entry in environments if entry.get("container_id")}))
