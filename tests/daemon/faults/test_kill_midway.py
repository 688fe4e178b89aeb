"""`kill -9` in the middle of a command or of an answer: what was seen of it is there again, marked as incomplete."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.containers.homes import base_for
from skilldeck_daemon.tools.shell_items import KILLED_EXIT
from skilldeck_tui.client.client import Client, RunDetail, RunEvent
from support.killable import ready, served
from support.scripted_model import Hold, ScriptedModel, Text, Turn, shell
from support.wait import until

SHELL = {"type": "shell", "environment": {"type": "container_auto"}}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(base_for(tmp_path / "data" / "containers"), ignore_errors=True)


async def _stored(client: Client, run_id: str, event_type: str, home: Path) -> None:
    """Wait until the text that the run has shown so far is in the store, too."""
    async with client.watch_run(run_id) as stream:
        while (await anext(stream)).type != event_type:
            pass
    await until(lambda: _committed(home / "data" / "skilldeck.db"))


def _committed(path: Path) -> bool:
    """Whether the text is in a row that a reader sees: in the files' bytes it stands before its commit does."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return any("MIDWAY" in repr(row) for table in tables for row in db.execute(f'SELECT * FROM "{table}"'))


async def _after_the_kill(home: Path, model: ScriptedModel, event_type: str) -> tuple[RunDetail, list[RunEvent]]:
    async with served(home, model) as (process, url):
        await ready(url)
        async with await Client.connect(home / "s") as client:
            response = await client.start_run({"model": "default", "input": "go", "tools": [SHELL]})
            await _stored(client, response["id"], event_type, home)
            process.send_signal(signal.SIGKILL)
            await process.wait()
    async with served(home, model) as (_, url):
        await ready(url)
        async with await Client.connect(home / "s") as client:
            detail = await client.run(response["id"])
            return detail, [event async for event in client.watch_run(response["id"])]


def _checked(detail: RunDetail, events: list[RunEvent]) -> list[dict[str, Any]]:
    assert detail.response["status"] == "failed"
    assert detail.response["error"]["message"] == "The daemon stopped before this response was finished."
    output: list[dict[str, Any]] = detail.response["output"]
    assert [event.data["item"] for event in events if event.type == "response.output_item.done"] == output
    return output


@pytest.mark.timeout(300)
async def test_a_command_and_its_output_until_then_are_kept(home: Path) -> None:
    command = "printf 'MID%s\\n' WAY; sleep 600"
    with ScriptedModel(Turn(shell(command)), strict=False) as model:
        call, output = _checked(*await _after_the_kill(home, model, "response.shell_call_output_content.delta"))
    assert call["action"]["commands"] == [command]
    assert output["status"] == "incomplete"
    outcome = {"type": "exit", "exit_code": KILLED_EXIT}
    assert output["output"] == [{"stdout": "MIDWAY\n", "stderr": "", "outcome": outcome}]


@pytest.mark.timeout(300)
async def test_an_answer_until_then_is_kept(home: Path) -> None:
    with ScriptedModel(Turn(Text("MIDWAY through"), Hold(threading.Event())), strict=False) as model:
        (message,) = _checked(*await _after_the_kill(home, model, "response.output_text.delta"))
    assert message["status"] == "incomplete"
    assert [part["text"] for part in message["content"]] == ["MIDWAY through"]
