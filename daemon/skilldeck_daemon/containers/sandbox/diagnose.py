"""Why a sandbox does not start, and what mends it: bwrap's words mapped to the fix."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from skilldeck_daemon.containers.errors import SandboxUnavailable
from skilldeck_daemon.containers.sandbox import bwrap

MINIMUM = (0, 8)
OPT_OUT = "Or pass --sandbox none to run without isolation."


@dataclass(frozen=True)
class Facts:
    """What the kernel and the distribution say about user namespaces; None where the file does not exist."""

    max_user_namespaces: int | None
    unprivileged_userns_clone: int | None
    apparmor_restrict: int | None
    in_container: bool

    @classmethod
    def read(cls) -> Facts:
        return cls(
            _number("/proc/sys/user/max_user_namespaces"),
            _number("/proc/sys/kernel/unprivileged_userns_clone"),
            _number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            any(Path(p).exists() for p in ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")),
        )


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def version(executable: str) -> tuple[int, ...]:
    """bwrap's version. Raises `SandboxUnavailable` when it does not say one."""
    try:
        run = subprocess.run([executable, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxUnavailable(f"{executable} cannot be run: {error}.", OPT_OUT) from error
    found = re.search(r"(\d+(?:\.\d+)+)", run.stdout)
    if found is None:
        raise SandboxUnavailable(f"{executable} does not say its version: {run.stderr.strip()}", OPT_OUT)
    return tuple(int(part) for part in found[1].split("."))


def check_version(executable: str) -> tuple[int, ...]:
    """Raises `SandboxUnavailable` for a bwrap that is too old; returns the version."""
    found = version(executable)
    if found < MINIMUM:
        raise SandboxUnavailable(
            f"bubblewrap {'.'.join(map(str, found))} is too old; 0.8 or newer is needed.",
            f"Run: {bwrap.install_hint('bubblewrap')}. {OPT_OUT}",
        )
    return found


def is_setuid(executable: str) -> bool:
    return bool(os.stat(executable).st_mode & stat.S_ISUID)


def _sudo() -> str:
    return "" if os.geteuid() == 0 else "sudo "


def check_facts(facts: Facts) -> None:
    """Raises `SandboxUnavailable` for what the kernel forbids outright."""
    if facts.unprivileged_userns_clone == 0:
        raise SandboxUnavailable(
            "This kernel forbids user namespaces to ordinary users.",
            f"Run: {_sudo()}sysctl -w kernel.unprivileged_userns_clone=1. {OPT_OUT}",
        )
    if facts.max_user_namespaces == 0:
        raise SandboxUnavailable(
            "The number of user namespaces is set to 0.",
            f"Run: {_sudo()}sysctl -w user.max_user_namespaces=15000. {OPT_OUT}",
        )


def explain(error: SandboxUnavailable, facts: Facts | None = None) -> SandboxUnavailable:
    """The same failure with a hint that mends it."""
    text = error.title
    facts = facts or Facts.read()
    low = text.lower()
    sudo = _sudo()

    def answer(title: str, fix: str) -> SandboxUnavailable:
        return SandboxUnavailable(f"{title} ({text})", f"{fix} {OPT_OUT}")

    try:
        check_facts(facts)
    except SandboxUnavailable as forbidden:
        return SandboxUnavailable(f"{forbidden.title} ({text})", forbidden.hint)
    if "no space left on device" in low or "max_user_namespaces" in low:
        return answer(
            "The number of user namespaces is used up.",
            f"Run: {sudo}sysctl -w user.max_user_namespaces=15000.",
        )
    if facts.apparmor_restrict == 1 and (
        "uid map" in low or "rtm_newaddr" in low or "permission denied" in low or "not permitted" in low
    ):
        return answer(
            "AppArmor restricts user namespaces.",
            f"Load the profile for bwrap: {sudo}apt-get install -y apparmor-profiles && {sudo}cp "
            "/usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/ && "
            f"{sudo}apparmor_parser -r /etc/apparmor.d/bwrap-userns-restrict.",
        )
    if "mount proc" in low:
        return answer(
            "The surrounding container masks /proc, so no new one can be mounted.",
            "Start it with: docker run --security-opt systempaths=unconfined --security-opt seccomp=unconfined.",
        )
    if "setuid" in low or "unexpected capabilities" in low:
        return answer(
            "bwrap is installed setuid or with capabilities.",
            f"Run: {sudo}chmod u-s /usr/bin/bwrap (and {sudo}setcap -r /usr/bin/bwrap).",
        )
    if "namespace" in low or "not permitted" in low or "permission denied" in low or "uid map" in low:
        where = (
            "Start the surrounding container with: docker run --security-opt seccomp=unconfined "
            "--security-opt apparmor=unconfined --security-opt systempaths=unconfined."
            if facts.in_container
            else f"Allow them: {sudo}sysctl -w user.max_user_namespaces=15000; see skilldeckd doctor."
        )
        return answer("User namespaces are not available here.", where)
    return SandboxUnavailable(text, error.hint or f"See skilldeckd doctor. {OPT_OUT}")
