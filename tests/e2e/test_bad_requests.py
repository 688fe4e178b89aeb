"""Generated bad requests to every endpoint: each is answered in time, never with 5xx, and leaves nothing half-written.

A valid request is taken and made wrong: a value, an id, the query, the content type, a header or its bytes. What is
refused must have changed no row, no blob, no staged upload. SKILLDECK_TEST_BAD_REQUESTS=10000 asks for more of them,
SKILLDECK_TEST_BAD_REQUESTS_SECONDS for an end after so long. A failure names its seed: the same number, the same
request.
"""

# ruff: noqa: E501 (tables of requests)
from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest

from support import contract
from support.bundles import skill_zip
from support.daemon import Running
from support.scripted_model import Turn, shell
from support.threaded import served

COUNT = int(os.environ.get("SKILLDECK_TEST_BAD_REQUESTS", "300"))
LIMIT = float(os.environ.get("SKILLDECK_TEST_BAD_REQUESTS_SECONDS", "inf"))
FIRST = int(os.environ.get("SKILLDECK_TEST_BAD_REQUESTS_FIRST", "0"))
SECONDS = 30  # an answer that takes longer hangs

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 1.5, 1e308, 2**31, 2**63, 2**70, -(2**70), "", " ", "x", "\0", "\ud800", "😀" * 50, "a" * 70_000,
    "é", "../../etc/passwd", "latest", "auto", "none", "required", "data:;base64,AAAA", "http://127.0.0.1:1/x",
    "file:///etc/passwd", [], {}, [[]], [None], [[], {}], {"": ""}, {"type": None}, {"type": "message"}, {"type": []},
    {"role": "user", "content": []}, [{"type": "shell"}], {"$ref": "#"}, {"type": "object", "$ref": "#/nowhere"},
    "resp_" + "0" * 48, "file-none", "skill_none", "cntr_none",
]  # fmt: skip
IDS = [
    "",
    "nope",
    "\0",
    "é",
    "%",
    "%2e%2e",
    "x" * 400,
    "..",
    ".",
    "a b",
    "a/b",
    "latest",
    "-1",
    "0",
    "9" * 30,
    "1e3",
    "²",
    "*",
]
QUERIES = [
    "limit",
    "order",
    "after",
    "purpose",
    "include[]",
    "include",
    "stream",
    "starting_after",
    "name",
    "model",
    "x",
]
QUERIES += ["metadata[a]", "metadata[", "before"]
TYPES = ["application/json", "text/plain", "", "multipart/form-data", "multipart/form-data; boundary=", "\u00ff/x"]
TYPES += ["multipart/form-data; boundary=b", "application/x-www-form-urlencoded", "application/json; charset=utf-16"]


@dataclass(frozen=True)
class Wanted:
    """A request. `body`: JSON, the parts of a form as (name, file name, content), or bytes."""

    method: str
    path: str
    ids: tuple[str, ...] = ()
    body: Any = None
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str | None = None


def form(parts: list[tuple[str, str | None, bytes]]) -> bytes:
    body = b""
    for name, filename, content in parts:
        shown = f'; filename="{filename}"' if filename is not None else ""
        body += f'--b\r\nContent-Disposition: form-data; name="{name}"{shown}\r\n\r\n'.encode() + content + b"\r\n"
    return body + b"--b--\r\n"


def is_form(body: Any) -> bool:
    """The parts of a form, and no array of JSON."""
    return isinstance(body, list) and all(isinstance(part, tuple) for part in body)


