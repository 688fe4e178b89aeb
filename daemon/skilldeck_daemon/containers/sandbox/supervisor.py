"""PID 1 of a container: starts commands, reaps processes, kills what a call leaves when told to.

Runs inside the sandbox as `python3 -I -S -B supervisor.py FD MEMORY_BYTES NPROC FSIZE_BYTES NOFILE PROXY_PORT INSTANCES
WATCHES` and imports the standard library only. It takes datagrams from the daemon on the SEQPACKET socket FD:

    run ID LEN [command]   fds: stdout, stderr, and a memfd with the command when it does not fit in the datagram
    start ID LEN [command] the same for a process that outlasts its call and takes part in later ones
    mark ID                a call of a started process begins: what there is now does not belong to it; answers `marked`
    int ID                 SIGINT to every process the call started
    term ID                SIGTERM to every process the call started
    kill ID                SIGKILL to every process the call started, until none is left; answers `killed ID`
    sweep ID               the same, but the started process itself is spared

and answers `ready`, `listener` (with the proxy's listening socket), `exit ID CODE`, `fail ID ERRNO`, `killed ID`,
`marked ID`.
The daemon believes none of it blindly. End of file on the socket ends the supervisor, and with it the namespace.

"What the call started" is every process that was neither there before the call nor descends from one that was:
that also catches children which changed their session and were reparented to PID 1.
"""

# The C modules under `socket`, `signal` and `ctypes`: importing those three costs as much CPU as all the rest of a
# container's start (20 ms of 40), for enums and wrappers that are not used here.
import _ctypes
import _signal as signal  # type: ignore[import-not-found]
import _socket as socket
import errno
import os
import resource
import select
import sys
import time

PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
CAPABILITIES = (24, 8)  # SYS_RESOURCE, to limit inotify; SETPCAP, to give both up for good
CAPABILITY_VERSION = 0x20080522
NICE = 10
KILL_PATIENCE_S = 0.4
KILL_PAUSE_S = 0.0005
INLINE_MAX = 65_536
FD_BYTES = 4
MSG_CMSG_CLOEXEC = 0x40000000
HEADROOM = 32  # process slots a new call finds free


class Job:
    def __init__(self, number: int, before: dict[int, int], pid: int) -> None:
        self.number = number
        self.before = before
        self.pid = pid
        self.lasting = False


def processes() -> dict[int, tuple[int, int]]:
    """{pid: (ppid, start time)} of every process of the namespace but this one, and but the dead of living parents."""
    table = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or name == "1":
            continue
        try:
            with open(f"/proc/{name}/stat", "rb", 0) as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] == b"Z" and fields[1] != b"1":
            continue  # its parent has to reap it; no signal ends it
        table[int(name)] = (int(fields[1]), int(fields[19]))
    return table


def victims(job: Job) -> list[int]:
    """The processes that belong to the job, dead ones that nobody has reaped yet included."""
    table = processes()
    kept: dict[int, bool] = {}

    def keeps(pid: int) -> bool:
        trail = []
        answer = False
        while pid in table:
            if pid in kept:
                answer = kept[pid]
                break
            trail.append(pid)
            kept[pid] = False  # a cycle cannot happen; a reused pid could make one
            if job.before.get(pid) == table[pid][1]:
                answer = True
                break
            pid = table[pid][0]
        for one in trail:
            kept[one] = answer
        return answer

    return [pid for pid in table if not keeps(pid)]


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass


