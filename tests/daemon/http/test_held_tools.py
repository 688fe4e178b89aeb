"""Schemas and grammars of clients with a local model, on every surface: what is refused, by whose name, and that the
daemon and the engine's process live on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from skilldeck_daemon.engine.process.worker import WorkerEngine
from skilldeck_shared.errors import BadRequest
from skilldeck_tui.client.client import Client
from support.daemon import Running, running
from support.published_schemas import PUBLISHED
from support.wait import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SURFACES = ("responses", "chat", "messages", "socket")
FINE = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
LOOK_AHEAD = {"type": "object", "properties": {"x": {"type": "string", "pattern": "(?=a)b"}}, "required": ["x"]}
CHAIN = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/d0"}},
    "$defs": {**{f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(2000)}, "d2000": {"type": "string"}},
}
RULES = "start: r0\n" + "\n".join(f"r{n}: r{n + 1}" for n in range(2750)) + '\nr2750: "a"\n'
PATHS = {
    "responses": "tools[1].parameters",
    "chat": "tools[1].function.parameters",
    "messages": "tools[1].input_schema",
    "socket": "tools[1].parameters",
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served() -> AsyncIterator[Running]:
    async with running(load=False, model="tiny", model_name="") as daemon:
        await until(lambda: daemon.daemon.services.models.status().state == "ready", 120)
        yield daemon


def worker(served: Running) -> int | None:
    engine = served.daemon.services.models.get("default").engine  # type: ignore[attr-defined]
    assert isinstance(engine, WorkerEngine)
    return engine.pid


async def ask(served: Running, surface: str, schemas: list[Any], *, strict: bool) -> tuple[int, dict[str, Any]]:
    """A request with one tool for each schema: its status and its error."""
    named = [(f"t{index}", schema) for index, schema in enumerate(schemas)]
    flat = [{"type": "function", "name": name, "parameters": schema, "strict": strict} for name, schema in named]
    body: dict[str, Any] = {"model": "default"}
    if surface == "chat":
        nested = [
            {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}
            for tool in flat
        ]
        body |= {"messages": [{"role": "user", "content": "go"}], "tools": nested, "max_tokens": 16}
        answer = await served.http.post("/chat/completions", json=body)
    elif surface == "messages":
        tools = [{"name": name, "input_schema": schema, "strict": strict} for name, schema in named]
        body |= {"messages": [{"role": "user", "content": "go"}], "tools": tools, "max_tokens": 16}
        answer = await served.http.post("/messages", json=body, headers={"anthropic-version": "2023-06-01"})
    else:
        body |= {"input": "go", "tools": flat, "max_output_tokens": 16}
        if surface == "socket":
            return await over_the_socket(served, body)
        answer = await served.http.post("/responses", json=body)
    return answer.status_code, answer.json().get("error") or {}


async def over_the_socket(served: Running, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    async with await Client.connect(served.daemon.settings.socket) as client:
        try:
            response = await client.start_run(body)
        except BadRequest as error:
            return error.status, error.body()["error"]
        final = [event async for event in client.watch_run(response["id"])][-1].data["response"]
        return 500 if final["status"] == "failed" else 200, final.get("error") or {}


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("strict", [True, False])
async def test_a_chain_of_references_is_refused_and_the_daemon_lives(
    served: Running, surface: str, strict: bool
) -> None:
    before = worker(served)
    status, error = await ask(served, surface, [FINE, CHAIN], strict=strict)
    assert status == 400
    assert PATHS[surface] in error["message"]
    assert error.get("param", PATHS[surface]) == PATHS[surface]
    assert "'t1'" in error["message"]
    assert len(error["message"]) < 400
    assert (await served.http.get("/models")).status_code == 200
    assert worker(served) == before


async def test_a_chain_of_rules_is_refused_and_the_daemon_lives(served: Running) -> None:
    before = worker(served)
    tool = {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "lark", "definition": RULES}}
    answer = await served.http.post("/responses", json={"model": "default", "input": "go", "tools": [tool]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tools[0].format.definition"
    assert worker(served) == before


@pytest.mark.parametrize("surface", SURFACES)
async def test_one_schema_that_no_grammar_holds_is_refused_only_when_strict(served: Running, surface: str) -> None:
    assert await ask(served, surface, [FINE, LOOK_AHEAD], strict=False) == (200, {})
    status, error = await ask(served, surface, [{**FINE, "additionalProperties": False}, LOOK_AHEAD], strict=True)
    assert status == 400
    assert f"{PATHS[surface]}.properties.x.pattern" in error["message"]
    assert error.get("param", "x.pattern").endswith("x.pattern")


@pytest.mark.parametrize("surface", SURFACES)
async def test_published_schemas_are_taken_all_together(served: Running, surface: str) -> None:
    assert await ask(served, surface, list(PUBLISHED.values()), strict=False) == (200, {})


async def test_an_output_format_is_loosened_or_refused(served: Running) -> None:
    for strict in (False, True):
        form = {"type": "json_schema", "name": "a", "schema": LOOK_AHEAD, "strict": strict}
        body = {"model": "default", "input": "go", "max_output_tokens": 16, "text": {"format": form}}
        answer = await served.http.post("/responses", json=body)
        chat = {
            "model": "default",
            "messages": [{"role": "user", "content": "go"}],
            "max_tokens": 16,
            "response_format": {
                "type": "json_schema",
                "json_schema": {name: form[name] for name in form if name != "type"},
            },
        }
        other = await served.http.post("/chat/completions", json=chat)
        assert (answer.status_code, other.status_code) == ((400, 400) if strict else (200, 200))
        if strict:
            assert answer.json()["error"]["param"] == "text.format.schema.properties.x.pattern"
            assert other.json()["error"]["param"] == "response_format.json_schema.schema.properties.x.pattern"


async def test_a_tool_is_named_as_the_request_counts_it(served: Running) -> None:
    """A tool of the request may be several functions to the model, or none yet."""
    shell = {"type": "shell", "environment": {"type": "container_auto"}}
    broken = {"type": "function", "name": "t", "parameters": LOOK_AHEAD, "strict": True}
    body = {"model": "default", "input": "go", "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}
    for first in (body["tools"][0], shell):
        answer = await served.http.post("/responses", json={**body, "tools": [first, broken]})
        assert answer.json()["error"]["param"] == "tools[1].parameters.properties.x.pattern", answer.text


async def test_others_are_served_while_a_large_schema_is_read(served: Running) -> None:
    large = {
        "type": "object",
        "properties": {f"p{n}": {"enum": [f"value {n} {m}" for m in range(3)]} for n in range(3500)},
    }
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as other:
        body = {"model": "default", "input": "go", "max_output_tokens": 16}
        tool = {"type": "function", "name": "t", "parameters": large, "strict": False}
        answer = await other.post("/responses", json={**body, "tools": [tool]})
        assert answer.status_code in (200, 400)
        assert len(answer.text) < 1_000_000
        assert (await other.post("/responses", json=body)).status_code == 200
