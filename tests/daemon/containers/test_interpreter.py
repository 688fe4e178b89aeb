"""The container's Python: state, output, interruption, death, and what code inside can do to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.containers.support import needs_bwrap, sh, until
from skilldeck_daemon.containers import CellResult, Container, Containers, ContainerSpec, interpreter
from skilldeck_daemon.containers.sandbox import proc

pytestmark = needs_bwrap

FAKE_PYPLOT = """
import os
os.makedirs("matplotlib", exist_ok=True)
open("matplotlib/__init__.py", "w").close()
open("matplotlib/pyplot.py", "w").write('''
_open = {}
class Figure:
    def savefig(self, path, format):
        open(path, "wb").write(b"\\\\x89PNG " + format.encode())
def get_fignums(): return sorted(_open)
def figure(number=None): return _open.setdefault(number or len(_open) + 1, Figure())
def close(what): _open.clear()
''')
"""
"""What the kernel uses of matplotlib, which this machine's system Python may lack."""


DEAF_MS = 1000
"""A time limit after which an interpreter on a busy machine has certainly come to print."""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than a second to let an interrupted interpreter answer."""
    monkeypatch.setattr(interpreter, "INTERRUPT_GRACE_S", 30.0)


async def py(container: Container, code: str, **options: Any) -> CellResult:
    options.setdefault("timeout_ms", 20_000)
    return await container.interpret(code, **options)


async def test_variables_last_and_a_last_expression_is_shown(container: Container) -> None:
    first = await py(container, "x = 40\nprint('hi')\nx + 2")
    assert (first.text, first.ok, first.figures) == ("hi\n42\n", True, ())
    assert (await py(container, "x += 1")).text == ""
    assert (await py(container, "(x, _)")).text == "(41, 42)\n"
    assert (await py(container, "x;")).text == ""
    assert (await py(container, "import asyncio\nawait asyncio.sleep(0, 'awaited')")).text == "'awaited'\n"


async def test_it_shares_files_with_the_shell(container: Container) -> None:
    await sh(container, "echo 'def triple(n): return 3 * n' > helper.py")
    assert (await py(container, "import helper; open('made.txt', 'w').write('m'); helper.triple(4)")).text == "12\n"
    assert (await sh(container, "cat made.txt")).stdout == "m"


async def test_output_of_child_processes_is_kept_in_order(container: Container) -> None:
    code = (
        "import subprocess, sys\nprint(1)\nsubprocess.run(['echo', '2'])\nprint(3, file=sys.stderr)\nprint('\\udc80é')"
    )
    assert (await py(container, code)).text == "1\n2\n3\n\\udc80é\n"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f():\n    return 1 / 0\nf()", 'File "<cell 1>", line 2, in f\n    return 1 / 0'),
        ("x = = 2", "SyntaxError: invalid syntax"),
        ("exit(3)", "SystemExit: 3"),
        ("input()", "EOFError"),
        ("raise BaseException('odd')", "BaseException: odd"),
        ("class E(Exception):\n  def __str__(self): raise ValueError\nraise E", "E: <exception str() failed>"),
        ("a\0b", "null bytes"),
    ],
)
async def test_a_failure_is_a_traceback_and_the_interpreter_goes_on(
    container: Container, code: str, expected: str
) -> None:
    result = await py(container, code)
    assert expected in result.text
    assert not result.ok
    assert not result.lost
    assert "interpreter.py" not in result.text
    assert (await py(container, "'on'")).text == "'on'\n"


@pytest.mark.timing("an interpreter has 1 s to come to its print, of which busy cores may give it nothing")
@pytest.mark.parametrize(
    "stuck", ["while True: pass", "import os; os.system('sleep 100')", "import time; time.sleep(100)"]
)
async def test_a_timeout_interrupts_keeps_what_was_written_and_the_variables(container: Container, stuck: str) -> None:
    await py(container, "x = 1")
    result = await py(container, f"x = 2; print('before', end='')\n{stuck}", timeout_ms=DEAF_MS)
    assert result.text.startswith("before")
    assert result.text.endswith("[timed out after 1000 ms]\n")
    assert (result.ok, result.timed_out, result.lost) == (False, True, False)
    assert "interpreter.py" not in result.text
    assert (await py(container, "x")).text == "2\n"
    assert "sleep 100" not in (await sh(container, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).stdout


async def test_code_that_takes_no_interrupt_ends_with_its_interpreter(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "INTERRUPT_GRACE_S", 1.0)
    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('deaf')\nwhile True: pass"
    result = await py(container, code, timeout_ms=DEAF_MS)
    assert result.text.startswith("deaf\n[timed out after 1000 ms]\n[the interpreter ended")
    assert result.lost
    assert (await py(container, "'signal' in globals()")).text == "False\n"


async def test_an_interpreter_that_ends_itself_is_replaced(container: Container) -> None:
    result = await py(container, "x = 1\nprint('last', end='')\nimport os; os._exit(3)")
    assert result.text == (
        "last\n[the interpreter ended (exit code 3): its variables are gone, the next call starts a fresh one]\n"
    )
    assert (await py(container, "'x' in globals()")).text == "False\n"
    assert "killed by signal 11" in (await py(container, "import os; os.kill(os.getpid(), 11)")).text


async def test_a_restart_begins_afresh_and_spares_the_shells_processes(container: Container) -> None:
    assert (await py(container, "'x' in globals()", restart=True)).text == "False\n"
    await sh(container, "sleep 60 & echo $! > pid")
    await py(container, "x = 1")
    assert (await py(container, "'x' in globals()", restart=True)).text == "False\n"
    assert (await sh(container, "kill -0 $(cat pid) && echo alive")).stdout == "alive\n"


async def test_an_interpreter_killed_between_two_cells_is_replaced_and_the_next_says_so(container: Container) -> None:
    await py(container, "x = 1")
    # A signal is delivered when its process is next scheduled: wait until the supervisor's python3 is the only one.
    await sh(
        container, "kill -9 -1; while [ $(grep -sl python3 /proc/[0-9]*/comm | wc -l) -gt 1 ]; do sleep 0.01; done"
    )
    assert (await py(container, "2")).text == (
        "2\n[this was a fresh interpreter: earlier variables and imports are gone]\n"
    )
    assert (await py(container, "3")).text == "3\n"


def interpreters(container: Container) -> list[int]:
    """Those of the container as the host sees them."""
    assert container.init_pid is not None
    found = []
    for pid in proc.descendants(container.init_pid):
        with contextlib.suppress(OSError):
            if b"/run/interpreter.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


async def test_a_cell_that_a_dying_interpreter_had_not_begun_runs_on_a_fresh_one(container: Container) -> None:
    await py(container, "x = 1")
    (pid,) = interpreters(container)
    os.kill(pid, signal.SIGSTOP)
    cell = asyncio.create_task(py(container, "open('log', 'a').write('ran\\n'); print('ran')"))
    await until(lambda: container._interpreter._cells == 2)  # it lies in the socket
    os.kill(pid, signal.SIGKILL)
    result = await cell
    assert result.text == "ran\n[this was a fresh interpreter: earlier variables and imports are gone]\n"
    assert (result.ok, result.lost) == (True, False)
    assert (await sh(container, "cat log")).stdout == "ran\n"


async def test_a_cell_that_ends_its_interpreter_is_not_run_again(container: Container) -> None:
    code = "import os\nwith open('log', 'a') as f: f.write('ran\\n')\nos.kill(os.getpid(), 9)"
    result = await py(container, code)
    assert result.lost
    assert (await sh(container, "cat log")).stdout == "ran\n"


async def test_an_interpreter_that_talks_out_of_turn_is_replaced(container: Container) -> None:
    """A flood of messages would otherwise be read, one by one, for ever."""
    code = """