class Supervisor:
    def __init__(self, fd: int) -> None:
        self.sock = socket.socket(fileno=fd)
        self.jobs: dict[int, Job] = {}
        self.numbers: dict[int, Job] = {}
        self.null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self.shell = b"/bin/bash" if os.path.exists("/bin/bash") else b"/bin/sh"

    def say(self, text: str, fd: int = -1) -> None:
        rights = []
        if fd >= 0:
            rights.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, fd.to_bytes(FD_BYTES, sys.byteorder)))
        self.sock.sendmsg([text.encode()], rights)

    def hear(self) -> tuple[bytes, list[int]]:
        # Not inherited: a background process whose output goes elsewhere must not hold the call's pipes.
        room = socket.CMSG_SPACE(4 * FD_BYTES)
        data, controls, _, _ = self.sock.recvmsg(INLINE_MAX + 4096, room, MSG_CMSG_CLOEXEC)
        fds = []
        for level, kind, rights in controls:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                for at in range(0, len(rights), FD_BYTES):
                    fds.append(int.from_bytes(rights[at : at + FD_BYTES], sys.byteorder))
        return data, fds

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            job = self.jobs.pop(pid, None)
            if job is not None:
                code = os.waitstatus_to_exitcode(status)
                self.say(f"exit {job.number} {code if code >= 0 else 128 - code}")

    def spawn(self, argv: list[bytes], out: int, err: int) -> int:
        return os.posix_spawn(
            self.shell,
            argv,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, self.null, 0),
                (os.POSIX_SPAWN_DUP2, out, 1),
                (os.POSIX_SPAWN_DUP2, err, 2),
            ],
            setsid=True,
            setsigmask=[],
            # SIGXFSZ stays ignored: a write past the file size limit then fails with a message that can be read.
            setsigdef=[signal.SIGPIPE, signal.SIGINT],
        )

    def run(self, number: int, command: bytes, fds: list[int], lasting: bool) -> None:
        out, err = fds[0], fds[1]
        before = {pid: entry[1] for pid, entry in processes().items()}
        if len(before) > resource.getrlimit(resource.RLIMIT_NPROC)[0] - HEADROOM:
            # Leftovers of earlier calls (a fork bomb) would leave the new call a shell that cannot start anything.
            self.killall()
            before = {}
        if len(fds) > 2:
            # Longer than one argument may be: bash reads it as a script.
            os.set_inheritable(fds[2], True)
            argv = [self.shell, b"/proc/self/fd/%d" % fds[2]]
        else:
            argv = [self.shell, b"-c", command]
        try:
            try:
                pid = self.spawn(argv, out, err)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.ENOMEM):
                    raise
                # Leftovers of earlier calls hold every process slot: the new call matters more.
                self.killall()
                before = {}
                pid = self.spawn(argv, out, err)
            self.jobs[pid] = self.numbers[number] = Job(number, before, pid)
            self.jobs[pid].lasting = lasting
            os.setpriority(os.PRIO_PGRP, pid, NICE)  # with what it may have started already
        except OSError as error:
            if number not in self.numbers:
                self.say(f"fail {number} {error.errno or 0}")

    def killall(self) -> None:
        """Ends every process but this one; returns when they are reaped, or after half a second."""
        end = time.monotonic() + KILL_PATIENCE_S
        while time.monotonic() < end:
            try:
                os.kill(-1, signal.SIGKILL)
            except ProcessLookupError:
                break
            self.reap()
            time.sleep(KILL_PAUSE_S)
        self.reap()

    def kill(self, job: Job, spared: int = 0) -> None:
        end = time.monotonic() + KILL_PATIENCE_S
        while pids := [pid for pid in victims(job) if pid != spared]:
            signal_all(pids, signal.SIGKILL)
            self.reap()
            if time.monotonic() > end:
                # They multiply faster than one by one helps (a fork bomb), or are stuck in the kernel.
                self.killall()
                break
            time.sleep(KILL_PAUSE_S)
        self.reap()
        self.say(f"killed {job.number}")

    def handle(self, data: bytes, fds: list[int]) -> None:
        head, _, command = data.partition(b"\n")
        words = head.split()
        if words[0] in (b"run", b"start"):
            self.numbers = {job.number: job for job in self.jobs.values() if job.lasting}
            self.run(int(words[1]), command, fds, words[0] == b"start")
        else:
            job = self.numbers.get(int(words[1]))
            if words[0] == b"mark":
                self.reap()  # a death that happened before this question is reported before its answer
                if job is not None:
                    job.before = {pid: entry[1] for pid, entry in processes().items() if pid != job.pid}
                self.say(f"marked {int(words[1])}")
            elif job is None:
                self.say(f"killed {int(words[1])}")
            elif words[0] == b"int":
                signal_all(victims(job), signal.SIGINT)
            elif words[0] == b"sweep":
                self.kill(job, job.pid)
            elif words[0] == b"term":
                pids = victims(job)
                signal_all(pids, signal.SIGTERM)
                signal_all(pids, signal.SIGCONT)
            else:
                self.kill(job)

    def loop(self, wakeup: int) -> None:
        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLIN)
        poll.register(wakeup, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == wakeup:
                    os.read(wakeup, 4096)
                    self.reap()
                    continue
                data, fds = self.hear()
                if not data:
                    return
                try:
                    self.handle(data, fds)
                finally:
                    for one in fds:
                        os.close(one)


def limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def limit_inotify(instances: int, watches: int) -> None:
    """Hold this user namespace to so many of what the kernel counts for the host's user; then nobody may raise them."""
    try:
        for kind, value in (("instances", instances), ("watches", watches)):
            with open(f"/proc/sys/user/max_inotify_{kind}", "w") as file:
                file.write(str(value))
    except OSError as error:
        sys.exit(f"inotify cannot be limited: {error.strerror}")
    library = _ctypes.dlopen("", 0)
    prctl, capset = _ctypes.dlsym(library, "prctl"), _ctypes.dlsym(library, "capset")
    failed = [_ctypes.call_cdeclfunction(prctl, (PR_CAPBSET_DROP, one, 0, 0, 0)) for one in CAPABILITIES]
    head = CAPABILITY_VERSION.to_bytes(4, sys.byteorder) + bytes(4)
    if any(failed) or _ctypes.call_cdeclfunction(capset, (head, bytes(24))) != 0:
        sys.exit("inotify: the capabilities cannot be given up")


def main() -> None:
    fd, memory, nproc, fsize, nofile, port, instances, watches = (int(word) for word in sys.argv[1:9])
    os.set_inheritable(fd, False)
    os.closerange(3, fd)
    os.closerange(fd + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    if instances:
        limit_inotify(instances, watches)
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    # After this nobody inside can open /proc/1/mem, fd or environ, nor trace the supervisor.
    prctl = _ctypes.dlsym(_ctypes.dlopen("", 0), "prctl")
    if _ctypes.call_cdeclfunction(prctl, (PR_SET_DUMPABLE, 0, 0, 0, 0)) != 0:
        sys.exit("prctl failed")

    wakeup, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    # Default actions are not taken for PID 1, so nobody inside can end the supervisor with these.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)

    supervisor = Supervisor(fd)
    if port:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        supervisor.say("listener", listener.fileno())
        listener.close()
    # The limits come last: they count per user namespace, and bind every command. Those that are tiny are of things
    # which the kernel counts for the daemon's user as well: no command may use them up.
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_NOFILE, nofile)
    limit(resource.RLIMIT_SIGPENDING, 1024)
    limit(resource.RLIMIT_MSGQUEUE, 0)
    limit(resource.RLIMIT_NICE, 0)
    limit(resource.RLIMIT_RTPRIO, 0)
    limit(resource.RLIMIT_FSIZE, fsize)
    limit(resource.RLIMIT_DATA, memory)
    limit(resource.RLIMIT_NPROC, nproc)
    supervisor.say("ready")
    supervisor.loop(wakeup)


main()
