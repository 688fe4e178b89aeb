"""The seccomp filter of a container, assembled as classic BPF in plain Python.

A deny list over an allowed default: namespaces, the capability drop and read-only mounts do the isolating; the
filter closes what those leave open to an unprivileged process (AF_VSOCK is not namespaced; TIOCSTI injects into a
terminal; TIOCSETD loads a line discipline's module into the kernel; a lease on a file makes the daemon that opens it
wait 45 s; memfd_create hides memory from a watchdog) and cuts the kernel surface that a skill never needs.

`program()` is the bytes bwrap's --seccomp takes. Unknown machine: `KeyError`, and no container starts.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Callable

# struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6]. Little-endian on both machines.
_NR = 0
_ARCH = 4


def _arg(index: int) -> int:
    return 16 + 8 * index


_LD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JEQ = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JGE = 0x35
_JSET = 0x45
_RET = 0x06

_ALLOW = 0x7FFF0000
_KILL = 0x80000000

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000

# Numbers by name for (x86_64, aarch64); None where the call does not exist.
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "ioctl": (16, 29),
    "shmget": (29, 194),
    "io_setup": (206, 0),
    "semget": (64, 190),
    "msgget": (68, 186),
    "fcntl": (72, 25),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "socket": (41, 198),
    "clone": (56, 220),
    "ptrace": (101, 117),
    "syslog": (103, 116),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "pivot_root": (155, 41),
    "adjtimex": (159, 171),
    "chroot": (161, 51),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "mount": (165, 40),
    "umount2": (166, 39),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "quotactl": (179, 60),
    "lookup_dcookie": (212, 18),
    "clock_settime": (227, 112),
    "kexec_load": (246, 104),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "migrate_pages": (256, 238),
    "unshare": (272, 97),
    "move_pages": (279, 239),
    "vmsplice": (278, 75),
    "perf_event_open": (298, 241),
    "fanotify_init": (300, 262),
    "prlimit64": (302, 261),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "clock_adjtime": (305, 266),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "finit_module": (313, 273),
    "memfd_create": (319, 279),
    "kexec_file_load": (320, 294),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "clone3": (435, 435),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "mount_setattr": (442, 442),
    "quotactl_fd": (443, 443),
    "memfd_secret": (447, 447),
    "open_tree_attr": (467, 467),
}

# glibc and language runtimes fall back when these do not exist, and give up when they are forbidden.
# (io_setup: the contexts of all users together are limited, so one could leave the host's databases without any.)
_ABSENT = ["clone3", "io_setup", "io_uring_setup", "io_uring_enter", "io_uring_register"]
_HIDDEN_MEMORY = ["memfd_create", "shmget", "semget", "msgget"]
# Where a container has no share of them (`inotify.py`): "too many" is what programs are prepared for.
_USED_UP = ["inotify_init", "inotify_init1"]
_BY_ARGUMENT = ["clone", "ioctl", "socket", "prlimit64", "personality", "fcntl"]
_DENIED = [name for name in _NUMBERS if name not in {*_ABSENT, *_HIDDEN_MEMORY, *_USED_UP, *_BY_ARGUMENT}]

# NEWNS NEWCGROUP NEWUTS NEWIPC; NEWUSER NEWPID NEWNET
_CLONE_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x70000000
_TIOCSTI = 0x5412
_TIOCLINUX = 0x541C
_TIOCSETD = 0x5423
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
# ICMP, TCP, UDP, ICMPv6. For SCTP, DCCP and their like anybody's socket() would load a module into the kernel.
_PROTOCOLS = (0, 1, 6, 17, 58)
_BEYOND_RAW = (
    0b1100  # set in SOCK_RDM, SOCK_SEQPACKET, SOCK_DCCP, SOCK_PACKET; not in SOCK_STREAM, SOCK_DGRAM, SOCK_RAW
)
_PERSONALITY_QUERY = 0xFFFFFFFF
_F_SETLEASE = 1024


def _errno(number: int) -> int:
    return 0x00050000 | number


class _Assembler:
    """Forward jumps to labels; BPF counts them from the next instruction, in one byte each."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str | None, str | None, int]] = []
        self.labels: dict[str, int] = {}

    def op(self, code: int, k: int, yes: str | None = None, no: str | None = None) -> None:
        self.lines.append((code, yes, no, k))

    def label(self, name: str) -> None:
        self.labels[name] = len(self.lines)

    def bytes(self) -> bytes:
        out = bytearray()
        for index, (code, yes, no, k) in enumerate(self.lines):
            jump_yes = self.labels[yes] - index - 1 if yes else 0
            jump_no = self.labels[no] - index - 1 if no else 0
            out += struct.pack("<HBBI", code, jump_yes, jump_no, k)
        return bytes(out)


def supported(machine: str | None = None) -> bool:
    """Whether a filter exists for this processor."""
    return (machine or platform.machine()) in _AUDIT_ARCH


