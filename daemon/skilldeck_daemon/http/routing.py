"""Routes: a path, a method, and a function that takes the path's parameters by name, and `request` where it wants it.

They are plain routes of the FastAPI application. Nothing else is declared of a request: bodies, fields and queries are
read by `wire/` and `listing.py`, which name the field that is wrong. Routes whose reading FastAPI derives from the
signatures of their functions took 0.3 s of analysis at every start, for nothing that these functions use.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

Handler = Callable[..., Awaitable[Response]]
Make = Callable[[str], BaseRoute]


class Routes:
    """A list of routes; `below` gives them under a prefix."""

    def __init__(self) -> None:
        self._made: list[Make] = []

    def get(self, path: str) -> Callable[[Handler], Handler]:
        return self._method("GET", path)

    def post(self, path: str) -> Callable[[Handler], Handler]:
        return self._method("POST", path)

    def delete(self, path: str) -> Callable[[Handler], Handler]:
        return self._method("DELETE", path)

    def websocket(self, path: str) -> Callable[[Callable[[WebSocket], Awaitable[None]]], Any]:
        def register(handler: Callable[[WebSocket], Awaitable[None]]) -> Any:
            self._made.append(lambda prefix: WebSocketRoute(prefix + path, handler))
            return handler

        return register

    def below(self, prefix: str = "") -> list[BaseRoute]:
        """The routes in the order they were named: of two that match the first is taken."""
        return [make(prefix) for make in self._made]

    def _method(self, method: str, path: str) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            whole = "request" in inspect.signature(handler).parameters

            async def endpoint(request: Request) -> Response:
                if whole:
                    return await handler(request=request, **request.path_params)
                return await handler(**request.path_params)

            def make(prefix: str) -> BaseRoute:
                route = Route(prefix + path, endpoint)
                route.methods = {method}  # a GET answers no HEAD
                return route

            self._made.append(make)
            return handler

        return register
