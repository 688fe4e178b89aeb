"""Another program holds the database: reads go on, writes say why, and a run's end is stored when it lets go."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from skilldeck_daemon import core
from skilldeck_daemon.store import database
from support.daemon import running, sse
from support.scripted_model import Hold, Turn
from support.wait import until


async def test_a_locked_database_is_told_and_no_run_is_left_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 50)
    monkeypatch.setattr(core, "SWEEP_SECONDS", 0.05)
    gate = threading.Event()
    async with running(Turn("one ", Hold(gate), "two"), Turn("again"), data_dir=tmp_path) as daemon:
        file = await daemon.client.files.create(file=("a", b"a"), purpose="user_data")
        body = {"model": "default", "input": "go", "stream": True}
        async with daemon.http.stream("POST", "/responses", json=body) as answer:
            await until(lambda: len(daemon.model.requests) == 1)
            other = sqlite3.connect(tmp_path / "skilldeck.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            try:
                refused = await daemon.http.post("/files", data={"purpose": "user_data"}, files={"file": ("b", b"b")})
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_busy")
                assert "locked by another program" in refused.json()["error"]["message"]
                assert (await daemon.client.files.content(file.id)).content == b"a"
                gate.set()
                events = await sse(answer)
                last = events[-1]
                assert last["type"] == "response.failed"
                # It is told as it ended although it cannot be stored.
                told = (await daemon.http.get(f"/responses/{last['response']['id']}")).json()
                assert told == last["response"]
                stored = "SELECT status FROM responses"
                assert other.execute(stored).fetchall() == [("in_progress",)]
            finally:
                other.execute("ROLLBACK")
        await until(lambda: other.execute(stored).fetchall() == [("failed",)], 60)
        other.close()
        assert (await daemon.http.get(f"/responses/{told['id']}")).json() == told
        assert (await daemon.respond())["status"] == "completed"
    assert len(list((tmp_path / "blobs").glob("??/*"))) <= 2  # the refused upload's blob waits for its collection