def valid(ids: dict[str, str]) -> list[Wanted]:
    """One valid request or more for every operation; DELETE and the like are made wrong by their ids."""
    skill, file, upload, conv = ids["skill"], ids["file"], ids["upload"], ids["conversation"]
    cntr, cfile, resp, chat = ids["container"], ids["cfile"], ids["response"], ids["chat"]
    reference = {"type": "skill_reference", "skill_id": skill, "version": "1"}
    environment = {"type": "container_auto", "file_ids": [file], "memory_limit": "1g", "skills": [reference]}
    environment["network_policy"] = {"type": "disabled"}
    call = {
        "type": "shell_call",
        "call_id": "c1",
        "action": {"commands": ["ls"], "timeout_ms": 5},
        "status": "completed",
    }
    output = {"type": "shell_call_output", "call_id": "c1", "max_output_length": 9}
    output["output"] = [{"stdout": "x", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]
    respond = {
        "model": "default",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}, {"type": "input_file", "file_data": "aGk="}]},
            call, output,
            {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "x"}]},
            {"type": "custom_tool_call", "call_id": "c3", "name": "g", "input": "x"},
            {"type": "custom_tool_call_output", "call_id": "c3", "output": "y"},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "s"}], "encrypted_content": "e"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "t", "annotations": [], "logprobs": []}]},
        ],
        "tools": [
            {"type": "shell", "environment": environment},
            {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": True},
            {"type": "custom", "name": "g", "format": {"type": "text"}},
        ],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": False}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "metadata": {"a": "b"},
        "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
        "instructions": "i", "max_output_tokens": 100, "max_tool_calls": 2, "temperature": 1, "top_p": 0.5, "top_logprobs": 2,
        "truncation": "auto", "parallel_tool_calls": False, "store": True, "prompt_cache_key": "k", "safety_identifier": "s",
    }  # fmt: skip
    local = {"name": "n", "description": "d", "path": "/p"}
    more = {"model": "default", "input": "x", "previous_response_id": resp, "stream": True, "stream_options": {}}
    chatted = {
        "model": "default",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "x"}]}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        "n": 1, "stop": ["a"], "logit_bias": {"1": 1}, "max_completion_tokens": 9, "logprobs": True, "top_logprobs": 1,
        "tool_choice": "auto", "seed": 1, "store": True, "metadata": {"a": "b"},
    }  # fmt: skip
    message = {"type": "message", "role": "user", "content": "x"}
    container = {key: value for key, value in environment.items() if key != "type"}
    container |= {"name": "n", "expires_after": {"anchor": "last_active_at", "minutes": 5}}
    sent = {"filename": "a", "purpose": "vision", "bytes": 1, "mime_type": "t"}
    expiring = [("expires_after[anchor]", None, b"created_at"), ("expires_after[seconds]", None, b"3600")]
    zipped = [("files", "a.zip", skill_zip())]
    loose = [("files[]", "a/SKILL.md", b"---\nname: a\ndescription: d\n---\n"), ("files[]", "a/b/c.txt", b"c")]
    return [
        Wanted("POST", "/responses", body=respond),
        Wanted("POST", "/responses", body=more),
        Wanted("POST", "/responses", body={"model": "default", "input": "x", "conversation": {"id": conv}, "store": True}),
        Wanted("POST", "/responses", body={"model": "default", "input": "x",
               "tools": [{"type": "shell", "environment": {"type": "local", "skills": [local]}}], "tool_choice": {"type": "shell"}}),
        Wanted("POST", "/responses", body={"model": "default", "input": [{"type": "item_reference", "id": ids["said"]}, message],
               "tools": [{"type": "shell", "environment": {"type": "container_reference", "container_id": cntr}}]}),
        Wanted("POST", "/responses/input_tokens", body=respond),
        Wanted("POST", "/responses/compact", body={"model": "default", "input": [message], "instructions": "x"}),
        Wanted("GET", "/responses/{}", (resp,), query={"stream": "true", "starting_after": "1"}),
        Wanted("GET", "/responses/{}/input_items", (resp,), query={"limit": "2", "order": "asc"}),
        Wanted("POST", "/responses/{}/cancel", (resp,)),
        Wanted("DELETE", "/responses/{}", (resp,)),
        Wanted("POST", "/skills", body=zipped),
        Wanted("POST", "/skills", body=loose),
        Wanted("POST", "/skills/{}", (skill,), {"default_version": "1"}),
        Wanted("POST", "/skills/{}/versions", (skill,), [*zipped, ("default", None, b"true")]),
        Wanted("GET", "/skills/{}/versions/{}", (skill, "1")),
        Wanted("GET", "/skills/{}/versions/{}/content", (skill, "1")),
        Wanted("DELETE", "/skills/{}/versions/{}", (skill, "1")),
        Wanted("DELETE", "/skills/{}", (skill,)),
        Wanted("POST", "/files", body=[("file", "a.txt", b"x"), ("purpose", None, b"user_data"), *expiring]),
        Wanted("GET", "/files", query={"limit": "5", "purpose": "vision", "order": "asc"}),
        Wanted("GET", "/files/{}/content", (file,)),
        Wanted("DELETE", "/files/{}", (file,)),
        Wanted("POST", "/uploads", body=sent),
        Wanted("POST", "/uploads/{}/parts", (upload,), [("data", "blob", b"x")]),
        Wanted("POST", "/uploads/{}/complete", (upload,), {"part_ids": ["part_x"], "md5": "x"}),
        Wanted("POST", "/uploads/{}/cancel", (upload,)),
        Wanted("POST", "/containers", body=container),
        Wanted("GET", "/containers", query={"limit": "5", "name": "n"}),
        Wanted("POST", "/containers/{}/files", (cntr,), {"file_id": file}),
        Wanted("POST", "/containers/{}/files", (cntr,), [("file", "up.txt", b"x")]),
        Wanted("GET", "/containers/{}/files/{}/content", (cntr, cfile)),
        Wanted("DELETE", "/containers/{}/files/{}", (cntr, cfile)),
        Wanted("DELETE", "/containers/{}", (cntr,)),
        Wanted("POST", "/conversations", body={"items": [message, call, output], "metadata": {"a": "b"}}),
        Wanted("POST", "/conversations/{}", (conv,), {"metadata": {"a": "b"}}),
        Wanted("POST", "/conversations/{}/items", (conv,), {"items": [message]}),
        Wanted("GET", "/conversations/{}/items/{}", (conv, ids["item"])),
        Wanted("DELETE", "/conversations/{}/items/{}", (conv, ids["item"])),
        Wanted("GET", "/models/{}", ("scripted",)),
        Wanted("POST", "/chat/completions", body=chatted),
        Wanted("POST", "/chat/completions/{}", (chat,), {"metadata": {"a": "b"}}),
        Wanted("GET", "/chat/completions/{}/messages", (chat,), query={"limit": "1", "order": "asc"}),
        Wanted("GET", "/chat/completions", query={"metadata[a]": "b", "model": "x"}),
        Wanted("DELETE", "/chat/completions/{}", (chat,)),
        Wanted("GET", "/approvals"),
        Wanted("POST", "/approvals/{}", ("appr_none",), {"decision": "deny", "message": "m"}),
        Wanted("POST", "/approvals/rules/{}", ("rule_none",), {"prefix": "ls"}),
        Wanted("DELETE", "/approvals/rules/{}", ("rule_none",)),
    ]  # fmt: skip


