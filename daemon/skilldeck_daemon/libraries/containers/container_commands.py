"""One command in a container, for a client and outside any run: the checks of a test look at what a run left."""

from __future__ import annotations

from skilldeck_daemon.containers import CommandResult
from skilldeck_daemon.libraries.containers.environments import Environments
from skilldeck_daemon.libraries.records import CommandResultObject
from skilldeck_shared.errors import BadRequest

SECONDS = 60
LONGEST_SECONDS = 600
OUTPUT_CHARACTERS = 65_536


async def exec_command(
    environments: Environments, container_id: str, command: str, timeout_ms: int
) -> CommandResultObject:
    """Run `command` in /mnt/data of a container, as the model's commands run; {stdout, stderr, exit_code, timed_out}.

    Args:
        container_id: empty: a new container, which goes with the command.
        timeout_ms: 0: a minute.
    Raises:
        BadRequest naming the field, and what opening the container raises (it may have expired).
    """
    if not command.strip():
        raise BadRequest("There is no command.", param="command")
    if not 0 <= timeout_ms <= LONGEST_SECONDS * 1000:
        raise BadRequest(f"timeout_ms is {timeout_ms}; it must be 0 to {LONGEST_SECONDS * 1000}.", param="timeout_ms")
    made = "" if container_id else (await environments.create({"name": "check"}))["id"]
    try:
        container = await environments.open(container_id or made)
        limit = timeout_ms or SECONDS * 1000
        results = await container.exec([command], timeout_ms=limit, max_output_length=OUTPUT_CHARACTERS)
    finally:
        if made:
            await environments.delete(made)
    return _shown(results[0])


def _shown(result: CommandResult) -> CommandResultObject:
    return {
        "stdout": result.stdout,
        "stderr": result.stderr,
        "exit_code": result.exit_code,
        "timed_out": result.timed_out,
    }
