"""The command line of a container: which program, which privileges, which files it sees.

Nothing is started here. bwrap must never run as uid 0 (a remount inside could reach host files behind a read-only
bind), so a root daemon puts `setpriv` in front and hands its directories to `SANDBOX_UID`.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import shutil
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skilldeck_daemon.containers.errors import SandboxUnavailable
from skilldeck_daemon.containers.network.indexes import Indexes
from skilldeck_daemon.containers.packages import layers
from skilldeck_daemon.containers.packages.layers import Base, Python
from skilldeck_daemon.containers.sandbox import seccomp
from skilldeck_daemon.containers.sandbox.inotify import Share
from skilldeck_daemon.containers.spec import CERTIFICATES, GIB, SKILLS, WORKDIR, ContainerSpec

SANDBOX_UID = 64_311
"""Who owns a container's processes and files when the daemon is root; no account has this number."""

NPROC = 128
NOFILE = 1024
DAEMON_NOFILE = 65_536
FSIZE = 2 * GIB
PROXY_PORT = 3128
SUPERVISOR_PATH = "/run/supervisor.py"
SUPERVISOR_SOURCE = Path(__file__).with_name("supervisor.py")
INTERPRETER_PATH = "/run/interpreter.py"
INTERPRETER_SOURCE = Path(__file__).with_name("interpreter_program.py")
HOME = "/home/user"
LOCAL = f"{HOME}/.local"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
INNER_PATH = f"{LOCAL}/bin:/run/bin:{SYSTEM_PATH}"
TRUSTED = "/run/certificates.pem"
"""What a container with secrets trusts (`intercept.py`)."""

ENVIRONMENT = {
    "HOME": HOME,
    "USER": "user",
    "LOGNAME": "user",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "PAGER": "cat",
    "TMPDIR": "/tmp",
}
# The sandbox is the environment that the distribution's mark asks for: `pip install X` works as SKILL.md files say. Not
# for commands without one, which would change the host.
INSTALLING = {
    "PIP_BREAK_SYSTEM_PACKAGES": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "NPM_CONFIG_PREFIX": LOCAL,
    "NPM_CONFIG_UPDATE_NOTIFIER": "false",
}

TAKEN = frozenset({*ENVIRONMENT, *INSTALLING, "PATH", "PWD", "NODE_PATH", "LD_PRELOAD", "LD_LIBRARY_PATH"})
"""Variables that nobody else sets."""
# pip, uv, npm and requests bring a list of authorities of their own, and would not trust what the host does.
_TRUST = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")

_ETC_BINDS = (
    # Not all of it: the private keys beside them can be read by a group that the daemon's user may be in.
    "ssl/certs",
    "ssl/cert.pem",
    "ssl/openssl.cnf",
    "pki",
    "ca-certificates",
    "ca-certificates.conf",
    "alternatives",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "fonts",
    "ImageMagick-6",
    "ImageMagick-7",
    "libreoffice",
    "texmf",
    "magic",
)
_ETC_FILES = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/:/bin/false\n",
    "group": "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost sandbox\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


@dataclass(frozen=True)
class Tools:
    """What was found on this machine and is put into every command line."""

    bwrap: str
    setpriv: str | None
    python: Python
    uid: int
    """The real uid of the container's processes."""
    base: Base | None = None
    indexes: Indexes = field(default_factory=Indexes)
    over: str = ""
    """The folder that `python` has its packages in; empty where it is not known."""


def _open_to(path: Path | str, uid: int, need: int) -> bool:
    """Whether `uid` (not ours, in no group but its own) has the rwx bits `need` on this one file or directory."""
    info = os.stat(path)
    shift = 6 if info.st_uid == uid else 3 if info.st_gid == uid else 0
    return (info.st_mode >> shift) & need == need


def passable(path: Path, uid: int) -> bool:
    """Whether `uid` can get through `path` and every directory above it."""
    path = Path(os.path.realpath(path))
    try:
        return all(_open_to(part, uid, stat.S_IXOTH) for part in (path, *path.parents))
    except OSError:
        return False


