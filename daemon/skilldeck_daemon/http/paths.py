"""Where a request belongs, as clients spell their paths.

The API is below /v1. A path without it, as the servers of llama.cpp and DeepSeek take it and goose's client sends it,
and one with it twice, of a client that adds it to a base URL that has it, are read as if it stood there once.
Anthropic's SDKs have paths that OpenAI's API has, too (files, skills, models): what bears their header goes to the
routes of theirs. Messages may be asked for below /anthropic, as servers that have both APIs keep them.

It stands before the gate, whose errors have the shape of the API that was asked.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from skilldeck_daemon.http.errors import ANTHROPIC, MESSAGES

API = "/v1/"
OTHERS = ("/", "/health", "/metrics")
SHARED = tuple(f"{API}{name}" for name in ("files", "skills", "models"))


class Paths:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            path: str = scope["path"]
            raw: bytes = scope.get("raw_path") or path.encode()
            if path.startswith(API + API[1:]):
                path, raw = path[len(API) - 1 :], raw[len(API) - 1 :]
            elif not path.startswith((API, f"{ANTHROPIC}/")) and path not in OTHERS:
                path, raw = API[:-1] + path, API[:-1].encode() + raw
            if path.startswith(ANTHROPIC + MESSAGES):
                path, raw = path[len(ANTHROPIC) :], raw[len(ANTHROPIC) :]
            if path.startswith(SHARED) and "anthropic-version" in Headers(scope=scope):
                path, raw = ANTHROPIC + path, ANTHROPIC.encode() + raw
            scope = {**scope, "path": path, "raw_path": raw}
        await self._app(scope, receive, send)
