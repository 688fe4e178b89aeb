"""What the documentation of comparable servers shows, done with OpenAI's SDK: skills by post, files by id and inline.

The programs there are written against any server of this kind, so each way of theirs has to work here as it stands.
"""

from __future__ import annotations

import base64
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import BadRequestError, OpenAI

from skilldeck_daemon import Runner, SkillMount
from support.bundles import manifest, skill_zip, write_skill
from support.daemon import Running
from support.scripted_model import ScriptedModel, Turn, shell
from support.threaded import served

CSV = b"month,sales\njan,10\nfeb,12\n"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Running]:
    with served() as daemon:
        yield daemon


@pytest.fixture
def sdk(daemon: Running) -> Iterator[OpenAI]:
    with OpenAI(base_url=daemon.url, api_key="not-used", max_retries=0) as sdk:
        yield sdk
    assert daemon.model.left == 0


def post(sdk: OpenAI, path: str, name: str, content: bytes, field: str = "file") -> dict[str, Any]:
    """`client.post`, with which a path without a method of its own is called: its content type is JSON's."""
    return sdk.post(path, cast_to=dict, files={field: (name, io.BytesIO(content), "application/zip")})


def prompt(daemon: Running, number: int = -1) -> str:
    """All that the model was told in one request."""
    return str([message["content"] for message in daemon.model.requests[number]["messages"]])


def test_a_skill_posted_by_hand_is_used_by_a_required_shell(daemon: Running, sdk: OpenAI) -> None:
    skill = post(sdk, "/skills", "posted.zip", skill_zip("posted"))
    assert (skill["object"], skill["name"], skill["latest_version"]) == ("skill", "posted", "1")
    daemon.model.then(Turn(shell("cat /mnt/skills/posted/references/notes.txt")), Turn("Done."))
    reference = {"type": "skill_reference", "skill_id": skill["id"], "version": "latest"}
    tools: Any = [{"type": "shell", "environment": {"type": "container_auto", "skills": [reference]}}]
    response = sdk.responses.create(
        model="default", input="Use the uploaded skill.", tools=tools, tool_choice="required"
    )
    assert response.output_text == "Done."
    assert [item.type for item in response.output] == ["shell_call", "shell_call_output", "message"]
    assert response.output[1].output[0].stdout == "notes\n"  # type: ignore[union-attr, index]
    assert daemon.model.requests[-2]["tool_choice"] in ("required", {"type": "function", "function": {"name": "shell"}})


def test_a_second_version_posted_by_hand_is_the_latest_and_each_can_be_named(daemon: Running, sdk: OpenAI) -> None:
    skill = post(sdk, "/skills", "twice.zip", skill_zip("twice"))
    second = skill_zip("twice", **{"SKILL.md": manifest("twice", "Another text."), "two.txt": b"2"})
    version = post(sdk, f"/skills/{skill['id']}/versions", "twice.zip", second)
    assert (version["object"], version["version"]) == ("skill.version", "2")
    for wanted, listed in (("latest", True), (2, True), ("1", False), (None, False)):
        reference = {"type": "skill_reference", "skill_id": skill["id"], "version": wanted}
        if wanted is None:
            reference.pop("version")  # the default version, which stays the first until it is changed
        daemon.model.then(Turn(shell("ls /mnt/skills/twice")), Turn("ok"))
        tools: Any = [{"type": "shell", "environment": {"type": "container_auto", "skills": [reference]}}]
        response = sdk.responses.create(model="default", input="List it.", tools=tools)
        assert ("two.txt" in response.output[1].output[0].stdout) is listed  # type: ignore[union-attr, index]


def test_a_file_by_its_id_and_a_file_inside_the_request(daemon: Running, sdk: OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(CSV)
    with path.open("rb") as opened:
        uploaded = sdk.files.create(file=opened, purpose="user_data")
    data = base64.b64encode(b"# Notes\n- call Ada\n").decode()
    inline = {"type": "input_file", "filename": "notes.md", "file_data": f"data:text/markdown;base64,{data}"}
    for part, asked, told in (
        ({"type": "input_file", "file_id": uploaded.id}, "Summarize this CSV.", "feb,12"),
        (inline, "What is to be done?", "call Ada"),
    ):
        daemon.model.then(Turn("Told."))
        content: Any = [part, {"type": "input_text", "text": asked}]
        response = sdk.responses.create(model="default", input=[{"role": "user", "content": content}])
        assert response.output_text == "Told."
        assert told in prompt(daemon)
        assert "base64" not in prompt(daemon)
    assert sdk.files.content(uploaded.id).content == CSV


def test_a_file_in_a_chat_message(daemon: Running, sdk: OpenAI) -> None:
    data = base64.b64encode(b'{"errors": 17}').decode()
    file = {"filename": "report.json", "file_data": f"data:application/json;base64,{data}"}
    daemon.model.then(Turn("17 errors."))
    content: Any = [{"type": "file", "file": file}, {"type": "text", "text": "What stands out?"}]
    completion = sdk.chat.completions.create(model="default", messages=[{"role": "user", "content": content}])
    assert completion.choices[0].message.content == "17 errors."
    assert '{"errors": 17}' in prompt(daemon)


def test_a_skill_mounted_by_a_program_that_holds_the_runner(tmp_path: Path) -> None:
    folder = write_skill(tmp_path / "csv-tools")
    with ScriptedModel(Turn(shell("cat /mnt/skills/csv-tools/references/notes.txt")), Turn("Read.")) as model:
        with Runner("", engine="remote", remote_url=model.url) as runner:
            response = runner.run("Use csv-tools.", skills=[SkillMount(folder)])
        assert response.output_text == "Read."


# ------------------------------------------------------------------ a body is what it begins as


def test_every_upload_is_a_form_when_it_begins_as_one(sdk: OpenAI) -> None:
    container = sdk.containers.create(name="forms")
    made = post(sdk, f"/containers/{container.id}/files", "a.txt", b"in the container")
    assert (made["path"], made["bytes"]) == ("/mnt/data/a.txt", 16)
    form: Any = {"file": ("b.txt", b"text"), "purpose": (None, "user_data")}
    file = sdk.post("/files", cast_to=dict, files=form)
    assert (file["filename"], file["bytes"]) == ("b.txt", 4)
    upload = sdk.uploads.create(filename="c.bin", purpose="user_data", bytes=3, mime_type="text/plain")
    assert post(sdk, f"/uploads/{upload.id}/parts", "c", b"abc", field="data")["object"] == "upload.part"
    sdk.containers.delete(container.id)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [("application/json", 200), ("text/plain", 200), ("multipart/form-data", 200), ("", 200)],
)
def test_the_first_line_counts_whatever_the_header_says(daemon: Running, content_type: str, status: int) -> None:
    part = 'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nx'
    purpose = 'Content-Disposition: form-data; name="purpose"\r\n\r\nuser_data'
    body = f"--b-1\r\n{part}\r\n--b-1\r\n{purpose}\r\n--b-1--\r\n".encode()
    headers = {"content-type": content_type} if content_type else {}
    answer = httpx.post(f"{daemon.url}/files", content=body, headers=headers)
    assert (answer.status_code, answer.json().get("filename")) == (status, "a.txt")


