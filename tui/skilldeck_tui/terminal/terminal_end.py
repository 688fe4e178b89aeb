"""The ends of the TUI that no key asked for: a signal, and a terminal that is gone.

SIGTERM and SIGHUP end it as ctrl+q does, the terminal as it was before. Whose terminal is gone (a closed window, a cut
SSH connection) ends too, with or without a signal: what was being written is kept, and nothing is written to a terminal
that is not there, where Textual's writer would die and whatever writes after it wait for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.app import App

GRACE_SECONDS = 5.0
"""What an end may take; after them the process is ended in the middle of it."""
LOOK_SECONDS = 2.0
"""Between two looks at a terminal whose end no signal said: the kernel wakes the waiting only for some kinds of end."""


@contextlib.contextmanager
def ends_with_terminal(app: App[None]) -> Iterator[None]:
    """While open, `app` ends with the process's terminal and by signals. Of the running event loop's thread."""
    loop = asyncio.get_running_loop()
    over = threading.Event()

    def signalled(number: int) -> None:
        # Whose shell has the terminal already would be stopped by putting it back as it was.
        for stop in (signal.SIGTTOU, signal.SIGTTIN):
            signal.signal(stop, signal.SIG_IGN)
        _end_for_certain(over, 128 + number)
        app.exit(return_code=128 + number)

    def watch() -> None:
        if _gone(over):
            _let_go(app)
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended meanwhile
                loop.call_soon_threadsafe(signalled, signal.SIGHUP)
            _end_for_certain(over, 128 + signal.SIGHUP)

    # Who ignores a signal (nohup) goes on ignoring it.
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    for number in numbers:
        loop.add_signal_handler(number, signalled, number)
    threading.Thread(target=watch, name="terminal-end", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        for number in numbers:
            loop.remove_signal_handler(number)


def _gone(over: threading.Event) -> bool:
    """Wait until there is no terminal behind standard input any more; False when `over` came first."""
    poll = select.poll()
    poll.register(sys.__stdin__.fileno(), 0)  # type: ignore[union-attr]
    while not over.is_set():
        if poll.poll(LOOK_SECONDS * 1000):
            return not over.is_set()
    return False


def _let_go(app: App[None]) -> None:
    """Write to nowhere instead of the terminal, and free whoever waits for it."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        if os.isatty(standard) or _hung_up(standard):
            os.dup2(nowhere, standard)
    os.close(nowhere)
    writer = getattr(app._driver, "_writer_thread", None)
    if writer is not None:
        with writer._queue.mutex:
            writer._queue.maxsize = 0
            writer._queue.not_full.notify_all()


def _hung_up(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)
    return bool(poll.poll(0))


def _end_for_certain(over: threading.Event, status: int) -> None:
    def end() -> None:
        if not over.wait(GRACE_SECONDS):
            os._exit(status)

    threading.Thread(target=end, name="certain-end", daemon=True).start()
