"""Files, skills and models through Anthropic's official SDK in strict mode, and the files that code execution made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
import pytest_asyncio

from daemon.http.test_messages import CODE, HI, client
from skilldeck_daemon.agent.run import Run
from skilldeck_daemon.http.anthropic.answer import BlockStream, message
from skilldeck_daemon.http.anthropic.request import MessagesBody
from support.bundles import manifest, skill_zip
from support.daemon import Running, running
from support.scripted_model import Turn, shell

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared() -> AsyncIterator[Running]:
    async with running() as daemon:
        yield daemon


@pytest_asyncio.fixture(loop_scope="module")
async def api(shared: Running) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with client(shared) as found:
        yield found


async def test_files_are_uploaded_listed_downloaded_and_deleted(api: anthropic.AsyncAnthropic, shared: Running) -> None:
    made = [
        await api.beta.files.upload(file=(f"{n}.csv", b"a,b\n" * (n + 1), "text/csv"), expires_in_seconds=3600)
        for n in range(3)
    ]
    assert (made[2].filename, made[2].size_bytes, made[2].mime_type) == ("2.csv", 12, "text/csv")
    assert made[0].expires_at is not None
    assert [file.id async for file in api.beta.files.list(limit=2)] == [file.id for file in reversed(made)]
    assert [file.id for file in (await api.beta.files.list(ids=[made[1].id, "file-none"])).data] == [made[1].id]
    assert (await api.beta.files.retrieve_metadata(made[0].id)).filename == "0.csv"
    assert await (await api.beta.files.download(made[1].id)).read() == b"a,b\na,b\n"
    # The same file, as OpenAI's SDK knows it.
    assert (await shared.client.files.retrieve(made[0].id)).purpose == "user_data"
    for file in made:
        assert (await api.beta.files.delete(file.id)).type == "file_deleted"
    assert (await api.beta.files.list()).data == []


async def test_skills_and_their_versions_live(api: anthropic.AsyncAnthropic, shared: Running) -> None:
    skill = await api.beta.skills.create(
        files=[("greeter/SKILL.md", manifest("greeter")), ("greeter/run.sh", b"echo 1\n")], display_name="Greeter"
    )
    assert (skill.display_name, skill.latest_version_id, skill.source.type) == ("greeter", "1", "custom")
    second = await api.beta.skills.versions.create(skill.id, files=[("g.zip", skill_zip("greeter"))])
    assert (second.id, second.skill_id, second.name) == ("2", skill.id, "greeter")
    assert [version.id async for version in api.beta.skills.versions.list(skill.id, limit=1)] == ["2", "1"]
    # What was uploaded last serves, as with Anthropic.
    assert (await shared.client.skills.retrieve(skill.id)).default_version == "2"
    assert (await api.beta.skills.retrieve(skill.id)).latest_version_id == "2"
    assert (await api.beta.skills.versions.retrieve("1", skill_id=skill.id)).description
    zipped = await (await api.beta.skills.versions.download("1", skill_id=skill.id)).read()
    assert zipped.startswith(b"PK")
    assert [found.id async for found in api.beta.skills.list(source="custom")] == [skill.id]
    assert (await api.beta.skills.list(source="anthropic")).data == []
    assert (await api.beta.skills.versions.delete("1", skill_id=skill.id)).type == "skill_version_deleted"
    assert (await api.beta.skills.delete(skill.id)).type == "skill_deleted"
    with pytest.raises(anthropic.NotFoundError):
        await api.beta.skills.retrieve(skill.id)


@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_skill_is_deleted_after_all_its_versions_in_any_order(
    api: anthropic.AsyncAnthropic, newest_first: bool
) -> None:
    """As Anthropic's documentation cleans up: there is no default version to mind, and the skill is deleted last."""
    skill = await api.beta.skills.create(files=[("g.zip", skill_zip("short-lived"))])
    for _ in range(2):
        await api.beta.skills.versions.create(skill.id, files=[("g.zip", skill_zip("short-lived"))])
    versions = [version.id async for version in api.beta.skills.versions.list(skill.id)]
    for number in versions if newest_first else reversed(versions):
        with pytest.raises(anthropic.NotFoundError):
            await api.beta.skills.versions.delete("9", skill_id=skill.id)
        await api.beta.skills.versions.delete(number, skill_id=skill.id)
    assert (await api.beta.skills.delete(skill.id)).type == "skill_deleted"
    with pytest.raises(anthropic.NotFoundError):
        await api.beta.skills.delete(skill.id)


