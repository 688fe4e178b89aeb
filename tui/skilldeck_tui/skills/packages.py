"""What is shown of the packages that skills need: how an environment is being built, how it stands, what went wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal

from skilldeck_shared.terminal import clean
from skilldeck_tui.text.format import one_line

if TYPE_CHECKING:
    from skilldeck_tui.state import DaemonState

Object = Mapping[str, Any]
MOST = 6
"""Packages that are named."""
WARNINGS = 4
"""Of a skill, that are shown."""
Kind = Literal["", "live", "warning", "error"]
_STATUS: Mapping[str, tuple[str, Kind]] = {
    "provided": ("in the sandbox's base", ""),
    "ready": ("ready", ""),
    "building": ("being built", "live"),
    "asked": ("waiting for your answer", "warning"),
    "wanted": ("built at the first use", ""),
    "denied": ("denied", "warning"),
    "failed": ("failed", "error"),
    "off": ("not built", ""),
    "unavailable": ("not built", ""),
}


def named(environment: Object) -> str:
    """Its packages, shortened."""
    listed = [clean(str(text)) for text in (*environment.get("python", ()), *environment.get("node", ()))]
    return ", ".join([*listed[:MOST], *([f"{len(listed) - MOST} more"] if len(listed) > MOST else [])])


def standing(skill: Object) -> list[tuple[str, Kind]]:
    """How a skill stands with its packages, and what is to be done about it, a line each."""
    lines: list[tuple[str, Kind]] = []
    environment = skill.get("environment")
    if environment:
        status = str(environment.get("status"))
        words, kind = _STATUS.get(status, (clean(status), ""))
        detail = one_line(str(environment.get("detail") or "")) if status == "building" else ""
        lines.append((f"packages {words}: {named(environment)}{f' · {detail}' if detail else ''}", kind))
    warnings = [clean(str(text)) for text in skill.get("warnings") or ()]
    lines += [(f"! {text}", "warning") for text in warnings[:WARNINGS]]
    if len(warnings) > WARNINGS:
        lines.append((f"! and {len(warnings) - WARNINGS} more", "warning"))
    return lines


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
