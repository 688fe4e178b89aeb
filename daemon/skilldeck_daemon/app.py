"""The daemon: a `Core` (core.py) with its two surfaces around it, started in order and stopped in the reverse order.

    daemon = Daemon(settings)
    await daemon.start()      # HTTP and the control socket answer; the model loads in the background
    await daemon.stop()       # runs are cancelled and stored, then listeners, containers and the store close

A start that fails leaves nothing running.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import uvicorn

from skilldeck_daemon.core import Core
from skilldeck_daemon.engine.process.child import Child
from skilldeck_daemon.http import app as http
from skilldeck_daemon.http.header_timeout import PatientProtocol
from skilldeck_daemon.logs import LogRing
from skilldeck_daemon.rpc.server import ControlServer
from skilldeck_daemon.rpc.state import model_object
from skilldeck_daemon.settings import Settings
from skilldeck_shared import paths, private
from skilldeck_shared.errors import SkilldeckError, Unavailable

log = logging.getLogger(__name__)


class CannotListen(Unavailable):
    """The HTTP port cannot be taken."""

    code = "cannot_listen"


class Daemon:
    """One daemon. `services` is there from construction; `stopping` is set when a client asked it to end, `loaded` once
    the model it was started with is there or cannot be."""

    def __init__(self, settings: Settings, logs: LogRing | None = None, spare: Child | None = None) -> None:
        self.settings = settings
        self.stopping = asyncio.Event()
        self.loaded = asyncio.Event()
        self.core = Core(settings, logs, spare, meanwhile=self._load)
        self.services = self.core.services
        self._stack = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Raises the error of the part that cannot start; nothing is left running then."""
        async with contextlib.AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        services, settings = self.services, self.settings
        # A daemon that runs already, or a port in use, is reported at once, and nothing was touched then.
        self.core.own()
        for place in (paths.config_file().parent, paths.config_file(), paths.state_dir()):
            private.close(place)
        stack.callback(self.core.disown)
        listener = _listen(settings.host, settings.port)
        stack.callback(listener.close)
        services.http_url = _url(settings.host, listener)
        await stack.enter_async_context(self.core)

        control = ControlServer(services, settings.socket, self.stopping.set)
        await control.start()
        stack.push_async_callback(control.stop)
        server = _Server(self._uvicorn())
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        stack.push_async_callback(self._end_http, server, serving)
        while not server.started:
            if serving.done():
                await serving
                raise CannotListen("The HTTP server ended while it started.", "The log says why.")
            await asyncio.sleep(0.001)
        services.stalls.start()  # what comes before is the start itself
        stack.callback(services.stalls.stop)

    async def stop(self) -> None:
        """End everything in order. Runs that are live end as cancelled, and are stored so."""
        await self._stack.aclose()

    async def serve(self) -> None:
        """Wait until a client asks the daemon to stop (or the task is cancelled)."""
        await self.stopping.wait()

    # -- parts

    def _uvicorn(self) -> uvicorn.Config:
        return uvicorn.Config(
            http.build(self.services),
            http=PatientProtocol,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=3,
            # Clients keep a connection for 4 or 5 seconds: a server that gives up after as many closes some of them
            # just when the next request is on its way.
            timeout_keep_alive=75,
            ws_max_size=self.settings.max_body_mb << 20,
        )

    async def _end_http(self, server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
        # Runs first: their streams end with their terminal event instead of a broken connection.
        await self.services.runs.close()
        server.should_exit = True
        await serving

    async def _load(self) -> None:
        """Load the model that was asked for; HTTP answers 503 for it meanwhile."""
        try:
            info = await self.core.load_model()
        except SkilldeckError as error:
            log.error("the model %r cannot be loaded: %s", self.settings.model, error)
        except Exception:
            log.exception("the model %r cannot be loaded", self.settings.model)
        else:
            if info is not None:
                model = model_object(info, self.services.models.aliases)
                self.services.bus.publish("model", "put", info.name, model)
        finally:
            self.loaded.set()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the daemon's own decide the order of the end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, the protocol has asyncio send small pieces at once; else the body of an answer waits 40 ms behind its head.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        hint = "Stop what listens there, or choose another --port (0 takes a free one)."
        raise CannotListen(f"Cannot listen on {host}:{port}: {error.strerror or error}.", hint) from error
    return listener


def _url(host: str, listener: socket.socket) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}/v1"
