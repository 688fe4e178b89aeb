"""cgroup v2 and the system-call filter, as far as they can be seen without the machine's cooperation."""

from __future__ import annotations

import errno
import os
import platform
import struct
from pathlib import Path

import pytest

from skilldeck_daemon.containers.sandbox import cgroups, proc, seccomp
from skilldeck_daemon.containers.sandbox.cgroups import Cgroups, Group
from skilldeck_daemon.containers.sandbox.inotify import Share, Shares

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def judge(
    machine: str, name: str, *args: int, number: int | None = None, arch: int | None = None, inotify: bool = False
) -> str:
    """What the filter says about a call: a plain interpreter of classic BPF."""
    code = seccomp.program(hide_memory=True, inotify=inotify, machine=machine)
    program = [struct.unpack_from("<HBBI", code, at) for at in range(0, len(code), 8)]
    column = list(ARCH).index(machine)
    nr = number if number is not None else seccomp._NUMBERS[name][column]
    data = struct.pack("<IIQ6Q", nr, ARCH[machine] if arch is None else arch, 0, *(*args, *[0] * 6)[:6])
    at = accumulator = 0
    while True:
        op, yes, no, k = program[at]
        at += 1
        if op == 0x20:
            accumulator = int(struct.unpack_from("<I", data, k)[0])
        elif op == 0x06:
            if k >> 16 == 5:
                return errno.errorcode[k & 0xFFFF]
            return {0x7FFF0000: "allow", 0x80000000: "kill"}[k]
        else:
            true = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[op]
            at += yes if true else no


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_on_both_machines(machine: str) -> None:
    assert judge(machine, "ptrace") == "EPERM"
    assert judge(machine, "clone3") == "ENOSYS"
    for hidden in ("memfd_create", "shmget", "semget", "msgget"):
        assert judge(machine, hidden) == "EPERM"
    assert judge(machine, "inotify_init1") == "EMFILE"
    assert judge(machine, "inotify_init1", inotify=True) == "allow"
    assert judge(machine, "fcntl", 3, 1024, 1) == "EPERM"
    assert judge(machine, "fcntl", 3, 1) == "allow"
    assert judge(machine, "clone", 0x11) == "allow"
    assert judge(machine, "clone", 0x003D0F00) == "allow"  # pthread_create
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert judge(machine, "clone", 0x11 | flag) == "EPERM"
    assert judge(machine, "ioctl", 0, 0x5401) == "allow"
    assert judge(machine, "ioctl", 0, 0x5412) == "EPERM"
    assert judge(machine, "ioctl", 0, 0x1_0000_5412) == "EPERM"
    for family, answer in ((1, "allow"), (2, "allow"), (10, "allow"), (17, "EAFNOSUPPORT"), (40, "EAFNOSUPPORT")):
        assert judge(machine, "socket", family, 2, 0) == answer
    for kind, protocol in ((1, 0), (1, 6), (0x80801, 6), (2, 17), (2, 1), (3, 1)):
        assert judge(machine, "socket", 2, kind, protocol) == judge(machine, "socket", 10, kind, protocol) == "allow"
    for kind, protocol in ((1, 132), (5, 132), (5, 0), (6, 0), (6, 33), (2, 136), (1, 262), (0x80806, 0), (10, 3)):
        assert judge(machine, "socket", 2, kind, protocol) == "EPROTONOSUPPORT"
    assert judge(machine, "io_setup") == "ENOSYS"
    assert judge(machine, "socket", 1, 5, 0) == "allow"
    assert judge(machine, "socket", 16, 3, 0) == "allow"
    assert judge(machine, "socket", 16, 3, 9) == "EAFNOSUPPORT"
    assert judge(machine, "prlimit64", 0) == "allow"
    assert judge(machine, "prlimit64", 1) == "EPERM"
    assert judge(machine, "personality", 0xFFFFFFFF) == "allow"
    assert judge(machine, "ptrace", arch=0x40000003) == "kill"
    for number in (0, 1, 59, 60, 231, 9999):
        assert number in {n[list(ARCH).index(machine)] for n in seccomp._NUMBERS.values()} or (
            judge(machine, "", number=number) == "allow"
        )
    denied = [name for name in seccomp._DENIED if seccomp._NUMBERS[name][list(ARCH).index(machine)] is not None]
    assert {judge(machine, name) for name in denied} == {"EPERM"}


def test_x32_numbers_do_not_exist() -> None:
    assert judge("x86_64", "", number=0x40000000 + 101) == "ENOSYS"


def test_an_unknown_machine_has_no_filter() -> None:
    assert seccomp.supported(platform.machine())
    assert not seccomp.supported("mips")


# -- cgroups: a directory laid out as the kernel lays it out ---------------------------------------------


