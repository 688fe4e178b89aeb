"""Every error of the HTTP surface as OpenAI's four-key body, unknown routes and methods included.

Of Anthropic's API errors have Anthropic's shape instead.
"""

from __future__ import annotations

import logging
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from skilldeck_daemon.engine.errors import NotLoaded, TooLong
from skilldeck_daemon.http.framework import FastAPI
from skilldeck_shared.errors import BadRequest, Forbidden, NotFound, SkilldeckError, TooLarge
from skilldeck_shared.json_types import JsonObject

log = logging.getLogger(__name__)


class MethodNotAllowed(BadRequest):
    status = 405
    code = "method_not_allowed"


MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
ANTHROPIC = "/anthropic"
"""Before the paths that Anthropic's API shares with OpenAI's (see `paths.py`)."""
ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}

ABSENT = {
    "messages/batches": ("batches of messages", "Send each as POST /v1/messages; many may be under way at once."),
    "batches": ("batches", "Send each request by itself; many may be under way at once."),
    "vector_stores": ("vector stores", "Give files to the request; its commands and read_file find what is in them."),
    "moderations": ("moderations", "Leave them out."),
    "audio": ("speech and transcription", "Only text is made here."),
    "images": ("image generation", "Only text is made here."),
    "videos": ("video generation", "Only text is made here."),
    "realtime": ("realtime sessions", "Use POST /v1/responses, or a WebSocket to /v1/responses."),
    "fine_tuning": ("fine-tuning", "Load a model that was trained elsewhere: skilldeck models load."),
    "evals": ("evals", "Tests of skills are run by 'skilldeck test'."),
    "assistants": ("assistants", "Use POST /v1/responses with 'instructions' and 'tools'."),
    "threads": ("threads", "Use /v1/conversations with POST /v1/responses."),
    "complete": ("completions by Anthropic's older API", "Use POST /v1/messages."),
}
"""APIs that are not here, by the beginnings of their paths below /v1: what they are called, and what to do instead."""


def responses_body(error: SkilldeckError) -> JsonObject:
    """The four-key body; of a prompt that is too long it names `truncation`, which only Responses have."""
    body = error.body()
    if isinstance(error, TooLong):
        body["error"]["message"] += " With 'truncation' set to 'auto' the oldest messages are left out."
    return body


def anthropic_message(error: SkilldeckError) -> str:
    """The text of an error; of a prompt that is too long in the words at which Anthropic's clients make it shorter."""
    if not isinstance(error, TooLong) or not error.context:
        return error.message
    most = min(error.context, error.tokens - 1)
    return f"prompt is too long: {error.tokens} tokens > {most} maximum. {error.hint}".strip()


def anthropic_body(error: SkilldeckError) -> JsonObject:
    """`{"type": "error", "error": {type, message}}`, with `param` and `code` (and `details`, if any) beside them."""
    fallback = "api_error" if error.status >= 500 else "invalid_request_error"
    type = ANTHROPIC_TYPES.get(error.status, fallback)
    details = {} if error.details is None else {"details": error.details}
    return {
        "type": "error",
        "error": {
            "type": type,
            "message": anthropic_message(error),
            "param": error.param,
            "code": error.code,
            **details,
        },
    }


def error_response(error: SkilldeckError, path: str = "") -> JSONResponse:
    """The answer for an error; `path` of the request decides its shape."""
    headers = {}
    if error.status == 409:
        # SDKs retry a bare 409 twice; ours are permanent.
        headers["x-should-retry"] = "false"
    if error.status == 429:
        headers["retry-after"] = "1"
    if isinstance(error, NotLoaded):
        headers["retry-after"] = str(error.retry_after)
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    anthropic = path == MESSAGES or path.startswith((f"{MESSAGES}/", f"{ANTHROPIC}/"))
    if anthropic:
        body = anthropic_body(error)
    else:
        body = responses_body(error) if path.startswith(RESPONSES) else error.body()
    return JSONResponse(body, error.status, headers)


def install(app: FastAPI) -> None:
    """Register the handlers."""

    async def ours(request: Request, error: SkilldeckError) -> JSONResponse:
        if error.status >= 500:
            log.warning("%s %s: %s", request.method, request.url.path, error)
        return error_response(error, request.url.path)

    async def left(request: Request, error: ClientDisconnect) -> JSONResponse:
        # Nobody reads this; without it each client that leaves midway is logged as a fault of the daemon.
        return error_response(BadRequest("The client left before its request was whole."), request.url.path)

    async def starlettes(request: Request, error: HTTPException) -> JSONResponse:
        response = error_response(_translated(request, error), request.url.path)
        response.headers.update(error.headers or {})
        return response

    async def bug(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        fault = SkilldeckError("The daemon failed inside this request.", "Its log says where.")
        return error_response(fault, request.url.path)

    handlers: dict[type[Exception], Any] = {
        SkilldeckError: ours,
        ClientDisconnect: left,
        HTTPException: starlettes,
        Exception: bug,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _absent(path: str) -> NotFound | None:
    """An API that programs ask for and that is not here, refused by its name."""
    below = f"{path.removeprefix('/v1/')}/"
    for beginning, (name, instead) in ABSENT.items():
        if below.startswith(f"{beginning}/"):
            return NotFound(f"This server has no {name}.", instead, code="unknown_url")
    return None


def _translated(request: Request, error: HTTPException) -> SkilldeckError:
    path = f"{request.method} {request.url.path.removeprefix(ANTHROPIC)}"
    if error.status_code == 404:
        return _absent(request.url.path) or NotFound(f"Invalid URL ({path}).", code="unknown_url")
    if error.status_code == 405:
        return MethodNotAllowed(f"This URL does not take that method ({path}).")
    translated: SkilldeckError
    if error.status_code == 413:
        translated = TooLarge(str(error.detail))
    elif error.status_code == 403:
        translated = Forbidden(str(error.detail))
    else:
        translated = BadRequest(str(error.detail))
    translated.status = error.status_code
    return translated
