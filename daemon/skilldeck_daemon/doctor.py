"""`skilldeckd doctor`: whether this machine can isolate commands and serve a model, and what mends it when not.

Nothing is guessed: the decisive check starts a container with the command line production uses, runs a command in
it, and looks from inside at what protects it. Every failed check carries its fix, and a status of its own, which
is the program's exit status when it is the first that failed. Blocks for at most half a minute; changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from skilldeck_daemon import doctor_programs
from skilldeck_daemon.containers import Containers, ContainerSpec, artifacts
from skilldeck_daemon.containers.manager import Sandbox
from skilldeck_daemon.containers.packages.bases import Bases
from skilldeck_daemon.containers.sandbox import bwrap, diagnose, seccomp
from skilldeck_daemon.containers.sandbox.watchdog import human
from skilldeck_daemon.containers.spec import GIB
from skilldeck_daemon.engine import engines
from skilldeck_daemon.engine.llamacpp import native
from skilldeck_daemon.engine.models import registry
from skilldeck_daemon.engine.models.source import ModelSource
from skilldeck_daemon.settings import Settings, load_settings
from skilldeck_shared import private
from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.terminal import say

STATUS = {
    "bubblewrap": 10,
    "privileges": 11,
    "user namespaces": 12,
    "system-call filter": 13,
    "sandbox": 14,
    "limits": 15,
    "disk": 16,
    "packages": 17,
    "programs": 18,
    "engine": 20,
    "gpu": 21,
    "control socket": 22,
    "port": 23,
}
"""Exit status of each check."""

INSIDE = """
import json, os
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines())
print(json.dumps({'seccomp': status['Seccomp'], 'caps': status['CapBnd'], 'new_privileges': status['NoNewPrivs']}))
"""


@dataclass(frozen=True)
class Check:
    """One finding. `fix` on a check that is ok is advice; `status` is the exit status when it is not ok."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    status: int = 0


def exit_status(checks: list[Check]) -> int:
    """0, or the status of the first check that failed."""
    return next((check.status for check in checks if not check.ok), 0)


async def run_checks(
    root: Path,
    *,
    sandbox: Sandbox = "auto",
    max_memory: str = "4g",
    disk_floor_bytes: int = GIB,
    bases: Bases | None = None,
) -> list[Check]:
    """The checks of the sandbox, in the order in which they are worth mending.

    Args: as of `Containers`; `root` is where a daemon would keep its containers (one may be running).
    """
    checks = [
        _check("disk", lambda: _disk(root, disk_floor_bytes)),
    ]
    if sandbox == "none":
        text = "off by --sandbox none: the model's commands run as this user, with no isolation at all"
        return [Check("sandbox", True, text, "Leave --sandbox at auto.", STATUS["sandbox"]), *checks]
    first = [
        await asyncio.to_thread(_check, "bubblewrap", _bubblewrap),
        _check("privileges", _privileges),
        _check("user namespaces", _namespaces),
    ]
    return [*first, *await _sandbox(root, max_memory, disk_floor_bytes, bases), *checks]


