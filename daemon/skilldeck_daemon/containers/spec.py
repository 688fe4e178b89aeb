"""The values that go into and come out of a container. Plain data, no behaviour beyond validation."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict

from skilldeck_daemon.containers.errors import InvalidContainerRequest

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
"""What the host trusts, as distributions keep it."""
WORKDIR = "/mnt/data"
SKILLS = "/mnt/skills"

GIB = 1024**3
MEMORY_TIERS = {"1g": 1 * GIB, "4g": 4 * GIB, "16g": 16 * GIB, "64g": 64 * GIB}

DEFAULT_TIMEOUT_MS = 600_000
"""Per command, when the call names none."""

Stream = Literal["stdout", "stderr"]

_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class Stats(TypedDict):
    """Numbers of all containers: `open` have a sandbox, `running` one that is not parked, `busy` a command."""

    sandbox: str
    cgroup: str
    open: int
    running: int
    busy: int
    starts: int
    restarts: int
    max_containers: int
    max_memory: str
    disk_free_bytes: int


@dataclass(frozen=True)
class Mount:
    """A skill folder of the host, read-only at `/mnt/skills/<name>`."""

    name: str
    path: Path

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidContainerRequest(
                f"{self.name!r} cannot be the name of a mounted skill.",
                "Use letters, digits, dots, hyphens and underscores.",
                param="skills",
            )


@dataclass(frozen=True)
class Bind:
    """A host folder shown read-only at `target`, below /run. The container's user must be able to reach and read it.

    With `--sandbox none` there is no such place: its commands name the host's folder.
    """

    source: Path
    target: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"/run/[a-z]+", self.target) or self.target == "/run/bin":
            raise InvalidContainerRequest(f"Nothing can be shown at {self.target!r}.", param="binds")


@dataclass(frozen=True)
class Secret:
    """A value that the proxy puts into requests to `domain`, where the container writes `placeholder`.

    `domain` is one of those allowed, or below a wildcard of them. Commands find the placeholder in the variable `name`.
    """

    domain: str
    name: str
    value: str = field(repr=False)
    placeholder: str = ""


@dataclass(frozen=True)
class NetworkPolicy:
    """The hosts a container may reach over HTTP(S); none by default. `*.example.org` covers subdomains only."""

    allowed_domains: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    """Those of them that may resolve to private addresses, beside the daemon's own private hosts."""
    secrets: tuple[Secret, ...] = ()


@dataclass(frozen=True)
class Environment:
    """Packages that were built for skills (`packages/environment_build.py`), shown read-only.

    Args:
        digest: names them.
        folder: where they lie on the host.
        skills: the mounted skills they are for, by their names there.
        node: the packages for Node that the skills name.
    """

    digest: str
    folder: Path
    skills: tuple[str, ...] = ()
    node: tuple[str, ...] = ()


@dataclass(frozen=True)
class ContainerSpec:
    """What a container is made of. `id` is the caller's, and names the directory that outlives the daemon."""

    id: str
    mounts: tuple[Mount, ...] = ()
    memory_limit: str = "1g"
    network: NetworkPolicy = NetworkPolicy()
    binds: tuple[Bind, ...] = ()
    environments: tuple[Environment, ...] = ()
    base: bool = True
    """Whether it has the packages of the sandbox's base, or the bare interpreter."""

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise InvalidContainerRequest(
                f"{self.id!r} cannot be a container's id.", "Use letters, digits, - and _.", param="id"
            )
        if self.memory_limit not in MEMORY_TIERS:
            raise InvalidContainerRequest(
                f"Unknown memory_limit {self.memory_limit!r}.",
                f"Use one of {', '.join(MEMORY_TIERS)}.",
                param="memory_limit",
            )
        names = [mount.name for mount in self.mounts]
        if len(set(names)) != len(names):
            raise InvalidContainerRequest(
                "Two mounted skills have the same name.", "Number the second: NAME-2.", param="skills"
            )

    @property
    def memory_bytes(self) -> int:
        return MEMORY_TIERS[self.memory_limit]


@dataclass(frozen=True)
class CommandResult:
    """How one command ended.

    `exit_code` is the shell's (128 + signal for a killed process), None after a timeout. `stdout` and
    `stderr` hold at most the call's `max_output_length` characters together: the head, an omission
    marker, the tail. `truncated_bytes` counts what was left out of both.
    """

    stdout: str
    stderr: str
    exit_code: int | None
    timed_out: bool
    duration_s: float
    truncated_bytes: int


@dataclass(frozen=True)
class OutputPiece:
    """Text a command has just written. The deltas of a stream, joined, are exactly its final text."""

    command_index: int
    stream: Stream
    text: str


@dataclass(frozen=True)
class Entry:
    """A regular file under `/mnt/data`: absolute path inside, size in bytes, mtime in ns, permission bits."""

    path: str
    bytes: int
    mtime_ns: int
    mode: int
