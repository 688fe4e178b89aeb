"""What engines with a thread of their own have in common: the way of requests to it, and its life.

The thread owns the model and every request; the event loop only hands requests over (`accept`), cancels them, and
receives events through the mailbox. A subclass says what the thread does (`_serve`) and how requests end (`_end`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from skilldeck_daemon.engine.base import FinishReason, GenRequest
from skilldeck_daemon.engine.errors import EngineBusy, EngineDead, NotLoaded
from skilldeck_daemon.engine.handle import Handle, Mailbox
from skilldeck_shared.errors import BadRequest


class Closes(Protocol):
    def close(self) -> None: ...


class Asked(Protocol):
    """One request on the thread."""

    @property
    def request(self) -> GenRequest: ...

    @property
    def handle(self) -> Handle: ...


M = TypeVar("M", bound=Closes)
J = TypeVar("J", bound=Asked)


class ThreadedEngine(Generic[M, J]):
    """M: the model the thread owns; J: a request on it."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._inbox: list[J] = []
        self._cancelled: set[str] = set()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._known: dict[str, Handle] = {}  # accepted and not finished; guarded by _wake
        self._model: M | None = None
        self._dead: Exception | None = None
        self._mail = Mailbox()

    async def _start(self, make: Callable[[Callable[[], bool]], M]) -> M:
        """Make the model on a new thread, which serves it from then on; `make` is told how to ask whether to give up.
        Raises what `make` raises."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[M] = loop.create_future()
        self._stopping, self._dead = False, None
        self._thread = threading.Thread(target=self._main, args=(make, loop, done), name="engine", daemon=True)
        self._thread.start()
        self._model = await done
        return self._model

    def _main(
        self, make: Callable[[Callable[[], bool]], M], loop: asyncio.AbstractEventLoop, done: asyncio.Future[M]
    ) -> None:
        def settle(result: M | None, error: Exception | None) -> None:
            if not done.done():
                if error is not None:
                    done.set_exception(error)
                elif result is not None:
                    done.set_result(result)

        try:
            model = make(lambda: self._stopping)
        except Exception as error:
            loop.call_soon_threadsafe(settle, None, error)
            return
        loop.call_soon_threadsafe(settle, model, None)
        try:
            self._serve(model)
        except Exception as error:  # a fault of the scheduler itself: nobody may hang on it
            self._dead = error
            self._end(EngineDead(f"The engine stopped: {error}."), "error")
            raise
        finally:
            self._mail.flush()
            model.close()

    def _loaded(self) -> M:
        """The model; raises NotLoaded, EngineDead."""
        if self._dead is not None:
            raise EngineDead(f"The engine stopped: {self._dead}.", "It restarts when the model is loaded again.")
        if self._model is None or self._stopping:
            raise NotLoaded("No model is loaded.")
        return self._model

    def _accept(self, job: J, most: int) -> Handle:
        """Hand a request over; raises EngineBusy when `most` are running or waiting, BadRequest."""
        name = job.request.id
        with self._wake:
            if name in self._known:
                raise BadRequest(f"Request {name} is already running.")
            if len(self._known) >= most:
                raise EngineBusy(
                    f"{len(self._known)} requests are running or waiting, the most this engine takes.",
                    "Try again in a moment.",
                )
            self._known[name] = job.handle
            self._inbox.append(job)
            self._wake.notify()
        return job.handle

    def cancel(self, request_id: str) -> None:
        with self._wake:
            if request_id in self._known:
                self._cancelled.add(request_id)
                self._interrupt(request_id)
                self._wake.notify()

    async def unload(self) -> None:
        """Ends requests in flight as cancelled and frees the model."""
        thread, self._thread = self._thread, None
        with self._wake:
            self._stopping = True
            self._interrupt(None)
            self._wake.notify()
        if thread is not None:
            await asyncio.to_thread(thread.join)
        self._model = None

    def _interrupt(self, request_id: str | None) -> None:
        """End what is computed for a request that is cancelled, or for any; under `_wake`."""

    # ------------------------------------------------------------ on the thread

    def _news(self, busy: Callable[[], bool]) -> tuple[list[J], set[str], bool]:
        """New requests, what was cancelled, whether to stop; waits for any of these unless `busy`."""
        with self._wake:
            while not (self._inbox or self._cancelled or self._stopping or busy()):
                self._wake.wait()
            new, self._inbox = self._inbox, []
            cancelled, self._cancelled = self._cancelled, set()
            return new, cancelled, self._stopping

    def _left(self, job: J) -> None:
        """A request has had its last event."""
        with self._wake:
            self._known.pop(job.request.id, None)
            self._cancelled.discard(job.request.id)

    def _serve(self, model: M) -> Any:
        """Until it is to stop; everything has ended then."""
        raise NotImplementedError

    def _end(self, error: Exception | None, reason: FinishReason) -> None:
        """End every request, those in the inbox too."""
        raise NotImplementedError
