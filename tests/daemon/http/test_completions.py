"""POST /v1/completions: text continued by a token engine, and by the upstream of a remote model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from skilldeck_daemon.engine.base import GenRequest, ModelInfo
from skilldeck_daemon.engine.chat.model import TokenChatModel
from skilldeck_daemon.engine.hub import _Entry
from skilldeck_daemon.engine.remote.model import RemoteChatModel
from skilldeck_shared.errors import BadRequest
from support.daemon import Running, running
from support.token_engines import ScriptedEngine, model_folder


def serve(daemon: Running, folder: Path, texts: Sequence[str]) -> ScriptedEngine:
    """Put a token model beside the daemon's own, named `text`."""
    engine = ScriptedEngine(model_folder(folder), *texts)
    model = TokenChatModel(engine, folder, ModelInfo("text", "scripted", context=engine.caps.context))
    daemon.daemon.services.models._entries["text"] = _Entry(model, engine)
    return engine


async def ask(daemon: Running, prompt: Any, **body: Any) -> dict[str, Any]:
    answer = await daemon.http.post("/completions", json={"model": "text", "prompt": prompt, **body})
    assert answer.status_code == 200, answer.text
    completion: dict[str, Any] = answer.json()
    return completion


async def chunks(daemon: Running, prompt: Any, **body: Any) -> list[dict[str, Any]]:
    request = {"model": "text", "prompt": prompt, "stream": True, **body}
    async with daemon.http.stream("POST", "/completions", json=request) as answer:
        lines = [line async for line in answer.aiter_lines() if line]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


async def test_a_prompt_is_continued_as_it_is(tmp_path: Path) -> None:
    async with running() as daemon:
        engine = serve(daemon, tmp_path / "m", ["the answer is 42"] * 8)
        completion = await daemon.client.completions.create(model="text", prompt="hello there, ", max_tokens=50)
        assert (completion.choices[0].text, completion.choices[0].finish_reason) == ("the answer is 42", "stop")
        model = daemon.daemon.services.models.get("text")
        assert isinstance(model, TokenChatModel)
        asked = engine.requests[0].prompt_ids
        assert model.vocabulary.decode(asked) == "hello there, "
        assert completion.usage is not None
        assert completion.usage.prompt_tokens == len(asked)

        by_ids = await ask(daemon, list(asked), max_tokens=50, echo=True)
        assert by_ids["choices"][0]["text"] == "hello there, the answer is 42"
        several = await ask(daemon, ["hello", "there"], n=2, max_tokens=50, seed=5)
        assert [choice["index"] for choice in several["choices"]] == [0, 1, 2, 3]
        assert sorted(request.sampling.seed or 0 for request in engine.requests[2:6]) == [5, 5, 6, 6]
        assert (await ask(daemon, "hello", max_tokens=1))["choices"][0]["finish_reason"] == "length"
        assert engine.requests[-1].max_new == 1


async def test_stop_strings_end_the_text_and_are_not_in_it(tmp_path: Path) -> None:
    async with running() as daemon:
        engine = serve(daemon, tmp_path / "m", ["the answer is 42, and the user said so"] * 2)
        completion = await ask(daemon, "x", max_tokens=60, stop=[*"!#$%&=?@[]^_", " is 42"])
        assert (completion["choices"][0]["text"], completion["choices"][0]["finish_reason"]) == ("the answer", "stop")
        assert engine.cancelled
        found = await chunks(daemon, "x", max_tokens=60, stop=" is 42", stream_options={"include_usage": True})
        assert "".join(choice["text"] for chunk in found for choice in chunk["choices"]) == "the answer"
        assert found[-2]["choices"][0]["finish_reason"] == "stop"
        assert (found[-1]["choices"], found[-1]["usage"]["prompt_tokens"]) == ([], 1)


async def test_log_probabilities_have_the_older_shape(tmp_path: Path) -> None:
    async with running() as daemon:
        serve(daemon, tmp_path / "m", ["grüße aus köln"])
        choice = (await ask(daemon, "x", max_tokens=60, logprobs=1))["choices"][0]
        told = choice["logprobs"]
        assert len({len(values) for values in told.values()}) == 1
        assert told["text_offset"][0] == 0
        assert all(isinstance(entry, dict) for entry in told["top_logprobs"])


