# ruff: noqa: PT017 - this is a program, not a test
"""Fills a small file system page by page beneath a daemon and asks it for everything, at each step.

    python -m daemon.faults.full_disk FOLDER        # FOLDER is a file system of its own, of a few megabytes

For each kind of request the disk is left with 0, 1, 2 … free pages until the request succeeds: so each write it makes
is once the one that fails. A refusal must say `disk_full` and leave nothing; afterwards, with space, everything that
was acknowledged is there. Prints how often each request was refused, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from skilldeck_daemon import core
from skilldeck_daemon.core import Core
from skilldeck_daemon.settings import Settings
from skilldeck_daemon.store import open_parts, room
from skilldeck_daemon.store.upkeep import backup
from skilldeck_daemon.store.upkeep.fsck import check
from skilldeck_shared.errors import SkilldeckError
from support.daemon import Running, running
from support.scripted_model import Turn

PAGE = 4096
MAX_PAGES = 400


class Disk:
    """The file system: `leave(n)` free pages, `empty()` the filler."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / "filler"

    def leave(self, pages: int) -> None:
        self.empty()
        with self._filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(PAGE))
            except OSError:
                file.truncate(max(0, file.tell() - pages * PAGE))

    def empty(self) -> None:
        self._filler.unlink(missing_ok=True)


class Asker:
    """Requests of every kind; what was acknowledged is in `kept`, by path."""

    def __init__(self, daemon: Running) -> None:
        self.http = daemon.http
        self.kept: dict[str, Any] = {}

    async def file(self) -> httpx.Response:
        content = os.urandom(20_000)
        answer = await self.http.post("/files", data={"purpose": "user_data"}, files={"file": ("a", content)})
        if answer.status_code == 200:
            self.kept[f"/files/{answer.json()['id']}/content"] = content
        return answer

    async def skill(self) -> httpx.Response:
        body = "x" * 9000
        manifest = f"---\nname: s\ndescription: {os.urandom(8).hex()}\n---\n{body}".encode()
        files = [("files", ("s/SKILL.md", manifest)), ("files", ("s/b.bin", os.urandom(9000)))]
        return self._keep("/skills/{}", await self.http.post("/skills", files=files))

    async def part(self) -> httpx.Response:
        body = {"filename": "a", "bytes": 5000, "mime_type": "text/plain", "purpose": "user_data"}
        answer = await self.http.post("/uploads", json=body)
        if answer.status_code != 200:
            return answer
        upload = answer.json()["id"]
        answer = await self.http.post(f"/uploads/{upload}/parts", files={"data": ("a", os.urandom(5000))})
        if answer.status_code != 200:
            return answer
        answer = await self.http.post(f"/uploads/{upload}/complete", json={"part_ids": [answer.json()["id"]]})
        if answer.status_code == 200:
            self.kept[f"/files/{answer.json()['file']['id']}"] = None
        return answer

    async def conversation(self) -> httpx.Response:
        item = {"type": "message", "role": "user", "content": "long " * 2000}
        return self._keep("/conversations/{}", await self.http.post("/conversations", json={"items": [item]}))

    async def chat(self) -> httpx.Response:
        body = {"model": "default", "messages": [{"role": "user", "content": os.urandom(9000).hex()}], "store": True}
        return self._keep("/chat/completions/{}", await self.http.post("/chat/completions", json=body))

    async def response(self) -> httpx.Response:
        body = {"model": "default", "input": os.urandom(9000).hex()}
        return self._keep("/responses/{}", await self.http.post("/responses", json=body))

    async def background(self) -> httpx.Response:
        body = {"model": "default", "input": os.urandom(9000).hex(), "background": True}
        answer = await self.http.post("/responses", json=body)
        if answer.status_code == 200:
            path = f"/responses/{answer.json()['id']}"
            self.kept[path] = await self._ended(path)
        return answer

    async def _ended(self, path: str) -> dict[str, Any]:
        while True:
            response: dict[str, Any] = (await self.http.get(path)).json()
            if response["status"] not in ("queued", "in_progress"):
                return response
            await asyncio.sleep(0.01)

    def _keep(self, path: str, answer: httpx.Response) -> httpx.Response:
        if answer.status_code == 200:
            self.kept[path.format(answer.json()["id"])] = answer.json()
        return answer

    async def check(self) -> None:
        for path, told in self.kept.items():
            answer = await self.http.get(path)
            assert answer.status_code == 200, f"{path}: {answer.text}"
            if isinstance(told, bytes):
                assert answer.content == told, path
            elif told is not None:
                assert answer.json() == told, f"{path}: {answer.json()} was {told}"


