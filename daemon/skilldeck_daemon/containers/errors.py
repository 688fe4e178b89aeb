"""What can go wrong with a container, each with the fix a person can apply."""

from __future__ import annotations

from skilldeck_shared.errors import BadRequest, Busy, NotFound, SkilldeckError, TooLarge, Unavailable


class ContainerError(SkilldeckError):
    """A container could not do what was asked; the container itself may still be used."""

    code = "container_error"


class ContainerGone(ContainerError):
    """The container was deleted or has expired: its data is lost and it cannot be used again."""

    status = 404
    type = "invalid_request_error"
    code = "container_expired"


class SandboxUnavailable(Unavailable):
    """Commands cannot be isolated on this machine; `hint` names the command that mends it."""

    code = "sandbox_unavailable"


class TooManyContainers(Busy):
    """The configured number of containers exists already."""


class InvalidContainerRequest(BadRequest):
    """A value the caller chose is wrong; `param` names it."""


class DiskFull(ContainerError):
    """The disk's free-space floor or the container's quota stands in the way."""

    status = 507
    code = "disk_full"


class ArtifactNotFound(NotFound):
    """No regular file lies at this path inside the container."""


class ArtifactTooLarge(TooLarge):
    """The file is larger than the caller allows."""
