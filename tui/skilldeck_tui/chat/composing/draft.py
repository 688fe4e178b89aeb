"""A message being written: text, attached files, chosen skills and model, and the request it becomes.

Skills: none chosen means every skill of the daemon (up to `ALL_SKILLS`, the most recently made first), which is what a
person who just uploaded one expects. A model: none chosen means the daemon's default one, whichever that is by then.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skilldeck_tui.network import network
from skilldeck_tui.state import DaemonState

Object = dict[str, Any]
ALL_SKILLS = 32


@dataclass
class Attachment:
    """A file (or `lines` of it) on its way to the daemon, or there (`file_id`). `error` is for people."""

    name: str
    path: Path | None = None
    lines: tuple[int, int] | None = None
    file_id: str = ""
    size: int = 0
    sent: int = 0
    error: str = ""

    @property
    def ready(self) -> bool:
        return bool(self.file_id)


@dataclass
class Draft:
    attachments: list[Attachment] = field(default_factory=list)
    skills: list[str] = field(default_factory=list)
    model: str = ""
    allow: list[str] = field(default_factory=list)
    env: list[str] = field(default_factory=list)

    def chosen(self, state: DaemonState) -> list[Object]:
        """The skills the next request offers."""
        known = state.objects["skill"]
        if self.skills:
            return [known[id_] for id_ in self.skills if id_ in known]
        newest = sorted(known.values(), key=lambda s: (-int(s.get("created_at") or 0), str(s.get("name"))))
        return sorted(newest[:ALL_SKILLS], key=lambda s: str(s.get("name")))

    def copy(self) -> Draft:
        return replace(self, attachments=list(self.attachments), skills=list(self.skills))

    def request(self, text: str, state: DaemonState) -> Object:
        """The body of POST /v1/responses. Raises BadRequest for a variable that is not set."""
        content: list[Object] = [{"type": "input_text", "text": text}]
        files = [a for a in self.attachments if a.ready]
        content += [{"type": "input_file", "file_id": a.file_id, "filename": a.name} for a in files]
        return {
            "model": self.model or "default",
            "input": [{"type": "message", "role": "user", "content": content}],
            "tools": [{"type": "shell", "environment": self.environment(state)}],
            "truncation": "auto",  # a session goes on when its beginning no longer fits; the run's footer says so
        }

    def environment(self, state: DaemonState) -> Object:
        """What its commands run in. Raises BadRequest for a variable that is not set."""
        environment: Object = {"type": "container_auto"}
        skills = self.chosen(state)
        if skills:
            environment["skills"] = [{"type": "skill_reference", "skill_id": skill["id"]} for skill in skills]
        # Of skills that nobody chose, what config.toml grants them is not meant.
        return environment | network(
            self.allow, [str(skill["name"]) for skill in skills] if self.skills else [], self.env
        )


@dataclass
class Outgoing:
    """A message that was written: it is sent, or waits until the run of its session is over.

    `steers`: the run is to end before the model's next turn, so that the message is what that turn reads last.
    """

    text: str
    draft: Draft
    permission: str = ""
    steers: bool = False