@pytest.mark.parametrize("body", [b"", b"--", b"--b", b"--b\r\n", b"--b\r\nxyz", b"-" * 5000, b"{}", b"\x00" * 9])
def test_what_begins_otherwise_is_refused_with_the_cure(daemon: Running, body: bytes) -> None:
    answer = httpx.post(f"{daemon.url}/skills", content=body, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "files")
    assert "not application/json" in error["message"]
    assert 'files=[("skill.zip", data)], a list' in error["message"]


def test_json_where_a_container_takes_both_is_still_json(sdk: OpenAI) -> None:
    container = sdk.containers.create(name="json")
    with pytest.raises(BadRequestError) as caught:
        sdk.post(f"/containers/{container.id}/files", cast_to=dict, body={})
    assert caught.value.param == "file_id"
    sdk.containers.delete(container.id)


# ------------------------------------------------------------------ names and encodings


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('filename="naïve.txt"', "naïve.txt"),
        ("filename*=UTF-8''na%C3%AFve.txt", "naïve.txt"),
        ("filename=\"naive.txt\"; filename*=utf-8'en'na%C3%AFve.txt", "naïve.txt"),
        ("filename*=UTF-8''na%C3%AFve.txt; filename=\"naive.txt\"", "naïve.txt"),
        ("filename*=iso-8859-1''na%EFve.txt", "naïve.txt"),
        ('filename="=?utf-8?B?bmHDr3ZlLnR4dA==?="', "naïve.txt"),
        ('filename="=?utf-8?Q?na=C3=AFve.txt?="', "naïve.txt"),
        ('filename="a%22b%22.txt"', 'a"b".txt'),
        (r'filename="a\"b\".txt"', 'a"b".txt'),
        ("filename=\"a; filename*=UTF-8''evil.txt\"", "a; filename*=UTF-8''evil.txt"),
        ("filename=\"kept.txt\"; filename*=no-such-charset''x", "kept.txt"),
    ],
)
def test_names_as_clients_spell_them(daemon: Running, disposition: str, name: str) -> None:
    purpose = 'Content-Disposition: form-data; name="purpose"\r\n\r\nuser_data'
    part = f'Content-Disposition: form-data; name="file"; {disposition}\r\n\r\nx'
    body = f"--b\r\n{purpose}\r\n--b\r\n{part}\r\n--b--\r\n".encode()
    headers = {"content-type": "multipart/form-data; boundary=b"}
    file = httpx.post(f"{daemon.url}/files", content=body, headers=headers).json()
    assert file["filename"] == name
    httpx.delete(f"{daemon.url}/files/{file['id']}")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw deflate", "identity"])
def test_compressed_bodies_are_read(daemon: Running, coding: str) -> None:
    daemon.model.then(Turn("Read."))
    body = b'{"model": "default", "input": "hi"}'
    bare = zlib.compressobj(wbits=-15)
    packed = {
        "gzip": gzip.compress(body),
        "deflate": zlib.compress(body),
        "raw deflate": bare.compress(body) + bare.flush(),
        "identity": body,
    }[coding]
    headers = {"content-encoding": coding.removeprefix("raw "), "content-type": "application/json"}
    answer = httpx.post(f"{daemon.url}/responses", content=packed, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("coding", "body", "status", "word"),
    [
        ("zstd", b"x", 400, "zstd"),
        ("gzip", b"no gzip", 400, "not valid gzip"),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-9], 400, "Send it whole"),
    ],
)
def test_bodies_that_cannot_be_unpacked_are_refused_by_name(
    daemon: Running, coding: str, body: bytes, status: int, word: str
) -> None:
    answer = httpx.post(f"{daemon.url}/responses", content=body, headers={"content-encoding": coding})
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, "content-encoding")
    assert word in answer.json()["error"]["message"]


def test_a_small_body_that_unpacks_to_a_large_one_is_stopped_at_the_limit() -> None:
    bomb = gzip.compress(b" " * (64 << 20))
    with served(max_body_mb=1) as daemon:
        answer = httpx.post(f"{daemon.url}/responses", content=bomb, headers={"content-encoding": "gzip"}, timeout=60)
        assert (answer.status_code, len(bomb) < 1 << 20) == (413, True)
