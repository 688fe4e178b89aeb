"""Containers: where the model's commands run.

    containers = Containers(root)
    await containers.start()                      # refuses to start when commands cannot be isolated
    container = await containers.create(ContainerSpec(id="cntr_1", mounts=(Mount("csv", path),)))
    results = await container.exec(["ls /mnt/skills"], timeout_ms=5000, max_output_length=4096)
    await containers.delete("cntr_1")

Owns: processes, their limits, the directories under the root. Survives kill -9 of the daemon: a container's files
(`reopen`). Does not survive it: processes, /tmp and the home inside. Blocks: nothing; file work runs in threads, and
everything else on the event loop that called `start`. Knows neither the store, nor HTTP, nor the agent loop.
"""

from skilldeck_daemon.containers.container import Container
from skilldeck_daemon.containers.errors import (
    ArtifactNotFound,
    ArtifactTooLarge,
    ContainerError,
    ContainerGone,
    DiskFull,
    InvalidContainerRequest,
    SandboxUnavailable,
    TooManyContainers,
)
from skilldeck_daemon.containers.interpreter import CellResult
from skilldeck_daemon.containers.listeners import OnCommand, OnOutput
from skilldeck_daemon.containers.manager import Containers
from skilldeck_daemon.containers.spec import (
    DEFAULT_TIMEOUT_MS,
    MEMORY_TIERS,
    SKILLS,
    WORKDIR,
    Bind,
    CommandResult,
    ContainerSpec,
    Entry,
    Mount,
    NetworkPolicy,
    OutputPiece,
)

__all__ = [
    "DEFAULT_TIMEOUT_MS",
    "MEMORY_TIERS",
    "SKILLS",
    "WORKDIR",
    "ArtifactNotFound",
    "ArtifactTooLarge",
    "Bind",
    "CellResult",
    "CommandResult",
    "Container",
    "ContainerError",
    "ContainerGone",
    "ContainerSpec",
    "Containers",
    "DiskFull",
    "Entry",
    "InvalidContainerRequest",
    "Mount",
    "NetworkPolicy",
    "OnCommand",
    "OnOutput",
    "OutputPiece",
    "SandboxUnavailable",
    "TooManyContainers",
]