async def test_a_skill_that_went_with_its_last_version_is_deleted_after_a_restart(tmp_path: Path) -> None:
    async with running(data_dir=tmp_path / "data") as daemon, client(daemon) as api:
        skill = await api.beta.skills.create(files=[("g.zip", skill_zip("short-lived"))])
        await api.beta.skills.versions.delete("1", skill_id=skill.id)
    async with running(data_dir=tmp_path / "data") as daemon, client(daemon) as api:
        assert (await api.beta.skills.delete(skill.id)).type == "skill_deleted"
        with pytest.raises(anthropic.NotFoundError):
            await api.beta.skills.delete(skill.id)


async def test_models_are_listed(api: anthropic.AsyncAnthropic, shared: Running) -> None:
    assert [model.id async for model in api.models.list()] == ["scripted"]
    assert (await api.models.retrieve("default")).id == "scripted"
    # Without Anthropic's header the same path is OpenAI's.
    assert (await shared.client.models.list()).data[0].object == "model"


@pytest.mark.parametrize(
    ("method", "path", "request_", "status", "param"),
    [
        ("GET", "/files/file-none", {}, 404, "file_id"),
        ("GET", "/files/cfile_none/content", {}, 404, "file_id"),
        ("GET", "/files?scope_id=x", {}, 400, "scope_id"),
        ("GET", "/files?limit=0", {}, 400, "limit"),
        ("GET", "/files?page=nothing", {}, 400, "page"),
        ("POST", "/files", {"files": {"other": b"x"}}, 400, "file"),
        ("POST", "/files", {"files": {"file": b"x"}, "data": {"expires_in_seconds": "5"}}, 400, "expires_in_seconds"),
        ("POST", "/files", {"files": {"file": b"x"}, "data": {"expires_in_seconds": "x"}}, 400, "expires_in_seconds"),
        ("POST", "/skills", {"files": {"files[]": b"no zip"}}, 400, "files"),
        ("GET", "/skills/skill_none", {}, 404, "skill_id"),
        ("GET", "/skills/skill_none/versions/1", {}, 404, "skill_id"),
        ("GET", "/skills?limit=x", {}, 400, "limit"),
        ("GET", "/models/none", {}, 404, "model"),
        ("GET", "/skills/a/b/c/d", {}, 404, None),
    ],
)
async def test_what_is_wrong_is_refused_in_anthropics_shape(
    method: str, path: str, request_: dict[str, Any], status: int, param: str | None, shared: Running
) -> None:
    headers = {"anthropic-version": "2023-06-01"}
    async with httpx.AsyncClient(base_url=shared.url, timeout=60, headers=headers) as http:
        answer = await http.request(method, path, **request_)
    body = answer.json()
    assert (answer.status_code, body["type"], body["error"]["param"]) == (status, "error", param), body
    assert "/anthropic" not in body["error"]["message"]


async def test_files_that_code_execution_made_are_named_by_their_call_and_can_be_downloaded() -> None:
    turns = [
        Turn(shell("echo one > a.txt", "mkdir d; echo two > d/b.txt")),
        Turn(shell("echo more >> a.txt"), shell("cat a.txt")),
        Turn("See a.txt."),
    ]
    async with running(*turns * 4) as daemon, client(daemon) as api:
        wanted: Any = {"model": "default", "max_tokens": 999, "messages": HI, "tools": [CODE]}
        plain = await api.messages.create(**wanted)
        async with api.messages.stream(**wanted) as stream:
            streamed = await stream.get_final_message()
        results: list[list[str]] = []
        for message in (plain, streamed):
            found = [block for block in message.content if block.type == "bash_code_execution_tool_result"]
            for block in found:
                assert block.content.type == "bash_code_execution_result"
                files = [await api.beta.files.retrieve_metadata(output.file_id) for output in block.content.content]
                results.append(sorted(file.filename for file in files))
            last = found[1].content
            assert last.type == "bash_code_execution_result"
            content = await api.beta.files.download(last.content[0].file_id)
            assert await content.read() == b"one\nmore\n"
        for late in (_late_message, _late_stream):  # read when all calls have ended long ago
            run = await daemon.daemon.services.runs.start(MessagesBody.parse(wanted).request)
            await run.finished()
            for ids in await late(run):
                results.append(sorted([(await api.beta.files.retrieve_metadata(id)).filename for id in ids]))
        assert results == [["a.txt", "b.txt"], ["a.txt"], []] * 4


async def _late_message(run: Run) -> list[list[str]]:
    return _named(message(run, False, None, {})["content"])


async def _late_stream(run: Run) -> list[list[str]]:
    events = [event async for event in BlockStream(run, False).follow()]
    return _named([event["content_block"] for event in events if event["type"] == "content_block_start"])


def _named(blocks: list[dict[str, Any]]) -> list[list[str]]:
    """The ids of the files that each result of a command names."""
    found = [block["content"] for block in blocks if block["type"] == "bash_code_execution_tool_result"]
    return [[output["file_id"] for output in result["content"]] for result in found]
