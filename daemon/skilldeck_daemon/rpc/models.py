"""The calls of the control service that are about models: those served, those on the disk, loading and unloading."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skilldeck_daemon.engine.models import registry
from skilldeck_daemon.rpc.handling import dump, many, one, parse, reply, streaming
from skilldeck_daemon.rpc.state import State, model_object
from skilldeck_shared.json_types import JsonObject
from skilldeck_shared.proto import control_pb2 as pb

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services


class ModelCalls:
    _services: Services
    _state: State

    @reply
    async def ListModels(self, request: pb.Empty) -> pb.JsonList:
        return many(self._state.models())

    @reply
    async def ListStoredModels(self, request: pb.Empty) -> pb.JsonList:
        stored = await asyncio.to_thread(_stored_models, self._services.settings.data_dir / "models")
        served = {info.path: info.name for info in self._services.models.list()}
        return many([{**model, "served": served.get(model["path"], "")} for model in stored])

    @streaming
    async def LoadModel(self, request: pb.LoadModelRequest, stream: Any) -> None:
        loop = asyncio.get_running_loop()
        steps: asyncio.Queue[tuple[float, str] | None] = asyncio.Queue()

        def progress(fraction: float, stage: str) -> None:  # from any thread
            loop.call_soon_threadsafe(steps.put_nowait, (fraction, stage))

        options = parse(request.options_json, "options_json")
        loading = asyncio.create_task(
            self._services.models.load(request.model, request.name or None, request.engine or "auto", options, progress)
        )
        loading.add_done_callback(lambda _: steps.put_nowait(None))
        try:
            while (step := await steps.get()) is not None:
                while not steps.empty() and (newer := steps.get_nowait()) is not None:
                    step = newer  # a download reports each megabyte; a person wants the newest
                await stream.send_message(pb.LoadProgress(fraction=step[0], stage=step[1]))
                if loading.done() and steps.empty():
                    break
            info = await loading
            if not request.keep_default:
                self._services.models.set_default(info.name)
            model = model_object(info, self._services.models.aliases)
        finally:
            loading.cancel()  # the client left: nobody waits for it
        self._services.bus.publish("model", "put", model["id"], model)
        await stream.send_message(pb.LoadProgress(fraction=1.0, stage="ready", model_json=dump(model)))

    @reply
    async def UnloadModel(self, request: pb.Ref) -> pb.Json:
        await self._services.models.unload(request.id)
        self._services.bus.publish("model", "delete", request.id)
        return one({"id": request.id, "object": "model", "deleted": True})


def _stored_models(folder: Path) -> list[JsonObject]:
    return [registry.stored_object(model) for model in registry.ls(folder)]
