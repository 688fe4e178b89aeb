"""The rows of the chat's session list: conversations, and runs that belong to none (started over HTTP).

A row's state is what a person would ask first: asking before busy before error before idle. Pure functions over
`DaemonState`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from skilldeck_tui.state import BUSY, DaemonState, session_of
from skilldeck_tui.text.format import one_line

_NUMBERED = re.compile(r" \(\d+\)$")
SessionState = Literal["idle", "busy", "asking", "error"]
GLYPHS: dict[SessionState, tuple[str, str]] = {
    "idle": ("○", "$faint"),
    "busy": ("●", "$accent"),
    "asking": ("?", "$warning"),
    "error": ("✗", "$error"),
}

ORIGINS = {"chat": "chat", "run": "skilldeck run", "test": "tests"}
"""What runs over the control socket are for; those over HTTP have the name of the program that asked."""


@dataclass(frozen=True)
class Session:
    """`key` is `session:ID` or `run:ID`; `at` the unix time of the last activity; `origin`, of a run, who asked.

    `earlier`: the runs that this one goes on from (previous_response_id), which belong to no other row.
    """

    key: str
    title: str
    state: SessionState
    at: float
    runs: int = 1
    origin: str = ""
    earlier: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.key.split(":", 1)[1]

    @property
    def is_run(self) -> bool:
        return self.key.startswith("run:")


@dataclass(frozen=True)
class Branch:
    """Where a session begins with what was said in another one: to the end of its run `after`."""

    session: str
    after: str
    title: str


def branch_of(state: DaemonState, session_id: str) -> Branch | None:
    """Where a session comes from, when it is a branch of another one."""
    metadata = (state.get("session", session_id) or {}).get("metadata") or {}
    origin, after = str(metadata.get("branch_of") or ""), str(metadata.get("branch_after") or "")
    if not origin or not after:
        return None
    return Branch(origin, after, title_of(state, origin))


def title_of(state: DaemonState, session_id: str) -> str:
    metadata = (state.get("session", session_id) or {}).get("metadata") or {}
    return one_line(str(metadata.get("title") or ""))


def branch_title(title: str, state: DaemonState) -> str:
    """`title` with the first number that no session has."""
    stem = _NUMBERED.sub("", title) or "Branch"
    taken = {title_of(state, id_) for id_ in state.objects["session"]}
    return next(name for number in range(2, len(taken) + 3) if (name := f"{stem} ({number})") not in taken)


def sessions(state: DaemonState) -> list[Session]:
    """All rows, the latest activity first."""
    asking = {approval.get("run_id") for approval in state.approvals}
    grouped: dict[str, list[dict[str, object]]] = {}
    alone = []
    for run in state.runs:
        session_id = session_of(run)
        if session_id in state.objects["session"]:
            grouped.setdefault(session_id, []).append(run)
        else:
            alone.append(run)
    rows = []
    for session in state.objects["session"].values():
        runs = grouped.get(session["id"], [])
        title = (session.get("metadata") or {}).get("title") or (str(runs[-1].get("title") or "") if runs else "")
        at = max([_at(session.get("created_at"))] + [_at(run.get("created_at")) for run in runs])
        rows.append(
            Session(f"session:{session['id']}", one_line(title) or "New chat", _state(runs, asking), at, len(runs))
        )
    by_id = {str(run["id"]): run for run in alone}
    goes_on = Counter(str(run.get("previous_response_id") or "") for run in alone)
    for run in alone:
        if goes_on[str(run["id"])] and run.get("status") not in BUSY and run.get("id") not in asking:
            continue  # it is shown with the one that goes on from it
        first, earlier, own = run, [], True
        while (before := by_id.get(str(first.get("previous_response_id") or ""))) is not None:
            own = own and goes_on[str(before["id"])] == 1
            earlier += [str(before["id"])] if own else []
            first = before
        title = one_line(str(first.get("title") or "")) or "Untitled run"
        origin = ORIGINS.get(str(run.get("origin") or ""), str(run.get("origin") or ""))
        at, count = _at(run.get("created_at")), 1 + len(earlier)
        rows.append(Session(f"run:{run['id']}", title, _state([run], asking), at, count, origin, tuple(earlier)))
    return sorted(rows, key=lambda row: (-row.at, row.key))


def _at(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _state(runs: list[dict[str, object]], asking: set[str | None]) -> SessionState:
    """`runs` newest first."""
    if any(run.get("id") in asking for run in runs):
        return "asking"
    if any(run.get("status") in BUSY for run in runs):
        return "busy"
    if runs and runs[0].get("status") == "failed":
        return "error"
    return "idle"
