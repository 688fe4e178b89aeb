"""The models of a matrix by the names that people write: those that are served, their aliases, and those on this disk.

One that nothing serves is loaded before its first try, without becoming the default, and unloaded after its last, so
that large models need not fit into the memory side by side. Whoever else uses it by then keeps it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from skilldeck_shared.errors import BadRequest, NotFound, SkilldeckError
from skilldeck_tui.client.client import Client
from skilldeck_tui.client.types import Object, Snapshot

SOURCE = "source"
"""The field of a model's object that says what to load, where nothing serves it."""
SHOWN = 20

Report = Callable[[str, float], None]
"""What is being loaded, and how far it is (0 to 1)."""


class Models:
    """Looks names up. An object is a model as the daemon serves it, or would: `SOURCE` then says what to load."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._served: list[Object] | None = None
        self._stored: list[Object] | None = None

    async def find(self, name: str, param: str = "models") -> Object:
        """ "default", a served name, an alias, a name that `skilldeck models ls` shows, or a path. Raises NotFound with
        what there is, BadRequest for a model that cannot be served; both with `param`."""
        if self._served is None:
            self._served = await self._client.models()
        if name == "default" and self._served:
            return self._served[0]
        for one in self._served:
            if name == one["id"] or name in (one.get("aliases") or ()):
                return one
        if self._stored is None:
            self._stored = await self._client.stored_models()
        for one in self._stored:
            if name in (one["id"], one["path"], _called(one)):
                return self._stored_one(name, one, param)
        place = Path(name).expanduser()
        if ("/" in name or place.suffix == ".gguf") and await asyncio.to_thread(place.exists):
            path = str(place.absolute())
            stored = next((one for one in self._stored if one["path"] == path), None)
            return self._stored_one(name, stored or {"id": path, "path": path}, param)
        raise NotFound(f"No model {name!r} is served or on this disk.", self._there(), param=param)

    def _stored_one(self, name: str, stored: Object, param: str) -> Object:
        assert self._served is not None
        called = _called(stored)
        for one in self._served:
            if one.get("path") and one["path"] == stored["path"]:
                return one
            if one["id"] == called:
                cure = f"Load it under another name: skilldeck models load {stored['path']} --name NAME"
                raise BadRequest(f"Another model than {name} is served as {called!r}.", cure, param=param)
        if stored.get("trouble"):
            raise BadRequest(f"{name} cannot be served: {stored['trouble']}", param=param)
        return {**stored, "id": called, SOURCE: stored["path"]}

    def _there(self) -> str:
        served = [
            f"{one['id']} (also {', '.join(one['aliases'])})" if one.get("aliases") else str(one["id"])
            for one in self._served or ()
        ]
        stored = [_called(one) for one in self._stored or () if not one.get("served")]
        said = [f"Served: {_some(served)}."] if served else []
        said += [f"On this disk: {_some(stored)}."] if stored else []
        return " ".join([*said, "A file or folder is named by its path."])


def _called(stored: Object) -> str:
    """What a stored model is served as: its name, or where it has none that of its file or folder."""
    name = str(stored["id"])
    path = Path(name)
    return name if not path.is_absolute() else path.stem if path.suffix == ".gguf" else path.name


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


class Serving:
    """Has models served while tries need them.

    Args:
        sources: of those to load, by the name they are served as.
        needs: the models that tries need, one entry for each need; a model goes with its last.
    """

    def __init__(
        self, client: Client, sources: Mapping[str, str], needs: Iterable[str], report: Report | None = None
    ) -> None:
        self._client, self._sources, self._report = client, sources, report
        self._needs = Counter(name for name in needs if name in sources)
        self._loads: dict[str, asyncio.Task[None]] = {}

    async def needed(self, name: str) -> None:
        """Returns when it is served. Raises why it cannot be loaded, each time it is needed."""
        if name not in self._sources:
            return
        if name not in self._loads:
            self._loads[name] = asyncio.create_task(self._load(name))
        await asyncio.shield(self._loads[name])

    async def over(self, name: str) -> None:
        """One need of it is over."""
        self._needs[name] -= 1
        if not self._needs[name]:
            await self._unload(name)

    async def close(self) -> None:
        """All needs are over."""
        for name in list(self._loads):
            await self._unload(name)

    async def _load(self, name: str) -> None:
        async for step in self._client.load_model(self._sources[name], name=name, keep_default=True):
            if self._report is not None:
                self._report(f"loading {name}: {step.stage}", step.fraction)

    async def _unload(self, name: str) -> None:
        load = self._loads.pop(name, None)
        if load is None:
            return
        if not load.done():
            load.cancel()
            await asyncio.wait([load])
        if load.cancelled() or load.exception() is not None:
            return
        with suppress(SkilldeckError):
            if not await self._in_use(name):
                await self._client.unload_model(name)

    async def _in_use(self, name: str) -> bool:
        async with self._client.subscribe() as updates:
            snapshot = await anext(updates)
        assert isinstance(snapshot, Snapshot)
        if snapshot.status.get("default_model") == name:
            return True
        return any(one["name"] == name and one["active"] + one["queued"] for one in snapshot.status["models"])
