"""/files and /uploads over HTTP, through the official client and by hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from skilldeck_daemon.http.objects import files as files_routes
from skilldeck_daemon.libraries import files as files_module
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


@pytest.mark.parametrize("purpose", files_module.PURPOSES)
async def test_every_purpose_is_taken_and_answers_to_the_schema(client: AsyncOpenAI, purpose: Any) -> None:
    file = await client.files.create(file=("a.txt", b"text"), purpose=purpose)
    check("OpenAIFile", file.to_dict())
    assert (file.bytes, file.filename, file.status) == (4, "a.txt", "processed")
    assert (file.expires_at is not None) == (purpose == "batch")
    assert [found.id async for found in client.files.list(purpose=purpose)] == [file.id]


async def test_content_comes_back_byte_for_byte(client: AsyncOpenAI) -> None:
    content = bytes(range(256)) * 5000
    file = await client.files.create(file=("data.bin", content), purpose="user_data")
    answer = await client.files.content(file.id)
    assert answer.read() == content
    assert answer.response.headers["x-content-type-options"] == "nosniff"


async def test_lists_page_filter_and_answer_to_the_schema(client: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    empty = check("ListFilesResponse", (await http.get("/files")).json())
    assert (empty["data"], empty["has_more"]) == ([], False)
    made = [
        (await client.files.create(file=(f"{i}.txt", b"x"), purpose="vision" if i % 2 else "user_data")).id
        for i in range(5)
    ]
    assert [file.id async for file in client.files.list(limit=2)] == made[::-1]
    assert [file.id async for file in client.files.list(order="asc", purpose="vision")] == [made[1], made[3]]
    assert [file.id async for file in client.files.list(purpose="assistants_output")] == []
    check("ListFilesResponse", (await http.get("/files?limit=2")).json())


async def test_a_deleted_file_is_gone(client: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    file = await client.files.create(file=("a.txt", b"x"), purpose="user_data")
    deleted = await client.files.delete(file.id)
    check("DeleteFileResponse", deleted.to_dict())
    for path in (f"/files/{file.id}", f"/files/{file.id}/content"):
        answer = await http.get(path)
        assert answer.status_code == 404
        assert check_error(answer.json())["param"] == "file_id"


async def test_an_expired_file_is_gone_before_and_after_the_sweep(
    client: AsyncOpenAI, library: Library, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await client.files.create(
        file=("a.txt", b"x"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    kept = await client.files.create(file=("b.txt", b"x"), purpose="user_data")
    assert file.expires_at == file.created_at + 3600
    for clock in ("now", "steady"):
        monkeypatch.setattr(files_module, clock, lambda: file.created_at + 3600)
    assert (await http.get(f"/files/{file.id}")).status_code == 404
    assert [found.id async for found in client.files.list()] == [kept.id]
    assert await library.files.sweep() == 1
    assert await library.store.files.get(file.id) is None
    assert await library.files.sweep() == 0


@pytest.mark.parametrize(
    ("files", "data", "param"),
    [
        ({}, {"purpose": "user_data"}, "file"),
        ({"file": ("a", b"x")}, {}, "purpose"),
        ({"file": ("a", b"x")}, {"purpose": "homework"}, "purpose"),
        ({"file": ("..", b"x")}, {"purpose": "user_data"}, "file"),
        ({"file": ("n" * 300, b"x")}, {"purpose": "user_data"}, "file"),
        ({"file": ("a", b"x")}, {"purpose": "user_data", "expires_after[seconds]": "3600"}, "expires_after.anchor"),
        (
            {"file": ("a", b"x")},
            {"purpose": "user_data", "expires_after[anchor]": "created_at", "expires_after[seconds]": "10"},
            "expires_after.seconds",
        ),
        (
            {"file": ("a", b"x")},
            {"purpose": "user_data", "expires_after[anchor]": "created_at", "expires_after[seconds]": "soon"},
            "expires_after.seconds",
        ),
    ],
)
async def test_a_bad_file_form_names_the_field_and_stores_nothing(
    http: httpx.AsyncClient, library: Library, files: dict[str, Any], data: dict[str, str], param: str
) -> None:
    # An unused part keeps the client from sending a URL-encoded form.
    answer = await http.post("/files", files={"ignored": ("i", b""), **files}, data=data)
    assert answer.status_code == 400
    assert check_error(answer.json())["param"] == param
    assert (await http.get("/files")).json()["data"] == []
    assert not list(library.store.blobs.temporary.iterdir())


async def test_names_lose_folders_and_control_characters(client: AsyncOpenAI) -> None:
    for sent, kept in ((r"C:\data\a.csv", "a.csv"), ("dir/b.csv", "b.csv"), ("ünï.csv", "ünï.csv")):
        assert (await client.files.create(file=(sent, b"x"), purpose="user_data")).filename == kept


async def test_a_file_beyond_the_limit_is_413_while_it_is_read(
    http: httpx.AsyncClient, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = files_routes.FORM
    small = type(limits)(limits.file_fields, 1 << 20, 8 << 20, limits.parts, limits.param)
    monkeypatch.setattr(files_routes, "FORM", small)

    async def body(size: int) -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        for _ in range(size >> 16):
            yield bytes(1 << 16)
        yield b"\r\n--b--\r\n"

    for size in (3 << 20, 16 << 20):
        # Without a Content-Length, as Node sends it.
        answer = await http.post(
            "/files", content=body(size), headers={"content-type": "multipart/form-data; boundary=b"}
        )
        assert answer.status_code == 413
        assert check_error(answer.json())["param"] == "file"
    assert not list(library.store.blobs.temporary.iterdir())


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=1e3", "order=down", "after=file-nope"])
async def test_bad_paging_names_the_parameter(http: httpx.AsyncClient, query: str) -> None:
    answer = await http.get(f"/files?{query}")
    assert answer.status_code == 400
    assert check_error(answer.json())["param"] == query.split("=")[0]


# Uploads in parts


async def test_parts_are_joined_in_the_order_named(client: AsyncOpenAI) -> None:
    upload = await client.uploads.create(filename="big.bin", purpose="assistants", bytes=10, mime_type="text/plain")
    check("Upload", upload.to_dict())
    assert upload.status == "pending"
    second = await client.uploads.parts.create(upload.id, data=b"56789")
    first = await client.uploads.parts.create(upload.id, data=b"01234")
    check("UploadPart", first.to_dict())
    md5 = hashlib.md5(b"0123456789").hexdigest()
    done = await client.uploads.complete(upload.id, part_ids=[first.id, second.id], md5=md5)
    check("Upload", done.to_dict())
    assert done.status == "completed"
    assert done.file is not None
    check("OpenAIFile", done.file.to_dict())
    assert (done.file.filename, done.file.bytes, done.file.purpose) == ("big.bin", 10, "assistants")
    assert (await client.files.content(done.file.id)).read() == b"0123456789"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"part_ids": ["part_nope"]}, "part_ids[0]"),
        ({"part_ids": []}, "part_ids"),
        ({}, "part_ids"),
        ({"part_ids": "all"}, "part_ids"),
        ({"part_ids": [1]}, "part_ids[0]"),
        ({"part_ids": ["PART", "PART"]}, "part_ids"),
        ({"part_ids": ["PART"], "md5": "0" * 32}, "md5"),
    ],
)
async def test_a_wrong_completion_leaves_the_upload_pending(
    client: AsyncOpenAI, http: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    upload = await client.uploads.create(filename="a", purpose="vision", bytes=3, mime_type="text/plain")
    part = await client.uploads.parts.create(upload.id, data=b"abc")
    content = json.dumps(body).replace("PART", part.id).encode()
    answer = await http.post(f"/uploads/{upload.id}/complete", content=content)
    assert answer.status_code == 400
    assert check_error(answer.json())["param"] == param
    assert (await client.uploads.complete(upload.id, part_ids=[part.id])).status == "completed"


async def test_a_cancelled_upload_takes_nothing_more(client: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    upload = await client.uploads.create(filename="a", purpose="vision", bytes=3, mime_type="text/plain")
    await client.uploads.parts.create(upload.id, data=b"abc")
    cancelled = await client.uploads.cancel(upload.id)
    check("Upload", cancelled.to_dict())
    assert cancelled.status == "cancelled"
    for path, kwargs in (
        ("parts", {"files": {"data": b"x"}}),
        ("complete", {"json": {"part_ids": []}}),
        ("cancel", {}),
    ):
        answer = await http.post(f"/uploads/{upload.id}/{path}", **kwargs)  # type: ignore[arg-type]
        assert answer.status_code == 409
        check_error(answer.json())


async def test_an_overdue_upload_expires(
    client: AsyncOpenAI, http: httpx.AsyncClient, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await client.uploads.create(filename="a", purpose="vision", bytes=3, mime_type="text/plain")
    for clock in ("now", "steady"):
        monkeypatch.setattr(files_module, clock, lambda: upload.expires_at)
    assert (await http.post(f"/uploads/{upload.id}/cancel")).status_code == 409
    await library.files.sweep()
    row = await library.store.uploads.get(upload.id)
    assert row is not None
    assert row["status"] == "expired"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "filename"),
        ({"filename": "a", "purpose": "x", "bytes": 1, "mime_type": "t"}, "purpose"),
        ({"filename": "a", "purpose": "vision", "bytes": -1, "mime_type": "t"}, "bytes"),
        ({"filename": "a", "purpose": "vision", "bytes": "1", "mime_type": "t"}, "bytes"),
        ({"filename": "a", "purpose": "vision", "bytes": 1}, "mime_type"),
        ({"filename": "", "purpose": "vision", "bytes": 1, "mime_type": "t"}, "filename"),
    ],
)
async def test_a_bad_upload_names_the_field(http: httpx.AsyncClient, body: dict[str, Any], param: str) -> None:
    answer = await http.post("/uploads", json=body)
    assert answer.status_code == 400
    assert check_error(answer.json())["param"] == param


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'"x"', b"\xff", b'{"bytes": NaN}', b'{"bytes": 1e999}', b"[" * 100_000, b"1" * 5000]
)
async def test_a_body_that_is_no_json_object_is_400(http: httpx.AsyncClient, content: bytes) -> None:
    answer = await http.post("/uploads", content=content)
    assert answer.status_code == 400
    check_error(answer.json())
