"""What a person has sent, the newest last: kept in a file of the state directory, for the next time too.

Losing it costs nothing but comfort, so nothing here raises; a damaged line is left out.
"""

from __future__ import annotations

import json
from pathlib import Path

from skilldeck_shared import private

MOST = 500
LONGEST = 20_000


class History:
    """`path` None: kept only as long as the program runs."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._entries: list[str] | None = None
        self._at: int | None = None  # what is shown, while a person goes through it
        self._draft = ""

    @property
    def entries(self) -> list[str]:
        if self._entries is None:
            self._entries = self._read()
        return self._entries

    def _read(self) -> list[str]:
        try:
            lines = self._path.read_text("utf-8").splitlines() if self._path is not None else []
        except (OSError, UnicodeDecodeError):
            return []
        found = []
        for line in lines[-MOST:]:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, str):
                found.append(entry)
        return found

    def add(self, text: str) -> None:
        """Keep a message that was sent; one that is sent again moves to the end."""
        self._at = None
        if not text or len(text) > LONGEST:
            return
        known = self.entries
        again = text in known
        if again:
            known.remove(text)
        known.append(text)
        whole = again or len(known) > MOST
        del known[:-MOST]
        if self._path is None:
            return
        try:
            private.folder(self._path.parent)
            private.file(self._path)
            with self._path.open("w" if whole else "a", encoding="utf-8") as file:
                file.writelines(json.dumps(entry) + "\n" for entry in (known if whole else [text]))
        except OSError:
            pass

    def step(self, step: int, text: str) -> str | None:
        """The message before (-1) or after (1) the one that is shown; past the newest, what was being written.

        None: there is no other.
        """
        known = self.entries
        if self._at is None:
            if step > 0 or not known:
                return None
            self._draft, self._at = text, len(known)
        at = self._at + step
        if at < 0:
            return None
        if at >= len(known):
            self._at = None
            return self._draft
        self._at = at
        return known[at]

    def shows(self, text: str) -> bool:
        """Whether a person goes through it and has not changed what it gave."""
        return self._at is not None and self._at < len(self.entries) and self.entries[self._at] == text
