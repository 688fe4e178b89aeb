"""/v1/containers and the files in them."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from support.daemon import SHELL, running
from support.scripted_model import Turn, shell


async def test_a_container_is_made_listed_retrieved_and_deleted() -> None:
    async with running(strict=False) as daemon:
        file = await daemon.client.files.create(file=("in.txt", b"in"), purpose="user_data")
        made = await daemon.client.containers.create(
            name="mine", file_ids=[file.id], memory_limit="1g", expires_after={"anchor": "last_active_at", "minutes": 5}
        )
        assert (made.name, made.status, made.memory_limit) == ("mine", "running", "1g")
        assert made.expires_after is not None
        assert made.expires_after.minutes == 5
        other = await daemon.client.containers.create(name="other")
        assert [entry.id async for entry in daemon.client.containers.list(limit=1)] == [other.id, made.id]
        assert [entry.id for entry in (await daemon.client.containers.list(name="mine")).data] == [made.id]
        assert (await daemon.client.containers.retrieve(made.id)).id == made.id
        files = (await daemon.client.containers.files.list(made.id)).data
        assert [(entry.path, entry.bytes, entry.source) for entry in files] == [("/mnt/data/in.txt", 2, "user")]
        await daemon.client.containers.delete(made.id)
        assert (await daemon.http.get(f"/containers/{made.id}")).status_code == 404


async def test_files_go_in_by_upload_and_by_id_and_come_out_again() -> None:
    async with running(strict=False) as daemon:
        container = await daemon.client.containers.create(name="c")
        uploaded = await daemon.client.containers.files.create(container.id, file=("a b.txt", b"first"))
        file = await daemon.client.files.create(file=("a b.txt", b"second"), purpose="user_data")
        added = await daemon.client.containers.files.create(container.id, file_id=file.id)
        assert (uploaded.path, added.path) == ("/mnt/data/a b.txt", "/mnt/data/a b-2.txt")
        assert (await daemon.client.containers.files.retrieve(added.id, container_id=container.id)).bytes == 6
        raw = await daemon.http.get(f"/containers/{container.id}/files/{added.id}/content")
        assert raw.content == b"second"
        assert "a%20b-2.txt" in raw.headers["content-disposition"]
        await daemon.client.containers.files.delete(added.id, container_id=container.id)
        assert [entry.id for entry in (await daemon.client.containers.files.list(container.id)).data] == [uploaded.id]


async def test_a_file_keeps_its_id_while_a_run_changes_it_and_is_cited_then() -> None:
    async with running(Turn(shell("echo more >> notes.txt")), Turn("Added to notes.txt.")) as daemon:
        container = await daemon.client.containers.create(name="c")
        before = await daemon.client.containers.files.create(container.id, file=("notes.txt", b"some\n"))
        tool = {"type": "shell", "environment": {"type": "container_reference", "container_id": container.id}}
        response = await daemon.respond(tools=[tool])
        (note,) = response["output"][-1]["content"][0]["annotations"]
        assert note["file_id"] == before.id
        content = await daemon.client.containers.files.content.retrieve(before.id, container_id=container.id)
        assert content.content == b"some\nmore\n"
        assert "- notes.txt" in daemon.model.requests[0]["messages"][0]["content"]


async def test_links_out_of_the_container_are_no_files() -> None:
    async with running(Turn(shell("ln -s /etc/passwd p; ln -s /etc e; mkfifo f; echo x > real")), Turn("ok")) as daemon:
        response = await daemon.respond(tools=[SHELL])
        id = response["output"][0]["environment"]["container_id"]
        listed = (await daemon.client.containers.files.list(id)).data
        assert [entry.path for entry in listed] == ["/mnt/data/real"]


async def test_containers_and_their_files_outlive_the_daemon(tmp_path: Path) -> None:
    async with running(Turn(shell("echo kept > f")), Turn("ok"), data_dir=tmp_path) as daemon:
        response = await daemon.respond(tools=[SHELL])
        base = daemon.daemon.services.environments.containers.base
    id = response["output"][0]["environment"]["container_id"]
    async with running(Turn(shell("cat f")), Turn("ok"), data_dir=tmp_path) as daemon:
        tool = {"type": "shell", "environment": {"type": "container_reference", "container_id": id}}
        again = await daemon.respond(tools=[tool])
        assert again["output"][1]["output"][0]["stdout"] == "kept\n"
        await daemon.client.containers.delete(id)
        assert not (base / id).exists()


async def test_a_deleted_container_leaves_no_lock_behind() -> None:
    """Two locks a container kept for ever were most of what the daemon grew by: a kilobyte a run."""
    async with running(*[Turn(shell("echo x > f")), Turn("ok")] * 8) as daemon:

        async def use(times: int) -> int:
            for _ in range(times):
                response = await daemon.respond(tools=[SHELL])
                id = response["output"][0]["environment"]["container_id"]
                assert len((await daemon.client.containers.files.list(id)).data) == 1
                await daemon.client.containers.delete(id)
            gc.collect()
            return sum(isinstance(found, asyncio.Lock) for found in gc.get_objects())

        before = await use(2)
        assert await use(6) < before + 6


async def test_more_containers_than_sandboxes_take_turns(tmp_path: Path) -> None:
    turns = [turn for number in range(3) for turn in (Turn(shell(f"echo {number} > f")), Turn("ok"))]
    async with running(*turns, Turn(shell("cat f")), Turn("ok"), max_containers=2) as daemon:
        responses = [await daemon.respond(tools=[SHELL]) for _ in range(3)]
        ids = [response["output"][0]["environment"]["container_id"] for response in responses]
        assert daemon.daemon.services.environments.containers.stats()["open"] == 2
        tool = {"type": "shell", "environment": {"type": "container_reference", "container_id": ids[0]}}
        again = await daemon.respond(tools=[tool])
        assert again["output"][1]["output"][0]["stdout"] == "0\n"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": 1}, "name"),
        ({"name": "c", "file_ids": ["file-none"]}, "file_ids[0]"),
        ({"name": "c", "memory_limit": "3g"}, "memory_limit"),
        ({"name": "c", "memory_limit": "64g"}, "memory_limit"),
        ({"name": "c", "expires_after": {"anchor": "created_at", "minutes": 1}}, "expires_after.anchor"),
        ({"name": "c", "expires_after": {"anchor": "last_active_at"}}, "expires_after.minutes"),
        ({"name": "c", "skills": [{"type": "skill_reference", "skill_id": "skill_none"}]}, "skills[0].skill_id"),
    ],
)
async def test_a_wrong_container_is_refused_and_not_made(body: dict[str, Any], param: str) -> None:
    async with running(strict=False) as daemon:
        answer = await daemon.http.post("/containers", json=body)
        assert 400 <= answer.status_code < 500
        assert answer.json()["error"]["param"] == param
        assert (await daemon.client.containers.list()).data == []


async def test_files_that_are_not_there_are_404_and_an_upload_needs_one_file() -> None:
    async with running(strict=False) as daemon:
        container = await daemon.client.containers.create(name="c")
        files = f"/containers/{container.id}/files"
        for method, path in (
            ("GET", f"{files}/cfile_no"),
            ("GET", f"{files}/cfile_no/content"),
            ("DELETE", f"{files}/cfile_no"),
        ):
            assert (await daemon.http.request(method, path)).status_code == 404
        assert (await daemon.http.post(files, json={})).json()["error"]["param"] == "file_id"
        form = await daemon.http.post(files, files={"other": ("x", b"x")})
        assert form.json()["error"]["param"] == "file"
        assert (await daemon.http.get("/containers/cntr_none/files")).status_code == 404
