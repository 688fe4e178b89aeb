"""The daemon, and its parts for use inside another program: `from skilldeck_daemon import Runner, SkillMount`.

Importing the package imports nothing else; the two names load the daemon's parts when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skilldeck_daemon.runner import Runner, SkillMount

__all__ = ["Runner", "SkillMount"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from skilldeck_daemon import runner

        return getattr(runner, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
