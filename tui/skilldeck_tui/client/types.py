"""What the client of the control socket hands out and raises, and how it is made from the wire's messages.

OpenAI objects are plain dicts (`Object`), exactly as HTTP gives them; the rest are frozen dataclasses. Importing this
loads nothing of gRPC: what only shows such objects starts without it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from skilldeck_shared.errors import SkilldeckError, Unavailable

if TYPE_CHECKING:
    from skilldeck_shared.proto import control_pb2 as pb

Object = dict[str, Any]
Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) as an upload goes on."""

TERMINAL_EVENTS = frozenset(
    {"response.completed", "response.failed", "response.incomplete", "response.cancelled", "error"}
)


def unsupported(response: Object) -> list[str]:
    """What a response says that stands in nothing its run has read, each once (`skilldeck.ungrounded`)."""
    places = (response.get("skilldeck") or {}).get("ungrounded") or []
    return list(dict.fromkeys(str(place["text"]) for place in places))


class DaemonUnreachable(Unavailable):
    """Nobody answers on the control socket."""

    code = "daemon_unreachable"


class ConnectionLost(DaemonUnreachable):
    """The daemon went away in the middle of a call; whether the call took effect is unknown."""

    code = "connection_lost"


class VersionMismatch(SkilldeckError):
    """The daemon is another release than this client."""

    code = "version_mismatch"


@dataclass(frozen=True)
class Hello:
    version: str
    instance: str
    http_url: str
    pid: int
    data_dir: str


@dataclass(frozen=True)
class Page:
    data: list[Object]
    has_more: bool = False


@dataclass(frozen=True)
class Snapshot:
    """Everything a subscriber shows, at one moment; the shapes are in control.proto."""

    instance: str
    status: Object = field(default_factory=dict)
    skills: list[Object] = field(default_factory=list)
    files: list[Object] = field(default_factory=list)
    runs: list[Object] = field(default_factory=list)
    sessions: list[Object] = field(default_factory=list)
    containers: list[Object] = field(default_factory=list)
    approvals: list[Object] = field(default_factory=list)
    models: list[Object] = field(default_factory=list)
    disk_skills: list[Object] = field(default_factory=list)


@dataclass(frozen=True)
class Change:
    """One object is new or different (`put`, with the whole object) or gone (`delete`, object is None)."""

    topic: str
    action: Literal["put", "delete"]
    id: str
    object: Object | None = None


@dataclass(frozen=True)
class Link:
    """The state of the connection, between the updates of `Client.follow`."""

    state: Literal["connected", "lost"]
    attempt: int = 0
    error: SkilldeckError | None = None


@dataclass(frozen=True)
class RunEvent:
    """`data` is the event as HTTP streams it; `time` is when it happened, in unix seconds."""

    run_id: str
    sequence: int
    type: str
    data: Object
    time: float = 0.0

    @property
    def terminal(self) -> bool:
        return self.type in TERMINAL_EVENTS


@dataclass(frozen=True)
class RunDetail:
    """`timeline` is {times, spans}; see control.proto."""

    response: Object
    input: list[Object]
    timeline: Object


@dataclass(frozen=True)
class UploadedSkill:
    """`unchanged`: the content equals the latest version's, and no version was made. `left_out` says of which files
    of the folder a person should hear that they were not sent."""

    skill: Object
    version: Object
    unchanged: bool = False
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class LogRecord:
    time: float
    level: str
    logger: str
    message: str


@dataclass(frozen=True)
class LoadProgress:
    """`model` is set once, in the last one."""

    fraction: float
    stage: str
    model: Object | None = None


def parse(text: str) -> Object:
    value: Object = json.loads(text) if text else {}
    return value


def objects(reply: pb.JsonList) -> list[Object]:
    return [parse(text) for text in reply.json]


def _all(texts: Iterable[str]) -> list[Object]:
    return [parse(text) for text in texts]


def data(message: pb.Data) -> bytes:
    return message.data


def update(message: pb.Update) -> Snapshot | Change:
    if message.WhichOneof("kind") == "snapshot":
        s = message.snapshot
        return Snapshot(
            s.instance, parse(s.status_json), _all(s.skills_json), _all(s.files_json), _all(s.runs_json),
            _all(s.sessions_json), _all(s.containers_json), _all(s.approvals_json), _all(s.models_json),
            _all(s.disk_skills_json),
        )  # fmt: skip
    c = message.change
    return Change(c.topic, "delete" if c.action == "delete" else "put", c.id, parse(c.json) if c.json else None)


def run_event(message: pb.RunEvent) -> RunEvent:
    return RunEvent(message.run_id, message.sequence, message.type, parse(message.json), message.time)


def load_progress(message: pb.LoadProgress) -> LoadProgress:
    return LoadProgress(message.fraction, message.stage, parse(message.model_json) if message.model_json else None)