def program(*, hide_memory: bool, inotify: bool = False, machine: str | None = None) -> bytes:
    """The filter for `machine` (default: this one).

    Args:
        hide_memory: also deny memfd_create, shmget, semget and msgget. For machines without a memory cgroup,
            where a watchdog over resident memory would not see what they hold.
        inotify: let instances be made; the container's user namespace limits their number.
    """
    machine = machine or platform.machine()
    column = list(_AUDIT_ARCH).index(machine)

    def number(name: str) -> int | None:
        return _NUMBERS[name][column]

    asm = _Assembler()
    asm.op(_LD, _ARCH)
    asm.op(_JEQ, _AUDIT_ARCH[machine], "native", None)
    asm.op(_RET, _KILL)
    asm.label("native")
    asm.op(_LD, _NR)
    if machine == "x86_64":
        asm.op(_JGE, _X32, "absent", None)

    # Calls whose arguments decide come first: one block each, every block ends in a return.
    def argument_block(name: str, body: Callable[[str], None]) -> None:
        nr = number(name)
        if nr is None:
            return
        asm.op(_JEQ, nr, None, f"after_{name}")
        body(name)
        asm.label(f"after_{name}")

    def clone(name: str) -> None:
        asm.op(_LD, _arg(0))
        asm.op(_JSET, _CLONE_NAMESPACES, None, f"{name}_ok")
        asm.op(_RET, _errno(errno.EPERM))
        asm.label(f"{name}_ok")
        asm.op(_RET, _ALLOW)

    def ioctl(name: str) -> None:
        # The kernel looks at the low 32 bits only, so the filter does as well.
        asm.op(_LD, _arg(1))
        asm.op(_JEQ, _TIOCSTI, f"{name}_no", None)
        asm.op(_JEQ, _TIOCSETD, f"{name}_no", None)
        asm.op(_JEQ, _TIOCLINUX, f"{name}_no", f"{name}_ok")
        asm.label(f"{name}_no")
        asm.op(_RET, _errno(errno.EPERM))
        asm.label(f"{name}_ok")
        asm.op(_RET, _ALLOW)

    def socket(name: str) -> None:
        asm.op(_LD, _arg(0))
        asm.op(_JEQ, _AF_UNIX, f"{name}_ok", None)
        asm.op(_JEQ, _AF_INET, f"{name}_inet", None)
        asm.op(_JEQ, _AF_INET6, f"{name}_inet", None)
        asm.op(_JEQ, _AF_NETLINK, None, f"{name}_no")
        asm.op(_LD, _arg(2))
        asm.op(_JEQ, 0, f"{name}_ok", f"{name}_no")  # NETLINK_ROUTE: getifaddrs
        asm.label(f"{name}_inet")
        asm.op(_LD, _arg(1))
        asm.op(_JSET, _BEYOND_RAW, f"{name}_kind", None)
        asm.op(_LD, _arg(2))
        for protocol in _PROTOCOLS:
            asm.op(_JEQ, protocol, f"{name}_ok", None)
        asm.label(f"{name}_kind")
        asm.op(_RET, _errno(errno.EPROTONOSUPPORT))
        asm.label(f"{name}_no")
        asm.op(_RET, _errno(errno.EAFNOSUPPORT))
        asm.label(f"{name}_ok")
        asm.op(_RET, _ALLOW)

    def prlimit64(name: str) -> None:
        # Only one's own limits: another process's would include the supervisor's.
        asm.op(_LD, _arg(0))
        asm.op(_JEQ, 0, f"{name}_ok", None)
        asm.op(_RET, _errno(errno.EPERM))
        asm.label(f"{name}_ok")
        asm.op(_RET, _ALLOW)

    def personality(name: str) -> None:
        # Reading it, the default, and `setarch -R` (debuggable runs): no READ_IMPLIES_EXEC, no old ABIs.
        asm.op(_LD, _arg(0))
        for value in (0, 0x0040000, _PERSONALITY_QUERY):
            asm.op(_JEQ, value, f"{name}_ok", None)
        asm.op(_RET, _errno(errno.EPERM))
        asm.label(f"{name}_ok")
        asm.op(_RET, _ALLOW)

    def fcntl(name: str) -> None:
        asm.op(_LD, _arg(1))
        asm.op(_JEQ, _F_SETLEASE, None, f"{name}_ok")
        asm.op(_RET, _errno(errno.EPERM))
        asm.label(f"{name}_ok")
        asm.op(_RET, _ALLOW)

    for name, body in (
        ("clone", clone),
        ("ioctl", ioctl),
        ("socket", socket),
        ("prlimit64", prlimit64),
        ("personality", personality),
        ("fcntl", fcntl),
    ):
        argument_block(name, body)
        # The accumulator still holds the number here: each block that loads an argument returns.

    for name in _ABSENT:
        nr = number(name)
        if nr is not None:
            asm.op(_JEQ, nr, "absent", None)
    for name in [] if inotify else _USED_UP:
        nr = number(name)
        if nr is not None:
            asm.op(_JEQ, nr, "used_up", None)
    for name in _DENIED + (_HIDDEN_MEMORY if hide_memory else []):
        nr = number(name)
        if nr is not None:
            asm.op(_JEQ, nr, "denied", None)
    asm.op(_RET, _ALLOW)
    asm.label("denied")
    asm.op(_RET, _errno(errno.EPERM))
    asm.label("absent")
    asm.op(_RET, _errno(errno.ENOSYS))
    asm.label("used_up")
    asm.op(_RET, _errno(errno.EMFILE))
    return asm.bytes()
