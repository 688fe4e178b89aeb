"""What a call returns, what listeners see, and what is dead afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from daemon.containers.support import needs_bwrap, sh, until
from skilldeck_daemon.containers import (
    CommandResult,
    Container,
    Containers,
    ContainerSpec,
    InvalidContainerRequest,
    Mount,
    OutputPiece,
)
from skilldeck_daemon.containers.sandbox import proc

pytestmark = needs_bwrap


async def test_output_exit_code_and_order_of_a_calls_commands(container: Container) -> None:
    results = await container.exec(["echo one; echo two >&2; exit 3", "pwd", "kill -SEGV $$"])
    assert [(r.stdout, r.stderr, r.exit_code) for r in results[:2]] == [("one\n", "two\n", 3), ("/mnt/data\n", "", 0)]
    assert results[2].exit_code == 128 + 11
    assert not any(r.timed_out or r.truncated_bytes for r in results)


async def test_files_last_but_directory_and_variables_do_not(container: Container) -> None:
    await container.exec(["echo kept > f; cd /tmp; export A=1"])
    assert (await sh(container, "cat f; pwd; echo [$A]")).stdout == "kept\n/mnt/data\n[]\n"


async def test_the_environment_is_what_is_documented(container: Container) -> None:
    result = await sh(container, "env; python3 -c 'print(6*7)'; python -V; id -u; cat </dev/stdin | wc -c; tty")
    lines = result.stdout.splitlines()
    for line in ("HOME=/home/user", "LANG=C.UTF-8", "TERM=dumb", "PYTHONDONTWRITEBYTECODE=1", "42", "1000", "0"):
        assert line in lines
    assert "not a tty" in result.stdout
    (path,) = [line for line in lines if line.startswith("PATH=")]
    assert path.startswith("PATH=/home/user/.local/bin:/run/bin:")


async def test_the_home_directory_is_on_disk_and_what_is_installed_there_runs(
    containers: Containers, tmp_path: Path
) -> None:
    container = await containers.create(ContainerSpec("c", memory_limit="1g"))
    # More than a quarter of the memory, which is what a home directory in memory had.
    filled = await sh(container, "head -c 300M /dev/zero > ~/wheel && stat -c %s ~/wheel && stat -c %a ~ && rm ~/wheel")
    assert (filled.exit_code, filled.stdout) == (0, f"{300 * 1024**2}\n700\n"), filled.stderr
    install = (
        "mkdir -p ~/.local/bin; printf '#!/bin/sh\\necho installed\\n' > ~/.local/bin/tool; chmod +x ~/.local/bin/tool"
    )
    await sh(container, install)
    assert (await sh(container, "tool; chmod 000 ~; ls /mnt/data")).stdout == "installed\n"
    await container.close(delete=False)
    again = await containers.reopen(ContainerSpec("c", memory_limit="1g"))
    assert (await sh(again, "tool")).stdout == "installed\n"


async def test_a_skill_is_readable_and_read_only(containers: Containers, tmp_path: Path) -> None:
    skill = tmp_path / "skill"
    (skill / "scripts").mkdir(parents=True)
    (skill / "SKILL.md").write_text("# hello\n")
    (skill / "scripts" / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (skill / "scripts" / "run.sh").chmod(0o755)
    container = await containers.create(ContainerSpec("c", mounts=(Mount("demo", skill),)))
    result = await sh(container, "cat /mnt/skills/demo/SKILL.md; /mnt/skills/demo/scripts/run.sh; ls /mnt/skills")
    assert result.stdout == "# hello\nran\ndemo\n"
    assert (await sh(container, "touch /mnt/skills/demo/x || rm -rf /mnt/skills/demo")).exit_code != 0
    assert (skill / "SKILL.md").read_text() == "# hello\n"


async def test_text_arrives_while_the_command_runs(container: Container) -> None:
    seen: list[OutputPiece] = []

    async def on_output(delta: OutputPiece) -> None:
        seen.append(delta)
        if "ready" in delta.text:
            # The command ends only when this file appears: the text must have come before the end.
            await container.put("go", b"")

    result = await sh(container, "echo ready; until [ -e go ]; do sleep 0.01; done; echo end", on_output=on_output)
    assert result.exit_code == 0
    assert "".join(d.text for d in seen if d.stream == "stdout") == result.stdout == "ready\nend\n"


async def test_listeners_are_called_in_order(container: Container) -> None:
    log: list[str] = []
    await container.exec(
        ["echo a", "echo b"],
        on_output=lambda delta: log.append(delta.text.strip()),
        on_command=lambda index, what, result: log.append(f"{index} {what} {result.exit_code if result else '-'}"),
    )
    assert log == ["0 started -", "a", "0 done 0", "1 started -", "b", "1 done 0"]


async def test_a_listener_that_fails_ends_the_call_and_its_processes(container: Container) -> None:
    def broken(delta: OutputPiece) -> None:
        raise RuntimeError("listener")

    with pytest.raises(RuntimeError, match="listener"):
        await container.exec(["echo x; sleep 77"], on_output=broken)
    assert (await sh(container, "pgrep -c sleep")).stdout.strip() == "0"


async def test_a_timeout_keeps_the_output_and_stops_the_call(container: Container) -> None:
    results = await container.exec(["echo partial; echo err >&2; sleep 77", "echo never"], timeout_ms=300)
    assert len(results) == 1
    assert results[0].timed_out
    assert results[0].exit_code is None
    assert (results[0].stdout, results[0].stderr) == ("partial\n", "err\n")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("trap '' TERM INT HUP; while :; do sleep 0.01; done", id="TERM trap"),
        pytest.param("while :; do :; done", id="busy loop"),
        pytest.param("kill -STOP $$", id="stops itself"),
        pytest.param("exec >&- 2>&-; sleep 77", id="closed outputs"),
        pytest.param("setsid bash -c 'trap \"\" TERM; sleep 77; sleep 77' & sleep 77", id="own session"),
        pytest.param("(setsid setsid sleep 77 &) ; (nohup sleep 77 &) ; sleep 77", id="orphans"),
        pytest.param("bash -c 'exec env -i setsid sleep 77' & disown; exec sleep 77", id="empty environment"),
    ],
)
async def test_nothing_of_a_timed_out_call_survives(container: Container, command: str) -> None:
    result = await sh(container, command, timeout_ms=200)
    assert result.timed_out
    assert container.init_pid is not None
    assert proc.descendants(container.init_pid) == []
    assert (await sh(container, "echo next")).stdout == "next\n"
    assert container.restarts == 0


async def test_an_earlier_background_service_survives_a_timeout(container: Container) -> None:
    await sh(container, "python3 -m http.server 8123 >/dev/null 2>&1 &")
    fetch = "for i in $(seq 200); do curl -sf localhost:8123 >/dev/null && echo up && break; sleep 0.05; done"
    assert (await sh(container, fetch)).stdout == "up\n"
    assert (await sh(container, "sleep 77 & sleep 77", timeout_ms=200)).timed_out
    assert (await sh(container, fetch)).stdout == "up\n"


async def test_a_call_ends_with_its_shell_though_the_output_stays_open(container: Container) -> None:
    result = await sh(container, "(while :; do echo noise; sleep 0.01; done) & echo done")
    assert "done" in result.stdout
    assert result.exit_code == 0
    assert (await sh(container, "echo next")).stdout == "next\n"


async def test_cancelling_kills_the_processes_and_leaves_the_container_usable(container: Container) -> None:
    started = asyncio.Event()
    call = asyncio.create_task(
        container.exec(["echo go; setsid sleep 77 & sleep 77"], on_output=lambda delta: started.set())
    )
    await started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert container.init_pid is not None
    assert proc.descendants(container.init_pid) == []
    assert (await sh(container, "echo next")).stdout == "next\n"
    assert container.restarts == 0


async def test_calls_of_one_container_take_turns(container: Container) -> None:
    one = container.exec(["echo a >> log; sleep 0.1; echo b >> log"])
    two = container.exec(["echo c >> log"])
    await asyncio.gather(one, two)
    assert (await sh(container, "cat log")).stdout == "a\nb\nc\n"


async def test_a_container_whose_first_process_dies_continues_on_the_same_files(container: Container) -> None:
    await sh(container, "echo kept > f")

    def kill(delta: OutputPiece) -> None:
        if delta.stream == "stdout":  # not again when told of the end
            assert container.init_pid is not None
            os.kill(container.init_pid, signal.SIGKILL)

    lost = await sh(container, "echo here; sleep 77", on_output=kill)
    assert lost.exit_code == 137
    assert lost.stdout == "here\n"
    assert "restarted" in lost.stderr
    assert (await sh(container, "cat f")).stdout == "kept\n"
    assert container.restarts == 1


async def test_closing_ends_a_running_call(containers: Containers, container: Container) -> None:
    started = asyncio.Event()
    call = asyncio.create_task(container.exec(["echo go; sleep 77"], on_output=lambda delta: started.set()))
    await started.wait()
    pid = container.init_pid
    await containers.delete("cntr_test")
    results = await call
    assert results[0].exit_code == 137
    await until(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"commands": []}, "commands"),
        ({"commands": ["a\0b"]}, "commands[0]"),
        ({"commands": ["true"], "timeout_ms": 0}, "timeout_ms"),
        ({"commands": ["true"], "max_output_length": -1}, "max_output_length"),
    ],
)
async def test_a_wrong_argument_is_named(container: Container, arguments: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidContainerRequest) as caught:
        await container.exec(**arguments)  # type: ignore[arg-type]
    assert caught.value.param == param


async def test_commands_longer_than_an_argument_may_be(container: Container) -> None:
    padding = "# " + "x" * (8 * 1024**2) + "\n"
    result = await sh(container, padding + "echo ran; exit 7")
    assert (result.stdout, result.exit_code) == ("ran\n", 7)


async def test_results_are_plain_values(container: Container) -> None:
    result = await sh(container, r"printf '\xff\xfe ok'")
    assert isinstance(result, CommandResult)
    assert result.stdout == "�� ok"
    result.stdout.encode()


async def test_programs_that_watch_files_are_told(container: Container) -> None:
    code = """
import ctypes, os, select
libc = ctypes.CDLL(None)
fd = libc.inotify_init1(0)
for folder in (b"/mnt/data", b"/tmp", b"/mnt/skills"):
    libc.inotify_add_watch(fd, folder, 0x100)  # IN_CREATE
open("/mnt/data/made", "w")
select.select([fd], [], [], 10)
print(b"made" in os.read(fd, 4096))
"""
    await container.put("watch.py", code.encode())
    assert (await sh(container, "python3 watch.py")).stdout == "True\n"
    if shutil.which("node"):
        code = (
            "const fs = require('fs'); const seen = fs.watch('.', (kind, name) => { console.log(name); seen.close() });"
        )
        await container.put("watch.js", f"{code} fs.writeFileSync('new.txt', '')".encode())
        assert (await sh(container, "node watch.js")).stdout == "new.txt\n"
