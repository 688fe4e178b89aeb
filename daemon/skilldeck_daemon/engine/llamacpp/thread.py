"""What engines with a thread of their own have in common: the way of requests to it, and its life.

The thread owns the model and every request; the event loop only hands requests over (`accept`), cancels them, and
receives events through the mailbox. A subclass says what is computed at once (`_step`), which requests are under way,
and how one ends (`_finish`).
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

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


class ThreadedEngine(ABC, Generic[M, J]):
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
        # The rest belongs to the thread.
        self._waiting: deque[J] = deque()
        self._mail = Mailbox()

    async def _start(self, make: Callable[[Callable[[], bool]], M]) -> M:
        """Make the model on a new thread, which serves it from then on. `make` is given a way to ask whether to give
        up; what it raises is raised here."""
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

    def _serve(self, model: M) -> None:
        """Until it is to stop; everything has ended then."""
        while True:
            with self._wake:
                while not (self._inbox or self._cancelled or self._stopping or self._waiting or self._under_way()):
                    self._wake.wait()
                self._waiting.extend(self._inbox)
                self._inbox.clear()
                cancelled, self._cancelled = self._cancelled, set()
                stopping = self._stopping
            if stopping:
                self._end(None, "cancelled")
                return
            for job in [job for job in [*self._waiting, *self._under_way()] if job.request.id in cancelled]:
                self._finish(job, "cancelled")
            self._step(model)
            self._mail.flush()

    def _end(self, error: Exception | None, reason: FinishReason) -> None:
        """End every request, those in the inbox too."""
        with self._wake:
            self._waiting.extend(self._inbox)
            self._inbox.clear()
        for job in [*self._waiting, *self._under_way()]:
            self._finish(job, reason, error)
        self._mail.flush()

    def _left(self, job: J) -> None:
        """A request has had its last event."""
        with self._wake:
            self._known.pop(job.request.id, None)
            self._cancelled.discard(job.request.id)

    @abstractmethod
    def _under_way(self) -> list[J]:
        """Requests that were begun and have not ended."""

    @abstractmethod
    def _step(self, model: M) -> None:
        """Begin what can be begun of those that wait, and compute the next piece; what fails ends its requests."""

    @abstractmethod
    def _finish(self, job: J, reason: FinishReason, error: Exception | None = None) -> None:
        """The one place where a request ends, waiting or under way; `_left` is its last act."""
