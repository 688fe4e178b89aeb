"""Messages between the daemon and an engine's process: a length and a pickle on a socket pair.

Pickle, because both ends are this program and one started the other; nobody else holds the socket.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
from dataclasses import dataclass
from typing import Any

from skilldeck_daemon.engine.base import Caps, EngineStats, Event, GenRequest, ModelInfo, ModelSpec

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Load:
    """The first message: which engine (a name that `hub.make_engine` knows), and its model."""

    kind: str
    spec: ModelSpec


@dataclass(frozen=True)
class Loading:
    fraction: float
    stage: str


@dataclass(frozen=True)
class LoadDone:
    info: ModelInfo
    caps: Caps


@dataclass(frozen=True)
class LoadFailed:
    error: Exception


@dataclass(frozen=True)
class Submit:
    """A request without its mask, which travels as the `spec` that `grammar.rebuild` makes it of again."""

    request: GenRequest
    mask: Any


@dataclass(frozen=True)
class Accepted:
    id: str


@dataclass(frozen=True)
class Refused:
    id: str
    error: Exception


@dataclass(frozen=True)
class Cancel:
    id: str


@dataclass(frozen=True)
class Events:
    """What one turn of the child's loop produced, in order."""

    events: list[tuple[str, Event]]


@dataclass(frozen=True)
class Stats:
    """Sent every second: also the sign of life."""

    stats: EngineStats


@dataclass(frozen=True)
class Unload:
    pass


def portable(error: BaseException) -> Exception:
    """The error itself when it survives pickling, else one that says the same."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = None
    return copy if isinstance(copy, Exception) else RuntimeError(f"{type(error).__name__}: {error}")


def write(writer: asyncio.StreamWriter, message: Any) -> None:
    """Queue a message; lost when the other end is gone, which `read` reports."""
    if not writer.is_closing():
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        writer.write(_LENGTH.pack(len(data)) + data)


async def read(reader: asyncio.StreamReader) -> Any:
    """The next message, None when the other end is gone."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        return pickle.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
