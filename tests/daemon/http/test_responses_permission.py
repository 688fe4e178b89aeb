"""The permission policy, once for each hosted tool: a denied call does nothing, an asked one waits for its answer."""

from __future__ import annotations

from typing import Any

import pytest

from support.daemon import SHELL, running
from support.scripted_model import Call, Turn, shell
from support.wait import until

PYTHON = {"type": "code_interpreter", "container": {"type": "auto"}}
TABLE = [
    ("shell", [SHELL], shell("echo > made"), "echo > made"),
    ("code_interpreter", [PYTHON], Call("python", {"code": "open('made', 'w')"}), "open('made', 'w')"),
    (
        "apply_patch",
        [SHELL, {"type": "apply_patch"}],
        Call("apply_patch", {"type": "create_file", "path": "made", "diff": "+x"}),
        "create_file made\n+x",
    ),
]
names = pytest.mark.parametrize(("kind", "tools", "call", "shown"), TABLE, ids=[row[0] for row in TABLE])


@names
async def test_denied_by_the_operator(kind: str, tools: list[dict[str, Any]], call: Call, shown: str) -> None:
    async with running(Turn(call), Turn("I may not."), permission="deny") as daemon:
        response = (await daemon.stream(tools=tools))[-1]["response"]
        assert response["status"] == "completed"
        assert "Permission denied" in str(daemon.model.requests[1]["messages"][-1]["content"])
        assert (await daemon.client.containers.list()).data == []


@names
async def test_asked_and_answered(kind: str, tools: list[dict[str, Any]], call: Call, shown: str) -> None:
    async with running(Turn(call), Turn(call), Turn("ok"), permission="ask") as daemon:
        approvals = daemon.daemon.services.approvals
        run = await daemon.respond(background=True, tools=tools)
        await until(lambda: bool(approvals.list()))
        (pending,) = approvals.list()
        assert (pending["kind"], pending["commands"]) == (kind, [shown])
        await approvals.decide(pending["id"], "deny", message="not now")
        await until(lambda: bool(approvals.list()) and approvals.list()[0]["id"] != pending["id"])
        assert (await daemon.client.containers.list()).data == []
        await approvals.decide(approvals.list()[0]["id"], "approve")
        await until(lambda: daemon.daemon.services.runs.live(run["id"]) is None)
        (container,) = (await daemon.client.containers.list()).data
        files = (await daemon.client.containers.files.list(container.id)).data
        assert [file.path for file in files] == ["/mnt/data/made"]
        assert "not now" in str(daemon.model.requests[1]["messages"][-1]["content"])
