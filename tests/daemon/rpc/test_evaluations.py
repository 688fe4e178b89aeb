"""Tests of skills as the daemon keeps them: evaluations and trials over the control socket, and commands of checks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from skilldeck_shared.errors import BadRequest, NotFound, SkilldeckError
from skilldeck_tui.client.client import Change, Client
from support.daemon import SHELL, running
from support.scripted_model import Scripted, Turn, shell

EVALUATION = {"skill": "counter", "status": "running"}


@asynccontextmanager
async def client(*turns: Scripted, data_dir: Path | None = None) -> AsyncIterator[Client]:
    async with (
        running(*turns, data_dir=data_dir) as daemon,
        await Client.connect(daemon.daemon.settings.socket) as connected,
    ):
        yield connected


async def test_evaluations_and_their_trials_are_kept_found_and_told(tmp_path: Path) -> None:
    async with client(data_dir=tmp_path) as daemon:
        async with aclosing(daemon.subscribe()) as updates:
            await anext(updates)
            made = await daemon.put_evaluation({**EVALUATION, "seed": 7})
            trial = {"evaluation_id": made["id"], "skill": "counter", "test": "counts"}
            first = await daemon.add_trial({**trial, "key": "a"})
            second = await daemon.add_trial({**trial, "key": "b", "answer": "é\x00\ud800"})
            seen = [update async for update in _some(updates, 3)]
        assert [(change.topic, change.id) for change in seen] == [
            ("evaluation", made["id"]), ("trial", first["id"]), ("trial", second["id"]),
        ]  # fmt: skip
        ended = await daemon.put_evaluation({**made, "status": "completed", "created_at": 1})
        assert (ended["status"], ended["created_at"], ended["seed"]) == ("completed", made["created_at"], 7)
        other = await daemon.put_evaluation({"skill": "other", "status": "running"})
        await daemon.add_trial({"evaluation_id": other["id"], "skill": "other", "key": "a"})
    async with client(data_dir=tmp_path) as daemon:
        assert [entry["id"] for entry in (await daemon.evaluations()).data] == [other["id"], made["id"]]
        assert (await daemon.evaluations(skill="counter")).data == [ended]
        assert (await daemon.trials(made["id"])).data == [first, second]
        assert [t["skill"] for t in (await daemon.trials(keys=["a", "x"])).data] == ["counter", "other"]
        page = await daemon.trials(skill="counter", limit=1)
        assert (page.data, page.has_more) == ([first], True)
        assert (await daemon.trials(skill="counter", after=first["id"])).data == [second]
        assert (await daemon.delete_evaluation(made["id"]))["deleted"]
        assert (await daemon.trials(keys=["a", "b"])).data[0]["evaluation_id"] == other["id"]
        with pytest.raises(NotFound):
            await daemon.evaluation(made["id"])


async def _some(updates: Any, count: int) -> AsyncIterator[Change]:
    async for update in updates:
        if isinstance(update, Change) and update.topic in ("evaluation", "trial"):
            yield update
            count -= 1
        if not count:
            return


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"status": "running"}, "skill"),
        ({"skill": "x", "status": "done"}, "status"),
        ({**EVALUATION, "id": "eval_none"}, "no evaluation 'eval_none'"),
        ({**EVALUATION, "notes": "x" * 300_000}, "at most 262,144"),
    ],
)
async def test_an_evaluation_that_cannot_be_kept_is_refused_by_its_field(body: Any, says: str) -> None:
    async with client() as daemon:
        with pytest.raises(SkilldeckError, match=says):
            await daemon.put_evaluation(body)
        with pytest.raises(BadRequest, match="key"):
            await daemon.add_trial({"evaluation_id": "eval_none", "skill": "x"})
        with pytest.raises(NotFound):
            await daemon.add_trial({"evaluation_id": "eval_none", "skill": "x", "key": "k"})


async def test_a_check_runs_in_the_container_that_a_run_left_or_in_a_new_one() -> None:
    async with client(Turn(shell("echo 12 > total.txt")), Turn("done")) as daemon:
        response = await daemon.start_run({"model": "default", "input": "go", "tools": [SHELL]})
        events = [event async for event in daemon.watch_run(response["id"])]
        output = events[-1].data["response"]["output"]
        container = next(item["environment"]["container_id"] for item in output if item["type"] == "shell_call")
        seen = await daemon.exec_in_container(container, "cat total.txt; exit 3")
        assert (seen["stdout"], seen["exit_code"], seen["timed_out"]) == ("12\n", 3, False)
        empty = await daemon.exec_in_container("", "ls | wc -l")
        assert (empty["stdout"].strip(), len((await daemon.containers()).data)) == ("0", 1)
        made = await daemon.create_container({"name": "session"})
        assert (made["status"], len((await daemon.containers()).data)) == ("running", 2)
        late = await daemon.exec_in_container(container, "sleep 30", timeout_s=0.2)
        assert (late["exit_code"], late["timed_out"]) == (None, True)
        with pytest.raises(BadRequest, match="no command"):
            await daemon.exec_in_container(container, " ")
