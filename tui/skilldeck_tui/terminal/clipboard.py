"""Where a text goes that a terminal does not take into its clipboard.

Texts are copied by OSC 52, which no terminal answers: whether one takes it is known of some only. Where it is known not
to, and for a text beyond what others take, the text is kept in a file, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from skilldeck_shared import paths, private

MOST = 74_994
"""Bytes that every terminal which has OSC 52 takes: 100,000 characters of base64 with what is around them."""
WITHOUT = {"TERM": ("linux", "dumb", "vt100"), "TERM_PROGRAM": ("Apple_Terminal",)}


def keep(text: str, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The file that holds the text when the terminal's clipboard may not; None when it will do, or nothing can."""
    data = text.encode("utf-8", "replace")
    silent = any(environment.get(name) in values for name, values in WITHOUT.items())
    if not silent and len(data) <= MOST:
        return None
    path = paths.state_dir() / "copied.txt"
    try:
        private.folder(path.parent)
        path.unlink(missing_ok=True)
        private.write(path, data)
    except OSError:
        return None
    return path
