"""Open WebUI's own server before a daemon: models, answers, a tool of its own, a file found by embeddings, a title.

It is driven by the routes its pages use, with the two variables that docs/clients.md names (and those that let the
daemon make its embeddings).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.player import GREETING, ONE, play
from support.programs import NOWHERE, program, serving
from support.scripted_model import ScriptedModel, Turn

START_S = 300
SUMMED = re.compile("Sums: [0-9]+")
TOOL = '''
class Tools:
    async def add(self, a: int, b: int) -> str:
        """
        Add two numbers.
        :param a: one
        :param b: the other
        """
        return str(a + b)
'''


def vectors(body: dict[str, Any]) -> dict[str, Any]:
    """Texts that speak of the moon are alike."""
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    data = [{"index": place, "embedding": [1.0, float("moon" in text), 0.5]} for place, text in enumerate(texts)]
    return {"object": "list", "data": data, "model": "scripted", "usage": {"prompt_tokens": 1}}


def answer(body: dict[str, Any]) -> Turn:
    said = str(body["messages"])
    if "concise" in said and "title" in said:
        return Turn(json.dumps({"title": "Greetings"}))
    if "Tycho" in said:
        return Turn("Tycho is a crater of the moon.")
    return play(body)


@contextlib.contextmanager
def web_ui(home: Path, url: str) -> Iterator[httpx.Client]:
    """Its server, and a client of its first user, who is its administrator."""
    path = program("open-webui", "open-webui", npm=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {
        "OPENAI_API_BASE_URL": url,
        "OPENAI_API_KEY": "local",
        "RAG_EMBEDDING_ENGINE": "openai",
        "RAG_EMBEDDING_MODEL": "default",
        "RAG_OPENAI_API_BASE_URL": url,
        "RAG_OPENAI_API_KEY": "local",
        "ENABLE_OLLAMA_API": "false",
        "DATA_DIR": str(home / "webui"),
        "OFFLINE_MODE": "true",
        "ANONYMIZED_TELEMETRY": "false",
        "WEBUI_SECRET_KEY": "secret",
        "HTTPS_PROXY": NOWHERE,
        "NO_PROXY": "127.0.0.1,localhost",
        "HOME": str(home),
        "PATH": os.environ["PATH"],
    }
    (home / "webui").mkdir()
    with (home / "webui.log").open("wb") as log:
        command = [path, "serve", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(command, cwd=home, env=variables, stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as client:
                until_up(client, process, home / "webui.log")
                person = {"name": "Ada", "email": "ada@example.org", "password": "long enough 1"}
                signed = client.post("/api/v1/auths/signup", json=person)
                client.headers["authorization"] = f"Bearer {signed.json()['token']}"
                yield client
        finally:
            process.terminate()
            process.wait(30)


def until_up(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text("utf-8", "replace")[-3000:]
        with contextlib.suppress(httpx.TransportError):
            if client.get("/health").status_code == 200:
                return
        time.sleep(0.5)
    pytest.fail(f"Open WebUI did not start in {START_S} s: {log.read_text('utf-8', 'replace')[-3000:]}")


def ask(client: httpx.Client, text: str, **more: Any) -> httpx.Response:
    body = {"model": "scripted", "stream": False, "messages": [{"role": "user", "content": text}], **more}
    response = client.post("/api/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return response


def in_a_chat(client: httpx.Client, text: str, **more: Any) -> str:
    """An answer as its pages ask for one, which alone carries out tools: in a chat, and read from there."""
    question = {"id": "q", "parentId": None, "childrenIds": ["a"], "role": "user", "content": text}
    blank = {"id": "a", "parentId": "q", "childrenIds": [], "role": "assistant", "content": "", "model": "scripted"}
    history = {"messages": {"q": question, "a": blank}, "currentId": "a"}
    chat = client.post("/api/v1/chats/new", json={"chat": {"title": "t", "models": ["scripted"], "history": history}})
    assert chat.status_code == 200, chat.text
    id = chat.json()["id"]
    ask(client, text, stream=True, chat_id=id, id="a", session_id="s", **more)
    end = time.monotonic() + 60
    answer = ""
    while not SUMMED.search(answer) and time.monotonic() < end:
        time.sleep(0.5)
        found = client.get(f"/api/v1/chats/{id}").json()["chat"]["history"]["messages"]["a"]
        answer = json.dumps([found.get("content"), found.get("output")])
    return answer


def said(response: httpx.Response) -> str:
    """The whole answer of a stream or a document."""
    if not response.headers["content-type"].startswith("text/event-stream"):
        return str(response.json()["choices"][0]["message"]["content"])
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: {")]
    deltas = [json.loads(line)["choices"] for line in lines if "choices" in line]
    return "".join(choice["delta"].get("content") or "" for choices in deltas for choice in choices)


def test_open_webui_with_two_variables(tmp_path: Path) -> None:
    program("open-webui", "open-webui", npm=False)
    with ScriptedModel(strict=False, context=262_144, paths={"/v1/embeddings": vectors}) as model:
        model._always = answer
        with serving(tmp_path, "--engine", "remote", "--remote-url", model.url) as (_, url):
            with web_ui(tmp_path, url) as client:
                listed = client.get("/api/models").json()["data"]
                assert "scripted" in [entry["id"] for entry in listed]
                assert said(ask(client, "hi")) == GREETING
                assert said(ask(client, "hi", stream=True)) == GREETING

                made = {"id": "numbers", "name": "Numbers", "content": TOOL, "meta": {"description": "Numbers"}}
                assert client.post("/api/v1/tools/create", json=made).status_code == 200
                assert ONE in in_a_chat(client, "add", tool_ids=["numbers"], params={"function_calling": "native"})

                note = {"file": ("note.txt", b"Tycho lies on the moon, in the south.", "text/plain")}
                file = client.post("/api/v1/files/", files=note, params={"process_in_background": "false"})
                assert file.status_code == 200, file.text
                found = ask(client, "Where on the moon?", files=[{"type": "file", "id": file.json()["id"]}])
                assert said(found) == "Tycho is a crater of the moon."

                body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "chat_id": ""}
                title = client.post("/api/v1/tasks/title/completions", json=body).json()
                assert json.loads(title["choices"][0]["message"]["content"]) == {"title": "Greetings"}
