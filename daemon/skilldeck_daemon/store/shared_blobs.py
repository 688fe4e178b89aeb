"""Blobs that several daemons share: an object store behind fsspec (S3 and what speaks its API), a folder as its cache.

    SharedBlobs(folder, "s3://bucket/prefix")

The contract is that of `Blobs`: what `put` returned from is in the object store. Reads come from the folder; what is
not there is fetched once, and its digest is checked like that of every blob. Only the object store counts: the folder
may be lost. Credentials and endpoint are those of the library (AWS_… variables, AWS_ENDPOINT_URL).
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from skilldeck_daemon.store.blobs import GRACE_SECONDS, Blobs
from skilldeck_daemon.store.faults import StoreUnavailable
from skilldeck_daemon.store.ids import steady
from skilldeck_daemon.store.room import Room
from skilldeck_shared.errors import Unavailable


class SharedBlobs(Blobs):
    """See the module. `url` names a bucket or folder, with a prefix."""

    def __init__(self, root: Path, url: str, room: Room | None = None) -> None:
        super().__init__(root, room)
        self.url = url
        self._fs: Any = None
        self._base = ""

    def prepare(self) -> None:
        super().prepare()
        self._connect()

    def _connect(self) -> None:
        if self._fs is not None:
            return
        try:
            from fsspec.core import url_to_fs

            self._fs, self._base = url_to_fs(self.url, use_listings_cache=False)
            self._base = self._base.rstrip("/")
            with self._faults():
                self._fs.find(self._base, maxdepth=1)
        except (ImportError, ValueError) as error:
            raise Unavailable(
                f"blobs_url {self.url!r} cannot be used: {error}.",
                "Install what it needs: pip install 'skilldeck[daemon,scale]'.",
                code="store_unavailable",
            ) from error

    def _key(self, sha256: str) -> str:
        return f"{self._base}/{sha256[:2]}/{sha256}"

    # -- what differs from a folder

    def require(self, sha256: str) -> Path:
        if not self.path(sha256).exists():
            self._obtain(sha256)
        return super().require(sha256)

    def _obtain(self, sha256: str) -> None:
        """Fetch it into the folder; an object that is not there leaves nothing, and `require` raises."""
        self._connect()
        partial = self.temporary / secrets.token_hex(12)
        try:
            with self._faults(), contextlib.suppress(FileNotFoundError):
                self._fs.get_file(self._key(sha256), str(partial))
                self.path(sha256).parent.mkdir(parents=True, exist_ok=True)
                partial.chmod(0o444)
                os.replace(partial, self.path(sha256))
        finally:
            partial.unlink(missing_ok=True)

    def _keep(self, sha256: str) -> None:
        with self._faults():
            self._fs.put_file(str(self.path(sha256)), self._key(sha256))

    def _touch(self, sha256: str) -> bool:
        """Whether the object store has it, counting as new: an old object is written again."""
        try:
            with self._faults():
                age = steady() - _modified(self._fs.info(self._key(sha256)))
            if age > GRACE_SECONDS / 2:
                self.require(sha256)
                self._keep(sha256)
        except FileNotFoundError:
            return False
        return True

    def each(self) -> Iterator[tuple[str, int]]:
        self._connect()
        with self._faults():
            found = self._fs.find(self._base, detail=True)
        for key, state in sorted(found.items()):
            yield key.rsplit("/", 1)[-1], int(state["size"])

    def sound(self, sha256: str) -> bool:
        # What the object store has, not the folder's copy of it.
        self.path(sha256).unlink(missing_ok=True)
        self._obtain(sha256)
        return super().sound(sha256)

    def _delete(self, keep: set[str], before: float) -> int:
        freed = super()._delete(keep, before)
        with self._faults():
            found = self._fs.find(self._base, detail=True)
            for key, state in found.items():
                if key.rsplit("/", 1)[-1] not in keep and _modified(state) <= before:
                    self._fs.rm_file(key)
                    freed += int(state["size"])
        return freed

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """What the object store refuses; FileNotFoundError stays what it is."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            # The libraries behind fsspec have no common base for their errors.
            raise StoreUnavailable(
                f"The blob store {self.url} does not answer: {error}.", "Try again when it does; nothing was stored."
            ) from error


def _modified(state: dict[str, Any]) -> float:
    """Unix seconds at which an object was written: S3 says LastModified, a folder mtime."""
    when = state.get("LastModified") or state.get("mtime") or state.get("created")
    return when.timestamp() if isinstance(when, datetime) else float(when or 0)