import os, stat, threading
for n in range(3, 99):
    try:
        if stat.S_ISSOCK(os.fstat(n).st_mode): fd = n
    except OSError: pass
def flood():
    while True: os.write(fd, b'ready')
threading.Timer(0.1, flood).start()
"""
    await py(container, code)
    await until(lambda: container._interpreter._sock is None, within=30)
    assert (await py(container, "'fd' in globals()")).text.startswith("False\n[this was a fresh interpreter")
    await until(lambda: len(interpreters(container)) == 1)  # the old one is gone


async def test_a_fork_bomb_is_bounded(container: Container) -> None:
    result = await py(container, "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass", timeout_ms=500)
    assert result.timed_out
    # Zombies are the interpreter's own to wait for; nothing else may be left.
    left = await sh(container, "head -q -n 1 /proc/[0-9]*/stat | grep -vc ') Z '")
    assert int(left.stdout) < 10
    assert (await py(container, "'alive'")).text.startswith("'alive'\n")


async def test_a_fork_that_runs_to_the_end_of_its_cell_is_no_second_interpreter(container: Container) -> None:
    result = await py(
        container, "import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\nprint('child' if not pid else 'own')"
    )
    assert result.text == "child\nown\n"
    assert (await py(container, "pid > 0")).text == "True\n"


async def test_a_flood_of_output_is_cut_in_the_middle(container: Container) -> None:
    code = "import sys\nfor i in range(200): sys.stdout.write(f'{i} ' + 'x' * 100_000 + '\\n')\nprint('the end')"
    result = await py(container, code, max_output_length=1000)
    assert len(result.text) <= 1000
    assert result.text.startswith("0 xxx")
    assert "bytes left out" in result.text
    assert result.text.endswith("the end\n")
    assert result.truncated_bytes > 19_000_000


async def test_memory_is_limited(container: Container) -> None:
    result = await py(container, "x = 1\nhuge = bytearray(3 << 30)")
    assert "MemoryError" in result.text
    assert (await py(container, "x")).text == "1\n"


async def test_what_runs_in_the_background_survives_a_later_timeout(container: Container) -> None:
    await py(container, "import subprocess\nold = subprocess.Popen(['sleep', '1000'])")
    await sh(container, "sleep 1001 >/dev/null 2>&1 &")
    code = "new = subprocess.Popen(['sleep', '1002'])\nwhile True: pass"
    assert (await py(container, code, timeout_ms=200)).timed_out
    listing = (await sh(container, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).stdout
    assert ("sleep 1000" in listing, "sleep 1001" in listing, "sleep 1002" in listing) == (True, True, False)


async def test_a_shell_timeout_spares_the_interpreter(container: Container) -> None:
    await py(container, "x = 1")
    assert (await sh(container, "sleep 100", timeout_ms=100)).timed_out
    assert (await py(container, "x")).text == "1\n"


async def test_cancelling_interrupts_and_keeps_the_variables(container: Container) -> None:
    written: list[str] = []
    cell = asyncio.create_task(py(container, "x = 7\nprint('begun')\nwhile True: pass", on_output=written.append))
    await until(lambda: "".join(written).startswith("begun"))
    cell.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cell
    assert not container.busy
    assert (await py(container, "x")).text == "7\n"


async def test_a_forged_answer_does_no_more_than_end_the_interpreter(container: Container) -> None:
    forged = 'b\'done 1 {"ok": true, "figures": ["../../etc/passwd", 3]}\''
    for message in (forged, "b'nonsense' * 1000"):
        code = f"import os\nfor fd in range(3, 30):\n  try: os.write(fd, {message})\n  except OSError: pass"
        assert (await py(container, code)).figures == ()
        await py(container, "1 + 1")  # may meet the messages that are left
        assert (await py(container, "1 + 2")).text.startswith("3\n")


async def test_files_in_the_work_directory_do_not_shadow_what_the_interpreter_needs(container: Container) -> None:
    await sh(container, "for m in json ast socket traceback io; do echo 'raise SystemExit' > $m.py; done")
    assert (await py(container, "1 + 1")).text == "2\n"


async def test_open_figures_are_saved_and_closed(container: Container) -> None:
    await py(container, FAKE_PYPLOT)
    drawn = await py(container, "from matplotlib import pyplot as plt\nplt.figure(); plt.figure()\nprint('drawn')")
    assert drawn.figures == ("/mnt/data/figure-1.png", "/mnt/data/figure-2.png")
    assert (await container.read(drawn.figures[1], 100)).startswith(b"\x89PNG")
    assert (await py(container, "import os; os.chdir('/tmp'); plt.figure();")).figures == ("/mnt/data/figure-3.png",)
    assert (await py(container, "1")).figures == ()


async def test_many_cells_leave_no_descriptors_behind(container: Container) -> None:
    await py(container, "import os")
    before = (await py(container, "len(os.listdir('/proc/self/fd'))")).text
    for _ in range(20):
        await py(container, "1")
    assert (await py(container, "len(os.listdir('/proc/self/fd'))")).text == before


async def test_without_a_sandbox_it_works_on_the_real_folder(
    start_containers: Callable[..., Awaitable[Containers]],
) -> None:
    containers = await start_containers(sandbox="none")
    container = await containers.create(ContainerSpec("c"))
    await py(container, "x = 1; open('/mnt/data/f', 'w').write('in')")
    assert (await sh(container, "cat f")).stdout == "in"
    result = await py(container, "print('before')\nwhile True: pass", timeout_ms=DEAF_MS)
    assert (result.timed_out, result.lost) == (True, False)
    assert (await py(container, "x")).text == "1\n"
