"""Everything a surface may call, in one object.

`core.py` builds it; `http` and `rpc` receive it and translate. Methods take and return records (`store/records.py`,
`libraries/records.py`), raise `SkilldeckError`s, and publish what changed on the bus.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from skilldeck_daemon.agent.accounts.stalls import Stalls

if TYPE_CHECKING:
    from skilldeck_daemon.agent.accounts.metrics import Metrics
    from skilldeck_daemon.agent.admission import Admission
    from skilldeck_daemon.agent.planning.plan import PlanBuilder
    from skilldeck_daemon.agent.runs import Runs
    from skilldeck_daemon.engine.hub import ModelHub
    from skilldeck_daemon.libraries.approvals import Approvals
    from skilldeck_daemon.libraries.bus import Bus
    from skilldeck_daemon.libraries.containers.environments import Environments
    from skilldeck_daemon.libraries.conversations import Conversations
    from skilldeck_daemon.libraries.evaluations import Evaluations
    from skilldeck_daemon.libraries.files import FileLibrary
    from skilldeck_daemon.libraries.ondisk import DiskSkills
    from skilldeck_daemon.libraries.skills import SkillLibrary
    from skilldeck_daemon.settings import Settings
    from skilldeck_daemon.store import Store


@dataclass(frozen=True)
class LogEntry:
    """One log record: unix seconds, level name, logger name, the message with its fields."""

    time: float
    level: str
    logger: str
    message: str


class LogSource(Protocol):
    """The daemon's own log, kept in memory (a bounded ring: the oldest records are lost)."""

    def tail(self, count: int, level: str = "") -> list[LogEntry]:
        """The last `count` records of at least `level` (a name; empty: all), oldest first."""

    def follow(self, count: int, level: str = "") -> AsyncIterator[LogEntry]:
        """`tail`, then every new record; a slow reader loses records rather than slowing the daemon."""


@dataclass
class Services:
    """The services of one daemon. `instance` changes at every start; `http_url` is the API's base once it listens."""

    settings: Settings
    store: Store
    bus: Bus
    models: ModelHub
    skills: SkillLibrary
    files: FileLibrary
    environments: Environments
    approvals: Approvals
    conversations: Conversations
    evaluations: Evaluations
    plans: PlanBuilder
    runs: Runs
    disk: DiskSkills
    metrics: Metrics
    logs: LogSource
    admission: Admission
    stalls: Stalls = field(default_factory=Stalls)  # runs in a daemon; a Runner's loop is its program's
    instance: str = field(default_factory=lambda: secrets.token_hex(8))
    started_at: float = field(default_factory=time.time)
    http_url: str = ""
