"""Cached pages of one salt kept from requests of another, in the generators of exllamav2 and exllamav3.

Both find a prompt's pages by a chain of hashes, each of a page's ids and the hash before it, and copy the beginning of
a page that they cannot take whole. So here a salted job's chain starts with its salt, and while a prompt is computed
the first pages of other salts are out of sight (the pages behind them are known by a salted hash). What the libraries
hash themselves, a first page that fills up while an answer is written, has no salt: requests without one may find it,
which beside API keys are only those of the control socket.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

from skilldeck_daemon.engine.exllama.options import PAGE

_HIDDEN = b"of another salt"


@functools.cache
def salted(base: type) -> type:
    """A library's job class with `salt`, to be set before the job is queued."""

    class Job(base):  # type: ignore[misc]
        salt = ""

        def prepare_for_queue(self, generator: Any, serial_number: int) -> None:
            super().prepare_for_queue(generator, serial_number)
            if self.salt:
                generator.has_salts = True
                for sequence in self.sequences:
                    sequence.page_hashes = _chain(self.salt, sequence)
                self.all_unique_hashes = list({each for sequence in self.sequences for each in sequence.page_hashes})

        def prefill(self, results: list[Any]) -> None:
            if not getattr(self.generator, "has_salts", False) or all(one.prefill_complete for one in self.sequences):
                super().prefill(results)
                return
            hidden = [page for page in _pages(self) if page.prev_hash is None and _salt_of(page) != self.salt]
            for page in hidden:
                page.prev_hash = _HIDDEN
            try:
                super().prefill(results)
            finally:
                for page in hidden:
                    if page.prev_hash is _HIDDEN:
                        page.prev_hash = None
            for sequence in self.sequences:
                first = sequence.allocated_pages[0]
                if not first.can_revert:  # it holds this prompt now, and not what it held before
                    first.salt = self.salt

    return Job


def _chain(salt: str, sequence: Any) -> list[bytes]:
    """The hashes of a prompt's whole pages, as the libraries continue them for those that an answer fills."""
    hashes, last = [], hashlib.sha256(salt.encode()).digest()
    for place in range(len(sequence.page_hashes)):
        ids = sequence.sequence_ids.torch_slice(place * PAGE, (place + 1) * PAGE)
        last = hashlib.blake2b(last + ids.numpy().tobytes(), digest_size=16).digest()
        hashes.append(last)
    return hashes


def _pages(job: Any) -> list[Any]:
    """All pages: the generator's own in exllamav2, a table's in exllamav3."""
    pages: list[Any] = getattr(job, "pagetable", job.generator).all_pages
    return pages


def _salt_of(page: Any) -> str:
    return getattr(page, "salt", "")
