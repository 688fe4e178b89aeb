"""How many files each container may watch.

The kernel counts inotify instances and watches for each user of the host (128 instances, by default), also those of
the user's sandboxes: one container could take them all from its owner's desktop. So all containers together get half of
what the host's user has. A container gets a few instances as long as those last (a development server needs one, a
watcher of Node one, `tail -f` one), and the more run, the fewer each new one gets. What a container has is written by
its supervisor into the limits of its own user namespace, which the kernel holds it to; with no share the system-call
filter says EMFILE, "too many", which programs are prepared for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

INSTANCES = 8
"""Of one container, at most."""
WATCHES = 8192
"""Of one container, at most. Each holds about 1 KiB of the kernel's memory."""
_PART = 4  # of what is left, for the next container
_HOST = ("/proc/sys/fs/inotify/max_user_{}", "/proc/sys/user/max_inotify_{}")


@dataclass(frozen=True)
class Share:
    """What one container has."""

    instances: int = 0
    watches: int = 0


class _Holder(Protocol):
    @property
    def ended(self) -> bool: ...


class Shares:
    """Hands out parts of what the host's user has.

    Args:
        instances, watches: for all containers together.
    """

    def __init__(self, instances: int = 0, watches: int = 0) -> None:
        self.instances = instances
        self.watches = watches
        self._held: list[tuple[_Holder, Share]] = []

    @classmethod
    def of_host(cls) -> Shares:
        """Half of what this machine allows a user; nothing where containers cannot be held to less."""
        return cls(*(_least(kind) // 2 for kind in ("instances", "watches")))

    def next(self) -> Share:
        """What the next container may have; it has it from `hold` until it ended."""
        self._held = [(holder, share) for holder, share in self._held if not holder.ended]
        left = self.instances - sum(share.instances for _, share in self._held)
        instances = min(INSTANCES, left // _PART)
        if instances <= 0:
            return Share()
        return Share(instances, min(WATCHES, self.watches * instances // self.instances))

    def hold(self, holder: _Holder, share: Share) -> None:
        self._held.append((holder, share))


def _least(kind: str) -> int:
    try:
        return min(int(Path(place.format(kind)).read_text()) for place in _HOST)
    except (OSError, ValueError):
        return 0
