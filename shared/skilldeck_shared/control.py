"""What both ends of the control socket share beside the generated stubs: errors as gRPC statuses, and a message limit.

The message of a status is JSON: OpenAI's four-key error under `error`, and beside it what people are shown (`title`,
`hint`, `status`) and where it is (`details`: line, column, path of a broken SKILL.md). Long texts are cut: HTTP/2 peers
refuse header blocks over 64 KiB, and a percent-encoded message may take three bytes a character.

grpclib reads as many bytes as a frame header announces, up to 4 GiB. `LimitedProtocol` refuses such a message before
its body is read.
"""

from __future__ import annotations

import json
from asyncio import BaseTransport
from functools import partial
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.protocol import Connection, H2Protocol, Stream

from skilldeck_shared import errors

MAX_MESSAGE = 128 * 1024 * 1024
"""Bytes of one message. The largest that is legitimate is a request with an inline skill: 70 MB of base64."""

CHUNK = 256 * 1024
"""Bytes of one data message of an upload or download: 64 to 256 KiB measured fastest."""

MAX_TEXT = 4000
DETAILS = ("line", "column", "path")

_CLASSES: dict[int, tuple[Status, type[errors.SkilldeckError]]] = {
    400: (Status.INVALID_ARGUMENT, errors.BadRequest),
    401: (Status.UNAUTHENTICATED, errors.Unauthorized),
    403: (Status.PERMISSION_DENIED, errors.Forbidden),
    404: (Status.NOT_FOUND, errors.NotFound),
    409: (Status.FAILED_PRECONDITION, errors.Conflict),
    413: (Status.OUT_OF_RANGE, errors.TooLarge),
    429: (Status.RESOURCE_EXHAUSTED, errors.Busy),
    500: (Status.INTERNAL, errors.SkilldeckError),
    503: (Status.UNAVAILABLE, errors.Unavailable),
}
_BY_STATUS = {status: kind for status, kind in _CLASSES.values()}


def to_grpc(error: errors.SkilldeckError) -> GRPCError:
    """The status that carries `error`; an unknown HTTP status travels as INTERNAL."""
    status, _ = _CLASSES.get(error.status, _CLASSES[500])
    body: dict[str, Any] = error.body()
    body["error"]["message"] = _cut(body["error"]["message"])
    body |= {"status": error.status, "title": _cut(error.title), "hint": _cut(error.hint)}
    details = {
        name: value
        for name in DETAILS
        if isinstance(value := getattr(error, name, None), (int, str)) and not isinstance(value, bool)
    }
    if details:
        body["details"] = details
    return GRPCError(status, json.dumps(body, ensure_ascii=False))


def from_grpc(error: GRPCError) -> errors.SkilldeckError:
    """The error that `to_grpc` sent, with `details` as attributes; a foreign status makes a plain `SkilldeckError`."""
    try:
        body = json.loads(error.message or "")
        wire = body["error"]
        kind = _CLASSES.get(int(body["status"]), _CLASSES[500])[1]
        title, hint = str(body["title"]), str(body["hint"])
    except (ValueError, KeyError, TypeError):
        kind = _BY_STATUS.get(error.status, errors.SkilldeckError)
        return kind(f"The daemon answered {error.status.name}: {error.message or 'no details'}.")
    rebuilt = kind(title, hint, param=wire.get("param"), code=wire.get("code"))
    for name, value in (body.get("details") or {}).items():
        if name in DETAILS:
            setattr(rebuilt, name, value)
    return rebuilt


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


class _LimitedStream(Stream):
    async def recv_data(self, size: int) -> bytes:
        if size > MAX_MESSAGE:
            raise GRPCError(Status.OUT_OF_RANGE, f"a message of {size} bytes is over the limit of {MAX_MESSAGE}")
        return await super().recv_data(size)


def _create_stream(connection: Connection, *, stream_id: int | None = None, wrapper: Any = None) -> Stream:
    if not hasattr(connection, "_transport"):  # the other end closed it between the call's beginning and now
        raise StreamTerminatedError("Connection lost")
    return _LimitedStream(
        connection, connection._connection, connection._transport, stream_id=stream_id, wrapper=wrapper
    )


class LimitedProtocol(H2Protocol):
    """An HTTP/2 connection whose streams refuse messages over `MAX_MESSAGE`."""

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        # grpclib has no factory for connections; this is the one place where both ends make their streams.
        setattr(self.connection, "create_stream", partial(_create_stream, self.connection))  # noqa: B010
