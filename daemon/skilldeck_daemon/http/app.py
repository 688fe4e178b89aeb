"""The HTTP surface: all routes under /v1 behind one gate."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from skilldeck_daemon.agent.services import Services
from skilldeck_daemon.http import errors, health, metrics
from skilldeck_daemon.http.anthropic import library as anthropic
from skilldeck_daemon.http.anthropic import routes as messages
from skilldeck_daemon.http.auth import Gate
from skilldeck_daemon.http.chat import routes as chat
from skilldeck_daemon.http.completions import routes as completions
from skilldeck_daemon.http.objects import approvals, containers, conversations, files, models, skills, uploads
from skilldeck_daemon.http.responses import routes as responses
from skilldeck_daemon.http.responses import websocket
from skilldeck_shared.version import __version__

ROUTERS: tuple[Callable[[Services], APIRouter], ...] = (
    responses.router,
    chat.router,
    completions.router,
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
    # The published specification is the documentation; a second one generated from here would only differ.
    app = FastAPI(title="skilldeck", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.router.redirect_slashes = False
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router(services), prefix="/v1")
    app.include_router(health.router(services))
    app.include_router(metrics.router(services))
    app.include_router(anthropic.router(services), prefix=f"{errors.ANTHROPIC}/v1")
    return Gate(anthropic.AnthropicPaths(app), services.settings)
