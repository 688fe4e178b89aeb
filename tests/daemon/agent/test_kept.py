"""What is kept of live runs, and of ends that the store would not take, without any daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from skilldeck_daemon.agent.pending_writes import End, Unsettled
from skilldeck_daemon.agent.progress import Progress
from skilldeck_daemon.store import Store
from skilldeck_shared.errors import Unavailable
from support.library import open_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await open_store(tmp_path)
    yield store
    await store.close()


def _response(id: str, status: str = "in_progress", **more: Any) -> Any:
    return {"id": id, "object": "response", "created_at": 1, "status": status, "model": "m", "output": [], **more}


def _run(id: str, events: int, *, store: bool = True, abandoned: bool = False) -> Any:
    """As much of a run as is looked at."""
    return SimpleNamespace(
        id=id,
        request=SimpleNamespace(store=store),
        abandoned=abandoned,
        log=SimpleNamespace(events=[{}] * events),
        partial=_response(id, output=[{"id": f"msg_{events}"}]),
    )


async def _output(store: Store, id: str) -> list[str]:
    kept = await store.responses.get(id)
    assert kept is not None
    return [item["id"] for item in kept["output"]]


async def test_a_live_run_is_stored_when_it_has_grown_and_not_when_it_is_not_to_be(store: Store) -> None:
    live = {"a": _run("a", 3), "b": _run("b", 3, store=False), "c": _run("c", 3, abandoned=True)}
    progress = Progress(store, cast(Any, live))
    for id in live:
        await store.responses.create(_response(id), [], instance="one")
    await progress.keep("one")
    assert [await _output(store, id) for id in live] == [["msg_3"], [], []]
    live["a"].partial = _response("a", output=[{"id": "no event since"}])
    await progress.keep("one")
    assert await _output(store, "a") == ["msg_3"]
    live["a"] = _run("a", 4)
    await progress.keep("one")
    assert await _output(store, "a") == ["msg_4"]


async def test_another_start_of_the_daemon_does_not_write_over_a_run_that_is_not_its_own(store: Store) -> None:
    await store.responses.create(_response("a"), [], instance="one")
    await Progress(store, cast(Any, {"a": _run("a", 3)})).keep("two")
    assert await _output(store, "a") == []


async def test_an_end_that_was_refused_answers_until_the_store_takes_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsettled = Unsettled(store)
    for id in ("a", "b"):
        await store.responses.create(_response(id), [], instance="one")
        unsettled.keep(End(_response(id, "failed"), [cast(Any, {"type": "response.failed"})], {}, []))

    async def refused(*_: Any) -> bool:
        raise Unavailable("The disk is full.")

    with monkeypatch.context() as full:
        full.setattr(store.responses, "finish", refused)
        await unsettled.settle("one")
    end = unsettled.get("a")
    assert end is not None
    assert end.response["status"] == "failed"
    unsettled.drop("b")  # deleted meanwhile
    await unsettled.settle("one")
    assert unsettled.get("a") is None
    kept = [await store.responses.get(id) for id in ("a", "b")]
    assert [one and one["status"] for one in kept] == ["failed", "in_progress"]