def open_way(folder: Path, uid: int) -> None:
    """Let `uid` through a folder of ours that is closed to others, by its group, which nobody else is in.

    Nothing happens where it does not help (what is above is closed, too) or cannot be (a file system without owners).
    """
    with contextlib.suppress(OSError):
        if passable(folder.parent, uid) and not passable(folder, uid) and os.stat(folder).st_uid == os.geteuid():
            os.chown(folder, -1, uid)
            os.chmod(folder, 0o710)


def tree_readable(path: Path, uid: int) -> bool:
    """Whether `uid` can read everything in the directory `path`."""
    path = Path(os.path.realpath(path))
    enter = stat.S_IXOTH | stat.S_IROTH
    try:
        if not passable(path.parent, uid):
            return False
        for folder, _, files in os.walk(path):
            if not _open_to(folder, uid, enter):
                return False
            for file in files:
                item = os.path.join(folder, file)
                if not os.path.islink(item) and not _open_to(item, uid, stat.S_IROTH):
                    return False
    except OSError:
        return False
    return True


def system_python() -> Python | None:
    """The distribution's interpreter."""
    for path in (Path("/usr/bin/python3"), Path("/usr/local/bin/python3")):
        if path.exists():
            return Python(path, None)
    return None


def shown(executable: Path, prefix: Path, uid: int) -> Python | None:
    """The interpreter as a container can have it; None when its user cannot reach it, or its prefix holds other things
    too ("/", "/opt", the home directory)."""
    if executable.is_relative_to("/usr"):
        return Python(executable, None)
    narrow = len(prefix.parts) >= 3 and not Path.home().is_relative_to(prefix) and executable.is_relative_to(prefix)
    if narrow and (uid == os.geteuid() or passable(executable, uid)):
        return Python(executable, prefix)
    return None


def find_python(uid: int) -> Python:
    """The running interpreter when the container's user can read it, else the system's."""
    own = Path(os.path.realpath(sys.executable))
    prefix = Path(os.path.realpath(sys.base_prefix))
    base = prefix / "bin" / own.name
    found = shown(base if base.exists() else own, prefix, uid)
    if found is not None:
        return found
    system = system_python()
    if system is None:
        raise SandboxUnavailable(
            "No Python interpreter can be used inside the sandbox.",
            f"Install one in /usr: {install_hint('python3')}.",
        )
    return system


def install_hint(package: str) -> str:
    """The command that installs `package` here."""
    for manager, command in (
        ("apt-get", "apt-get install -y"),
        ("dnf", "dnf install -y"),
        ("pacman", "pacman -S --noconfirm"),
        ("zypper", "zypper install -y"),
        ("apk", "apk add"),
    ):
        if shutil.which(manager):
            sudo = "" if os.geteuid() == 0 else "sudo "
            return f"{sudo}{command} {package}"
    return f"install {package} with this system's package manager"


