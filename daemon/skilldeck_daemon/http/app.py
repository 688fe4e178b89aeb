"""The HTTP surface: all routes under /v1 behind one gate."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from skilldeck_daemon.agent.services import Services
from skilldeck_daemon.http import errors, health, metrics
from skilldeck_daemon.http.anthropic import library as anthropic
from skilldeck_daemon.http.anthropic import routes as messages
from skilldeck_daemon.http.auth import Gate
from skilldeck_daemon.http.chat import routes as chat
from skilldeck_daemon.http.completions import embeddings
from skilldeck_daemon.http.completions import routes as completions
from skilldeck_daemon.http.framework import FastAPI
from skilldeck_daemon.http.objects import approvals, containers, conversations, files, models, skills, uploads
from skilldeck_daemon.http.paths import Paths
from skilldeck_daemon.http.responses import routes as responses
from skilldeck_daemon.http.responses import websocket
from skilldeck_daemon.http.routing import Routes
from skilldeck_shared.version import __version__

ROUTERS: tuple[Callable[[Services], Routes], ...] = (
    responses.router,
    chat.router,
    completions.router,
    embeddings.router,
    websocket.router,
    messages.router,
    skills.router,
    files.router,
    uploads.router,
    containers.router,
    conversations.router,
    models.router,
    approvals.router,
)


def build(services: Services) -> ASGIApp:
    """The ASGI application."""
    routes: list[BaseRoute] = []
    for router in ROUTERS:
        routes += router(services).below("/v1")
    routes += health.router(services).below()
    routes += metrics.router(services).below()
    routes += anthropic.router(services).below(f"{errors.ANTHROPIC}/v1")
    # The published specification is the documentation; a second one generated from here would only differ.
    app = FastAPI(
        title="skilldeck", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, routes=routes
    )
    app.router.redirect_slashes = False
    errors.install(app)
    return Paths(Gate(app, services.settings, services.admission))
