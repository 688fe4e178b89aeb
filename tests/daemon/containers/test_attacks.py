"""The attack matrix: what a hostile command tries, and what it must not get.

Every row runs in a fresh container and then asserts the positive as well: the daemon's side is well and the next call
works in the same sandbox. Attacks that need more than a command and its output live beside the behaviour they attack:
test_bombs (memory, files, descriptors), test_exec (timeouts), test_files (artifacts), test_network, test_interpreter (by way
of the interpreter), test_hostile_supervisor, test_lifecycle (quota, fifty containers), test_crash (kill -9). All of them run
as root and as an ordinary user (test_as_user).
"""

# ruff: noqa: E501 (a table reads best with one row to a line)

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from daemon.containers.support import MIB, needs_bwrap, sh, until
from skilldeck_daemon.containers import Containers, ContainerSpec, Mount
from skilldeck_daemon.containers.sandbox import bwrap, proc
from skilldeck_daemon.containers.sandbox.seccomp import _NUMBERS

pytestmark = [needs_bwrap, pytest.mark.asyncio(loop_scope="module")]

SECRET = "skilldeck-test-secret-5150"

PRELUDE = """
import ctypes, errno, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    print(errno.errorcode.get(ctypes.get_errno(), '?') if result < 0 else f'OK {result}')
def attempt(function, *args):
    try:
        print('OK', function(*args))
    except OSError as error:
        print(errno.errorcode.get(error.errno, error.errno))
"""


def number(name: str) -> int:
    found = _NUMBERS[name][["x86_64", "aarch64"].index(platform.machine())]
    assert found is not None
    return found


@dataclass(frozen=True)
class Row:
    """One attack. `command` is shell; `python` a script run after the prelude.

    expect: a pattern stdout must match whole; refuse: the command must fail; absent: text that must not appear;
    left: how many processes it may leave.
    """

    name: str
    command: str = ""
    python: str = ""
    expect: str | None = None
    refuse: bool = False
    absent: str = SECRET
    error: str | None = None
    left: int | None = None
    timeout_ms: int = 20_000


def syscall(name: str, arguments: str, expect: str = "EPERM") -> Row:
    return Row(f"syscall {name}", python=f"call({number(name)}, {arguments})", expect=rf"({expect})\n")


def family(name: str, value: int, kind: str = "socket.SOCK_DGRAM", protocol: int = 0) -> Row:
    return Row(
        f"socket {name}", python=f"attempt(socket.socket, {value}, {kind}, {protocol})", expect=r"EAFNOSUPPORT\n"
    )


def write(path: str) -> Row:
    return Row(f"write {path}", command=f"echo x > {path}", refuse=True, error="(Read-only|Permission|No such|denied)")


