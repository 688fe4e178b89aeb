"""Real containers for every test: nothing here stands in for bubblewrap."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio

from daemon.containers.support import MIB
from skilldeck_daemon.containers import Container, Containers, ContainerSpec


@pytest_asyncio.fixture
async def start_containers(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Containers]]]:
    """A factory of started `Containers`; all are closed, and their directories gone, after the test."""
    made: list[Containers] = []

    async def build(name: str = "containers", **options: Any) -> Containers:
        containers = Containers(tmp_path / name, disk_floor_bytes=MIB, **options)
        await containers.start()
        made.append(containers)
        return containers

    yield build
    for containers in made:
        await containers.sweep(set())
        for item in list(containers._open):
            await containers.delete(item)
        await containers.close()


@pytest_asyncio.fixture
async def containers(start_containers: Callable[..., Awaitable[Containers]]) -> Containers:
    return await start_containers()


@pytest_asyncio.fixture
async def container(containers: Containers) -> Container:
    return await containers.create(ContainerSpec("cntr_test"))
