"""One watched skill folder: from "something changed" to a new version, or to a state that says why not.

    starting → settling → uploading → current
                   │           └──▶ offline (daemon away; tried again)
                   ├──▶ error (SKILL.md or a file is unusable: the last good version stays)
                   └──▶ gone, unreadable (recover by themselves)

A version is made only of content that two scans `QUIET` apart agree on, and that differs from what the daemon has. A
folder that changes, disappears or moves while it is uploaded leaves nothing behind in the daemon.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from skilldeck_shared.errors import Busy, SkilldeckError, Unavailable
from skilldeck_shared.skills.bundle import ChangedWhileReading, Tree, scan
from skilldeck_tui.client.client import Client
from skilldeck_tui.client.types import DaemonUnreachable
from skilldeck_tui.client.upload import Scanned, left_out, read_manifest, send_folder

log = logging.getLogger(__name__)

QUIET = 0.15
RETRY_SECONDS = (0.25, 0.5, 1.0, 2.0)
PROGRESS_STEP = 1 << 20

State = Literal["starting", "settling", "uploading", "current", "error", "gone", "unreadable", "offline"]


@dataclass(frozen=True)
class WatchState:
    """What a person is shown of one folder.

    `version` is the last one that is known to be in the daemon and stays while the state is an error; `made` says
    that reaching `current` made it (False: the daemon had this content). `done` and `total` are bytes of an upload.
    """

    folder: Path
    state: State = "starting"
    name: str = ""
    skill_id: str = ""
    version: str = ""
    made: bool = False
    done: int = 0
    total: int = 0
    error: SkilldeckError | None = None
    warnings: tuple[str, ...] = ()
    at: float = 0.0

    @property
    def line(self) -> int | None:
        """Line in SKILL.md of the error, where it has one."""
        return getattr(self.error, "line", None)

    @property
    def column(self) -> int | None:
        return getattr(self.error, "column", None)

    @property
    def text(self) -> str:
        """The state as one short line."""
        kept = f" (v{self.version} stays)" if self.version else ""
        match self.state:
            case "current":
                return f"v{self.version} ✓"
            case "uploading" if self.total:
                return f"uploading {self.done / 1024:.0f}/{self.total / 1024:.0f} KB"
            case "error":
                place = f"line {self.line}: " if self.line else ""
                return f"✗ {place}{self.error.title if self.error else 'error'}{kept}"
            case "gone":
                return f"folder gone{kept}"
            case "unreadable":
                return f"folder unreadable{kept}"
            case "offline":
                if self.error is None or isinstance(self.error, DaemonUnreachable):
                    return f"daemon away{kept}"
                return f"{self.error.title}{kept}"
            case _:
                return self.state


class Folder:
    """Drives one folder; `run` until cancelled. `dirty` may be called from anywhere in the event loop, any number of
    times: changes that come while one is handled are handled after it."""

    def __init__(
        self,
        folder: Path,
        client: Client,
        uploads: asyncio.Semaphore,
        publish: Callable[[WatchState], None],
        *,
        make_default: bool = False,
    ) -> None:
        self.folder = folder
        self.state = WatchState(folder)
        self._client = client
        self._uploads = uploads
        self._publish = publish
        self._make_default = make_default
        self._dirty = asyncio.Event()
        self._dirty.set()
        self._tree: Tree | None = None
        self._sent = ""
        self._refused = ""
        self._failures = 0
        self.identity: tuple[int, int] | None = None

    def dirty(self) -> None:
        self._dirty.set()

    def recheck(self) -> None:
        """Compare with the daemon again, which may be another one now."""
        self._sent = self._refused = ""
        self._failures = 0
        self._dirty.set()

    def look(self) -> bool:
        """Whether the folder is still the directory that was watched; marks it dirty when not, and while it is in a
        state that no file event may end (gone, unreadable, error)."""
        identity = identify(self.folder)
        same = identity == self.identity
        if not same or self.state.state in ("gone", "unreadable", "error"):
            self.dirty()
        return same

    async def run(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self._handle()
            except (Unavailable, Busy) as error:
                self._enter("offline", error=error)
                delay = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
                self._failures += 1
                try:
                    async with asyncio.timeout(delay):
                        await self._dirty.wait()
                except TimeoutError:
                    self._dirty.set()
            except Exception as error:
                # A bug of ours must not silently end the watching of this folder.
                log.exception("watching %s failed", self.folder)
                self._enter("error", error=SkilldeckError(f"Watching failed: {error!r}."))

    async def _handle(self) -> None:
        self.identity = identify(self.folder)
        if self.identity is None:
            self._enter("gone")
            return
        try:
            tree = await self._settled()
            if tree.digest == self._sent:
                self._enter("current", made=False)
                return
            if tree.digest == self._refused and self.state.state == "error":
                return
            manifest = await asyncio.to_thread(read_manifest, self.folder, tree)
            self._enter("uploading", name=manifest.name, warnings=(*map(str, manifest.warnings), *left_out(tree)))
            async with self._uploads:
                uploaded = await send_folder(
                    self._client,
                    Scanned(self.folder, tree, manifest),
                    make_default=self._make_default,
                    watched=True,
                    progress=self._progress,
                )
        except ChangedWhileReading:
            # Also what a folder that vanishes during scan or upload looks like; the next look shows which it was.
            self._dirty.set()
            await asyncio.sleep(QUIET)
        except (Unavailable, Busy):
            raise
        except SkilldeckError as error:
            self._refused = self._tree.digest if self._tree else ""
            self._enter("gone" if identify(self.folder) is None else "error", error=error)
        except OSError as error:
            reason = SkilldeckError(f"{self.folder} cannot be read: {error.strerror}.", "Check its permissions.")
            self._enter("gone" if identify(self.folder) is None else "unreadable", error=reason)
        else:
            self._sent, self._refused = tree.digest, ""
            self._failures = 0
            self._enter(
                "current",
                name=str(uploaded.skill.get("name", manifest.name)),
                skill_id=str(uploaded.skill.get("id", "")),
                version=str(uploaded.version.get("version", "")),
                made=not uploaded.unchanged,
            )

    async def _settled(self) -> Tree:
        """The folder's tree once two scans `QUIET` apart agree."""
        tree = await asyncio.to_thread(_scan, self.folder, self._tree)
        self._tree = tree
        if tree.digest == self._sent or (tree.digest == self._refused and self.state.state == "error"):
            # Known already: nothing to wait for. A save that is under way brings its own event.
            return tree
        self._enter("settling")
        while True:
            self._dirty.clear()
            await asyncio.sleep(QUIET)
            again = await asyncio.to_thread(_scan, self.folder, tree)
            self._tree = again
            if again.digest == tree.digest:
                return again
            tree = again

    def _progress(self, done: int, total: int) -> None:
        if done == total or done - self.state.done >= PROGRESS_STEP or not self.state.total:
            self._enter("uploading", done=done, total=total)

    def _enter(self, state: State, *, error: SkilldeckError | None = None, **changes: object) -> None:
        old = self.state
        if state != "uploading":
            changes |= {"done": 0, "total": 0}
        new = replace(old, state=state, error=error, at=time.time(), **changes)  # type: ignore[arg-type]
        self.state = new
        if replace(new, at=old.at, error=None) != replace(old, error=None) or str(new.error) != str(old.error):
            self._publish(new)


def _scan(folder: Path, previous: Tree | None) -> Tree:
    return scan(folder, previous, ignoring=True)


def identify(folder: Path) -> tuple[int, int] | None:
    """Device and inode of the directory; None when there is none. A folder that was renamed away and another put in
    its place differ in it."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if os.path.isdir(folder) else None