ROWS = [
    # -- what is there to see --
    Row("read /etc/shadow", command="cat /etc/shadow", refuse=True, error="No such file"),
    Row("read the host's home", command="ls -A {home}", refuse=True, error="No such file"),
    Row("read a file of the host's /tmp", command="cat {outside}", refuse=True, error="No such file"),
    Row("look for host files anywhere", command="grep -rs --binary-files=text {secret_pattern} /etc /home /run /mnt /tmp /var /root; true"),
    Row("read the daemon's environment", command="cat /proc/*/environ | tr '\\0' '\\n'; env"),
    Row("read the daemon's descriptors", command="ls -l /proc/[0-9]*/fd | grep -c '{outside}'", expect=r"0\n", refuse=True),
    Row("see host processes", python="print(sum(n.isdigit() for n in os.listdir('/proc')) < 8)", expect=r"True\n"),
    Row("read private keys of the host", command="ls /etc/ssl/private /etc/ssh /root/.ssh ~/.ssh", expect="", refuse=True, error="No such file"),
    Row("another container's files", command="ls -A {base}; ls -d /mnt/*", expect="/mnt/data\n/mnt/skills\n", error="No such"),
    # -- what can be written --
    write("/usr/bin/x"),
    write("/etc/x"),
    write("/x"),
    write("/dev/x"),
    write("/run/x"),
    write("/run/supervisor.py"),
    write("/etc/passwd"),
    write("/mnt/skills/demo/SKILL.md"),
    write("/mnt/skills/new"),
    write("/proc/sys/kernel/hostname"),
    write("/proc/sys/kernel/core_pattern"),
    write("/proc/sysrq-trigger"),
    Row("write the interpreter through /proc/self/exe", python="attempt(os.open, '/proc/self/exe', os.O_RDWR)", expect=r"(ETXTBSY|EROFS|EACCES)\n"),
    Row("hard link to a host file", command="ln /mnt/skills/demo/SKILL.md /mnt/data/x", refuse=True, error="cross-device"),
    Row("make a device node", command="mknod /mnt/data/sda b 8 0", refuse=True, error="not permitted"),
    Row("run a setuid copy", command="cp /usr/bin/id x; chmod 6755 x; ./x -u", expect=r"1000\n"),
    Row("become root", command="su -c id || sudo -n id || unshare -r id", refuse=True),
    # -- processes --
    Row("signal a host process", python="attempt(os.kill, {daemon}, 0)", expect=r"ESRCH\n"),
    Row("kill everything", command="sleep 60 & kill -9 -1; echo alive", expect=r"(alive\n)?", left=0),
    Row("kill PID 1", command="kill -9 1; kill -STOP 1; kill -INT 1; kill -TERM 1; kill -HUP 1; echo alive", expect=r"alive\n"),
    Row("read PID 1's memory", python="attempt(os.open, '/proc/1/mem', os.O_RDWR)", expect=r"EACCES\n"),
    Row("read PID 1's environment", python="attempt(open, '/proc/1/environ')", expect=r"EACCES\n"),
    Row("list PID 1's descriptors", python="attempt(os.listdir, '/proc/1/fd')", expect=r"EACCES\n"),
    Row("replace PID 1's control socket", python=f"fd = os.pidfd_open(1); call({number('pidfd_getfd')}, fd, 3, 0)", expect=r"EPERM\n"),
    Row("change PID 1's limits", python="import resource; attempt(resource.prlimit, 1, resource.RLIMIT_AS, (1, 1))", expect=r"EPERM\n"),
    Row("take the processor from the host", python="attempt(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))\nattempt(os.setpriority, 0, 0, 0)\nprint(os.getpriority(0, 0) > 0)", expect=r"EPERM\n(EACCES|EPERM)\nTrue\n"),
    Row("use up what the host's user has", python="import resource as r\nprint([r.getrlimit(x)[1] for x in (r.RLIMIT_SIGPENDING, r.RLIMIT_MSGQUEUE, r.RLIMIT_NICE, r.RLIMIT_RTPRIO)])", expect=r"\[1024, 0, 0, 0\]\n"),
    Row("raise one's own limits", python="import resource\ntry:\n  resource.setrlimit(resource.RLIMIT_NPROC, (9999, 9999)); print('raised')\nexcept ValueError:\n  print('refused')", expect=r"refused\n"),
    # -- system calls --
    syscall("ptrace", "16, 1, 0, 0"),
    syscall("process_vm_readv", "1, 0, 0, 0, 0, 0"),
    syscall("mount", "b'none', b'/tmp', b'tmpfs', 0, 0"),
    syscall("umount2", "b'/tmp', 0"),
    syscall("open_tree", "-100, b'/', 1"),
    syscall("fsopen", "b'tmpfs', 0"),
    syscall("mount_setattr", "-100, b'/', 0, 0, 0"),
    syscall("pivot_root", "b'/tmp', b'/tmp'"),
    syscall("chroot", "b'/tmp'"),
    syscall("unshare", "0x10000000"),
    syscall("setns", "0, 0"),
    syscall("clone", "0x10000011, 0, 0, 0, 0"),
    syscall("clone3", "0, 0", "ENOSYS"),
    syscall("keyctl", "0, -3, 0"),
    syscall("add_key", "b'user', b'a', b'b', 1, -3"),
    syscall("bpf", "0, 0, 0"),
    syscall("perf_event_open", "0, 0, -1, -1, 0"),
    syscall("io_uring_setup", "8, 0", "ENOSYS"),
    syscall("userfaultfd", "0"),
    syscall("open_by_handle_at", "-100, 0, 0"),
    syscall("kexec_load", "0, 0, 0, 0"),
    syscall("init_module", "0, 0, 0"),
    syscall("reboot", "0, 0, 0, 0"),
    syscall("sethostname", "b'x', 1"),
    syscall("memfd_secret", "0"),
    Row("take all inotify instances that the host's user has", python=f"n = 0\nwhile libc.syscall({number('inotify_init1')}, 0) >= 0: n += 1\nprint(0 < n <= 8, errno.errorcode[ctypes.get_errno()])", expect=r"True EMFILE\n"),
    Row("raise the number of inotify instances", command="cd /proc/sys/user && for f in *; do echo 999 > $f; done", error="Permission denied", expect=""),
    Row("lease a file that the daemon will open", python="import fcntl\nfor path in ('attack.py', '/mnt/skills/demo/SKILL.md'):\n    with open(path) as file: attempt(fcntl.fcntl, file, fcntl.F_SETLEASE, fcntl.F_WRLCK)", expect=r"EPERM\nEPERM\n"),
    Row("personality", python=f"call({number('personality')}, 0x0400000)", expect=r"EPERM\n"),
    Row("inject into a terminal", python="import fcntl, pty\nm, s = pty.openpty()\nattempt(fcntl.ioctl, s, 0x5412, b'x')", expect=r"EPERM\n"),
    Row("load a kernel module by a terminal", python="import fcntl, pty, struct\nm, s = pty.openpty()\nfor kind in (0, 13, 29): attempt(fcntl.ioctl, s, 0x5423, struct.pack('i', kind))", expect=r"(EPERM\n){3}"),
    Row("a terminal works", python="import os, pty\nm, s = pty.openpty()\nos.write(m, b'x\\n')\nprint(os.read(s, 9))", expect=r"b'x\\n'\n"),
    syscall("io_setup", "64, b'\\0' * 8", "ENOSYS"),
    Row("load a kernel module by socket()", python="for kind, protocol in ((1, 132), (5, 132), (6, 33), (6, 0), (1, 262)):\n    attempt(socket.socket, socket.AF_INET, kind, protocol)", expect=r"(EPROTONOSUPPORT\n){5}"),
    family("AF_VSOCK", 40, "socket.SOCK_STREAM"),
    family("AF_ALG", 38, "socket.SOCK_SEQPACKET"),
    family("AF_PACKET", 17, "socket.SOCK_RAW"),
    family("AF_NETLINK beyond ROUTE", 16, "socket.SOCK_RAW", 9),
    # -- network --
    Row("the host's TCP port", python="attempt(socket.create_connection, ('127.0.0.1', {port}), 3)", expect=r"ECONNREFUSED\n"),
    Row("the host's IPv6 port", python="attempt(socket.create_connection, ('::1', {port6}), 3)", expect=r"(ECONNREFUSED|EADDRNOTAVAIL)\n"),
    Row("the host's abstract socket", python="s = socket.socket(socket.AF_UNIX)\nattempt(s.connect, '\\0{abstract}')", expect=r"ECONNREFUSED\n"),
    Row("an outside address", python="attempt(socket.create_connection, ('192.0.2.1', 80), 3)", expect=r"ENETUNREACH\n"),
    Row("name resolution", command="getent hosts example.org", refuse=True),
    # -- resources --
    Row("fork bomb", command="bomb() { bomb | bomb & }; bomb; sleep 60", left=0, timeout_ms=1000),
    Row("fork bomb left behind", command="f() { while :; do (sleep 60 &) ; done; }; f 2>/dev/null & t=$((SECONDS + 1)); while ((SECONDS < t)); do :; done; echo left", expect=r"left\n", left=bwrap.NPROC),
    Row("two thousand zombies", python="for _ in range(2000):\n    if os.fork() == 0:\n        if os.fork() == 0: os._exit(0)\n        os._exit(0)\n    os.wait()\nprint('done')", expect=r"done\n", left=0, timeout_ms=90_000),
    Row("memory bomb", python="try:\n    x = bytearray(3 << 30); print('got it')\nexcept MemoryError:\n    print('refused')", expect=r"refused\n"),
    Row("fill /tmp", command="head -c 2G /dev/zero > /tmp/f; rm -f /tmp/f", error="No space left"),
    Row("fill /dev/shm", command="head -c 2G /dev/zero > /dev/shm/f; rm -f /dev/shm/f", error="No space left"),
    Row("a terabyte of nothing", command="truncate -s 1T f", refuse=True, error="File too large"),
    Row("a file beyond the size limit", command="truncate -s 2047M f; head -c 2M /dev/zero >> f", error="File too large"),
    Row("open every descriptor", python="n = 0\ntry:\n    while n < 5000: os.open('/dev/null', 0); n += 1\nexcept OSError: pass\nprint(n < 1024)", expect=r"True\n"),
    # -- the supervisor --
    Row("planted modules", command="for m in json socket os signal ctypes resource select errno time; do echo 'raise SystemExit(9)' > $m.py; done; kill -9 -1"),
    Row("output that is not text", command=r"head -c 100000 /dev/urandom; printf '\xc3'"),
    Row("closed standard streams", command="exec 0<&- 1>&- 2>&-; sleep 0.05"),
]  # fmt: skip


