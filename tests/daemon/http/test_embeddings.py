"""POST /v1/embeddings: vectors by the server of a remote model; a model that makes none says what does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from support.daemon import Running, running
from support.scripted_model import ScriptedModel

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXTS = ["one", "three three three", "two two"]


def vectors(body: dict[str, Any]) -> dict[str, Any]:
    """As a server of embeddings answers; here a text's vector tells its length, and entries come in any order."""
    texts = body["input"]
    size = body.get("dimensions", 3)
    data = [
        {"object": "embedding", "index": index, "embedding": [len(text), 0.5, *[0.25] * (size - 2)]}
        for index, text in enumerate(texts)
    ]
    return {"object": "list", "data": data[::-1], "model": body["model"], "usage": {"prompt_tokens": 7}}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def daemon() -> AsyncIterator[Running]:
    """Its default model, and one called `embedder` whose server has the path."""
    with ScriptedModel(name="theirs", paths={"/v1/embeddings": vectors}) as server, ScriptedModel() as broken:
        broken._paths["/v1/embeddings"] = lambda body: {"data": vectors(body)["data"][1:]}
        async with running() as daemon:
            models = daemon.daemon.services.models
            await models.load("remote", "embedder", "remote", {"remote_url": server.url})
            several = f"{server.url},{server.url.replace('127.0.0.1', 'localhost')}"
            await models.load("remote", "several", "remote", {"remote_url": several})
            await models.load("remote", "broken", "remote", {"remote_url": broken.url})
            yield daemon


@pytest.mark.parametrize("model", ["embedder", "several"])
async def test_vectors_come_in_the_order_of_the_texts(daemon: Running, model: str) -> None:
    made = await daemon.client.embeddings.create(model=model, input=TEXTS, encoding_format="float")
    assert (made.model, made.usage.total_tokens) == (model, 7)
    assert [entry.embedding for entry in made.data] == [[len(text), 0.5, 0.25] for text in TEXTS]


async def test_the_sdk_reads_the_bytes_that_it_asks_for_by_default(daemon: Running) -> None:
    async with openai.AsyncOpenAI(base_url=daemon.url, api_key="none") as sdk:  # which its strict mode cannot
        made = await sdk.embeddings.create(model="embedder", input=TEXTS)
    assert [list(entry.embedding) for entry in made.data] == [[len(text), 0.5, 0.25] for text in TEXTS]
    body = {"model": "embedder", "input": ["abc"], "encoding_format": "base64"}
    answer = (await daemon.http.post("/embeddings", json=body)).json()
    assert answer["data"][0]["embedding"] == "AABAQAAAAD8AAIA+"  # 3, 0.5, 0.25 as little-endian float32


@pytest.mark.parametrize("given", ["hello", [1, 2, 3], [[1, 2], [3]], ["a", "b"]])
async def test_texts_and_token_ids_are_taken(daemon: Running, given: Any) -> None:
    body = {"model": "embedder", "input": given, "dimensions": 2}
    answer = (await daemon.http.post("/embeddings", json=body)).json()
    count = len(given) if isinstance(given, list) and not isinstance(given[0], int) else 1
    assert [len(entry["embedding"]) for entry in answer["data"]] == [2] * count
    assert [entry["index"] for entry in answer["data"]] == list(range(count))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": []}, "input"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [[1], []]}, "input[1]"),
        ({"input": {"a": 1}}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "user": 5}, "user"),
        ({"input": "a", "model": ""}, "model"),
    ],
)
async def test_what_is_wrong_is_refused_by_its_name(daemon: Running, body: dict[str, Any], param: str) -> None:
    answer = await daemon.http.post("/embeddings", json={"model": "embedder", **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_a_model_that_makes_none_says_so_and_is_served_on(daemon: Running) -> None:
    """A server without the path is no server in trouble: its chats go on, also where there are several of them."""
    answer = await daemon.http.post("/embeddings", json={"model": "default", "input": "a"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "model")
    assert "makes no embeddings" in error["message"]
    assert (await daemon.http.post("/embeddings", json={"model": "nobody", "input": "a"})).status_code == 404


async def test_an_answer_that_lacks_a_vector_is_the_servers_fault(daemon: Running) -> None:
    answer = await daemon.http.post("/embeddings", json={"model": "broken", "input": TEXTS})
    assert answer.status_code == 503
    assert "2 vectors for 3 texts" in answer.json()["error"]["message"]
