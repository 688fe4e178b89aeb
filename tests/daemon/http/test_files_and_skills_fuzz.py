"""Generated bad requests to /skills, /files, /uploads and /conversations: a 4xx that says what is wrong, every time."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.bundles import skill_zip
from support.library import open_http, open_library
from support.published import check_error

REQUESTS = 150

IDS = ["ID", "", "nope", "\0", "é", "%", "x" * 400, "..", "a b", "latest", "-1", "0", "1", "2", "9" * 30, "1e3", "²"]
PATHS = [
    "/skills",
    "/skills/{}",
    "/skills/{}/content",
    "/skills/{}/versions",
    "/skills/{}/versions/{}",
    "/skills/{}/versions/{}/content",
    "/files",
    "/files/{}",
    "/files/{}/content",
    "/uploads",
    "/uploads/{}/parts",
    "/uploads/{}/complete",
    "/uploads/{}/cancel",
    "/conversations",
    "/conversations/{}",
    "/conversations/{}/items",
    "/conversations/{}/items/{}",
]
QUERIES = ["limit", "order", "after", "purpose", "include[]"]
KEYS = ["items", "metadata", "default_version", "filename", "purpose", "bytes", "mime_type", "part_ids", "md5"]
KEYS += [
    "expires_after",
    "anchor",
    "seconds",
    "role",
    "content",
    "type",
    "id",
    "call_id",
    "output",
    "action",
    "commands",
]
SCALARS: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**63,
    10**30,
    1.5,
    "",
    "user",
    "message",
    "x" * 600,
    "\ud800",
    "\0",
    "vision",
]
SCALARS += ["shell_call", "function_call", "created_at", "input_text", "latest", "item_reference", "a.txt"]


def value(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.random()
    if depth > 4 or kind < 0.45:
        return chance.choice(SCALARS)
    if kind < 0.6:
        return [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {chance.choice(KEYS): value(chance, depth + 1) for _ in range(chance.randrange(5))}


def form(chance: random.Random) -> tuple[bytes, str]:
    """A form with plausible parts, often broken somewhere."""
    names = ["files", "files[]", "file", "data", "purpose", "default", "expires_after[seconds]", "x", ""]
    body = b""
    for _ in range(chance.randrange(4)):
        name, filename = (
            chance.choice(names),
            chance.choice(["", '; filename="a/SKILL.md"', '; filename=""', '; filename="\\"', "; filename*=x"]),
        )
        content = chance.choice(
            [b"", b"user_data", b"true", skill_zip()[: chance.randrange(400)], b"---\nname: a\n", b"\xff" * 9]
        )
        body += f'--b\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode() + content + b"\r\n"
    body += b"--b--\r\n"
    if chance.random() < 0.3:
        position = chance.randrange(len(body))
        body = body[:position] + bytes([chance.randrange(256)]) + body[position + chance.randrange(20) :]
    return body, chance.choice(
        ["multipart/form-data; boundary=b"] * 6
        + ["multipart/form-data", "multipart/form-data; boundary=", "text/plain"]
    )


def body(chance: random.Random) -> tuple[bytes, str]:
    if chance.random() < 0.4:
        return form(chance)
    content = json.dumps(value(chance)).encode()
    if chance.random() < 0.1:
        content = content[: chance.randrange(len(content) + 1)]
    return content, "application/json"


@pytest.mark.parametrize("seed", range(4))
async def test_generated_requests_are_answered_and_lose_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with open_library(tmp_path / "data") as library, open_http(library) as http:
        skill = (await http.post("/skills", files={"files": skill_zip()})).json()
        conversation = (await http.post("/conversations", json={"metadata": {"kept": "yes"}})).json()
        upload = {"filename": "a", "purpose": "vision", "bytes": 1, "mime_type": "t"}
        known = [skill["id"], conversation["id"], (await http.post("/uploads", json=upload)).json()["id"]]

        def pick() -> str:
            chosen = chance.choice(IDS)
            return chance.choice(known) if chosen == "ID" else chosen

        fill: Callable[[str], str] = lambda path: path.replace("{}", quote(pick(), safe=""), 1)  # noqa: E731
        for _ in range(REQUESTS):
            path = fill(fill(chance.choice(PATHS)))
            query = {chance.choice(QUERIES): pick() for _ in range(chance.randrange(3))}
            # DELETE only where it would be refused: what is there must still be there at the end.
            method = chance.choice(
                ["GET", "POST", "POST"] + (["DELETE"] if not any(id in path for id in known) else [])
            )
            content, content_type = body(chance) if method == "POST" else (b"", "application/json")
            answer = await http.request(
                method, path, params=query, content=content, headers={"content-type": content_type}
            )
            assert answer.status_code < 500, (method, path, query, content)
            if answer.status_code >= 400 and "error" in answer.json():
                check_error(answer.json())
        assert (await http.get(f"/skills/{skill['id']}")).json()["name"] == "csv-tools"
        assert (await http.get(f"/skills/{skill['id']}/content")).status_code == 200
        assert (await http.get(f"/conversations/{conversation['id']}")).status_code == 200
        assert not list(library.store.blobs.temporary.iterdir())