def raise_descriptor_limit() -> None:
    """Lets this process open as many files as its hard limit allows, at most 65,536.

    A container needs eight here, a connection through its proxy two more. And the kernel counts descriptors in flight
    between sockets for each user, against the limit of the one who sends: a daemon with no more than its containers
    have could be kept from sending its own (`ETOOMANYREFS`).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DAEMON_NOFILE if hard == resource.RLIM_INFINITY else min(hard, DAEMON_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def find_tools() -> Tools:
    """Looks for bwrap, setpriv (as root) and a Python. Raises `SandboxUnavailable` naming what to install."""
    if sys.platform != "linux":
        raise SandboxUnavailable(
            f"The sandbox needs Linux; this is {sys.platform}.",
            "Run the daemon on Linux (a virtual machine will do), or pass --sandbox none to run without isolation.",
        )
    if not seccomp.supported():
        raise SandboxUnavailable(
            f"The sandbox knows no system-call filter for {platform.machine()}.",
            "Run the daemon on x86_64 or aarch64, or pass --sandbox none to run without isolation.",
        )
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SandboxUnavailable(
            "bubblewrap (bwrap) is not installed.",
            f"Run: {install_hint('bubblewrap')}. Or pass --sandbox none to run without isolation.",
        )
    uid = os.geteuid()
    setpriv = None
    if uid == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise SandboxUnavailable(
                "setpriv is not installed; a daemon run by root needs it to give up root before the sandbox.",
                f"Run: {install_hint('util-linux')}. Or run the daemon as an ordinary user.",
            )
        uid = SANDBOX_UID
    return Tools(bwrap, setpriv, find_python(uid), uid)


def drop_prefix(tools: Tools) -> list[str]:
    """The command in front of bwrap: nothing for a user, setpriv for root."""
    if tools.setpriv is None:
        return []
    uid = str(tools.uid)
    return [
        tools.setpriv,
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
        "--inh-caps=-all",
        "--ambient-caps=-all",
        "--bounding-set=-all",
        "--no-new-privs",
        "--",
    ]


def memory_file(name: str, data: bytes) -> int:
    """A descriptor that reads `data` from the start."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def build(
    tools: Tools,
    spec: ContainerSpec,
    data_dir: Path,
    mounts: Sequence[tuple[str, Path]],
    *,
    socket_fd: int,
    status_fd: int,
    hide_memory: bool,
    trusted: bytes = b"",
    watching: Share = Share(),
) -> tuple[list[str], list[int]]:
    """The argv of one container, and the descriptors that belong to it.

    Args:
        data_dir: the work directory; the home directory lies beside it (`home_of`).
        mounts: (name, host folder) of each skill, already readable by the container's user.
        socket_fd: the supervisor's end of the control socket.
        status_fd: where bwrap writes its JSON status.
        hide_memory: deny memory that a watchdog cannot see (see `seccomp.program`).
        trusted: certificates that stand in for those the host trusts; empty for none.
        watching: inotify instances and watches that it has.

    Returns: argv, and the new descriptors to pass and then close in the daemon.
    """
    fds: list[int] = []

    def data(name: str, content: bytes) -> str:
        fds.append(memory_file(name, content))
        return str(fds[-1])

    try:
        memory = spec.memory_bytes
        scratch = str(memory // 4)
        argv = [*drop_prefix(tools), tools.bwrap]
        argv += ["--unshare-user", "--disable-userns", "--unshare-pid", "--unshare-net", "--unshare-ipc"]
        argv += ["--unshare-uts", "--unshare-cgroup-try", "--uid", "1000", "--gid", "1000"]
        argv += ["--hostname", "sandbox", "--die-with-parent", "--new-session", "--as-pid-1"]
        argv += ["--cap-drop", "ALL", "--clearenv"]
        if watching.instances:
            # Of this container's user namespace alone. The supervisor gives them up before it says that it is ready.
            argv += ["--cap-add", "CAP_SYS_RESOURCE", "--cap-add", "CAP_SETPCAP"]
        argv += ["--ro-bind", "/usr", "/usr"]
        for top in ("bin", "sbin", "lib", "lib64", "lib32", "libx32"):
            path = Path("/", top)
            if path.is_symlink():
                argv += ["--symlink", os.readlink(path), str(path)]
            elif path.exists():
                argv += ["--ro-bind", str(path), str(path)]
        for folder in ("/etc", "/home", "/run", "/run/bin", "/var"):
            argv += ["--perms", "0755", "--dir", folder]
        for name in _ETC_BINDS:
            argv += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        for name, text in _ETC_FILES.items():
            argv += ["--perms", "0444", "--ro-bind-data", data(name, text.encode()), f"/etc/{name}"]
        argv += ["--perms", "0755", "--dir", "/mnt", "--bind", str(data_dir), WORKDIR]
        argv += ["--perms", "0755", "--dir", SKILLS]
        for name, path in mounts:
            argv += ["--ro-bind", str(path), f"{SKILLS}/{name}"]
        for bind in spec.binds:
            argv += ["--ro-bind", str(bind.source), bind.target]
        argv += ["--proc", "/proc", "--dev", "/dev"]
        argv += ["--perms", "1777", "--size", scratch, "--tmpfs", "/dev/shm"]
        argv += ["--perms", "1777", "--size", scratch, "--tmpfs", "/tmp"]
        argv += ["--symlink", "/tmp", "/var/tmp"]
        # On disk, under the quota: what pip and npm install there, and their caches, are more than memory should hold.
        argv += ["--bind", str(home_of(data_dir)), HOME]
        # After the tmpfs mounts: the interpreter may lie under /tmp or under a home directory called as ours.
        base = tools.base if spec.base else None
        python = base.python if base is not None else tools.python
        for prefix in dict.fromkeys((tools.python.prefix, python.prefix)):
            if prefix is not None:
                argv += ["--ro-bind", str(prefix), str(prefix)]
        argv += layers.arguments(tools.python, tools.over, base, spec.environments, data)
        argv += [
            "--perms",
            "0444",
            "--ro-bind-data",
            data("supervisor", SUPERVISOR_SOURCE.read_bytes()),
            SUPERVISOR_PATH,
        ]
        argv += [
            "--perms",
            "0444",
            "--ro-bind-data",
            data("interpreter", INTERPRETER_SOURCE.read_bytes()),
            INTERPRETER_PATH,
        ]
        for place in (TRUSTED, os.path.realpath(CERTIFICATES)) if trusted else ():
            if place == TRUSTED or place.startswith("/etc/ssl/certs/"):
                argv += ["--perms", "0444", "--ro-bind-data", data("certificates", trusted), place]
        for key, value in environment(spec, base, tools.indexes).items():
            argv += ["--setenv", key, value]
        argv += ["--chdir", WORKDIR, "--remount-ro", "/dev", "--remount-ro", "/"]
        rules = seccomp.program(hide_memory=hide_memory, inotify=watching.instances > 0)
        argv += ["--seccomp", data("seccomp", rules)]
        argv += ["--json-status-fd", str(status_fd), "--"]
        argv += [str(tools.python.executable), "-I", "-S", "-B", SUPERVISOR_PATH, str(socket_fd), str(memory)]
        argv += [str(NPROC), str(FSIZE), str(min(NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))]
        argv += [str(PROXY_PORT if spec.network.allowed_domains else 0)]
        argv += [str(watching.instances), str(watching.watches)]
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return argv, fds


def home_of(data_dir: Path) -> Path:
    """Where the home directory of the container with this work directory lies."""
    return data_dir.parent / "home"


def environment(spec: ContainerSpec, base: Base | None = None, indexes: Indexes = Indexes()) -> dict[str, str]:
    """What a command finds in its environment, and nothing of the daemon's."""
    # Thread pools are sized by the machine's processors; on a large one they alone would reach NPROC.
    threads = str(min(8, len(os.sched_getaffinity(0))))
    env = {"PWD": WORKDIR, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    env |= ENVIRONMENT | INSTALLING | indexes.variables(spec.network.allowed_domains)
    programs, node = layers.search(base, spec.environments, LOCAL)
    env |= {"PATH": ":".join([*programs, SYSTEM_PATH]), "NODE_PATH": ":".join(node)}
    if spec.network.allowed_domains:
        proxy = f"http://127.0.0.1:{PROXY_PORT}"
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            env[name] = proxy
        env["no_proxy"] = env["NO_PROXY"] = "localhost,127.0.0.1,::1"
        trusted = TRUSTED if spec.network.secrets else CERTIFICATES if os.path.exists(CERTIFICATES) else ""
        if trusted:
            env |= dict.fromkeys(_TRUST, trusted) | {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}
        env |= {secret.name: secret.placeholder for secret in spec.network.secrets}
    return env


def launch_environment(scope: bool) -> dict[str, str]:
    """What the launching processes get: enough to find the user's service manager, nothing secret."""
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    if scope:
        for name in ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"):
            if name in os.environ:
                env[name] = os.environ[name]
    return env
