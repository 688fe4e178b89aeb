"""The Unix socket of the control service: one daemon a socket, owned by one user.

A second daemon would silently take over the socket file of the first, so a lock file beside it decides who may listen:
the kernel releases it even after kill -9. Only its holder may judge a left-over socket file stale, and only after
asking it (connecting). The directory is 0700, the socket 0600.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from skilldeck_shared import paths, private
from skilldeck_shared.errors import Conflict, SkilldeckError

PROBE_SECONDS = 0.2
SYSTEMD_FIRST_FD = 3
MAX_PATH = 107  # bytes of sockaddr_un.sun_path, without the final zero


class AlreadyRunning(Conflict):
    """A live daemon owns the socket."""

    code = "already_running"


class SocketUnusable(SkilldeckError):
    """The control socket cannot be made at this path."""

    code = "socket_unusable"


@dataclass
class Listening:
    """A listening socket and the lock that makes it ours; `close` gives both back."""

    sock: socket.socket
    path: Path
    lock: int | None
    inode: int | None
    """Of the socket file we made; None for a socket that systemd passed (its file is systemd's)."""

    def close(self) -> None:
        """Remove the socket file, if it is still ours, then release the lock. Idempotent."""
        self.sock.close()
        if self.inode is not None:
            try:
                if os.lstat(self.path).st_ino == self.inode:
                    self.path.unlink()
            except OSError:
                pass  # gone already, or its directory is: nothing of ours is left
            self.inode = None
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None


def listen(path: Path) -> Listening:
    """Listen on `path`, or on the socket that systemd passed.

    Raises AlreadyRunning when a live daemon owns it, OpenToOthers when somebody else could stand in for it there,
    SocketUnusable with the cause otherwise. Blocks for at most `PROBE_SECONDS`.
    """
    passed = _from_systemd()
    if passed is not None:
        return Listening(passed, Path(str(passed.getsockname())), None, None)
    if len(os.fsencode(path)) > MAX_PATH:
        raise SocketUnusable(
            f"The socket path is over {MAX_PATH} bytes: {path}.",
            "Give a shorter one with --socket or SKILLDECK_SOCKET.",
        )
    try:
        private.check_socket_folder(path)
        _prepare_directory(path.parent)
        lock = _lock(path)
    except OSError as error:
        raise SocketUnusable(f"The socket directory {path.parent} cannot be used: {error.strerror}.") from error
    try:
        _clear_stale(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Linux takes the mode of the file from the socket's own, so there is no moment with wider permissions.
            os.fchmod(sock.fileno(), 0o600)
            sock.bind(str(path))
            path.chmod(0o600)
            sock.listen(128)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        os.close(lock)
        raise SocketUnusable(f"The control socket {path} cannot be made: {error.strerror}.") from error
    except BaseException:
        os.close(lock)
        raise
    return Listening(sock, path, lock, os.lstat(path).st_ino)


def _prepare_directory(directory: Path) -> None:
    existed = directory.is_dir()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if existed and directory != paths.runtime_dir():
        # A directory of the person's choice keeps its mode: nobody else can write to it, and the socket is 0600.
        return
    if stat.S_IMODE(status.st_mode) != 0o700:
        directory.chmod(0o700)


def _lock(path: Path) -> int:
    """The descriptor that holds the lock; it stays open as long as the daemon lives."""
    lock_path = path.with_name(path.name + ".lock")
    descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise _already_running(path, owner) from None
    except BaseException:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _clear_stale(path: Path) -> None:
    """Remove a socket file that nobody answers on; raise when somebody does, or when it is no socket."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketUnusable(f"{path} exists and is not a socket.", "Move it away, or give another path with --socket.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except OSError as error:
            # Sockets stay in the file system when nobody listens any more. Anything but a refusal (a full backlog,
            # a slow machine) may be a live daemon.
            if error.errno == errno.ECONNREFUSED:
                path.unlink()
                return
            if error.errno == errno.ENOENT:
                return
    raise _already_running(path, "")


def _already_running(path: Path, owner: str) -> AlreadyRunning:
    who = f" (process {owner})" if owner.isdigit() else ""
    return AlreadyRunning(
        f"A daemon{who} listens on {path} already.", "Stop it with `skilldeck stop`, or give this one another --socket."
    )


def _from_systemd() -> socket.socket | None:
    """The Unix socket of socket activation (sd_listen_fds), if this process was started with one."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = os.environ.get("LISTEN_FDS", "")
    # Children must not take the variables for theirs.
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    for descriptor in range(SYSTEMD_FIRST_FD, SYSTEMD_FIRST_FD + (int(count) if count.isdigit() else 0)):
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        if sock.family == socket.AF_UNIX and sock.type == socket.SOCK_STREAM:
            sock.setblocking(False)
            return sock
        sock.detach()  # not ours to close
    return None