async def test_nothing_is_generated_for_no_tokens(tmp_path: Path) -> None:
    async with running() as daemon:
        engine = serve(daemon, tmp_path / "m", [])
        completion = await ask(daemon, "hello", max_tokens=0, echo=True)
        assert (completion["choices"][0]["text"], completion["choices"][0]["finish_reason"]) == ("hello", "length")
        assert not engine.requests


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"prompt": None}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": ["a", 1]}, "prompt[1]"),
    ({"prompt": [1, "a"]}, "prompt[1]"),
    ({"prompt": [[1], []]}, "prompt[1]"),
    ({"prompt": [True]}, "prompt[0]"),
    ({"suffix": "x"}, "suffix"),
    ({"best_of": 3}, "best_of"),
    ({"echo": True, "logprobs": 1}, "logprobs"),
    ({"logprobs": 6}, "logprobs"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"temperature": "hot"}, "temperature"),
    ({"prompt": ""}, "prompt"),
    ({"model": "gpt-9"}, "model"),
]


async def test_what_is_wrong_is_refused_by_name(tmp_path: Path) -> None:
    async with running() as daemon:
        serve(daemon, tmp_path / "m", [])
        for body, param in WRONG:
            answer = await daemon.http.post("/completions", json={"model": "text", "prompt": "x", **body})
            assert answer.status_code in (400, 404), body
            assert answer.json()["error"]["param"] == param, body


async def test_what_the_engine_refuses_is_told_of_the_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(request: GenRequest) -> None:
        raise BadRequest("The prompt holds token ids outside 0..9.", param="input")

    async with running() as daemon:
        monkeypatch.setattr(serve(daemon, tmp_path / "m", []), "submit", refuse)
        answer = await daemon.http.post("/completions", json={"model": "text", "prompt": [10]})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")
        body = {"model": "text", "prompt": [10], "stream": True}
        streamed = await daemon.http.post("/completions", json=body)
        assert json.loads(streamed.text.split("\n")[0].removeprefix("data: "))["error"]["param"] == "prompt"


async def test_a_remote_model_uses_its_upstreams_own_endpoint() -> None:
    bodies: list[dict[str, Any]] = []
    chunk = {"text": "so on", "finish_reason": None, "logprobs": {"tokens": ["so on"], "token_logprobs": [-0.5]}}
    last = {"text": "", "finish_reason": "length"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}

    async def upstream(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        assert request.url.path == "/v1/completions"
        if bodies[-1]["prompt"] == "bad":
            return httpx.Response(400, stream=httpx.ByteStream(b'{"error": {"message": "no"}}'))  # not read yet

        async def lines() -> AsyncIterator[bytes]:
            for told in ({"choices": [chunk]}, {"choices": [last], "usage": usage}):
                yield f"data: {json.dumps(told)}\n\n".encode()
            yield b"data: [DONE]\n\n"

        return httpx.Response(200, content=lines())

    model = RemoteChatModel("http://upstream.invalid", "m")
    model._client = httpx.AsyncClient(transport=httpx.MockTransport(upstream))
    async with running() as daemon:
        daemon.daemon.services.models._entries["text"] = _Entry(model, None)
        completion = await ask(daemon, [1, 2, 3], logprobs=0, temperature=0.5)
        choice = completion["choices"][0]
        assert (choice["text"], choice["finish_reason"]) == ("so on", "length")
        assert choice["logprobs"]["token_logprobs"] == [-0.5]
        assert completion["usage"]["total_tokens"] == 5
        sent = bodies[0]
        assert (sent["prompt"], sent["temperature"], sent["max_tokens"], sent["logprobs"]) == ([1, 2, 3], 0.5, 16, 0)
        for body, status in (({"prompt": "bad"}, 400), ({"prompt": [1], "echo": True}, 400)):
            assert (await daemon.http.post("/completions", json={"model": "text", **body})).status_code == status
