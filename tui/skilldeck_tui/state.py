"""What the daemon holds, as the client last heard it.

`DaemonState` mirrors one `Snapshot` and the `Change`s after it; a new snapshot replaces everything, so a reconnect
needs no merging. Watched folders, which only this client knows, are kept beside it. `apply` returns the topics that
changed; nothing here draws, waits or calls the daemon.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.client.types import Change, Link, Snapshot
from skilldeck_tui.text.format import count

if TYPE_CHECKING:
    from skilldeck_tui.watching.folder import WatchState

Object = dict[str, Any]
TOPICS = ("skill", "file", "run", "session", "container", "approval", "model")
LinkState = Literal["connecting", "connected", "degraded", "recovered", "stuck"]
STUCK_ATTEMPTS = 8
"""Attempts to reconnect after which the banner says that somebody must act (about ten seconds)."""
HISTORY = 120
BUSY = frozenset({"queued", "in_progress"})

ON_CARD = ("exllamav2", "exllamav3")
"""Engines whose models lie in a graphics card's memory, not the machine's."""


@dataclass
class Sample:
    """One second of the daemon, for sparklines."""

    tokens_per_s: float = 0.0
    cache_used: float = 0.0
    memory_used: float = 0.0


@dataclass
class DaemonState:
    """Objects by topic and id, the status, the link and the watched folders."""

    clock: Callable[[], float] = time.time
    instance: str = ""
    status: Object = field(default_factory=dict)
    objects: dict[str, dict[str, Object]] = field(default_factory=lambda: {topic: {} for topic in TOPICS})
    watches: dict[Path, WatchState] = field(default_factory=dict)
    disk: list[Object] = field(default_factory=list)  # skills on disk, when they were last looked for
    history: deque[Sample] = field(default_factory=lambda: deque(maxlen=HISTORY))
    link: LinkState = "connecting"
    link_error: SkilldeckError | None = None
    fatal: bool = False
    loaded: bool = False

    # ------------------------------------------------------------ changes

    def apply(self, update: Link | Snapshot | Change) -> set[str]:
        if isinstance(update, Link):
            return self._linked(update)
        if isinstance(update, Snapshot):
            return self._replace(update)
        if update.topic == "status":
            self.status = update.object or {}
            return {"status"}
        topic = self.objects.setdefault(update.topic, {})
        if update.action == "delete":
            topic.pop(update.id, None)
        elif update.object is not None:
            topic[update.id] = update.object
        return {update.topic}

    def _replace(self, snapshot: Snapshot) -> set[str]:
        lists = (
            snapshot.skills, snapshot.files, snapshot.runs, snapshot.sessions, snapshot.containers,
            snapshot.approvals, snapshot.models,
        )  # fmt: skip
        self.instance = snapshot.instance
        self.status = snapshot.status
        self.objects = {
            topic: {obj["id"]: obj for obj in objects} for topic, objects in zip(TOPICS, lists, strict=True)
        }
        self.loaded = True
        return {*TOPICS, "status", "link"}

    def _linked(self, link: Link) -> set[str]:
        if link.state == "connected":
            self.link = "recovered" if self.link in ("degraded", "stuck") else "connected"
            self.link_error = None
        elif self.loaded or link.attempt > STUCK_ATTEMPTS:
            self.link = "stuck" if link.attempt > STUCK_ATTEMPTS else "degraded"
            self.link_error = link.error
        return {"link"}

    def give_up(self, error: SkilldeckError) -> None:
        """No use in trying again: another release, or a refusal."""
        self.link, self.link_error, self.fatal = "stuck", error, True

    def settle(self) -> None:
        """The good news has been shown long enough."""
        if self.link == "recovered":
            self.link = "connected"

    def sample(self) -> None:
        """Keep one second of rates."""
        models = self.engines
        self.history.append(
            Sample(
                sum(float(m.get("tokens_per_s") or 0) for m in models),
                max((float(m.get("cache_used") or 0) for m in models), default=0.0),
                max((self.memory_share(m) for m in models), default=0.0),
            )
        )

    # ------------------------------------------------------------ questions

    @property
    def connected(self) -> bool:
        return self.link in ("connected", "recovered")

    @property
    def skills(self) -> list[Object]:
        return sorted(self.objects["skill"].values(), key=lambda s: str(s.get("name", "")))

    @property
    def files(self) -> list[Object]:
        return sorted(self.objects["file"].values(), key=lambda f: (-int(f.get("created_at") or 0), f["id"]))

    @property
    def runs(self) -> list[Object]:
        """Newest first."""
        return sorted(self.objects["run"].values(), key=lambda r: (-int(r.get("created_at") or 0), r["id"]))

    @property
    def containers(self) -> list[Object]:
        return sorted(self.objects["container"].values(), key=lambda c: (-int(c.get("created_at") or 0), c["id"]))

    @property
    def approvals(self) -> list[Object]:
        """Pending ones, oldest first."""
        return sorted(self.objects["approval"].values(), key=lambda a: (int(a.get("created_at") or 0), a["id"]))

    @property
    def models(self) -> list[Object]:
        return sorted(self.objects["model"].values(), key=lambda m: str(m["id"]))

    @property
    def engines(self) -> list[Object]:
        """The models of the status, with their rates."""
        return list(self.status.get("models") or [])

    @property
    def default_model(self) -> str:
        """What "default" stands for, empty while nothing is loaded."""
        return str(self.status.get("default_model") or "")

    @staticmethod
    def memory_share(model: Object) -> float:
        total = float(model.get("device_memory_total") or 0)
        return float(model.get("device_memory_used") or 0) / total if total else 0.0

    def get(self, topic: str, id_: str) -> Object | None:
        return self.objects.get(topic, {}).get(id_)

    def skill_watch(self, skill: Object) -> WatchState | None:
        """The watched folder that feeds a skill; one whose SKILL.md was broken from the start is known by its path."""
        for folder, watch in self.watches.items():
            known = watch.skill_id or watch.name
            if known and known in (skill["id"], skill.get("name")):
                return watch
            if not known and skill.get("source") == str(folder):
                return watch
        return None


def model_note(model: Object) -> str:
    """What distinguishes a model from another: its engine, its context, its size."""
    context, parameters = model.get("context"), model.get("parameters")
    parts = [str(model.get("engine") or ""), f"context {count(float(context))}" if context else ""]
    parts.append(f"{count(float(parameters))} parameters" if parameters else "")
    return " · ".join(part for part in parts if part)


def session_of(run: Object) -> str:
    """The id of the conversation a run belongs to, empty when it belongs to none."""
    conversation = run.get("conversation")
    return str(conversation.get("id") or "") if isinstance(conversation, dict) else str(conversation or "")


def container_title(state: DaemonState, container: Object) -> str:
    """What a person knows a container by: its own name, or the session (else the question) it was made for."""
    name = str(container.get("name") or container["id"])
    run = state.get("run", name.removeprefix("auto-"))
    if run is None:
        return name
    session = state.get("session", session_of(run)) or {}
    return str((session.get("metadata") or {}).get("title") or run.get("title") or name)
