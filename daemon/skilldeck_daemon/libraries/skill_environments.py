"""Environments of skills as clients see them: whether one is needed, whether somebody agreed, how its building goes.

What the base has is not built. What is missing is built once for all skills that say the same, at the upload or at the
first use, after the operator agreed (setting `skill_environments`): by `on` beforehand, by `ask` to a question with the
packages in it, answered where commands are approved (the TUI, /v1/approvals). A run waits for the answer while somebody
is there to give it, that is a client of the control socket or one that asks for its commands too; else it goes on
without, and the question stays open its time. An environment that is there is consent: it is not asked about again. A
build that failed is tried again at the next use ten minutes later. Survives a restart: what was built.

Each is published on the bus, topic `environment`: how it stands, for which skills and runs it is, what it is
made of, and the last lines of its building.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from skilldeck_daemon.containers.packages.environment_build import BuildFailed, EnvironmentBuilder
from skilldeck_daemon.containers.packages.wants import Wanted, split
from skilldeck_daemon.containers.spec import Environment
from skilldeck_daemon.libraries.approvals import Approvals, strictest
from skilldeck_daemon.libraries.bus import Bus
from skilldeck_daemon.libraries.records import EnvironmentAccount, EnvironmentState
from skilldeck_daemon.skills.needs import Need, Needs
from skilldeck_daemon.store.records import KeptNeeds
from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.skills.base_packages import distribution

log = logging.getLogger(__name__)

Mode = Literal["off", "ask", "on"]
AGAIN_SECONDS = 600
"""How long a build that failed is left alone."""
KEPT_SECONDS = 86_400
"""How long one that no version needs stays: skills on disk and in requests are no versions."""
SHOWN_SECONDS = 0.5
"""Between two words of how a build goes."""
TOLD_LINES = 40
"""The last of a build's log that are published."""


@dataclass
class _Work:
    """A build or a question that is under way, or that ended badly."""

    wanted: Wanted
    needs: Needs
    session: str = ""
    skills: set[str] = field(default_factory=set)
    runs: set[str] = field(default_factory=set)
    status: Literal["asked", "building", "failed", "denied", "ready"] = "asked"
    detail: str = ""
    log: list[str] = field(default_factory=list)
    lines: int = 0
    ended: float = 0.0
    task: asyncio.Task[None] | None = None


