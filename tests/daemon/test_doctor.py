"""doctor: green on a machine that works, and the right fix on machines that were really made not to."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from daemon.containers.support import needs_bwrap
from skilldeck_daemon.containers import Containers, ContainerSpec, SandboxUnavailable
from skilldeck_daemon.containers.sandbox.diagnose import Facts, explain
from skilldeck_daemon.doctor import STATUS, Check, exit_status, run, run_checks

FREE = Facts(15_000, None, None, False)


@needs_bwrap
async def test_a_working_machine_passes_and_nothing_is_left(tmp_path: Path) -> None:
    checks = await run_checks(tmp_path / "containers", disk_floor_bytes=1)
    assert [check.name for check in checks if not check.ok] == []
    assert {check.name for check in checks} <= set(STATUS)
    assert len(set(STATUS.values())) == len(STATUS)
    assert exit_status(checks) == 0
    assert json.loads(json.dumps([asdict(check) for check in checks]))[0]["name"] == "bubblewrap"
    assert list(tmp_path.rglob("*")) in ([], [tmp_path / "containers"])


@needs_bwrap
async def test_it_works_beside_a_running_daemon(tmp_path: Path) -> None:
    containers = Containers(tmp_path / "containers", disk_floor_bytes=1)
    await containers.start()
    await containers.create(ContainerSpec("c"))
    assert exit_status(await run_checks(tmp_path / "containers", disk_floor_bytes=1)) == 0
    assert (await containers.delete("c")) is True
    await containers.close()


async def test_too_little_disk_is_its_own_status(tmp_path: Path) -> None:
    checks = await run_checks(tmp_path, sandbox="none", disk_floor_bytes=1 << 60)
    assert exit_status(checks) == STATUS["disk"]
    assert "no isolation" in checks[0].detail


@needs_bwrap
def test_the_command_prints_json_and_returns_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SKILLDECK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SKILLDECK_SOCKET", str(tmp_path / "run" / "daemon.sock"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("SKILLDECK_PORT", str(taken.getsockname()[1]))
        assert run(True) == STATUS["port"]
        said = json.loads(capsys.readouterr().out)
        assert [c["name"] for c in said["checks"] if not c["ok"]] == ["port"]
        assert run(False) == STATUS["port"]
        assert "fix: Choose another --port." in capsys.readouterr().out
    monkeypatch.setenv("SKILLDECK_PORT", "0")
    assert run(False) == 0


def test_the_first_failed_check_decides_the_exit_status() -> None:
    assert exit_status([Check("a", True, ""), Check("b", False, "", status=12), Check("c", False, "", status=13)]) == 12


def fake_bwrap(folder: Path, script: str) -> None:
    folder.mkdir()
    (folder / "bwrap").write_text("#!/bin/sh\n" + script)
    (folder / "bwrap").chmod(0o755)


async def test_a_missing_bwrap_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    checks = await run_checks(tmp_path / "containers")
    assert exit_status(checks) == STATUS["bubblewrap"]
    assert "not installed" in checks[0].detail
    assert "bubblewrap" in checks[0].fix
    with pytest.raises(SandboxUnavailable, match="not installed"):
        await Containers(tmp_path / "containers").start()


@needs_bwrap
async def test_an_old_bwrap_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_bwrap(tmp_path / "bin", "echo bubblewrap 0.6.2")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    checks = await run_checks(tmp_path / "containers")
    assert exit_status(checks) == STATUS["bubblewrap"]
    assert "0.6.2 is too old" in checks[0].detail


@needs_bwrap
async def test_a_sandbox_that_hangs_or_dies_is_reported_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_bwrap(tmp_path / "bin", 'test "$1" = --version && echo bubblewrap 0.9.0 && exit; echo "odd words" >&2; exit 1')
    tmp_path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(SandboxUnavailable):
        await Containers(tmp_path / "containers").start()
    checks = await run_checks(tmp_path / "containers")
    assert exit_status(checks) == STATUS["sandbox"]


CRIPPLED = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
uid, gid = os.getuid(), os.getgid()
def must(result):
    if result != 0:
        sys.exit(f"cannot prepare: {os.strerror(ctypes.get_errno())}")
must(libc.unshare(0x10000000 | 0x00020000))
open("/proc/self/setgroups", "w").write("deny")
open("/proc/self/uid_map", "w").write(f"1000 {uid} 1")
open("/proc/self/gid_map", "w").write(f"1000 {gid} 1")
if sys.argv[1] == "no namespaces":
    open("/proc/sys/user/max_user_namespaces", "w").write("0")
else:
    must(libc.mount(b"none", b"/proc/irq", b"tmpfs", 0, None))
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], sys.argv[3]])
"""
DOCTOR = """
import asyncio, dataclasses, json, sys
from pathlib import Path
from skilldeck_daemon.doctor import run_checks
checks = asyncio.run(run_checks(Path(sys.argv[1]), disk_floor_bytes=1))
print(json.dumps([dataclasses.asdict(check) for check in checks]))
"""


@needs_bwrap
@pytest.mark.parametrize(
    ("how", "check", "fix"),
    [
        ("no namespaces", "user namespaces", "sysctl -w user.max_user_namespaces"),
        ("masked proc", "sandbox", "systempaths=unconfined"),
    ],
)
def test_a_machine_that_cannot_isolate(how: str, check: str, fix: str, tmp_path: Path) -> None:
    """In a user namespace of its own this process is a machine without namespaces, or one with a masked /proc."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", CRIPPLED, how, DOCTOR, str(tmp_path / "c")], env=env, capture_output=True, text=True
    )
    if "cannot prepare" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    checks = {item["name"]: item for item in json.loads(done.stdout)}
    assert not checks[check]["ok"]
    assert fix in checks[check]["fix"]
    assert "--sandbox none" in checks[check]["fix"]
    assert not checks["sandbox"]["ok"]
    assert checks["bubblewrap"]["ok"]


@pytest.mark.parametrize(
    ("text", "facts", "fix"),
    [
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", FREE, "systempaths=unconfined"),
        (
            "bwrap: setting up uid map: Permission denied",
            Facts(15_000, None, 1, False),
            "bwrap-userns-restrict",
        ),
        (
            "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted",
            Facts(15_000, None, 1, False),
            "bwrap-userns-restrict",
        ),
        ("bwrap: No permissions to create new namespace", Facts(15_000, 0, None, False), "unprivileged_userns_clone=1"),
        ("bwrap: Creating new namespace failed: No space left on device", FREE, "max_user_namespaces"),
        ("bwrap: Creating new namespace failed", Facts(0, None, None, False), "max_user_namespaces"),
        ("bwrap: Unexpected capabilities but not setuid, old file caps config?", FREE, "chmod u-s"),
        ("bwrap: Creating new namespace failed: Operation not permitted", Facts(9, None, None, True), "docker run"),
        ("something else", FREE, "doctor"),
    ],
)
def test_each_failure_names_its_fix(text: str, facts: Facts, fix: str) -> None:
    error = explain(SandboxUnavailable(text), facts)
    assert fix in error.hint
    assert text in error.title
    assert error.status == 503
