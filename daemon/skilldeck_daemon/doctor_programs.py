"""What `skilldeckd doctor` says of the packages and programs that skills ask for: seen from inside a real container."""

from __future__ import annotations

import json
import shlex

from skilldeck_daemon.containers import Container
from skilldeck_daemon.containers.packages.layers import Base
from skilldeck_daemon.containers.packages.programs import PACKAGES
from skilldeck_daemon.containers.sandbox import bwrap
from skilldeck_shared.skills.base_packages import BUILD

_PYTHON = """
import importlib.metadata, json, sys
names = sorted({d.metadata["Name"].lower() for d in importlib.metadata.distributions()})
print(json.dumps([sys.executable, ".".join(map(str, sys.version_info[:3])), names]))
"""


async def python(container: Container, base: Base | None) -> tuple[str, str]:
    """The interpreter of commands with its packages, and advice."""
    (result,) = await container.exec([f"python3 -c {shlex.quote(_PYTHON)}"], timeout_ms=20_000)
    executable, version, names = json.loads(result.stdout)
    advice = "" if base is not None else f"Most skills need packages that are not there. Run: {BUILD}"
    return f"{executable} {version}, {len(names)} packages: {', '.join(names) or 'none'}", advice


async def programs(container: Container) -> tuple[str, str]:
    """Which programs commands find, and the command that brings the others."""
    asked = [*PACKAGES, "uv"]
    (result,) = await container.exec([f"command -v {' '.join(asked)}"], timeout_ms=20_000)
    there = {line.rpartition("/")[2] for line in result.stdout.splitlines()}
    missing = [name for name in asked if name not in there]
    bring = " ".join(PACKAGES[name] for name in missing if name in PACKAGES)
    advice = [bwrap.install_hint(bring)] if bring else []
    if "uv" in missing:
        advice.append(BUILD)
    detail = f"there: {', '.join(name for name in asked if name in there) or 'none'}"
    if missing:
        detail += f"; missing: {', '.join(missing)}"
    return detail, f"Skills that need them: {'; '.join(advice)}" if advice else ""