async def fill(disk: Disk, data: Path) -> Counter[str]:
    refused: Counter[str] = Counter()
    async with running(*[Turn("word " * 50)] * 10_000, strict=False, data_dir=data, sandbox="none") as daemon:
        asker = Asker(daemon)
        actions: list[Callable[[], Awaitable[httpx.Response]]] = [
            asker.file,
            asker.skill,
            asker.part,
            asker.conversation,
            asker.chat,
            asker.response,
            asker.background,
        ]
        for action in actions:
            name = action.__name__
            for pages in range(MAX_PAGES):
                # Else the log's file would have room for what is written.
                _truncate_log(data)
                disk.leave(pages)
                answer = await action()
                disk.empty()
                whole = answer.status_code == 200 and (answer.json().get("status") or "") != "failed"
                if answer.status_code == 200 and name == "background":
                    last = list(asker.kept)[-1]
                    whole = asker.kept[last]["status"] == "completed"
                if whole:
                    break
                refused[name] += 1
                if answer.status_code != 200:
                    error = answer.json()["error"]
                    assert (answer.status_code, error["code"]) == (503, "disk_full"), f"{name}: {answer.text}"
                assert list((data / "blobs/tmp").iterdir()) == [], name
            else:
                raise AssertionError(f"{name} fails with {MAX_PAGES} free pages: {answer.text}")
        await daemon.daemon.services.runs.settle()
        await asker.check()
    async with running(Turn("x"), strict=False, data_dir=data, sandbox="none") as daemon:
        asker.http = daemon.http
        await asker.check()
    report = await check(*open_parts(data))
    assert report.problems == [], report.problems
    return refused


def _truncate_log(data: Path) -> None:
    database = sqlite3.connect(data / "skilldeck.db", timeout=30)
    try:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        database.close()


async def start(disk: Disk, data: Path) -> int:
    """A first start with 0, 4, 8 … free pages; how often it was refused."""
    for pages in range(0, MAX_PAGES, 4):
        disk.leave(pages)
        settings = Settings(model="", data_dir=data, socket=data.parent / "s", sandbox="none")  # type: ignore[call-arg]
        try:
            async with Core(settings):
                return pages // 4
        except SkilldeckError as error:
            assert error.hint, error
            assert "space" in str(error) or "full" in str(error), error
        finally:
            disk.empty()
            if data.exists():
                assert not list(data.glob("seal.key.*")), "half a key"
    raise AssertionError("the daemon never started")


def restore(disk: Disk, data: Path, target: Path) -> int:
    """A backup and a restore on the full disk leave nothing; how often they were refused."""
    backup.make(data, target.parent / "b.tar")
    refused = 0
    for pages in range(0, 4 * MAX_PAGES, 32):
        disk.leave(pages)
        try:
            backup.make(data, target.parent / "second.tar")
            (target.parent / "second.tar").unlink()
            backup.restore(target.parent / "b.tar", target)
            return refused
        except SkilldeckError as error:
            assert error.code == "disk_full", error
            assert not (target.parent / "second.tar").exists()
            assert not target.exists() or [path.name for path in target.iterdir()] in ([], ["daemon.lock"])
            refused += 1
        finally:
            disk.empty()
    raise AssertionError("the backup was never restored")


async def trapped(disk: Disk, data: Path) -> int:
    """No page is free, also after a restart: what takes anything in is refused, and deleting makes room."""
    room.FLOOR_BYTES, room.RESERVE_BYTES = 1 << 18, 2 << 20

    async def upload(daemon: Running) -> httpx.Response:
        content = {"file": ("a", os.urandom(9000))}
        return await daemon.http.post("/files", data={"purpose": "user_data"}, files=content)

    async def told(daemon: Running) -> str:
        return str((await daemon.http.get(daemon.url.removesuffix("/v1") + "/health")).json()["store"])

    deleted = 0
    async with running(strict=False, data_dir=data, sandbox="none") as daemon:
        for _ in range(30):
            answer = await upload(daemon)
            assert answer.status_code == 200, answer.text
        assert await told(daemon) == "ok"
        disk.leave(0)
    for left in (15, 0):
        async with running(strict=False, data_dir=data, sandbox="none") as daemon:
            disk.leave(0)
            assert "uploads are refused" in await told(daemon)
            refused = await upload(daemon)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "disk_full"), refused.text
            files = (await daemon.http.get("/files?limit=100")).json()["data"]
            while len(files) > left:
                answer = await daemon.http.delete(f"/files/{files.pop()['id']}")
                assert answer.status_code == 200, answer.text
                deleted += 1
    disk.empty()
    async with running(strict=False, data_dir=data, sandbox="none") as daemon:
        assert (await daemon.http.get("/files")).json()["data"] == []
        assert await told(daemon) == "ok"
        assert (data / "reserve").stat().st_size == room.RESERVE_BYTES
    return deleted


async def main(folder: Path) -> None:
    core.SWEEP_SECONDS = 3600
    room.FLOOR_BYTES = 0  # each write is to be the one that fails
    disk = Disk(folder)
    refused = await fill(disk, folder / "data")
    refused["start"] = await start(disk, folder / "new")
    refused["restore"] = await asyncio.to_thread(restore, disk, folder / "new", folder / "restored")
    assert await asyncio.to_thread(until_sound, folder / "restored")
    deleted = await trapped(disk, folder / "trapped")
    assert deleted == 30
    print(json.dumps(refused))


def until_sound(data: Path) -> bool:
    return asyncio.run(check(*open_parts(data))).problems == []


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
