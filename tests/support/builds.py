"""What is built of packages while a daemon is killed: environments of skills, and the sandbox's base beside it.

    with builds(home, seed) as built:           # an index of packages on loopback; `built.flags` are the daemon's
        await built.upload(url, until)          # skills that need two packages each, until the event is set
        process = built.base()                  # `skilldeckd sandbox build`, which `built.kill` ends
        built.left()                            # what a kill left half made, before the next start
        await built.check(url)                  # nothing half made is there, and a skill finds its packages

A skill is remembered when its upload was answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import ensurepip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from skilldeck_daemon.containers import artifacts
from skilldeck_daemon.containers.homes import base_for
from skilldeck_daemon.containers.packages.bases import CURRENT
from skilldeck_shared.skills.base_packages import MINIMAL
from support.bundles import manifest
from support.index import Index, index
from support.scripted_model import Turn, shell
from support.wheels import wheel

KITS = 8
VERSIONS = ("1.0", "2.0")
_ASKED = re.compile(r"import (kit\d) (kit\d)")


def answer(body: dict[str, Any]) -> Turn | None:
    """The model's turn for a run of `check`; None for others."""
    last = body["messages"][-1]
    asked = _ASKED.search(str(last["content"])) if last["role"] == "user" else None
    if asked is None:
        return None
    one, two = asked.groups()
    return Turn(shell(f"python3 -c 'import {one}, {two}; print({one}.version, {two}.version)'"))


class Builds:
    """See the module."""

    def __init__(self, home: Path, packages: Index, seed: int) -> None:
        self.flags = ["--skill-environments", "on", "--package-index", packages.python]
        self.skills: dict[str, dict[str, str]] = {}
        """Those that were acknowledged: what each needs, name → version."""
        self.used = 0
        self._packages = packages
        self._random = random.Random(seed)
        self._data = home / "data"
        self._containers = base_for(self._data / "containers")
        self._root = base_for(self._data / "sandbox", "sandbox")
        self._base: subprocess.Popen[bytes] | None = None

    # -- what is going on when the kill comes

    async def upload(self, url: str, until: asyncio.Event, most: int) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            for _ in range(most):
                needs = {name: self._random.choice(VERSIONS) for name in self._random.sample(_names(), 2)}
                said = "".join(f"{name}=={version}\n" for name, version in needs.items()).encode()
                files = [("files", ("s/SKILL.md", manifest("s"))), ("files", ("s/requirements.txt", said))]
                try:
                    made = await http.post("/skills", files=files)
                except httpx.TransportError:
                    return
                assert made.status_code == 200, made.text
                self.skills[made.json()["id"]] = needs
                if until.is_set():
                    return

    def building(self) -> bool:
        """Whether an environment is in its container at this moment."""
        return any(self._containers.glob("environment-*/data/env"))

    def base(self) -> None:
        """Begin to build a base beside the daemon."""
        command = [sys.executable, "-m", "skilldeck_daemon", "sandbox", "build", "--minimal"]
        env = {**os.environ, "SKILLDECK_PACKAGE_INDEX": self._packages.python, "UV_COMPILE_BYTECODE": "0"}
        self._base = subprocess.Popen(
            [*command, "--data-dir", str(self._data)], env=env, start_new_session=True, stderr=subprocess.DEVNULL
        )

    def base_is_under_way(self) -> bool:
        """Whether it has begun to write, or is over already."""
        assert self._base is not None
        return any(self._root.glob(".building-*")) or self._base.poll() is not None

    def kill(self) -> None:
        if self._base is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._base.pid, signal.SIGKILL)
            self._base.wait()
            self._base = None

    # -- what is there afterwards

    def left(self) -> list[str]:
        """What is there of builds that did not come to their end."""
        half = [*self._containers.glob("environment-*"), *(self._root / "environments").glob(".building-*")]
        return sorted(item.name for item in [*half, *self._root.glob(".building-*")])

    async def check(self, url: str, uses: int = 1) -> None:
        """Raises AssertionError. Before anything is built: a daemon that has just started.

        Args:
            uses: of so many skills a program is run, which builds what it needs where that is not there.
        """
        left = [name for name in self.left() if not (self._root / name).exists()]  # a base's goes with the next build
        assert left == [], f"a build that was killed left {left}"
        for place in (self._root / "environments").glob("[!.]*"):
            if place.is_dir():
                said = json.loads(place.with_name(f"{place.name}.json").read_text())
                assert said["python"] == _found(place / "python"), f"{place.name} is not whole"
        if (self._root / CURRENT).exists():
            (packages,) = (self._root / CURRENT).glob("lib/python*/site-packages")
            said = json.loads((self._root / CURRENT / "base.json").read_text())
            assert said["packages"] == len(list(packages.glob("*.dist-info"))), "the base is not whole"
        async with httpx.AsyncClient(base_url=url, timeout=120) as http:
            for skill in self._random.sample(sorted(self.skills), min(uses, len(self.skills))):
                await self._use(http, skill)

    async def _use(self, http: httpx.AsyncClient, skill: str) -> None:
        needs = self.skills[skill]
        environment = {"type": "container_auto", "skills": [{"type": "skill_reference", "skill_id": skill}]}
        body = {"model": "default", "input": f"import {' '.join(needs)}"}
        answered = await http.post(
            "/responses", json={**body, "tools": [{"type": "shell", "environment": environment}]}
        )
        assert answered.status_code == 200, answered.text
        (output,) = [item["output"] for item in answered.json()["output"] if item["type"] == "shell_call_output"]
        assert output[0]["stdout"] == " ".join(needs.values()) + "\n", output
        shown = (await http.get(f"/skills/{skill}")).json()["environment"]
        assert shown["status"] == "ready", shown
        self.used += 1

    def build_base(self) -> None:
        """Once more, to its end: it is whole, and nothing of those that were killed is left."""
        self.base()
        assert self._base is not None
        assert self._base.wait() == 0
        self._base = None
        assert (self._root / CURRENT / "base.json").is_file()
        assert [item.name for item in self._root.glob(".building-*")] == []

    def remove(self) -> None:
        self.kill()
        for place in (self._containers, self._root):
            artifacts.delete_tree(place)


@contextlib.contextmanager
def builds(home: Path, seed: int) -> Iterator[Builds]:
    """An index with what the skills and the base need, all of it small; what was built goes at the end."""
    with index(home / "wheels") as packages:
        for name in _names():
            for version in VERSIONS:
                wheel(packages.folder, name, version)
        for name in MINIMAL:
            wheel(packages.folder, name.replace("-", "_"))
        for folder in (Path(ensurepip.__file__).parent / "_bundled", Path("/usr/share/python-wheels")):
            for pip in folder.glob("pip-*.whl"):
                shutil.copy(pip, packages.folder)
        built = Builds(home, packages, seed)
        try:
            yield built
        finally:
            built.remove()


def _names() -> list[str]:
    return [f"kit{number}" for number in range(KITS)]


def _found(folder: Path) -> list[str]:
    """The kits that lie there whole, as requirements."""
    found = []
    for info in sorted(folder.glob("kit*.dist-info")):
        name, version = info.name.removesuffix(".dist-info").split("-")
        if f"version = '{version}'" in (folder / f"{name}.py").read_text():
            found.append(f"{name}=={version}")
    return found
