"""The gate in front of the API: who may ask, under which name, from which web page, and how much at once.

- API keys (Bearer, or x-api-key), compared in constant time; required when any is set. /health needs none.
- A Host header that is no host and port is refused: parsers differ in which part of it they believe.
- The Host header must be a literal address, localhost or a configured name: a web page whose DNS name was rebound to
  this machine sends its own name (DNS rebinding). With keys this is not needed: such a page has none.
- A web page of another origin may not call (it could run commands with a plain form post); configured origins may,
  and get CORS headers.
- Of several keys none has more than its share under way (`agent/admission.py`).
- A body's size is checked before it is read, and while it is read when the client does not say its length.
- The key that let a request in keeps its cached prompts apart from those of others (`wire/caller.py`).
- A `traceparent` makes the runs of the request part of the client's trace.
- Every answer carries x-request-id, openai-version and openai-processing-ms.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skilldeck_daemon.agent.accounts.traces import PARENT
from skilldeck_daemon.agent.admission import Admission
from skilldeck_daemon.http.errors import error_response
from skilldeck_daemon.settings import Settings
from skilldeck_daemon.wire.caller import CALLER, CLIENT, caller_of, client_of
from skilldeck_shared.errors import BadRequest, Busy, Forbidden, SkilldeckError, TooLarge, Unauthorized, Unavailable

MIB = 1024 * 1024
# Multipart uploads stream to disk; their own limits (512 MB a file, 64 MB a part, 50 MB a skill) apply there.
UPLOAD_MIB = 600
OPEN_PATHS = ("/health", "/")
BODY_IDLE_SECONDS = 60.0
"""How long a body may stand still before its request is given up."""
API_VERSION = "2020-10-01"


class TooSlow(BadRequest):
    """The client stopped in the middle of its request."""

    status = 408
    code = "request_timeout"


class Gate:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, settings: Settings, admission: Admission | None = None) -> None:
        self._app = app
        self._admission = admission or Admission(settings)
        self._keys = [_digest(key) for key in settings.keys]
        self._callers = {_digest(key): caller_of(key) for key in settings.keys}
        self._hosts = {host.lower() for host in (*settings.allowed_hosts, settings.host, "localhost")}
        self._origins = set(settings.cors_origins)
        self._body_limit = settings.max_body_mb * MIB

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        allowed = origin is not None and ("*" in self._origins or origin in self._origins)
        answer = _Answer(send, origin if allowed else None)
        try:
            self._check_origin(headers, origin, allowed)
            if scope["type"] == "http" and scope["method"] == "OPTIONS" and allowed:
                return await _preflight(headers)(scope, receive, answer)
            self._check_host(headers)
            caller = self._check_key(headers, scope["path"])
            CALLER.set(caller)
            limit = self._limit(headers)
            self._check_length(headers, limit)
        except SkilldeckError as error:
            return await _refuse(error, scope, receive, answer)
        PARENT.set(headers.get("traceparent", ""))
        CLIENT.set(client_of(headers.get("user-agent", "")))
        if scope["type"] == "http":
            try:
                with self._admission.request(caller) as held:
                    memory = limit == self._body_limit  # forms go to the disk as they come
                    await self._app(scope, _Counted(receive, limit, held.take if memory else None), answer)
            except Busy as error:
                if answer.begun:
                    raise
                await _refuse(error, scope, receive, answer)
            except asyncio.CancelledError:
                # The daemon stops and has waited long enough for this request. Of a 503 clients know to try again.
                if not answer.begun:
                    await _refuse(Unavailable("The daemon is shutting down."), scope, receive, answer)
        else:
            await self._app(scope, receive, send)

    def _check_origin(self, headers: Headers, origin: str | None, allowed: bool) -> None:
        if origin is None or allowed:
            return
        if urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            raise Forbidden(
                f"Web pages of {origin[:100]} may not call this daemon.", "Allow them: --cors-origins ORIGIN."
            )

    def _check_host(self, headers: Headers) -> None:
        for given in headers.getlist("host") or [""]:
            host = _hostname(given)
            if self._keys or host in self._hosts or host.endswith(".localhost"):
                continue
            try:
                ipaddress.ip_address(host)
            except ValueError:
                hint = "Use http://localhost, or allow the name: --allowed-hosts NAME."
                raise Forbidden(f"This daemon does not answer to the name {host[:100]!r}.", hint) from None

    def _check_key(self, headers: Headers, path: str) -> str:
        """The caller whose key it is; empty where none is needed."""
        if not self._keys or path in OPEN_PATHS:
            return ""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if "authorization" not in headers and "x-api-key" in headers:
            scheme, key = "bearer", headers["x-api-key"]
        if scheme.lower() != "bearer" or not key.strip():
            raise Unauthorized("You didn't provide an API key.", "Send it as 'Authorization: Bearer KEY'.")
        given = _digest(key.strip())
        # All are compared, equal or not, so that time shows nothing.
        if not sum(hmac.compare_digest(given, known) for known in self._keys):
            raise Unauthorized("Incorrect API key provided.", "Use one of the keys the daemon was started with.")
        return self._callers[given]

    def _limit(self, headers: Headers) -> int:
        if headers.get("content-type", "").lower().startswith("multipart/form-data"):
            return UPLOAD_MIB * MIB
        return self._body_limit

    def _check_length(self, headers: Headers, limit: int) -> None:
        length = headers.get("content-length", "0")
        if length.isdigit() and len(length) < 20 and int(length) > limit:
            raise _too_large(limit)


class _Counted:
    """`receive`, refusing more than the limit and a body that stands still."""

    def __init__(self, receive: Receive, limit: int, take: Callable[[int], None] | None = None) -> None:
        self._receive = receive
        self._limit = limit
        self._take = take  # called with each piece that stays in memory; may refuse it
        self._seen = 0
        self._whole = False

    async def __call__(self) -> Message:
        if self._whole:  # what comes next is that the client leaves, whenever it does
            return await self._receive()
        try:
            async with asyncio.timeout(BODY_IDLE_SECONDS):
                message = await self._receive()
        except TimeoutError:
            raise TooSlow("The request's body stopped coming.", "Send it again.") from None
        if message["type"] == "http.request":
            self._whole = not message.get("more_body", False)
            size = len(message.get("body", b""))
            self._seen += size
            if self._take is not None:
                self._take(size)
            if self._seen > self._limit:
                raise _too_large(self._limit)
        return message


class _Answer:
    """`send`, adding the headers every answer carries."""

    def __init__(self, send: Send, origin: str | None) -> None:
        self._send = send
        self._origin = origin
        self._begun = time.monotonic()
        self.begun = False  # the answer has begun

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            headers = MutableHeaders(scope=message)
            headers.setdefault("x-request-id", f"req_{secrets.token_hex(16)}")
            headers["openai-version"] = API_VERSION
            headers["openai-processing-ms"] = str(round((time.monotonic() - self._begun) * 1000))
            if self._origin is not None:
                headers["access-control-allow-origin"] = self._origin
                headers["access-control-expose-headers"] = "x-request-id, openai-processing-ms, openai-version"
                headers.add_vary_header("Origin")
        await self._send(message)


def _preflight(headers: Headers) -> Response:
    asked = headers.get("access-control-request-headers", "")
    allow = {"access-control-allow-methods": "GET, POST, DELETE, OPTIONS", "access-control-max-age": "600"}
    return Response(status_code=204, headers={**allow, **({"access-control-allow-headers": asked} if asked else {})})


async def _refuse(error: SkilldeckError, scope: Scope, receive: Receive, send: Send) -> None:
    response = error_response(error, scope["path"])
    if scope["type"] == "http":
        await response(scope, receive, send)
    elif "websocket.http.response" in scope.get("extensions", {}):
        await response({**scope, "type": "websocket"}, receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": error.title[:120]})


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request body is larger than {limit // MIB} MiB.", "Upload large files with POST /v1/files.")


_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{0,253}))(?::[0-9]{0,5})?", re.ASCII)


def _hostname(host: str) -> str:
    """The name of a Host header, without port and brackets. Raises BadRequest for what is no host and port."""
    match = _HOST.fullmatch(host)
    if match is None:
        raise BadRequest(f"The Host header {host[:100]!r} is no host.", "Send HOST or HOST:PORT.")
    return (match[1] or match[2]).lower()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
