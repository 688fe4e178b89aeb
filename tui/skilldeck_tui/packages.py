"""What is told of the packages that skills need: how an environment is being built, how it stands, what went wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from skilldeck_shared.terminal import clean
from skilldeck_tui.format import one_line

if TYPE_CHECKING:
    from skilldeck_tui.state import DaemonState

Object = Mapping[str, Any]
MOST = 6
"""Packages that are named."""


def named(environment: Object) -> str:
    """Its packages, shortened."""
    listed = [clean(str(text)) for text in (*environment.get("python", ()), *environment.get("node", ()))]
    return ", ".join([*listed[:MOST], *([f"{len(listed) - MOST} more"] if len(listed) > MOST else [])])


def of_run(state: DaemonState, run_id: str) -> Object | None:
    """The environment that a run waits for."""
    for environment in state.objects.get("environment", {}).values():
        if run_id in environment.get("runs", ()) and environment.get("status") == "building":
            return environment
    return None


def preparing(state: DaemonState, run_id: str) -> str:
    """What a run waits for, in a line; "" when it does not."""
    environment = of_run(state, run_id)
    if environment is None:
        return ""
    skills = ", ".join(clean(str(name)) for name in environment.get("skills", ()))
    return f"building what {skills} needs: {one_line(str(environment.get('detail') or ''))}"


def lost(state: DaemonState, run_ids: Collection[str]) -> list[Object]:
    """The environments of these runs that could not be built."""
    every = state.objects.get("environment", {}).values()
    return [one for one in every if one.get("status") == "failed" and set(one.get("runs", ())) & set(run_ids)]
