"""The Python of a container's code interpreter: runs cells one after another, its variables live on between them.

Runs inside the sandbox as `python3 interpreter.py` with its control socket (SEQPACKET) as stdout, and imports the
standard library only. It takes one kind of datagram from the daemon:

    cell ID                fds: a file with the source, and the pipe for all output of the cell

and answers `ready` once, `begun ID` before anything of a cell runs, and `done ID JSON` after it, JSON being
{"ok": bool, "figures": [file name]}. SIGINT ends the running cell with KeyboardInterrupt and is ignored between cells.
End of file on the socket ends the process.

A cell is what it is in a notebook: the value of a last expression is shown, `await` works at the top level, open
matplotlib figures are saved as PNG files in the work directory and closed. File descriptors 1 and 2 are the cell's
pipe while it runs, so that processes it starts write there too, and /dev/null between cells.
"""

import ast
import builtins
import inspect
import io
import json
import linecache
import os
import signal
import socket
import sys
import traceback
import types
from typing import Any

WORKDIR = os.getcwd()
MAX_FIGURES = 20
FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


class Cells:
    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.pid = os.getpid()
        self.running = False
        self.loop: Any = None
        self.null = os.open("/dev/null", os.O_RDWR)
        main = types.ModuleType("__main__")
        main.__dict__["__builtins__"] = builtins
        self.own = sys.modules["__main__"]  # kept: its globals would be cleared with it
        sys.modules["__main__"] = main
        self.names = main.__dict__
        self.streams()

    def streams(self) -> None:
        """New text streams on 1 and 2: what a cell did to them does not outlive it."""
        for name, fd in (("stdout", 1), ("stderr", 2)):
            raw = io.FileIO(fd, "w", closefd=False)
            stream = io.TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)

    def interrupt(self, number: int, frame: Any) -> None:
        if self.running:
            raise KeyboardInterrupt

    def serve(self) -> None:
        while True:
            data, fds, _, _ = socket.recv_fds(self.control, 256, 4)
            if not data:
                return
            number = int(data.split()[1])
            with open(fds[0], "rb") as file:
                source = file.read().decode("utf-8", "replace")
            os.dup2(fds[1], 1)
            os.dup2(fds[1], 2)
            os.close(fds[1])
            self.streams()
            signal.signal(signal.SIGINT, self.interrupt)
            self.control.send(b"begun %d" % number)
            result = self.cell(number, source)
            if os.getpid() != self.pid:
                os._exit(0)  # a fork that ran to the end of its cell
            os.dup2(self.null, 1)
            os.dup2(self.null, 2)
            self.control.send(f"done {number} {json.dumps(result)}".encode())

    def cell(self, number: int, source: str) -> dict[str, Any]:
        ok = True
        try:
            try:
                self.running = True
                self.execute(f"<cell {number}>", source)
            finally:
                self.running = False
        except BaseException as error:
            self.running = False
            ok = False
            self.print_traceback(error)
        figures: list[str] = []
        if os.getpid() == self.pid and "matplotlib.pyplot" in sys.modules:
            try:
                self.save_figures(sys.modules["matplotlib.pyplot"], figures)
            except Exception as error:
                self.print_traceback(error)
        return {"ok": ok, "figures": figures}

    def execute(self, name: str, source: str) -> None:
        lines = source.splitlines(True)
        linecache.cache[name] = (len(source), None, lines, name)
        tree = compile(source, name, "exec", FLAGS | ast.PyCF_ONLY_AST, dont_inherit=True)
        assert isinstance(tree, ast.Module)
        last = None
        end = tree.body[-1] if tree.body else None
        if isinstance(end, ast.Expr) and not source.rstrip().endswith(";"):
            last = ast.Expression(end.value)
            tree.body.pop()
        if tree.body:
            self.evaluate(compile(tree, name, "exec", FLAGS, dont_inherit=True))
        if last is not None:
            value = self.evaluate(compile(last, name, "eval", FLAGS, dont_inherit=True))
            if value is not None:
                self.names["_"] = value
                print(repr(value))

    def evaluate(self, code: types.CodeType) -> Any:
        value = eval(code, self.names)
        if code.co_flags & inspect.CO_COROUTINE:
            import asyncio

            if self.loop is None:
                self.loop = asyncio.new_event_loop()
                asyncio.set_event_loop(self.loop)
            task = self.loop.create_task(value)
            try:
                return self.loop.run_until_complete(task)
            except BaseException:
                task.cancel()  # interrupted: it must not go on in a later cell
                raise
        return value

    def print_traceback(self, error: BaseException) -> None:
        """The traceback from the cell on; the frames that lead there are not the reader's."""
        try:
            if isinstance(error, KeyboardInterrupt) and os.getpid() != self.pid:
                return  # the interrupted cell's own traceback says it
            trace = traceback.TracebackException.from_exception(error)
            names = [frame.filename for frame in trace.stack]
            first = next((at for at, name in enumerate(names) if name.startswith("<cell ")), len(names))
            trace.stack[:] = [frame for frame in trace.stack[first:] if frame.filename != __file__]
            text = "".join(trace.format())
        except BaseException:
            text = f"{type(error).__name__} (its traceback could not be written)\n"
        try:
            os.write(2, text.encode("utf-8", "backslashreplace"))
        except OSError:
            pass

    def save_figures(self, pyplot: Any, names: list[str]) -> None:
        numbers = pyplot.get_fignums()
        for number in numbers[:MAX_FIGURES]:
            count = 1
            while os.path.lexists(os.path.join(WORKDIR, f"figure-{count}.png")):
                count += 1
            name = f"figure-{count}.png"
            pyplot.figure(number).savefig(os.path.join(WORKDIR, name), format="png")
            names.append(name)
        if numbers:
            pyplot.close("all")


def main() -> None:
    control = socket.socket(fileno=os.dup(1))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 1)
    os.close(null)
    os.register_at_fork(after_in_child=control.close)
    os.environ.setdefault("MPLBACKEND", "Agg")
    # Only now: no file that a cell left in the work directory was imported by this program.
    sys.path[0] = ""
    sys.argv = [""]
    cells = Cells(control)
    signal.signal(signal.SIGINT, cells.interrupt)
    control.send(b"ready")
    os.dup2(cells.null, 2)
    cells.serve()


main()
