"""Makes `tests/data/stores/<schema>.tar.xz`: a data directory as this daemon leaves it, with its answers.

    PYTHONPATH=tests:daemon python -m support.make_store

Run it before a migration is added, and commit what it makes: a test opens the directory of every schema there is and
asks the same questions again. In the archive: the data directory, and `answers.json` ({path: JSON answer}).
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from skilldeck_daemon.containers.homes import base_for
from support.daemon import SHELL, Running, running
from support.scripted_model import Reasoning, Turn, shell

STORES = Path(__file__).resolve().parents[1] / "data" / "stores"
SKILL = "---\nname: {name}\ndescription: Counts the lines of a file.\n---\n\nRun `wc -l FILE`.\n"


async def fill(daemon: Running) -> list[str]:
    """Something of everything the store keeps; returns the paths of its answers."""
    http, sdk = daemon.http, daemon.client
    skill = await sdk.skills.create(files=[("count/SKILL.md", SKILL.format(name="count").encode())])
    manifest = SKILL.format(name="count").replace("Counts", "Still counts").encode()
    more = [("files", ("count/SKILL.md", manifest)), ("files", ("count/run.sh", b'#!/bin/sh\nwc -l "$1"\n'))]
    (await http.post(f"/skills/{skill.id}/versions", files=more)).raise_for_status()
    file = await sdk.files.create(file=("lines.csv", b"a,b\n1,2\n3,4\n"), purpose="user_data")
    upload = await sdk.uploads.create(filename="big.txt", bytes=6, mime_type="text/plain", purpose="user_data")
    parts = [await sdk.uploads.parts.create(upload.id, data=piece) for piece in (b"one", b"two")]
    joined = await sdk.uploads.complete(upload.id, part_ids=[part.id for part in parts])
    await sdk.uploads.create(filename="open.txt", bytes=9, mime_type="text/plain", purpose="user_data")
    conversation = await sdk.conversations.create(items=[{"role": "user", "content": "Remember 7."}])
    daemon.model.then(
        Turn(Reasoning("a file is there"), shell("wc -l lines.csv"), "Looking."),
        Turn("3 lines."),
        Turn("Seven."),
        Turn("From chat."),
        Turn("Later."),
    )
    text: dict[str, Any] = {"role": "user", "content": [{"type": "input_text", "text": "How many lines?"}]}
    text["content"].append({"type": "input_file", "file_id": file.id})
    reference = {"type": "skill_reference", "skill_id": skill.id, "version": "2"}
    tool = {**SHELL, "environment": {"type": "container_auto", "skills": [reference]}}
    first = await daemon.respond([text], tools=[tool])
    second = await daemon.respond("Which number?", conversation=conversation.id)
    third = await daemon.respond("And later?", previous_response_id=first["id"])
    chat = await sdk.chat.completions.create(
        model="default", messages=[{"role": "user", "content": "hi"}], store=True, metadata={"kept": "yes"}
    )
    gone = await sdk.files.create(file=("gone.txt", b"gone"), purpose="user_data")
    await sdk.files.delete(gone.id)
    assert daemon.model.left == 0
    return [
        "/skills",
        f"/skills/{skill.id}",
        f"/skills/{skill.id}/versions",
        "/files",
        f"/files/{file.id}",
        f"/files/{joined.file.id}" if joined.file else "",
        *(f"/responses/{response['id']}" for response in (first, second, third)),
        *(f"/responses/{response['id']}/input_items" for response in (first, second, third)),
        f"/conversations/{conversation.id}",
        f"/conversations/{conversation.id}/items",
        "/chat/completions",
        f"/chat/completions/{chat.id}",
    ]


async def make(target: Path) -> Path:
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        async with running(data_dir=data, strict=False) as daemon:
            paths = await fill(daemon)
            answers = {path: (await daemon.http.get(path)).raise_for_status().json() for path in paths}
        shutil.rmtree(base_for(data / "containers"), ignore_errors=True)
        for name in ("containers", "skills", "documents", "daemon.lock", "blobs/tmp"):
            if (data / name).is_dir():
                shutil.rmtree(data / name)
            else:
                (data / name).unlink(missing_ok=True)
        database = sqlite3.connect(data / "skilldeck.db")
        # Containers remember where their skills were mounted: not a place of the machine that ran this.
        database.execute("UPDATE containers SET doc = replace(doc, ?, '/home/user/skilldeck')", (str(data),))
        database.commit()
        database.execute("PRAGMA journal_mode=DELETE")
        database.execute("VACUUM")
        (schema,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
        database.close()
        (data / "answers.json").write_text(json.dumps(answers, indent=1))
        target.mkdir(parents=True, exist_ok=True)
        archive = target / f"v{schema}.tar.xz"
        with tarfile.open(archive, "w:xz") as tar:
            for path in sorted(data.rglob("*")):
                tar.add(path, str(path.relative_to(data)), recursive=False, filter=_nobodys)
    return archive


def _nobodys(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


if __name__ == "__main__":
    print(asyncio.run(make(STORES)))
