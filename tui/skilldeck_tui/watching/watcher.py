"""Watching skill folders: every save becomes a version, for the TUI and for `skilldeck watch`.

    watcher = FolderWatcher(client, on_state=show)
    watcher.add(Path("csv-summary"))
    await watcher.run()                      # until cancelled

File events say only "dirty": they are unordered, a created directory does not list its children, and a root that is
deleted goes silent for ever. `watch_folder.Folder` decides by scanning. All folders share two watching threads, one
for the folders and one for their parents (which see a folder go and come back); a look at every folder each
`LOOK_SECONDS` catches what file events miss (network file systems, a renamed parent). No state is lost: `on_state` is
called in order for each folder, and `states` always holds the last one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

from watchfiles import Change, awatch

from skilldeck_shared.paths import expanded
from skilldeck_shared.skills.bundle import ignored
from skilldeck_shared.skills.ignore import FOLDERS
from skilldeck_tui.client.client import Client
from skilldeck_tui.client.types import Link, Snapshot
from skilldeck_tui.watching.folder import Folder, WatchState, identify

log = logging.getLogger(__name__)

STEP_MS = 25
"""A save is noticed after about two steps."""
GROUP_MS = 100
LOOK_SECONDS = 1.0
CONCURRENT_UPLOADS = 2

__all__ = ["FolderWatcher", "WatchState"]


class FolderWatcher:
    """Watches any number of folders over one client.

    Args:
        client: shared with others; the watcher never closes it.
        on_state: called at each change of a folder's state, in the event loop; must not block.
        make_default: make every version that watching makes the default one at once.
    """

    def __init__(
        self, client: Client, *, on_state: Callable[[WatchState], None] | None = None, make_default: bool = False
    ) -> None:
        self._client = client
        self._on_state = on_state
        self._make_default = make_default
        self._folders: dict[Path, Folder] = {}
        self._tasks: dict[Path, asyncio.Task[None]] = {}
        self._uploads = asyncio.Semaphore(CONCURRENT_UPLOADS)
        self._changed = asyncio.Event()
        self._replaced = 0
        self._queues: set[asyncio.Queue[WatchState]] = set()
        self._running = False

    @property
    def states(self) -> dict[Path, WatchState]:
        """The state of every watched folder, by its absolute path."""
        return {path: folder.state for path, folder in self._folders.items()}

    def add(self, folder: Path) -> Path:
        """Watch a folder; one that does not exist (yet) is `gone` until it does. Returns its absolute path."""
        # Not resolved: a link that is pointed at another folder is followed to the new one.
        path = expanded(folder).absolute()
        if path not in self._folders:
            self._folders[path] = Folder(
                path, self._client, self._uploads, self._publish, make_default=self._make_default
            )
            if self._running:
                self._start(path)
            self._wake()
        return path

    async def remove(self, folder: Path) -> None:
        """Stop watching; versions stay."""
        path = expanded(folder).absolute()
        if self._folders.pop(path, None) is not None:
            await _cancel([task for task in [self._tasks.pop(path, None)] if task is not None])
            self._wake()

    def recheck(self) -> None:
        """Compare every folder with the daemon again; for when the daemon was restarted or replaced."""
        for folder in self._folders.values():
            folder.recheck()

    def saved(self, folder: Path) -> None:
        """Look at a folder now, without waiting for its file event."""
        path = expanded(folder).absolute()
        if path in self._folders:
            self._folders[path].dirty()

    async def updates(self) -> AsyncIterator[WatchState]:
        """Every state from now on, beginning with the present ones."""
        queue: asyncio.Queue[WatchState] = asyncio.Queue()
        self._queues.add(queue)
        try:
            for state in list(self.states.values()):
                yield state
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)

    async def run(self) -> None:
        """Watch until cancelled."""
        self._running = True
        for path in self._folders:
            self._start(path)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch(parents=False))
                group.create_task(self._watch(parents=True))
                group.create_task(self._look())
        finally:
            self._running = False
            tasks, self._tasks = list(self._tasks.values()), {}
            await _cancel(tasks)

    async def follow_daemon(self) -> None:
        """Recheck whenever another instance of the daemon answers. For callers that do not follow it themselves."""
        instance = ""
        async for update in self._client.follow():
            if isinstance(update, Snapshot):
                if instance and update.instance != instance:
                    self.recheck()
                instance = update.instance
            elif isinstance(update, Link) and update.state == "lost" and update.attempt == 1:
                log.info("the daemon is away")

    # ------------------------------------------------------------ inside

    def _start(self, path: Path) -> None:
        self._tasks[path] = asyncio.create_task(self._folders[path].run())

    def _publish(self, state: WatchState) -> None:
        if state.state == "gone":
            self._wake(replaced=True)
        for queue in self._queues:
            queue.put_nowait(state)
        if self._on_state is not None:
            self._on_state(state)

    async def _watch(self, *, parents: bool) -> None:
        """Mark folders dirty on events below them (or, for `parents`, on their own coming and going)."""
        polling = False
        while True:
            roots = self._parents() if parents else self._present()
            stop = asyncio.Event()
            waiting = asyncio.create_task(self._stop_when_changed(stop, parents))
            try:
                if not roots:
                    await stop.wait()
                    continue
                # What happened before the watch was in place has sent no event.
                self._mark(self._folders)
                async for events in awatch(
                    *roots,
                    watch_filter=None if parents else self._relevant,
                    debounce=GROUP_MS,
                    step=STEP_MS,
                    stop_event=stop,
                    recursive=not parents,
                    force_polling=polling,
                    ignore_permission_denied=True,
                ):
                    self._mark(self._touched(events, parents))
            except OSError as error:
                # A root vanished while the watch was made, or inotify's limits are reached: polling has none.
                log.warning("watching by events failed (%s); polling instead", error)
                polling = all(identify(root) is not None for root in roots)
                await asyncio.sleep(0.1)
            finally:
                await _cancel([waiting])

    async def _stop_when_changed(self, stop: asyncio.Event, parents: bool) -> None:
        """Set `stop` once the set of directories to watch, or one of them, is another."""

        def identities() -> tuple[int, dict[Path, tuple[int, int] | None]]:
            return self._replaced, {root: identify(root) for root in (self._parents() if parents else self._present())}

        before = identities()
        while True:
            changed = self._changed
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await changed.wait()
            except TimeoutError:
                pass
            if identities() != before:
                stop.set()
                return

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for folder in list(self._folders.values()):
                if not folder.look():
                    self._wake()

    def _wake(self, *, replaced: bool = False) -> None:
        """Let the watching threads see that directories came or went. `replaced`: one did although its inode may be the
        same as before, since file systems hand the inode of a deleted directory to the next one."""
        self._replaced += replaced
        self._changed.set()
        self._changed = asyncio.Event()

    def _present(self) -> list[Path]:
        return sorted(path for path in self._folders if identify(path) is not None)

    def _parents(self) -> list[Path]:
        return sorted({path.parent for path in self._folders if identify(path.parent) is not None})

    def _touched(self, events: Iterable[tuple[Change, str]], parents: bool) -> set[Path]:
        paths = {Path(name) for _, name in events}
        if parents:
            touched = {path for path in self._folders if path in paths}
            if touched:
                self._wake(replaced=True)
            return touched
        touched = {path for path in self._folders if any(changed.is_relative_to(path) for changed in paths)}
        # Events of a folder that is reached through a link may carry its real path: then any may be meant.
        return touched or set(self._folders)

    def _relevant(self, _: Change, name: str) -> bool:
        """Whether an event can change a bundle: not for swap files, packages, caches and version control."""
        changed = Path(name)
        for path in self._folders:
            if changed.is_relative_to(path) and changed != path:
                *folders, file = changed.relative_to(path).parts
                if ignored(file) or any(ignored(part, folder=True) or part in FOLDERS for part in (*folders, file)):
                    return False
        return True

    def _mark(self, paths: Iterable[Path]) -> None:
        for path in list(paths):
            if path in self._folders:
                self._folders[path].dirty()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