@dataclass
class Host:
    """Things of the host that attacks aim at."""

    outside: Path
    port: int
    port6: int
    abstract: str


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    outside = tmp_path_factory.mktemp("host") / "secret.txt"
    outside.write_text(SECRET)
    outside.chmod(0o644)
    os.environ["SKILLDECK_TEST_SECRET"] = SECRET
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        try:
            tcp6 = stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
            port6 = tcp6.getsockname()[1]
        except OSError:
            port6 = 1
        abstract = f"skilldeck-test-{os.getpid()}"
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind("\0" + abstract)
        unix.listen()
        yield Host(outside, tcp.getsockname()[1], port6, abstract)
    del os.environ["SKILLDECK_TEST_SECRET"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Containers]:
    containers = Containers(tmp_path_factory.mktemp("attacks") / "containers", disk_floor_bytes=MIB)
    await containers.start()
    neighbour = await containers.create(ContainerSpec("neighbour"))
    await neighbour.put("neighbour.txt", SECRET.encode())
    yield containers
    assert (await sh(neighbour, "cat neighbour.txt")).stdout == SECRET
    await containers.delete("neighbour")
    await containers.close()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_attack(row: Row, shared: Containers, host: Host, tmp_path: Path) -> None:
    skill = tmp_path / "demo"
    skill.mkdir()
    (skill / "SKILL.md").write_text("demo")
    container = await shared.create(ContainerSpec("cntr_attack", mounts=(Mount("demo", skill),)))
    places = {
        "{home}": str(Path.home()) if Path.home() != Path("/") else "/root",
        "{outside}": str(host.outside),
        "{secret_pattern}": SECRET[:-2] + "[5]0",
        "{base}": str(shared.base),
        "{daemon}": str(os.getpid()),
        "{port}": str(host.port),
        "{port6}": str(host.port6),
        "{abstract}": host.abstract,
    }
    text = PRELUDE + row.python if row.python else row.command
    for key, value in places.items():
        text = text.replace(key, value)
    if row.python:
        await container.put("attack.py", text.encode())
    try:
        result = await sh(container, "python3 -I attack.py" if row.python else text, timeout_ms=row.timeout_ms)
        assert row.absent not in result.stdout
        assert row.absent not in result.stderr
        json.dumps([result.stdout, result.stderr], ensure_ascii=False).encode()
        if row.expect is not None:
            assert re.fullmatch(row.expect, result.stdout), result
        if row.refuse:
            assert result.exit_code != 0, result
        if row.error is not None:
            assert re.search(row.error, result.stderr, re.IGNORECASE), result
        if row.left is not None:
            pid = container.init_pid
            assert pid is not None
            await until(lambda: len(proc.descendants(pid)) <= row.left, within=30)
        # The positive: the next call works, in the same sandbox, and nothing of the host has changed.
        after = await sh(container, "echo well; cat /mnt/skills/demo/SKILL.md; touch works && rm works; id -u")
        assert after.stdout == "well\ndemo1000\n", after
        assert container.restarts == 0
        assert host.outside.read_text() == SECRET
        assert (skill / "SKILL.md").read_text() == "demo"
    finally:
        home, pid = container.data_dir.parent, container.init_pid
        await container.close()
    assert not home.exists()
    assert not Path(f"/proc/{pid}").exists()


async def test_the_outside_identity_is_powerless(shared: Containers) -> None:
    """Outside the namespace too, the processes have neither root's uid nor a capability, nor can they gain any."""
    container = await shared.create(ContainerSpec("cntr_identity"))
    await sh(container, "sleep 60 >/dev/null 2>&1 &")
    assert container.init_pid is not None
    pids = [container.init_pid, *proc.descendants(container.init_pid)]
    assert len(pids) >= 2
    for pid in pids:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert "0" not in status["Uid"].split() + status["Gid"].split()
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[name], 16) == 0
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
    await container.close()


async def test_only_the_daemon_can_enter_the_containers_directory(shared: Containers) -> None:
    container = await shared.create(ContainerSpec("cntr_private"))
    assert container.data_dir.parent.stat().st_mode & 0o077 == 0
    await container.close()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 exists on x86_64 only")
async def test_the_x32_interface_does_not_exist(shared: Containers) -> None:
    container = await shared.create(ContainerSpec("cntr_x32"))
    await container.put("a.py", (PRELUDE + "call(0x40000000 + 39)").encode())
    assert (await sh(container, "python3 -I a.py")).stdout == "ENOSYS\n"
    assert (await sh(container, "echo next")).stdout == "next\n"
    await container.close()
