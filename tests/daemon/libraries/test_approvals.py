"""Permission to run commands: policies, what is remembered, who is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from skilldeck_daemon.libraries.approvals import Approvals, covered, strictest
from skilldeck_daemon.libraries.bus import Bus
from skilldeck_daemon.store import Store, sqlite_url
from skilldeck_shared.errors import BadRequest, NotFound
from support.wait import until


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(sqlite_url(tmp_path / "db"), tmp_path / "blobs")
    await store.open()
    yield store
    await store.close()


def check(
    approvals: Approvals, *commands: str, permission: str | None = None, session: str = "s"
) -> asyncio.Task[str | None]:
    return asyncio.create_task(
        approvals.check("shell", list(commands), permission=permission, run_id="r", call_id="c", session=session)
    )


def test_the_strictest_policy_counts() -> None:
    assert strictest("auto", None) == "auto"
    assert strictest("auto", "ask") == "ask"
    assert strictest("deny", "auto") == "deny"


@pytest.mark.parametrize(
    ("command", "covers"),
    [
        ("ls", True),
        ("ls -l /tmp", True),
        ("lsof", False),
        ("ls; rm -rf /", False),
        ("ls && id", False),
        ("ls $(id)", False),
        ("ls `id`", False),
        ("ls > /etc/x", False),
        ("ls\nid", False),
        ("ls | sh", False),
        ("cd /", False),
    ],
)
def test_a_remembered_command_covers_more_arguments_and_nothing_else(command: str, covers: bool) -> None:
    assert covered(command, ["ls"]) is covers


async def test_what_is_remembered_always_outlives_the_session(store: Store) -> None:
    approvals = Approvals(store, Bus(), "ask")
    asked = check(approvals, "ls")
    await until(approvals.list)
    await approvals.decide(approvals.list()[0]["id"], "approve", remember_always=True)
    assert await asked is None
    again = Approvals(store, Bus(), "ask")
    assert await check(again, "ls -l", session="other") is None
    (rule,) = await again.rules()
    await again.revoke(rule["id"])
    with pytest.raises(NotFound):
        await again.revoke(rule["id"])
    assert await again.rules() == []


async def test_a_rule_is_changed_and_never_to_what_the_shell_would_act_on(store: Store) -> None:
    approvals = Approvals(store, Bus(), "ask")
    asked = check(approvals, "ls -l out")
    await until(approvals.list)
    await approvals.decide(approvals.list()[0]["id"], "approve", remember_always=True)
    assert await asked is None
    (rule,) = await approvals.rules()
    changed = await approvals.change(rule["id"], " ls ")
    assert changed == {**rule, "prefix": "ls"}
    assert await approvals.rules() == [changed]
    assert await check(approvals, "ls -a", session="other") is None
    for wrong in ("", "ls; id", "ls *", None, 3, "x" * 5000):
        with pytest.raises(BadRequest, match="prefix"):
            await approvals.change(rule["id"], wrong)
    with pytest.raises(NotFound):
        await approvals.change("rule_none", "ls")


async def test_a_session_is_remembered_for_itself_only(store: Store) -> None:
    approvals = Approvals(store, Bus(), "ask")
    asked = check(approvals, "ls", session="a")
    await until(approvals.list)
    await approvals.decide(approvals.list()[0]["id"], "approve", remember_for_session=True)
    assert await asked is None
    other = check(approvals, "ls", session="b")
    await until(approvals.list)
    await approvals.decide(approvals.list()[0]["id"], "deny")
    assert "denied" in str(await other)


async def test_silence_is_a_denial_and_late_answers_find_nothing(store: Store) -> None:
    approvals = Approvals(store, Bus(), "ask", timeout_s=0.0)
    assert "nobody answered" in str(await check(approvals, "ls"))
    assert approvals.list() == []
    with pytest.raises(NotFound):
        await approvals.decide("appr_gone", "approve")
    with pytest.raises(BadRequest, match="decision"):
        await approvals.decide("appr_gone", "perhaps")
