"""/skills over HTTP: what SDKs send, what they may expect, what they are told."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from support.bundles import manifest, skill_files, skill_zip, write_skill, zip_bytes
from support.library import Library, open_http, open_library, sdk
from support.published import check, check_error


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[Library]:
    async with open_library(tmp_path / "data") as library:
        yield library


@pytest.fixture
async def http(library: Library) -> AsyncIterator[httpx.AsyncClient]:
    async with open_http(library) as client:
        yield client


@pytest.fixture
def client(http: httpx.AsyncClient) -> AsyncOpenAI:
    return sdk(http)


def blobs(library: Library) -> set[str]:
    return {path.name for path in library.store.blobs.root.rglob("*") if path.is_file()}


async def post_zip(http: httpx.AsyncClient, data: bytes, path: str = "/skills", field: str = "files") -> httpx.Response:
    return await http.post(path, files={field: ("skill.zip", data, "application/zip")})


async def test_a_zip_becomes_a_skill_of_version_one(client: AsyncOpenAI) -> None:
    skill = await client.skills.create(files=("csv-tools.zip", skill_zip(), "application/zip"))
    check("SkillResource", skill.to_dict())
    assert (skill.name, skill.default_version, skill.latest_version) == ("csv-tools", "1", "1")
    assert skill.id.startswith("skill_")
    assert await client.skills.retrieve(skill.id) == skill


async def test_raw_bytes_without_a_name_are_told_to_be_a_zip(client: AsyncOpenAI) -> None:
    assert (await client.skills.create(files=skill_zip())).name == "csv-tools"


async def test_a_list_of_named_files_keeps_its_folders(client: AsyncOpenAI, library: Library) -> None:
    files = [(f"csv-tools/{path}", content) for path, content in skill_files().items()]
    skill = await client.skills.create(files=files)
    tree = await library.skills.tree(skill.id)
    assert [(f["path"], f["executable"]) for f in tree] == [
        ("SKILL.md", False),
        ("references/notes.txt", False),
        ("scripts/run.sh", True),
    ]


async def test_path_entries_that_send_base_names_only_are_a_flat_skill(
    client: AsyncOpenAI, tmp_path: Path, library: Library
) -> None:
    folder = write_skill(tmp_path / "flat", {"SKILL.md": manifest(), "run.py": b"#!/usr/bin/env python3\n"})
    skill = await client.skills.create(files=[folder / "SKILL.md", folder / "run.py"])
    assert [f["path"] for f in await library.skills.tree(skill.id)] == ["SKILL.md", "run.py"]


async def test_the_part_name_file_is_taken_as_well(http: httpx.AsyncClient) -> None:
    answer = await post_zip(http, skill_zip(), field="file")
    assert answer.status_code == 200
    check("SkillResource", answer.json())


async def test_versions_count_up_and_the_default_stays_until_it_is_moved(client: AsyncOpenAI) -> None:
    skill = await client.skills.create(files=skill_zip())
    second = await client.skills.versions.create(skill.id, files=zip_bytes(skill_files("better-name")))
    check("SkillVersionResource", second.to_dict())
    assert (second.version, second.name, second.skill_id) == ("2", "better-name", skill.id)
    unmoved = await client.skills.retrieve(skill.id)
    assert (unmoved.default_version, unmoved.latest_version, unmoved.name) == ("1", "2", "csv-tools")
    third = await client.skills.versions.create(skill.id, files=skill_zip(), default=True)
    assert (await client.skills.retrieve(skill.id)).default_version == third.version == "3"
    moved = await client.skills.update(skill.id, default_version="2")
    assert (moved.default_version, moved.name) == ("2", "better-name")
    assert (await client.skills.versions.retrieve("1", skill_id=skill.id)).name == "csv-tools"


async def test_the_default_version_may_be_sent_as_a_number(http: httpx.AsyncClient) -> None:
    skill = (await post_zip(http, skill_zip())).json()
    await post_zip(http, skill_zip(), f"/skills/{skill['id']}/versions")
    answer = await http.post(f"/skills/{skill['id']}", json={"default_version": 2})
    assert answer.json()["default_version"] == "2"


async def test_lists_page_through_everything_once(client: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    made = [(await client.skills.create(files=skill_zip(f"skill-{index}"))).id for index in range(5)]
    assert [skill.id async for skill in client.skills.list(limit=2, order="asc")] == made
    assert [skill.id async for skill in client.skills.list(limit=2)] == made[::-1]
    page = (await http.get("/skills", params={"limit": 2, "after": made[2]})).json()
    check("SkillListResource", page)
    assert [page["first_id"], page["last_id"], page["has_more"]] == [made[1], made[0], False]
    assert (await http.get("/skills?limit=0")).json()["data"] == []
    for index in range(3):
        await client.skills.versions.create(made[0], files=skill_zip(more=str(index).encode()))
    versions = [version.version async for version in client.skills.versions.list(made[0], limit=1, order="asc")]
    assert versions == ["1", "2", "3", "4"]
    check("SkillVersionListResource", (await http.get(f"/skills/{made[0]}/versions")).json())


async def test_deleting_while_paging_skips_nothing(client: AsyncOpenAI) -> None:
    for index in range(5):
        await client.skills.create(files=skill_zip(f"skill-{index}"))
    deleted = 0
    async for skill in client.skills.list(limit=2):
        answer = await client.skills.delete(skill.id)
        check("DeletedSkillResource", answer.to_dict())
        deleted += 1
    assert deleted == 5


async def test_an_empty_list_has_null_ids(http: httpx.AsyncClient) -> None:
    body = check("SkillListResource", (await http.get("/skills")).json())
    assert body == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


async def test_a_download_is_the_same_bytes_every_time_with_executable_bits(client: AsyncOpenAI) -> None:
    skill = await client.skills.create(files=skill_zip())
    first = await client.skills.content.retrieve(skill.id)
    data = first.read()
    again = await client.skills.versions.content.retrieve("1", skill_id=skill.id)
    assert again.read() == data
    assert first.response.headers["content-type"] == "application/zip"
    assert int(first.response.headers["content-length"]) == len(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        modes = {info.filename: info.external_attr >> 16 & 0o777 for info in archive.infolist()}
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert contents == {f"csv-tools/{path}": content for path, content in skill_files().items()}
    assert modes == {
        "csv-tools/SKILL.md": 0o644,
        "csv-tools/references/notes.txt": 0o644,
        "csv-tools/scripts/run.sh": 0o755,
    }


async def test_a_download_uploaded_again_has_the_same_digest(http: httpx.AsyncClient) -> None:
    first = (await post_zip(http, skill_zip())).json()
    data = (await http.get(f"/skills/{first['id']}/content")).content
    assert (await post_zip(http, data)).json()["digest"] == first["digest"]


async def test_the_default_version_goes_last_and_takes_the_skill_with_it(
    client: AsyncOpenAI, http: httpx.AsyncClient
) -> None:
    skill = await client.skills.create(files=skill_zip())
    second = await client.skills.versions.create(skill.id, files=skill_zip())
    refused = await http.delete(f"/skills/{skill.id}/versions/1")
    assert refused.status_code == 409
    assert check_error(refused.json())["param"] == "version"
    deleted = await client.skills.versions.delete("2", skill_id=skill.id)
    check("DeletedSkillVersionResource", deleted.to_dict())
    assert (deleted.id, deleted.version) == (second.id, "2")
    assert (await client.skills.retrieve(skill.id)).latest_version == "1"
    # A number is never given twice.
    assert (await client.skills.versions.create(skill.id, files=skill_zip())).version == "3"
    await client.skills.versions.delete("3", skill_id=skill.id)
    await client.skills.versions.delete("1", skill_id=skill.id)
    assert (await http.get(f"/skills/{skill.id}")).status_code == 404


async def test_deleting_a_skill_takes_its_versions(client: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    skill = await client.skills.create(files=skill_zip())
    await client.skills.delete(skill.id)
    for path in ("", "/content", "/versions", "/versions/1", "/versions/1/content"):
        answer = await http.get(f"/skills/{skill.id}{path}")
        assert answer.status_code == 404
        assert check_error(answer.json())["param"] == "skill_id"


BAD_UPLOADS = {
    "dot dot": (zip_bytes({"SKILL.md": manifest(), "../evil": b""}), "'csv-tools/../evil' leaves"),
    "absolute": (zip_bytes({"SKILL.md": manifest(), "/etc/x": b""}, top=None), "absolute"),
    "backslash": (zip_bytes({"SKILL.md": manifest(), "a\\..\\..\\b": b""}), "leaves the skill's folder"),
    "symlink": (zip_bytes({"SKILL.md": manifest(), "l": b"/etc"}, modes={"l": 0o120777}), "symbolic link"),
    "device": (zip_bytes({"SKILL.md": manifest(), "d": b""}, modes={"d": 0o020666}), "not a regular file"),
    "no manifest": (zip_bytes({"README.md": b"x"}), "no SKILL.md"),
    "manifest too deep": (zip_bytes({"a/SKILL.md": manifest(), "b.txt": b""}), "'a/SKILL.md'"),
    "a manifest below": (zip_bytes({"a/b/SKILL.md": manifest(), "a/x": b""}), "no SKILL.md at its top. It is at 'a/b"),
    "a tarball": (gzip.compress(b"x" * 600), "'skill.zip' is a gzip file (.tar.gz), not a zip."),
    "a text": (b"hello", "'skill.zip' is neither a zip nor a SKILL.md"),
    "two top folders": (zip_bytes({"a/SKILL.md": manifest(), "b/x": b""}, top=None), "more than one top-level folder"),
    "loose file": (zip_bytes({"a/SKILL.md": manifest(), "x": b""}, top=None), "lies beside"),
    "empty": (zip_bytes({}), "no files"),
    "bomb": (zip_bytes({"SKILL.md": manifest(), "zeros": bytes(24 << 20)}), "far more than its size"),
    "too many": (zip_bytes({"SKILL.md": manifest(), **{f"f{i}": b"" for i in range(500)}}), "more than 500 files"),
    "case": (zip_bytes({"SKILL.md": manifest(), "a.txt": b"", "A.TXT": b""}), "case is ignored"),
    "truncated": (skill_zip()[:-30], "cannot be read"),
    "no yaml": (zip_bytes({"SKILL.md": b"---\nname: a\ndescription: b: c\n---\n"}), "line 3, column 15"),
    "no name": (zip_bytes({"SKILL.md": b"---\ndescription: b\n---\n"}), "'name' is missing"),
    "bad name": (zip_bytes({"SKILL.md": b"---\nname: My Skill\ndescription: b\n---\n"}), "line 2, column 7"),
    "binary": (zip_bytes({"SKILL.md": b"---\nname: \xff\xfe\n---\n"}), "line 2, column 7: the file is not UTF-8"),
    "no zip": (b"plain text", "no SKILL.md"),
}


@pytest.mark.parametrize("case", BAD_UPLOADS)
async def test_a_bad_upload_is_refused_by_name_and_leaves_nothing(
    case: str, http: httpx.AsyncClient, library: Library
) -> None:
    data, said = BAD_UPLOADS[case]
    skill = (await post_zip(http, skill_zip())).json()
    before = blobs(library)
    for path in ("/skills", f"/skills/{skill['id']}/versions"):
        answer = await post_zip(http, data, path)
        error = check_error(answer.json())
        assert answer.status_code == 400
        assert error["param"] == "files"
        assert said in error["message"]
    assert blobs(library) == before
    assert not list(library.store.blobs.temporary.iterdir())
    assert len((await http.get("/skills")).json()["data"]) == 1
    assert (await http.get(f"/skills/{skill['id']}")).json()["latest_version"] == "1"


async def test_a_zip_beyond_its_limit_is_413(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = await post_zip(http, b"PK\x03\x04" + bytes(51 << 20))
    assert answer.status_code == 413
    assert check_error(answer.json())["param"] == "files"


@pytest.mark.parametrize(
    ("request_kwargs", "param"),
    [
        ({"json": {}}, "files"),
        ({}, "files"),
        ({"files": {"other": ("a.zip", b"x")}}, "files"),
        ({"data": {"default": "true"}, "files": {}}, "files"),
        ({"content": b"--x\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}, "files"),
        ({"content": b"", "headers": {"content-type": "multipart/form-data"}}, "files"),
        ({"content": b"zz", "headers": {"content-type": "multipart/form-data; boundary=x"}}, "files"),
    ],
)
async def test_a_body_that_is_no_upload_names_the_field(
    http: httpx.AsyncClient, request_kwargs: dict[str, Any], param: str
) -> None:
    answer = await http.post("/skills", **request_kwargs)
    assert answer.status_code == 400
    assert check_error(answer.json())["param"] == param


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "param"),
    [
        ("GET", "/skills/skill_nope", None, 404, "skill_id"),
        ("GET", "/skills/%00", None, 404, "skill_id"),
        ("GET", "/skills/{id}/versions/9", None, 404, "version"),
        ("GET", "/skills/{id}/versions/-1", None, 404, "version"),
        ("GET", "/skills/{id}/versions/99999999999999999999", None, 404, "version"),
        ("GET", "/skills/{id}/versions/٣", None, 404, "version"),
        ("DELETE", "/skills/{id}/versions/x", None, 404, "version"),
        ("POST", "/skills/{id}", {}, 400, "default_version"),
        ("POST", "/skills/{id}", {"default_version": True}, 400, "default_version"),
        ("POST", "/skills/{id}", {"default_version": 1.5}, 400, "default_version"),
        ("POST", "/skills/{id}", {"default_version": 99}, 404, "default_version"),
        ("POST", "/skills/{id}", {"default_version": 10**40}, 404, "default_version"),
        ("POST", "/skills/{id}", {"default_version": "\ud800"}, 404, "default_version"),
        ("POST", "/skills/{id}", [], 400, None),
        ("GET", "/skills?limit=101", None, 400, "limit"),
        ("GET", "/skills?limit=ten", None, 400, "limit"),
        ("GET", "/skills?order=up", None, 400, "order"),
        ("GET", "/skills?after=skill_nope", None, 400, "after"),
    ],
)
async def test_bad_requests_name_the_field(
    http: httpx.AsyncClient, method: str, path: str, body: Any, status: int, param: str | None
) -> None:
    skill = (await post_zip(http, skill_zip())).json()
    # The request's own encoder would refuse half a surrogate pair; clients in other languages send it.
    content = None if body is None else json.dumps(body).encode()
    answer = await http.request(method, path.replace("{id}", skill["id"]), content=content)
    assert answer.status_code == status
    assert check_error(answer.json())["param"] == param


async def test_the_default_flag_must_be_a_boolean(http: httpx.AsyncClient) -> None:
    skill = (await post_zip(http, skill_zip())).json()
    answer = await http.post(
        f"/skills/{skill['id']}/versions", files={"files": skill_zip()}, data={"default": "perhaps"}
    )
    assert answer.status_code == 400
    assert check_error(answer.json())["param"] == "default"
    assert (await http.get(f"/skills/{skill['id']}")).json()["latest_version"] == "1"
