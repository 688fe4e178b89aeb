"""`skilldeck serve-web`: the same TUI in a browser, on this machine only, behind a token.

Who has the page has a shell's worth of power (the TUI runs models and their commands), so the server listens on
loopback, answers only to loopback host names (a web page elsewhere cannot reach it by rebinding a name), and every
request needs the token: once in the address, then as a cookie that scripts and other sites cannot send.
"""

from __future__ import annotations

import hmac
import secrets
import shlex
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from skilldeck_shared.errors import Conflict
from skilldeck_tui.cli import output as out
from skilldeck_tui.cli.common import Json, context

COOKIE = "skilldeck_token"
HOSTS = ("127.0.0.1", "localhost")


def serve_web(
    ctx: typer.Context,
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0 takes a free port.")] = 0,
    json: Json = False,
) -> None:
    """Show the TUI in a browser on this machine, until Ctrl-C."""
    options = context(ctx)
    command = [sys.executable, "-m", "skilldeck_tui", "--socket", str(options.socket)]
    if not options.start:
        command.append("--no-start")
    try:
        server = make_server(shlex.join(command), port)
    except Conflict as error:
        out.fail(error, json)
    out.note("Open this address (it holds the key to this session), Ctrl-C ends:")
    out.data_json({"url": server.entry}) if json else out.data(server.entry)
    server.serve()


def make_server(command: str, port: int = 0, token: str = "") -> Any:
    """A textual-serve server that runs `command` for each browser tab; `entry` is the address with the token.

    Raises Conflict when the port is taken.
    """
    from aiohttp import web
    from textual_serve.server import Server

    key = token or secrets.token_urlsafe(32)

    class WebServer(Server):
        entry = ""

        def initialize_logging(self) -> None:
            """Nothing: textual-serve would log to stdout, which is data."""

        async def on_startup(self, app: web.Application) -> None:
            """Nothing: the address has been printed."""

        async def _make_app(self) -> web.Application:
            app = await super()._make_app()
            app.middlewares.append(guard)
            return app

    @web.middleware
    async def guard(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        host = urlsplit(f"//{request.headers.get('Host', '')}").hostname
        origin = request.headers.get("Origin")
        if host not in HOSTS or (origin is not None and urlsplit(origin).hostname not in HOSTS):
            raise web.HTTPForbidden(text="This server answers on this machine only.")
        given = request.query.get("token", "")
        if given and hmac.compare_digest(given.encode(), key.encode()):
            # The token leaves the address at once: addresses are kept in histories and sent to other sites.
            answer = web.HTTPFound("/")
            answer.set_cookie(COOKIE, key, httponly=True, samesite="Strict")
            raise answer
        if not hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), key.encode()):
            raise web.HTTPForbidden(text="Open the address that `skilldeck serve-web` printed.")
        return await handler(request)

    number = _free_port(port)
    server = WebServer(command, host="127.0.0.1", port=number, title="skilldeck")
    server.entry = f"http://127.0.0.1:{number}/?token={key}"
    return server


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Conflict(f"Port {port} is taken.", "Give another with --port, or 0 for a free one.") from error
        return int(probe.getsockname()[1])