class SkillEnvironments:
    """See the module. `changed` is called with the digest of an environment whose state is another."""

    def __init__(self, builder: EnvironmentBuilder, approvals: Approvals, bus: Bus, mode: Mode = "ask") -> None:
        self.mode = mode
        self.changed: Callable[[str], None] = lambda digest: None
        self._builder = builder
        self._approvals = approvals
        self._bus = bus
        self._work: dict[str, _Work] = {}
        self._modules: dict[str, frozenset[str]] = {}
        self._one = asyncio.Semaphore(1)

    async def start(self) -> None:
        """Once the containers are there."""
        await self._builder.clear()
        if self._builder.possible:
            await self._builder.refresh()

    async def close(self) -> None:
        """End what is being built; nothing of it stays."""
        tasks = [work.task for work in self._work.values() if work.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._builder.close()

    # -- what there is

    def digest(self, needs: Needs) -> str | None:
        """The environment that these needs come to; None when nothing has to be built, or can be."""
        if not needs or not self._builder.possible:
            return None
        left = self._builder.missing(_wanted(needs))
        return self._builder.digest(left) if left else None

    def mounted(self, mounts: Iterable[tuple[str, Needs]]) -> tuple[Environment, ...]:
        """Those that are there, for skills by their names in the container."""
        shared: dict[str, tuple[list[str], dict[str, None]]] = {}
        for name, needs in mounts:
            digest = self.digest(needs) if self.mode != "off" else None
            if digest is not None:
                names, node = shared.setdefault(digest, ([], {}))
                names.append(name)
                node |= dict.fromkeys(split(need.text)[0] for need in needs.node)
        found = [self._builder.environment(digest, names, tuple(node)) for digest, (names, node) in shared.items()]
        return tuple(one for one in found if one is not None)

    def settled(self, mounts: Iterable[Needs]) -> bool:
        """Whether a container of these skills waits for nothing."""
        return self.mode == "off" or all(
            digest is None or self._builder.path(digest) is not None for digest in map(self.digest, mounts)
        )

    def importable(self, needs: Needs) -> Callable[[str], bool]:
        """Whether a module comes with the environment, or will when that is built."""
        digest = self.digest(needs)
        if digest is None:
            return lambda module: False
        if self._builder.path(digest) is not None:
            if digest not in self._modules:
                self._modules[digest] = self._builder.modules(digest)
            return self._modules[digest].__contains__
        if self.mode == "off" or (digest in self._work and self._work[digest].status in ("failed", "denied")):
            return lambda module: False
        names = {need.name for need in needs.python}
        return lambda module: distribution(module).lower().replace("_", "-") in names

    def requirable(self, needs: Needs) -> Callable[[str], bool]:
        """The same of a package for Node, those of the base included."""
        there = self._builder.node_packages
        if needs.node and self._status(needs)[0] not in ("off", "failed", "denied", "unavailable"):
            there |= {split(need.text)[0] for need in needs.node}
        return there.__contains__

    def state(self, needs: Needs) -> EnvironmentState | None:
        """{status, python, node, detail} of what a skill needs; None when it says of nothing.

        `status` is provided (by the base), ready, building, asked, wanted (to be built at the first use), denied,
        failed, off or unavailable.
        """
        if not needs:
            return None
        status, detail = self._status(needs)
        return {
            "status": status,
            "python": [need.text for need in needs.python],
            "node": [need.text for need in needs.node],
            "detail": detail,
        }

    def _status(self, needs: Needs) -> tuple[str, str]:
        if not self._builder.possible:
            return "unavailable", "Environments are built in a sandbox alone."
        digest = self.digest(needs)
        if digest is None:
            return "provided", ""
        if self.mode == "off":
            return "off", "The setting skill_environments is off."
        if self._builder.path(digest) is not None:
            return "ready", ""
        work = self._work.get(digest)
        return (work.status, work.detail) if work is not None else ("wanted", "")

    def account(self, needs: Needs) -> EnvironmentAccount:
        """`state` with {packages, bytes, seconds, log} of its building. Blocks: it reads a file."""
        state: EnvironmentState = self.state(needs) or {"status": "none", "python": [], "node": [], "detail": ""}
        digest = self.digest(needs)
        notes = self._builder.notes(digest) if digest is not None and state["status"] == "ready" else {}
        work = self._work.get(digest or "")
        said = "\n".join(work.log) if work is not None and not notes else notes.get("log", "")
        return {
            "object": "skill.environment",
            **state,
            "refused": list(needs.refused),
            "packages": notes.get("packages"),
            "bytes": notes.get("bytes"),
            "seconds": notes.get("seconds"),
            "log": said,
        }

    def warnings(self, needs: Needs) -> list[str]:
        """What the author or the operator has to do."""
        said = list(needs.refused)
        state = self.state(needs)
        if state is not None and state["status"] == "failed":
            said.append(state["detail"])
        elif state is not None and state["status"] in ("off", "denied"):
            count = len(state["python"]) + len(state["node"])
            first = next(iter((*needs.python, *needs.node)))
            what = f"the {count} packages it needs are" if count > 1 else "the package it needs is"
            said.append(f"{first.place}: {what} not installed: {state['detail']}")
        return said

    # -- building

    async def uploaded(self, name: str, needs: Needs) -> None:
        """A version with these needs is there: where the operator agreed beforehand it is built at once."""
        if needs and self._builder.possible:
            await self._builder.refresh()
            digest = self.digest(needs)
            if self.mode == "on" and digest is not None:
                self._begin(digest, needs, name)

    async def prepare(
        self, mounts: Sequence[tuple[str, Needs]], *, run_id: str, session: str, permission: str | None
    ) -> None:
        """Wait until what the skills of a run need is there, or will not be."""
        wanting = [(name, needs) for name, needs in mounts if needs]
        if self.mode == "off" or not wanting or not self._builder.possible:
            return
        await self._builder.refresh()
        waiting: dict[str, asyncio.Task[None]] = {}
        for name, needs in wanting:
            digest = self.digest(needs)
            if digest is None or self._builder.path(digest) is not None:
                continue
            task = self._begin(digest, needs, name, run_id, session)
            if task is not None and (self._work[digest].status != "asked" or self._answerable(permission)):
                waiting[digest] = task
        if waiting:
            await asyncio.wait(waiting.values())

    def _answerable(self, permission: str | None) -> bool:
        return self._bus.watched or strictest(self._approvals.permission, permission) == "ask"

    def _begin(
        self, digest: str, needs: Needs, name: str, run_id: str = "", session: str = ""
    ) -> asyncio.Task[None] | None:
        """The task of the one build of an environment; None when it failed a moment ago or is denied in the session."""
        work = self._work.get(digest)
        if work is not None and work.task is None:
            same = work.status == "denied" and work.session == session
            if same or (work.status == "failed" and time.monotonic() - work.ended < AGAIN_SECONDS):
                return None
            work = None
        if work is None:
            work = self._work[digest] = _Work(self._builder.missing(_wanted(needs)), needs, session)
            work.status = "asked" if self.mode == "ask" else "building"
            work.task = asyncio.create_task(self._make(digest, work, run_id), name=f"environment {digest[:12]}")
        work.skills.add(name)
        if run_id:
            work.runs.add(run_id)
        return work.task

    async def _make(self, digest: str, work: _Work, run_id: str) -> None:
        publish = partial(self._publish, digest, work)
        try:
            if self.mode == "ask":
                publish()
                refusal = await self._approvals.check(
                    "environment",
                    commands(work.wanted, sorted(work.skills), self._builder.hosts(work.wanted)),
                    permission="ask",
                    run_id=run_id,
                    call_id="",
                    session=work.session,
                )
                if refusal is not None:
                    work.status, work.detail = "denied", refusal
                    return
            work.status, work.detail = "building", "waiting"
            publish()
            async with self._one:
                await self._builder.build(digest, work.wanted, _Log(work, publish))
            work.status, work.detail = "ready", ""
        except BuildFailed as error:
            work.status, work.detail = "failed", placed(error.title, work.needs)
            log.warning("the environment of %s was not built: %s", ", ".join(sorted(work.skills)), work.detail)
        except SkilldeckError as error:
            work.status, work.detail = "failed", f"the environment was not built: {error.title}"
        except Exception:
            log.exception("an environment could not be built, by a fault of the daemon")
            work.status, work.detail = "failed", "the environment was not built: the daemon's log says why"
        finally:
            work.task, work.ended = None, time.monotonic()
            if work.status not in ("failed", "denied"):  # it is there, or the daemon stops
                self._work.pop(digest, None)
            publish()

    def _publish(self, digest: str, work: _Work) -> None:
        self.changed(digest)
        id = f"env_{digest[:24]}"
        shown = {
            "id": id,
            "object": "environment",
            "status": work.status,
            "detail": work.detail,
            "skills": sorted(work.skills),
            "runs": sorted(work.runs),
            "python": [text.partition(" --hash=")[0] for text in work.wanted.python],
            "node": list(work.wanted.node),
            "log": work.log[-TOLD_LINES:],
            "lines": work.lines,
        }
        self._bus.publish("environment", "put", id, shown)

    async def collect(self, kept: Iterable[KeptNeeds], unused_seconds: float = KEPT_SECONDS) -> int:
        """Remove those that no version needs and nothing used for a while.

        Args:
            kept: the needs of every version, as they are stored.
        """
        if not self._builder.possible:
            return 0
        await self._builder.refresh()
        needed = {digest for needs in kept if (digest := self.digest(Needs.of(needs))) is not None}
        gone = await self._builder.collect(needed, unused_seconds)
        self._modules.clear()
        return gone


class _Log:
    """Takes the lines of a build; says so now and then."""

    def __init__(self, work: _Work, publish: Callable[[], None]) -> None:
        self._work = work
        self._publish = publish
        self._shown = 0.0

    def __call__(self, line: str) -> None:
        self._work.log.append(line)
        self._work.lines += 1
        del self._work.log[:-2000]
        self._work.detail = line.strip()[:200]
        if time.monotonic() - self._shown >= SHOWN_SECONDS:
            self._shown = time.monotonic()
            self._publish()


def _wanted(needs: Needs) -> Wanted:
    return Wanted(
        tuple(sorted({need.text for need in needs.python})), tuple(sorted({need.text for need in needs.node}))
    )


def commands(wanted: Wanted, skills: Sequence[str], hosts: Sequence[str]) -> list[str]:
    """What is asked about, as the commands it comes to."""
    note = f"  # for {', '.join(skills)}; from {', '.join(hosts)}, apart from this machine"
    said = []
    if wanted.python:
        said.append(f"uv pip install {shlex.join(text.partition(' --hash=')[0] for text in wanted.python)}")
    if wanted.node:
        said.append(f"npm install {shlex.join(wanted.node)}")
    return [*said[:-1], said[-1] + note]


def placed(reason: str, needs: Needs) -> str:
    """The reason of a failed build, behind the line of the requirement it names."""
    low = reason.lower().replace("_", "-")

    def named(need: Need, name: str) -> bool:
        return any(f"{before}{name.lower()}" in low for before in (" ", "'", "`", "/")) or low.startswith(name.lower())

    for need in needs.python:
        if named(need, need.name):
            return f"{need.place}: {reason}"
    for need in needs.node:
        if named(need, split(need.text)[0]):
            return f"{need.place}: {reason}"
    first = next(iter((*needs.python, *needs.node)))
    return f"{first.path}: {reason}"
