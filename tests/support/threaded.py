"""The daemon of `support.daemon.running` on an event loop of its own thread, for tests that are not asynchronous.

with served(Turn("hi")) as daemon:
    httpx.get(daemon.url + "/models")
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from support.daemon import Running, running
from support.scripted_model import Scripted


@contextlib.contextmanager
def served(*turns: Scripted, **options: Any) -> Iterator[Running]:
    """Yields the running daemon; its objects belong to the other loop, its URL and its folders to everybody."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="daemon-under-test", daemon=True)
    thread.start()
    manager = running(*turns, **options)

    def call(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(120)

    try:
        daemon = call(manager.__aenter__())
        try:
            yield daemon
        finally:
            call(manager.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
