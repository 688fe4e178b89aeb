"""Serving the control service on its Unix socket, from start to a shutdown that does not hang.

`start` raises when a live daemon owns the socket. Only processes of the same user (and root) are served: file modes
say so, and the kernel is asked again (SO_PEERCRED) at each connection. `stop` takes no new connections, gives calls
that are under way `grace` seconds (a streaming call ends at once), then closes every connection: a client sees its
streams end, and the socket file is gone before the lock is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import weakref
from asyncio import BaseTransport, Transport
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from grpclib.protocol import H2Protocol
from grpclib.server import Handler, Server

from skilldeck_daemon.rpc.listening import Listening, listen
from skilldeck_daemon.rpc.service import ControlService
from skilldeck_shared.control import LimitedProtocol

if TYPE_CHECKING:
    from skilldeck_daemon.agent.services import Services

log = logging.getLogger(__name__)

GRACE_SECONDS = 2.0


class ControlServer:
    """The control service of one daemon. `on_shutdown` is called when a client asks the daemon to stop."""

    def __init__(self, services: Services, socket_path: Path, on_shutdown: Callable[[], None] | None = None) -> None:
        self.path = socket_path
        self.service = ControlService(services, on_shutdown)
        self._listening: Listening | None = None
        self._server: _Server | None = None

    async def start(self) -> None:
        """Listen. Raises AlreadyRunning, Forbidden or SocketUnusable (`rpc/listening.py`)."""
        self._listening = listen(self.path)
        self.path = self._listening.path
        self._server = _Server([self.service])
        await self._server.listen(self._listening.sock)
        log.info("control socket at %s", self.path)

    async def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Stop listening, let running calls end for `grace` seconds, close all connections. Idempotent."""
        server, listening = self._server, self._listening
        self._server = self._listening = None
        if server is not None:
            await self.service.drain(grace)
            await server.drop()
        if listening is not None:
            listening.close()

    async def __aenter__(self) -> ControlServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


class _Server(Server):
    """grpclib's server, made to let go: its own `wait_closed` hangs on Python 3.12+ while a client is connected, and it
    never ends open streams."""

    def __init__(self, handlers: Any) -> None:
        super().__init__(handlers)
        self._protocols: weakref.WeakSet[_Protocol] = weakref.WeakSet()

    async def listen(self, sock: socket.socket) -> None:
        self._server = await self._loop.create_unix_server(self._protocol_factory, sock=sock)
        self._server_closed_fut = self._loop.create_future()

    def _protocol_factory(self) -> H2Protocol:
        handler = Handler(self._mapping, self._codec, self._status_details_codec, self.__dispatch__)
        self._handlers.add(handler)
        protocol = _Protocol(handler, self._config, self._h2_config)
        self._protocols.add(protocol)
        return protocol

    async def drop(self) -> None:
        self.close()
        await asyncio.sleep(0)  # handlers get to run their finally blocks while they can still send
        for protocol in list(self._protocols):
            protocol.drop()
        await self.wait_closed()


class _Protocol(LimitedProtocol):
    """A connection of our own user; anybody else's is cut before a byte of it is read."""

    _refused = False

    def connection_made(self, transport: BaseTransport) -> None:
        uid = _peer_uid(transport)
        if uid is not None and uid not in (os.getuid(), 0):
            log.warning("refused a control connection of user %d", uid)
            self._refused = True
            cast(Transport, transport).abort()
            return
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self._refused:
            super().connection_lost(exc)

    def drop(self) -> None:
        if not hasattr(self, "processor") or self.connection.is_closing():
            return
        with suppress(Exception):  # the peer may go away in this very moment; closing is what matters
            self.connection._connection.close_connection()
            self.connection.flush()
        self.processor.close()


def _peer_uid(transport: BaseTransport) -> int | None:
    """User id of the process at the other end; None where the system does not say."""
    sock = transport.get_extra_info("socket")
    if sock is None or not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = struct.Struct("3i")
    _, uid, _ = credentials.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size))
    return int(uid)
