"""Shell completion of names that only the daemon knows. Never starts a daemon, never fails, gives up after a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from skilldeck_tui.client.client import Client

SECONDS = 1.0


def complete_skill(incomplete: str) -> list[str]:
    async def names(client: Client) -> list[str]:
        return [str(skill["name"]) for skill in (await client.skills(limit=1000)).data]

    return _complete(names, incomplete)


def complete_model(incomplete: str) -> list[str]:
    async def names(client: Client) -> list[str]:
        models = await client.models()
        return ["default", *(str(name) for one in models for name in (one["id"], *(one.get("aliases") or ())))]

    return _complete(names, incomplete)


def complete_file(incomplete: str) -> list[str]:
    async def names(client: Client) -> list[str]:
        return [str(file["id"]) for file in (await client.files(limit=1000)).data]

    return _complete(names, incomplete)


def _complete(names: Callable[[Client], Awaitable[list[str]]], incomplete: str) -> list[str]:
    async def work() -> list[str]:
        async with asyncio.timeout(SECONDS):
            async with await Client.connect(check_version=False) as client:
                return await names(client)

    try:
        found = asyncio.run(work())
    except Exception:  # a completion that fails must not disturb the line being typed
        return []
    return sorted({name for name in found if name.startswith(incomplete)})
