"""Sandboxes that start before a call asks for them, beside the model, while there is room.

Each belongs to this module until it is taken; one that nothing takes goes, with its data. None has a record: what a
daemon that dies leaves of them is swept when the next one starts.
"""

from __future__ import annotations

import asyncio

from skilldeck_daemon.containers import Container, Containers, ContainerSpec


class EarlySandboxes:
    """By container id."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._begun: dict[str, asyncio.Task[Container]] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}

    def begin(self, spec: ContainerSpec) -> None:
        """Start one, unless there is no room for it. A start that fails is none: whoever needs it tries again."""
        if not self._containers.full:
            self._begun[spec.id] = asyncio.create_task(self._containers.create(spec))

    def give_up(self, id: str) -> None:
        """End it, unless it was taken."""
        begun = self._begun.pop(id, None)
        if begun is not None:
            self._ending[id] = ending = asyncio.create_task(_end(begun))
            ending.add_done_callback(lambda _: self._ending.pop(id, None))

    async def take(self, id: str) -> Container | None:
        """The caller's from here on; None when it was not begun, did not start or had to give way."""
        begun = self._begun.get(id)
        if begun is not None:
            container = await _started(begun)
            if self._begun.pop(id, None) is not None and container is not None and not container.closed:
                return container
        if id in self._ending:
            await asyncio.shield(self._ending[id])
        return None

    async def make_room(self) -> None:
        """End as many as stand in the way of one more sandbox."""
        while self._begun and self._containers.full:
            id = next(iter(self._begun))
            self.give_up(id)
            await asyncio.shield(self._ending[id])

    async def close(self) -> None:
        """Wait for those that end."""
        await asyncio.gather(*self._ending.values())


async def _started(begun: asyncio.Task[Container]) -> Container | None:
    """Whoever waits here can be cancelled, and the start goes on."""
    await asyncio.wait([begun])
    return begun.result() if begun.exception() is None else None


async def _end(begun: asyncio.Task[Container]) -> None:
    container = await _started(begun)
    if container is not None:
        await container.close()
