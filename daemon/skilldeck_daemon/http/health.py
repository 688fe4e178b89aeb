"""/health: 200 only when tokens can flow and the store can be read; `store` says early when its disk gets full."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from skilldeck_daemon.http.routing import Routes
from skilldeck_shared.json_types import JsonObject
from skilldeck_shared.version import __version__

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services
    from skilldeck_daemon.engine.base import EngineStats


def router(services: Services) -> Routes:
    """The route; it stands at the root, not under /v1."""
    api = Routes()

    @api.get("/health")
    async def health() -> Response:
        status = services.models.status()
        damage = services.store.database.damage
        ready = status.state == "ready" and not damage
        sandbox = services.environments.unavailable
        body = {
            "status": "ok" if ready else "degraded" if damage else status.state,
            "version": __version__,
            "model": status.model,
            "progress": round(status.fraction, 3),
            "stage": status.stage,
            "error": status.error or damage or None,
            "engines": {name: _engine(stats) for name, stats in services.models.stats().items()},
            "sandbox": "ok" if sandbox is None else str(sandbox),
            "store": services.store.trouble() or "ok",
        }
        return JSONResponse(body, 200 if ready else 503)

    return api


def _engine(stats: EngineStats) -> JsonObject:
    """How one engine gets on: `token_age_s` seconds ago it made its last token or read a piece of a prompt."""
    age = round(time.monotonic() - stats.last_token_at, 1) if stats.last_token_at else None
    return {
        "active": stats.active,
        "queued": stats.queued,
        "tokens_per_s": round(stats.tokens_per_s, 1),
        "token_age_s": age,
    }
