"""The files below a folder that `@` finds, as a person works with them: without what `.gitignore` and `.skillignore`
name, packages, caches and hidden files. Reads directories: blocks.

A listing is bounded in number and time, nearest files first, so that a home directory answers as soon as a project, and
is kept for a moment: each letter asks again.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from functools import lru_cache
from pathlib import Path

from skilldeck_shared.skills.ignore import Ignoring

MOST = 20_000
SECONDS = 0.4
KEPT_SECONDS = 3.0


def below(folder: Path) -> tuple[str, ...]:
    """Paths relative to `folder`, those of folders with a slash at their end; nearest first."""
    return _below(folder, int(time.monotonic() / KEPT_SECONDS))


@lru_cache(maxsize=4)
def _below(folder: Path, moment: int) -> tuple[str, ...]:
    found: list[str] = []
    waiting = deque([("", Ignoring())])
    until = time.monotonic() + SECONDS
    while waiting and len(found) < MOST and time.monotonic() < until:
        prefix, above = waiting.popleft()
        rules = above.below(folder / prefix, prefix)
        try:
            with os.scandir(folder / prefix) as entries:
                listing = sorted(entries, key=lambda entry: entry.name.lower())
        except OSError:
            continue
        for entry in listing:
            path, is_folder = prefix + entry.name, entry.is_dir(follow_symlinks=False)
            if entry.name.startswith(".") or rules.leaves_out(path, folder=is_folder):
                continue
            found.append(f"{path}/" if is_folder else path)
            if is_folder:
                waiting.append((f"{path}/", rules))
    return tuple(found[:MOST])


def matching(word: str, paths: tuple[str, ...], limit: int) -> list[str]:
    """Those that hold the letters of the word in their order, the nearest match first: by name, then anywhere."""
    low = word.lower()
    letters = re.compile(".*?".join(map(re.escape, low)))
    scored = []
    for at, path in enumerate(paths):
        lower = path.lower()
        if letters.search(lower) is None:
            continue
        name = lower.rstrip("/").rpartition("/")[2]
        if name.startswith(low):
            rank = 0
        elif low in name:
            rank = 1
        elif low in lower:
            rank = 2
        else:
            rank = 3 if letters.search(name) else 4
        scored.append((rank, path.count("/"), len(path), at, path))
    return [path for *_, path in sorted(scored)[:limit]]