@pytest.fixture
def group(tmp_path: Path) -> Path:
    own = tmp_path / "service"
    own.mkdir()
    (own / "cgroup.controllers").write_text("cpu memory pids\n")
    (own / "cgroup.subtree_control").write_text("\n")
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n")
    return own


def test_a_delegated_group_is_divided(group: Path) -> None:
    assert cgroups._divide(group)
    assert (group / "skilldeckd" / "cgroup.procs").read_text() == str(os.getpid())
    assert (group / "cgroup.subtree_control").read_text() == "+memory +pids"
    made = Cgroups(group, "delegated").limit("c1", 1 << 30, [os.getpid()])
    assert made is not None
    assert (made.path / "cgroup.procs").read_text() == str(os.getpid())
    assert (made.path / "memory.max").read_text() == str(1 << 30)
    assert (made.path / "memory.swap.max").read_text() == "0"
    assert int((made.path / "pids.max").read_text()) == cgroups.TASKS_MAX
    (made.path / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert made.oom_kills() == 2


def test_the_groups_of_a_killed_daemon_are_removed_and_those_of_a_living_one_stay(group: Path) -> None:
    for name in (f"skilldeck-{2**22 + 1}-3-c", f"skilldeck-{os.getppid()}-1-c", "skilldeckd", "other"):
        (group / name).mkdir()
    Cgroups(group, "delegated").sweep()
    left = sorted(item.name for item in group.iterdir() if item.is_dir())
    assert left == ["other", f"skilldeck-{os.getppid()}-1-c", "skilldeckd"]


@pytest.mark.parametrize(
    ("file", "text"),
    [("cgroup.procs", f"{os.getpid()}\n1\n"), ("cgroup.controllers", "cpu pids\n")],
    ids=["shared", "no memory controller"],  # a pid in the id would differ between the processes of a parallel run
)
def test_a_group_that_is_shared_or_has_no_memory_controller_is_left_alone(group: Path, file: str, text: str) -> None:
    (group / file).write_text(text)
    assert not cgroups._divide(group)
    assert not (group / "skilldeckd").exists()


def test_the_own_group_is_found_on_v2_only(tmp_path: Path) -> None:
    own = tmp_path / "self"
    own.write_text("0::/user.slice/x.scope\n")
    assert cgroups.own_group(tmp_path, own) is None
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    assert cgroups.own_group(tmp_path, own) == tmp_path / "user.slice/x.scope"


def test_a_scope_wraps_the_command_with_its_limits() -> None:
    words = Cgroups(None, "scope").wrap("c1", 1 << 30)
    assert words[0] == "systemd-run"
    assert f"MemoryMax={1 << 30}" in words
    assert "OOMPolicy=continue" in words
    assert words[-1] == "--"
    assert ("--user" in words) is (os.geteuid() != 0)
    assert Cgroups(None, "none").wrap("c1", 1) == []


def test_a_group_that_is_gone_is_removed_quietly(tmp_path: Path) -> None:
    Group(tmp_path / "missing").remove()
    assert Group(tmp_path / "missing").oom_kills() == 0


# -- /proc -----------------------------------------------------------------------------------------------


def test_processes_are_found_with_and_without_the_kernels_list(monkeypatch: pytest.MonkeyPatch) -> None:
    pid = os.fork()
    if pid == 0:
        os.execvp("sleep", ["sleep", "60"])
    try:
        assert pid in proc.descendants(os.getpid())
        monkeypatch.setattr(proc, "_has_children_files", lambda: False)
        assert pid in proc.descendants(os.getpid())
        assert proc.memory(os.getpid()) > 1024**2
        assert proc.proportional_memory(os.getpid()) > 1024**2
        proc.kill_below(os.getpid(), proc.started(os.getpid()) + 1, [pid])
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        proc.kill_below(os.getpid(), proc.started(os.getpid()), [1, os.getppid(), pid])
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == 9
        pid = 0
    finally:
        if pid:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def test_a_process_that_is_gone_holds_nothing() -> None:
    assert proc.memory(2**22 + 1) == proc.proportional_memory(2**22 + 1) == proc.started(2**22 + 1) == 0
    assert proc.descendants(2**22 + 1) == []


class Sandbox:
    ended = False


def test_all_containers_together_watch_with_half_of_what_the_hosts_user_has() -> None:
    shares = Shares(64, 10_000)
    boxes = [Sandbox() for _ in range(50)]
    given = []
    for box in boxes:
        given.append(shares.next())
        shares.hold(box, given[-1])
    assert given[0] == Share(8, 1250)
    assert [share.instances for share in given[:14]] == [8, 8, 8, 8, 8, 6, 4, 3, 2, 2, 1, 1, 1, 1]
    assert sum(share.instances for share in given) <= 64
    assert sum(share.watches for share in given) <= 10_000
    assert given[-1] == Share()
    boxes[0].ended = True  # others have its share by and by
    assert shares.next().instances == 2
    assert Shares().next() == Share()