# ------------------------------------------------------------------ making them wrong


def changed(chance: random.Random, value: Any) -> Any:
    """The value with one place in it made odd, moved, or gone."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        kind = chance.random()
        if kind < 0.1:
            return {name: entry for name, entry in value.items() if name != key}
        if kind < 0.15:
            return {**value, chance.choice(["type", "id", "status", key * 2, "\0"]): chance.choice(ODD)}
        if kind < 0.2:
            return {**value, key: [value[key]] * chance.choice([1, 2, 300])}
        return {**value, key: changed(chance, value[key])}
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        return [*value[:place], changed(chance, value[place]), *value[place + 1 :]]
    return chance.choice(ODD)


def broken_form(chance: random.Random, parts: list[Any]) -> Any:
    kind = chance.random()
    if not parts:
        return b""
    place = chance.randrange(len(parts))
    name, filename, content = parts[place]
    if kind < 0.2:
        return parts[:place] + parts[place + 1 :]
    if kind < 0.4:
        part = (chance.choice(["x", "", "files[", "purpose", "data"]), filename, content)
    elif kind < 0.6:
        part = (
            name,
            chance.choice([None, "", "..", "/etc/passwd", "a\\b", "\u00e9", "x" * 300, "a/../b", "a//b"]),
            content,
        )
    elif kind < 0.8:
        cut = chance.randrange(len(content) + 1)
        part = (name, filename, content[:cut] + bytes([chance.randrange(256)]) + content[cut + 1 :])
    else:
        body = form(parts)
        cut = chance.randrange(len(body) + 1)
        return body[:cut] + (b"" if chance.random() < 0.5 else bytes([chance.randrange(256)]) + body[cut + 1 :])
    return [*parts[:place], part, *parts[place + 1 :]]


def wrong(chance: random.Random, wanted: Wanted) -> Wanted:
    """The request with one thing wrong, or two."""
    ways = ["query", "header", "type"]
    ways += ["id"] * 3 if wanted.ids else []
    ways += ["body"] * 12 if wanted.body is not None else []
    if wanted.method == "DELETE" or wanted.path.endswith(("/cancel", "/complete")):
        ways = ["id"]  # right otherwise, it would take away what the others need
    way = chance.choice(ways)
    if way == "id":
        place = chance.randrange(len(wanted.ids))
        ids = (*wanted.ids[:place], chance.choice(IDS), *wanted.ids[place + 1 :])
        wanted = replace(wanted, ids=ids)
    elif way == "query":
        text = str(
            chance.choice(
                [*IDS, *[value for value in ODD if isinstance(value, str | int | float) and len(str(value)) < 999]]
            )
        )
        wanted = replace(
            wanted, query={**wanted.query, chance.choice(QUERIES): text.encode("utf-8", "replace").decode()}
        )
    elif way == "header":
        name = chance.choice(
            ["x-skilldeck-permission", "accept", "authorization", "content-encoding", "range", "expect"]
        )
        wanted = replace(
            wanted, headers={name: chance.choice(["", "deny", "nonsense", "gzip", "bytes=9-1", "x" * 3000])}
        )
    elif way == "type":
        wanted = replace(wanted, content_type=chance.choice(TYPES))
    elif is_form(wanted.body):
        wanted = replace(wanted, body=broken_form(chance, wanted.body))
    elif chance.random() < 0.1:
        raw = json.dumps(wanted.body).encode()
        cut = chance.randrange(len(raw) + 1)
        wanted = replace(wanted, body=raw[:cut] + bytes([chance.randrange(256)]) * chance.choice([0, 1, 9]))
    else:
        wanted = replace(wanted, body=changed(chance, wanted.body))
    return (
        wrong(chance, wanted)
        if way != "id" and chance.random() < 0.15 and not isinstance(wanted.body, bytes)
        else wanted
    )


def send(http: httpx.Client, wanted: Wanted) -> httpx.Response:
    path = wanted.path
    for id in wanted.ids:
        path = path.replace("{}", quote(id, safe=""), 1)
    content, kind = b"", "application/json"
    if isinstance(wanted.body, bytes):
        content, kind = (
            wanted.body,
            "application/json" if wanted.body[:1] == b"{" else "multipart/form-data; boundary=b",
        )
    elif is_form(wanted.body):
        content, kind = form(wanted.body), "multipart/form-data; boundary=b"
    elif wanted.body is not None:
        content = json.dumps(wanted.body).encode()
    kind = kind if wanted.content_type is None else wanted.content_type
    headers = {"content-type": kind.encode("latin-1"), **wanted.headers}
    url = f"{path}?{urlencode(wanted.query)}" if wanted.query else path
    return http.request(wanted.method, url, content=content, headers=headers)  # type: ignore[arg-type]


# ------------------------------------------------------------------ what is there


@dataclass
class Bench:
    daemon: Running
    http: httpx.Client
    requests: list[Wanted]
    seen: Counter[str] = field(default_factory=Counter)

    def contents(self, blobs: bool) -> tuple[Any, ...]:
        """Rows by table, uploads that are still being received, and how many blobs when asked."""
        data: Path = self.daemon.daemon.settings.data_dir
        with contextlib.closing(sqlite3.connect(data / "skilldeck.db")) as db:
            tables = [name for (name,) in db.execute("select name from sqlite_master where type = 'table'")]
            counts = " union all ".join(f"select '{table}', count(*) from {table}" for table in sorted(tables))
            rows = tuple(db.execute(counts))
        staging = self.daemon.daemon.services.store.blobs.temporary
        kept = sum(len(names) for folder, _, names in os.walk(data / "blobs") if folder != str(staging)) if blobs else 0
        return rows, kept, len(os.listdir(staging))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    turns = [Turn(shell("echo made > made.txt")), Turn("ok"), *[Turn("ok")] * (2 * COUNT + 100)]
    with served(*turns, strict=False) as daemon, httpx.Client(base_url=daemon.url, timeout=SECONDS) as http:
        shell_tool = {"type": "shell", "environment": {"type": "container_auto"}}
        response = http.post("/responses", json={"model": "default", "input": "x", "tools": [shell_tool]}).json()
        container = http.get("/containers").json()["data"][0]["id"]
        item = {"type": "message", "role": "user", "content": "x"}
        conversation = http.post("/conversations", json={"items": [item]}).json()["id"]
        messages = [{"role": "user", "content": "x"}]
        upload = {"filename": "a", "purpose": "vision", "bytes": 1, "mime_type": "t"}
        skill = http.post("/skills", files={"files": skill_zip()}).json()["id"]
        http.post(f"/skills/{skill}/versions", files={"files": skill_zip(extra=b"x")}).raise_for_status()
        form_ = {"files": {"file": ("a.txt", b"x")}, "data": {"purpose": "user_data"}}
        ids = {
            "response": response["id"],
            "said": response["output"][-1]["id"],
            "container": container,
            "cfile": http.get(f"/containers/{container}/files").json()["data"][0]["id"],
            "conversation": conversation,
            "item": http.get(f"/conversations/{conversation}/items").json()["data"][0]["id"],
            "skill": skill,
            "file": http.post("/files", **form_).json()["id"],  # type: ignore[arg-type]
            "upload": http.post("/uploads", json=upload).json()["id"],
            "chat": http.post("/chat/completions", json={"model": "default", "messages": messages, "store": True}).json()["id"],
        }  # fmt: skip
        yield Bench(daemon, http, valid(ids))


def test_the_requests_are_valid_before_they_are_made_wrong(bench: Bench) -> None:
    """Else the generated ones would all be refused for one dull reason."""
    for wanted in bench.requests:
        if wanted.method == "DELETE" or "none" in "".join(wanted.ids) or "upload" in wanted.path:
            continue
        if wanted.path == "/responses/{}/cancel":
            continue
        answer = send(bench.http, wanted)
        assert answer.status_code == 200, (wanted, answer.text)


def test_generated_bad_requests(bench: Bench) -> None:
    end = time.monotonic() + LIMIT
    for seed in range(FIRST, FIRST + COUNT):
        if time.monotonic() > end:
            break
        chance = random.Random(seed)
        wanted = wrong(chance, chance.choice(bench.requests))
        before = bench.contents(isinstance(wanted.body, list | bytes))
        try:
            answer = send(bench.http, wanted)
        except (ValueError, TypeError, httpx.InvalidURL):
            bench.seen["unsendable"] += 1  # not even the client can say it
            continue
        shown = f"seed {seed}: {wanted!r}"[:3000]
        bench.seen[str(answer.status_code)] += 1
        assert answer.status_code < 500, (shown, answer.text)
        if answer.status_code >= 400:
            contract.check(wanted.method, "/v1/x", answer.status_code, answer.json())
            assert bench.contents(isinstance(wanted.body, list | bytes)) == before, shown


def test_afterwards_the_daemon_is_whole(bench: Bench) -> None:
    print(f"\nanswers by status: {dict(bench.seen)}")
    assert bench.seen["400"] > bench.seen.total() / 10, "most were not bad requests"
    assert bench.daemon.daemon.services.runs.active == 0
    assert list(bench.daemon.daemon.services.store.blobs.temporary.iterdir()) == []
    ok = bench.http.post("/responses", json={"model": "default", "input": "still there?"})
    assert ok.json()["status"] == "completed"