def run(as_json: bool) -> int:
    """All checks with the settings of this machine, on stdout. Returns the exit status."""
    settings = load_settings()
    checks = asyncio.run(
        run_checks(
            settings.data_dir / "containers",
            sandbox=settings.sandbox,
            max_memory=settings.max_memory,
            bases=Bases(settings.data_dir / "sandbox", settings.sandbox_python),
        )
    )
    checks += [
        _check("engine", lambda: _engine(settings)),
        _check("gpu", _gpu),
        _check("control socket", lambda: _control_socket(settings.socket)),
        _check("port", lambda: _port(settings)),
    ]
    status = exit_status(checks)
    if as_json:
        say(json.dumps({"ok": status == 0, "status": status, "checks": [asdict(check) for check in checks]}, indent=2))
        return status
    for check in checks:
        say(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
        if check.fix:
            say(f"      {'note' if check.ok else 'fix'}: {check.fix}")
    return status


def _check(name: str, look: Callable[[], tuple[str, str]]) -> Check:
    """A check from a function that returns (detail, advice) or raises a `SkilldeckError`."""
    try:
        detail, advice = look()
    except SkilldeckError as error:
        return Check(name, False, error.title, error.hint, STATUS[name])
    return Check(name, True, detail, advice, STATUS[name])


def _bubblewrap() -> tuple[str, str]:
    tools = bwrap.find_tools()
    version = ".".join(map(str, diagnose.check_version(tools.bwrap)))
    advice = ""
    if diagnose.is_setuid(tools.bwrap):
        sudo = "" if os.geteuid() == 0 else "sudo "
        advice = f"It is installed setuid, which is not needed here: {sudo}chmod u-s {tools.bwrap}."
    return f"{tools.bwrap} {version}, python inside: {tools.python.executable}", advice


def _privileges() -> tuple[str, str]:
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv") or "setpriv (missing)"
        return f"running as root; {setpriv} gives root up before every sandbox (uid {bwrap.SANDBOX_UID})", ""
    return f"running as uid {os.geteuid()}", ""


def _namespaces() -> tuple[str, str]:
    facts = diagnose.Facts.read()
    said = []
    if facts.max_user_namespaces is not None:
        said.append(f"max_user_namespaces {facts.max_user_namespaces}")
    if facts.unprivileged_userns_clone is not None:
        said.append(f"unprivileged_userns_clone {facts.unprivileged_userns_clone}")
    if facts.apparmor_restrict is not None:
        said.append(f"apparmor_restrict_unprivileged_userns {facts.apparmor_restrict}")
    if facts.in_container:
        said.append("inside a container")
    diagnose.check_facts(facts)
    return ", ".join(said) or "no restriction found", ""


async def _sandbox(root: Path, max_memory: str, floor: int, bases: Bases | None) -> list[Check]:
    """Starts a real container in a directory of its own, beside those of a running daemon."""
    home = root / f".doctor-{secrets.token_hex(4)}"
    containers = Containers(home, max_memory=max_memory, disk_floor_bytes=min(floor, 1), max_containers=1, bases=bases)
    try:
        await containers.start()
        seconds = await containers.probe()
        container = await containers.create(ContainerSpec("doctor"))
        await container.put("inside.py", INSIDE.encode())
        result = (await container.exec(["python3 -I inside.py"], timeout_ms=20_000))[0]
        checks = [
            Check(
                "sandbox", True, f"a container starts, runs and ends in {seconds * 1000:.0f} ms", "", STATUS["sandbox"]
            ),
            _filter(result.stdout, result.stderr),
            _limits(containers.cgroups.mode),
            Check("packages", True, *await doctor_programs.python(container, await containers.packages())),
            Check("programs", True, *await doctor_programs.programs(container)),
        ]
        await containers.delete("doctor")
        return checks
    except SkilldeckError as error:
        return [Check("sandbox", False, error.title, error.hint, STATUS["sandbox"])]
    finally:
        await containers.close()
        await asyncio.to_thread(artifacts.delete_tree, home)


def _filter(said: str, wrong: str) -> Check:
    count = len(seccomp.program(hide_memory=True)) // 8
    if '"seccomp": "2"' in said and '"new_privileges": "1"' in said:
        return Check(
            "system-call filter", True, f"{count} instructions, active inside", "", STATUS["system-call filter"]
        )
    return Check(
        "system-call filter",
        False,
        f"the filter is not active inside: {said.strip()} {wrong.strip()}",
        "The kernel must be built with CONFIG_SECCOMP_FILTER; use the distribution's own kernel.",
        STATUS["system-call filter"],
    )


def _limits(mode: str) -> Check:
    if mode == "none":
        return Check(
            "limits",
            True,
            "no memory cgroup can be used: rlimits and a watchdog limit memory (best effort)",
            "For exact limits run the daemon as a systemd service with Delegate=yes, or in a login session of a "
            "system with cgroup v2 and a user service manager.",
            STATUS["limits"],
        )
    return Check("limits", True, f"memory and processes by cgroup v2 ({mode})", "", STATUS["limits"])


def _disk(root: Path, floor: int) -> tuple[str, str]:
    existing = root
    while not existing.exists():
        existing = existing.parent
    info = os.statvfs(existing)
    free = info.f_bavail * info.f_frsize
    if free < floor:
        raise SkilldeckError(
            f"{human(free)} free at {existing}; no command runs below {human(floor)}.",
            "Free some space there, or lower the disk floor.",
        )
    return f"{human(free)} free at {existing}", ""


def _engine(settings: Settings) -> tuple[str, str]:
    """Whether what the engine imports is installed; nothing is imported (torch alone takes seconds)."""
    if settings.engine == engines.REMOTE or (settings.engine == engines.AUTO and settings.remote_url):
        return f"remote: {settings.remote_url}", ""
    wanted = settings.engine if settings.engine != engines.AUTO else _engine_of(settings.model)
    found = engines.kind(wanted)
    found.check()
    return f"{wanted}{native.described()}" if wanted.startswith("llamacpp") else wanted, ""


def _engine_of(model: str) -> str:
    """The engine for a model; where it is not on this disk yet, the one for what would be fetched."""
    path = registry.tiny_file() if model in (registry.TINY, registry.TINY_NAME, "") else Path(model).expanduser()
    if path.exists():
        return engines.choose(ModelSource.of(path)).name
    return "exllamav2" if shutil.which("nvidia-smi") and not engines.kind("exllamav2").missing else "llamacpp"


def _gpu() -> tuple[str, str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "none found; models run on the CPU", ""
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SkilldeckError(f"{tool} cannot be run: {error}.", "Reinstall the NVIDIA driver.") from error
    if said.returncode != 0:
        raise SkilldeckError(
            f"The driver answers: {(said.stdout + said.stderr).strip()}", "Load or reinstall the NVIDIA driver."
        )
    return "; ".join(said.stdout.strip().splitlines()), ""


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(2)
        try:
            sock.connect(str(path))
        except OSError:
            return False
    return True


def _control_socket(path: Path) -> tuple[str, str]:
    if len(os.fsencode(path)) > 107:
        raise SkilldeckError(f"{path} is too long for a socket.", "Set a shorter one with --socket.")
    private.check_socket_folder(path)
    if _answers(path):
        return f"a daemon answers at {path}", ""
    return f"{path} is free", ""


def _port(settings: Settings) -> tuple[str, str]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    where = f"{settings.host}:{settings.port}"
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((settings.host, settings.port))
        except OSError as error:
            if _answers(settings.socket):
                return f"{where} is in use, and a daemon is running", ""
            raise SkilldeckError(f"{where} cannot be used: {error.strerror}.", "Choose another --port.") from error
    return f"{where} is free", ""
