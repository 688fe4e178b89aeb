"""What the daemon acknowledged, and whether it still has it.

An object is entered when the daemon's answer has been read, and struck out when the answer to its deletion has been.
What was in flight when the daemon died is unknown and not entered; of a deletion in flight either outcome is right.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

Kind = Literal["response", "file", "skill"]
ENDED = ("completed", "failed", "cancelled", "incomplete")


@dataclass
class Entry:
    """`final` is the whole object once it cannot change any more; `content` a file's bytes."""

    kind: Kind
    id: str
    final: dict[str, Any] | None = None
    content: bytes = b""
    versions: int = 0
    state: Literal["there", "leaving", "gone"] = "there"


@dataclass
class Ledger:
    entries: dict[str, Entry] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    checked: int = 0

    def add(self, entry: Entry) -> Entry:
        return self.entries.setdefault(entry.id, entry)

    def some(self, kind: Kind, source: random.Random) -> Entry | None:
        """Any that is there."""
        there = [entry for entry in self.entries.values() if entry.kind == kind and entry.state == "there"]
        return source.choice(there) if there else None

    async def check(self, client: httpx.AsyncClient, entry: Entry) -> None:
        """Ask for it; what is wrong goes into `lost`. Only when no run is live."""
        self.checked += 1
        answer = await client.get(f"/v1/{entry.kind}s/{entry.id}")
        if entry.state == "gone" or (entry.state == "leaving" and answer.status_code == 404):
            self._expect(answer.status_code == 404, entry, "is there again after its deletion")
            return
        if not self._expect(answer.status_code == 200, entry, f"answers {answer.status_code}"):
            return
        found = answer.json()
        if entry.kind == "response":
            self._expect(found["status"] in ENDED, entry, f"is {found['status']} and no run is live")
            if entry.final is not None:
                self._expect(found == entry.final, entry, f"changed: {entry.final} became {found}")
            entry.final = found
        elif entry.kind == "file":
            content = await client.get(f"/v1/files/{entry.id}/content")
            self._expect(content.content == entry.content, entry, "has other content")
        else:
            self._expect(int(found["latest_version"]) >= entry.versions, entry, f"lacks version {entry.versions}")

    def _expect(self, holds: bool, entry: Entry, what: str) -> bool:
        if not holds:
            self.lost.append(f"{entry.kind} {entry.id} {what}")
        return holds
