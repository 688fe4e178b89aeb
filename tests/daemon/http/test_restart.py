"""What every GET answers is the same after the daemon was started anew: objects, lists, contents, replayed streams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.bundles import manifest, skill_zip, zip_bytes
from support.daemon import Running, running
from support.scripted_model import Call, Fail, Reasoning, Text, Turn, shell
from support.wait import until

WEATHER: dict[str, Any] = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
PYTHON = {"type": "code_interpreter", "container": {"type": "auto"}}


async def everything(daemon: Running) -> list[str]:
    """Make one object or more of every kind; returns the paths of all that can be read."""
    http = daemon.http

    async def post(path: str, **body: Any) -> str:
        answer = await http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    zipped = {"files": {"files": ("a.zip", skill_zip("kept"))}}
    skill = (await http.post("/skills", **zipped)).json()["id"]  # type: ignore[arg-type]
    second = zip_bytes({"SKILL.md": manifest("renamed", "Another one.")}, top="kept")
    added = await http.post(f"/skills/{skill}/versions", files={"files": second}, data={"default": "true"})
    assert added.status_code == 200, added.text
    form: dict[str, Any] = {"files": {"file": ("é.txt", b"given")}, "data": {"purpose": "user_data"}}
    file = (await http.post("/files", **form)).json()["id"]
    upload = await post("/uploads", filename="u", purpose="vision", bytes=3, mime_type="text/plain")
    await http.post(f"/uploads/{upload}/parts", files={"data": b"abc"})
    conversation = await post("/conversations", items=[{"role": "user", "content": "said"}], metadata={"a": "b"})

    reference = {"type": "skill_reference", "skill_id": skill, "version": 1}
    tool = {"type": "shell", "environment": {"type": "container_auto", "skills": [reference], "file_ids": [file]}}
    first = (await daemon.stream("go", tools=[tool, WEATHER], metadata={"k": "v"}))[-1]["response"]
    answers = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "sun"}
        for item in first["output"]
        if item["type"] == "function_call"
    ]
    assert len(answers) == 1
    follow = await daemon.respond(answers, previous_response_id=first["id"], tools=[WEATHER], max_output_tokens=99)
    within = await daemon.respond(
        "more", conversation=conversation, tools=[PYTHON], include=["reasoning.encrypted_content"]
    )
    background = await daemon.respond("later", background=True)
    await until(lambda: not daemon.daemon.services.runs.active)
    failed = await daemon.respond("fail")
    assert failed["status"] == "failed"
    chat = await post("/chat/completions", model="default", messages=[{"role": "user", "content": "x"}], store=True)
    (container,) = {item["environment"]["container_id"] for item in first["output"] if item["type"] == "shell_call"}
    made = (await http.get(f"/containers/{container}/files")).json()["data"]
    assert {entry["path"] for entry in made} == {"/mnt/data/é.txt", "/mnt/data/made.txt"}

    paths = ["/skills", f"/skills/{skill}", f"/skills/{skill}/content", f"/skills/{skill}/versions"]
    paths += [f"/skills/{skill}/versions/{number}{end}" for number in (1, 2) for end in ("", "/content")]
    paths += ["/files", f"/files/{file}", f"/files/{file}/content"]
    paths += [f"/conversations/{conversation}", f"/conversations/{conversation}/items?limit=100"]
    for response in (first, follow, within, background, failed):
        paths += [f"/responses/{response['id']}{end}" for end in ("", "/input_items", "?stream=true")]
    paths += ["/chat/completions", f"/chat/completions/{chat}", f"/chat/completions/{chat}/messages"]
    paths += [f"/containers/{container}/files?order=asc"]
    for entry in made:
        paths += [f"/containers/{container}/files/{entry['id']}{end}" for end in ("", "/content")]
    return [*paths, "/containers", f"/containers/{container}"]


async def read(daemon: Running, paths: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in paths:
        answer = await daemon.http.get(path)
        assert answer.status_code == 200, (path, answer.text)
        found[path] = answer.content
        if path.startswith("/containers") and not path.endswith("content"):
            value = json.loads(answer.content)
            for entry in value.get("data", [value]):
                entry.pop("last_active_at", None)  # reading is use
            found[path] = value
    return found


async def test_everything_reads_the_same_after_two_restarts(tmp_path: Path) -> None:
    turns = [
        Turn(Reasoning("hm"), Text("I look.", chunk=2), shell("cat é.txt; echo x > made.txt"), Call("weather", {})),
        Turn("made.txt is there, the sun shines"),
        Turn(Reasoning("plan"), Call("python", {"code": "print(1)"})),
        Turn("One."),
        Turn("later"),
        Fail(400, "no such thing"),
        Turn("chat"),
    ]
    async with running(*turns, data_dir=tmp_path / "data") as daemon:
        paths = await everything(daemon)
        before = await read(daemon, paths)
    for _ in range(2):
        async with running(data_dir=tmp_path / "data") as daemon:
            after = await read(daemon, paths)
            assert [path for path in paths if after[path] != before[path]] == []
