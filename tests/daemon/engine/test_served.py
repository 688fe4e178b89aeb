"""The bundled model in its own process, asked over HTTP: what grammar and sampling promise, crashes, several names."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jsonschema
import pytest
import pytest_asyncio

from skilldeck_daemon.engine.process.worker import WorkerEngine
from support.daemon import Running, running
from support.wait import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

PICK = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "green", "blue"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "notes": {"type": "array", "items": {"type": "string", "maxLength": 6}, "maxItems": 2},
    },
    "required": ["colour", "count", "notes"],
    "additionalProperties": False,
}
WILD = {"temperature": 2, "max_output_tokens": 1200}  # room for all the white space the grammars leave


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": PICK, "strict": True}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served() -> AsyncIterator[Running]:
    async with running(load=False, model="tiny", model_name="") as daemon:
        await until(lambda: daemon.daemon.services.models.status().state == "ready", 120)
        yield daemon


def engine_of(served: Running) -> WorkerEngine:
    engine = served.daemon.services.models.get("default").engine  # type: ignore[attr-defined]
    assert isinstance(engine, WorkerEngine), "a local engine runs in a process of its own"
    return engine


async def health(served: Running) -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(served.url.removesuffix("/v1") + "/health")
    return answer.status_code, answer.json()


async def test_required_and_named_calls_cannot_fail(served: Running) -> None:
    few = asyncio.Semaphore(8)

    async def call(seed: int) -> dict[str, Any]:
        choice: Any = "required" if seed % 2 else {"type": "function", "name": "two"}
        async with few:
            response = await served.respond(
                "zzz", tools=[function("one"), function("two")], tool_choice=choice, seed=seed, **WILD
            )
        assert response["status"] == "completed", response["incomplete_details"]
        calls = [item for item in response["output"] if item["type"] == "function_call"]
        assert calls
        assert all(item["type"] == "function_call" for item in response["output"])
        for item in calls:
            jsonschema.validate(json.loads(item["arguments"]), PICK)
            assert item["name"] == "two" or seed % 2
        return calls[0]

    made = await asyncio.gather(*(call(seed) for seed in range(50)))
    assert len({item["arguments"] for item in made}) > 10, "the seeds make no difference"


async def test_only_allowed_tools_are_called(served: Running) -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "two"}]}
    for seed in range(3):
        response = await served.respond(
            "zzz", tools=[function("one"), function("two")], tool_choice=choice, seed=seed, **WILD
        )
        assert {item["name"] for item in response["output"]} == {"two"}


@pytest.mark.parametrize(
    ("syntax", "definition", "holds"),
    [
        ("regex", "[A-C]{2,4}-[0-9]{3}", re.compile("[A-C]{2,4}-[0-9]{3}")),
        ("lark", 'start: pair ("," pair){0,2}\npair: /[a-z]{1,4}/ "=" /[0-9]{1,3}/', re.compile("[a-z=0-9,]+")),
    ],
)
async def test_a_custom_tools_grammar_holds(served: Running, syntax: str, definition: str, holds: Any) -> None:
    form = {"type": "grammar", "syntax": syntax, "definition": definition}
    tool = {"type": "custom", "name": "code", "format": form}
    for seed in range(3):
        response = await served.respond(
            "zzz", tools=[tool], tool_choice="required", parallel_tool_calls=False, seed=seed, **WILD
        )
        (call,) = response["output"]
        assert call["type"] == "custom_tool_call"
        assert holds.fullmatch(call["input"]), call["input"]


async def test_more_choices_than_the_engine_takes_at_once_wait_for_each_other(served: Running) -> None:
    # 8 computed, 64 waiting: beyond that the engine refuses.
    body = {"model": "default", "n": 100, "max_tokens": 1}
    for path, asked in (
        ("/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/completions", {"prompt": "hi"}),
    ):
        answer = await served.http.post(path, json={**body, **asked})
        assert answer.status_code == 200, answer.text
        assert [choice["index"] for choice in answer.json()["choices"]] == list(range(100))
        assert answer.json()["usage"]["completion_tokens"] == 100


async def test_a_strict_schema_holds(served: Running) -> None:
    form = {"type": "json_schema", "name": "pick", "schema": PICK, "strict": True}
    for seed in range(5):
        response = await served.respond("zzz", text={"format": form}, seed=seed, **WILD)
        assert response["status"] == "completed", response["output"]
        (message,) = response["output"]
        jsonschema.validate(json.loads(message["content"][0]["text"]), PICK)


async def test_sampling_options_are_honoured_or_refused_by_name(served: Running) -> None:
    async def text(**options: Any) -> str:
        response = await served.respond("tell me about the sea", max_output_tokens=16, **options)
        return "".join(part["text"] for item in response["output"] for part in item["content"])

    greedy = await text(temperature=0)
    assert await text(temperature=2, top_k=1) == greedy
    assert await text(temperature=2, min_p=1) == greedy
    vocabulary = served.daemon.services.models.get("default").vocabulary  # type: ignore[attr-defined]
    # The model is sure of what it says: that is taken from it until it has to choose.
    barred: dict[str, int] = {}
    texts = [greedy]
    for _ in range(8):
        barred |= {str(token): -100 for said in texts for token in vocabulary.encode(said)}
        texts = [await text(temperature=2, logit_bias=barred, seed=seed) for seed in range(4)]
        if len(set(texts)) > 1:
            break
    assert len(set(texts)) > 1
    assert [await text(temperature=2, logit_bias=barred, seed=seed) for seed in range(4)] == texts
    (forced, *_) = vocabulary.encode("x")
    assert await text(temperature=0, logit_bias={str(forced): 100}) == "x" * 16
    penalised = await text(temperature=0, logit_bias={str(forced): 30}, dry_multiplier=50, dry_allowed_length=1)
    assert "xxxx" not in penalised
    assert await text(temperature=0, repetition_penalty=100) != greedy
    assert await text(temperature=0, logit_bias={str(forced): 100}, stop="xxx") == ""
    for field, value in (
        ("top_k", -1),
        ("min_p", 2),
        ("repetition_penalty", 0),
        ("dry_multiplier", "x"),
        ("dry_base", 0),
        ("dry_allowed_length", 0),
        ("logit_bias", {"x": 1}),
        ("seed", 1.5),
        ("stop", ["a", ""]),
    ):
        answer = await served.http.post("/responses", json={"model": "default", "input": "x", field: value})
        assert answer.status_code == 400, field
        assert answer.json()["error"]["param"].startswith(field)


async def test_a_turn_that_only_repeats_itself_ends_as_too_long(served: Running) -> None:
    vocabulary = served.daemon.services.models.get("default").vocabulary  # type: ignore[attr-defined]
    (forced, *_) = vocabulary.encode("x")
    looping = {"temperature": 0, "logit_bias": {str(forced): 100}}
    response = await served.respond("go", **looping)
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    # Twice: it is asked once to go on differently, and a step may hold 64 guessed tokens more.
    assert 2 * 128 <= response["usage"]["output_tokens"] < 2 * 256
    assert [item["status"] for item in response["output"]] == ["incomplete", "incomplete", "completed"]
    assert response["output"][-1]["content"][0]["text"].startswith("The model went round in circles twice")
    asked = await served.respond("go", max_output_tokens=200, **looping)
    assert asked["usage"]["output_tokens"] == 200, "who names a number gets it"


async def test_several_models_are_served_by_name(served: Running) -> None:
    hub = served.daemon.services.models
    await hub.load("tiny", "second", "auto", {"context": 512, "worker": False})
    listed = {model["id"]: model for model in (await served.http.get("/models")).json()["data"]}
    assert list(listed) == ["skilldeck-tiny", "second"]
    assert {model["owned_by"] for model in listed.values()} == {"skilldeck"}
    assert "demonstration model" in listed["skilldeck-tiny"]["description"]
    assert listed["second"]["max_model_len"] == 512
    for name in listed:
        assert (await served.respond("hello", model=name, max_output_tokens=16))["model"] == name
    await hub.unload("second")
    answer = await served.http.post("/responses", json={"model": "second", "input": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_killed_engine_fails_its_run_and_nothing_else(served: Running) -> None:
    before = await served.respond("hello", max_output_tokens=16)
    status, body = await health(served)
    assert (status, body["status"], body["engines"]["skilldeck-tiny"]["active"]) == (200, "ok", 0)
    assert body["engines"]["skilldeck-tiny"]["token_age_s"] >= 0, "tokens were made, and health knows when"
    engine = engine_of(served)
    victim = engine.pid
    assert victim is not None
    seen: list[tuple[int, str]] = []
    events: list[dict[str, Any]] = []
    body = {"model": "default", "input": "go", "stream": True, "max_output_tokens": 1500, "logit_bias": {"40": 100}}
    async with served.http.stream("POST", "/responses", json=body) as answer:
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            events.append(json.loads(line.removeprefix("data: ")))
            if events[-1]["type"] == "response.output_text.delta" and not seen:
                os.kill(victim, signal.SIGKILL)
                await until(lambda: engine.trouble)
                status, told = await health(served)
                seen.append((status, told["status"]))
                assert "signal 9" in told["error"]
    assert seen == [(503, "degraded")]
    assert events[-1]["type"] == "response.failed"
    failed = events[-1]["response"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    # This one comes while the engine starts again, and waits for it.
    after = await served.respond("hello", max_output_tokens=16)
    assert (await health(served))[1]["status"] == "ok", (await health(served), after)
    assert engine.pid not in (None, victim)
    kept = (await served.http.get(f"/responses/{before['id']}")).json()
    assert kept["output"] == before["output"]
    assert (await served.http.get(f"/responses/{failed['id']}")).json()["status"] == "failed"
    assert after["output"][0]["content"][0]["text"] == before["output"][0]["content"][0]["text"]
