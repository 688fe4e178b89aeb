"""A damaged database: it says so and what mends it, and what can be read is read."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.core import Core
from skilldeck_daemon.settings import Settings
from skilldeck_shared.errors import Unavailable
from support.daemon import Running, running
from support.scripted_model import Turn

PAGE = 4096


async def health(daemon: Running) -> tuple[int, dict[str, Any]]:
    answer = await daemon.http.get(daemon.url.removesuffix("/v1") + "/health")
    return answer.status_code, answer.json()


def damage(path: Path, table: str) -> None:
    """Overwrite the last leaf page of a table's rows."""
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        try:
            found = database.execute("SELECT max(pageno) FROM dbstat WHERE name = ? AND pagetype = 'leaf'", (table,))
        except sqlite3.OperationalError:
            pytest.skip("this SQLite has no dbstat")
        (page,) = found.fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"\xde\xad" * (PAGE // 2))


async def test_a_damaged_page_takes_its_rows_and_nothing_else(tmp_path: Path) -> None:
    async with running(data_dir=tmp_path, strict=False) as daemon:
        ids = []
        for number in range(12):
            body = {"items": [], "metadata": {f"{key}": "x" * 500 for key in range(4)} | {"number": str(number)}}
            ids.append((await daemon.http.post("/conversations", json=body)).json()["id"])
        file = await daemon.client.files.create(file=("a", b"a"), purpose="user_data")
        assert (await health(daemon))[1]["store"] == "ok"
    damage(tmp_path / "skilldeck.db", "conversations")
    async with running(Turn("fine"), data_dir=tmp_path, strict=False) as daemon:
        answers = {id: await daemon.http.get(f"/conversations/{id}") for id in ids}
        lost = [id for id, answer in answers.items() if answer.status_code != 200]
        assert 0 < len(lost) < len(ids)
        error = answers[lost[0]].json()["error"]
        assert (answers[lost[0]].status_code, error["code"]) == (500, "store_damaged")
        assert "skilldeckd fsck" in error["message"]
        assert "skilldeckd restore" in error["message"]
        status, told = await health(daemon)
        assert (status, told["status"]) == (503, "degraded")
        assert "skilldeckd fsck" in told["store"]
        assert (await daemon.client.files.content(file.id)).content == b"a"
        assert (await daemon.respond())["status"] == "completed"
        page = await daemon.daemon.services.store.conversations.list(100, "asc")
        assert [row["id"] for row in page.data] == [id for id in ids if id not in lost]
        page = await daemon.daemon.services.store.conversations.list(2, "desc")
        assert (len(page.data), page.has_more) == (2, True)


async def test_a_damaged_document_is_left_out_of_lists_and_named_when_it_is_asked_for(tmp_path: Path) -> None:
    async with running(Turn("a"), Turn("b"), data_dir=tmp_path) as daemon:
        first, second = [(await daemon.respond())["id"] for _ in range(2)]
    with sqlite3.connect(tmp_path / "skilldeck.db") as database:
        database.execute("UPDATE responses SET doc = substr(doc, 1, 40) WHERE id = ?", (first,))
    async with running(data_dir=tmp_path, strict=False) as daemon:
        answer = await daemon.http.get(f"/responses/{first}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "store_damaged")
        assert (await daemon.http.get(f"/responses/{second}")).status_code == 200
        page = await daemon.daemon.services.store.responses.list(10)
        assert [response["id"] for response in page.data] == [second]
        assert "cannot be read" in (await health(daemon))[1]["store"]


async def test_a_file_that_is_no_database_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/skilldeck.db").write_bytes(b"not a database, " * 1000)
    settings = Settings(model="", data_dir=tmp_path / "data", socket=tmp_path / "s", sandbox="none")  # type: ignore[call-arg]
    with pytest.raises(Unavailable, match="skilldeckd restore"):
        async with Core(settings):
            raise AssertionError("it started")
