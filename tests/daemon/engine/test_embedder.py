"""Embeddings by GGUF files: the vectors are those of transformers, whatever a text is pooled by and computed beside."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from typer.testing import CliRunner

from skilldeck_daemon import cli
from skilldeck_daemon.engine import engines
from skilldeck_daemon.engine.base import ChatRequest, Finished, GenRequest, ModelSpec, Vector
from skilldeck_daemon.engine.chat.embedding import EmbeddingModel
from skilldeck_daemon.engine.embeddings import EmbeddingRequest
from skilldeck_daemon.engine.errors import EngineDead, TooLong
from skilldeck_daemon.engine.hub import ModelHub
from skilldeck_daemon.engine.llamacpp import embedder
from skilldeck_daemon.engine.llamacpp.embedder import LlamaCppEmbedder, TextModel
from skilldeck_daemon.engine.models.source import ModelSource
from skilldeck_shared.errors import BadRequest
from support.daemon import running
from support.make_gguf import make_bert_gguf

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "there", "small", "world", "again"]
MEAN, CLS, RANK = 1, 2, 4
# Its vectors differ by what llama.cpp's table of GELU rounds: up to 0.0003 of a number.
EXACT = {"flash_attention": "off", "threads": 1}
Vectors = Callable[[Sequence[int], str], list[float]]


@pytest.fixture(scope="module")
def bert() -> Any:
    from transformers import BertConfig, BertModel

    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.3,
        hidden_act="gelu",
    )
    return BertModel(config, add_pooling_layer=False).eval()


@pytest.fixture(scope="module")
def file(bert: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert_gguf(bert, WORDS, tmp_path_factory.mktemp("bert") / "small-bert.gguf", MEAN)


def pooled(model: Any, ids: Sequence[int], pooling: str) -> list[float]:
    """The vector of transformers, of length 1."""
    with torch.no_grad():
        states = model(torch.tensor([list(ids)])).last_hidden_state[0]
    vector = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
    return list((vector / vector.norm()).tolist())


def texts(count: int, most: int, below: int) -> list[tuple[int, ...]]:
    source = random.Random(7)
    return [tuple(source.randrange(3, below) for _ in range(source.randrange(1, most))) for _ in range(count)]


@asynccontextmanager
async def served(file: Path, **options: Any) -> AsyncIterator[EmbeddingModel]:
    hub = ModelHub(worker=False)
    await hub.load(str(file), "it", "llamacpp-embeddings", {**EXACT, **options})
    found: Any = hub.get("it")
    try:
        yield found
    finally:
        await hub.close()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
async def test_an_encoders_vectors_are_those_of_transformers(bert: Any, file: Path, pooling: str) -> None:
    asked = texts(40, 60, len(WORDS))
    async with served(file, pooling=pooling, max_batch=8) as model:
        made = await model.embed(EmbeddingRequest(asked))
        short = await model.embed(EmbeddingRequest(asked[:1], dimensions=8))
    assert made.tokens == sum(map(len, asked))
    for ids, vector in zip(asked, made.vectors, strict=True):
        assert vector == pytest.approx(pooled(bert, ids, pooling), abs=2e-3)
    head = torch.tensor(pooled(bert, asked[0], pooling)[:8])
    assert short.vectors[0] == pytest.approx((head / head.norm()).tolist(), abs=2e-3)


@pytest.mark.parametrize("pooling", ["last", "mean"])
async def test_a_writing_models_vectors_are_those_of_transformers(
    llama: Path, llama_gguf: Path, pooling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModel

    monkeypatch.setattr(embedder, "PIECE", 64)  # texts are computed in pieces where they can be
    theirs = AutoModel.from_pretrained(llama, dtype=torch.float32).eval()
    asked = texts(6, 200, 320)
    engine = LlamaCppEmbedder()
    await engine.load(ModelSpec(str(llama_gguf), "m", {**EXACT, "pooling": pooling, "max_batch": 4}))
    for ids, vector in zip(asked, await asyncio.gather(*(vector_of(engine, ids) for ids in asked)), strict=True):
        found = torch.tensor(vector)
        assert (found / found.norm()).tolist() == pytest.approx(pooled(theirs, ids, pooling), abs=2e-3)
    await engine.unload()


async def vector_of(engine: LlamaCppEmbedder, ids: Sequence[int]) -> tuple[float, ...]:
    events = [event async for event in await engine.submit(GenRequest(f"r{ids[:8]}{len(ids)}", ids, 0))]
    (vector,) = [event.values for event in events if isinstance(event, Vector)]
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, events[-1].prompt) == ("stop", len(ids))
    return vector


async def test_a_text_has_the_tokens_the_model_wants_around_it(bert: Any, file: Path) -> None:
    async with served(file) as model:
        made = await model.embed(EmbeddingRequest(("hello small world",)))
        assert made.vectors[0] == pytest.approx(pooled(bert, (2, 5, 7, 8, 3), "mean"), abs=2e-3)
        assert made.tokens == 5


async def test_what_cannot_be_asked_is_refused_by_its_field(file: Path) -> None:
    async with served(file) as model:
        assert (model.info.context, "embeddings" in model.info.description) == (64, True)
        for inputs, dimensions, param in (
            (((2, 5, 99),), None, "input"),
            (((2,), (5, 99)), None, "input[1]"),
            (("hello",), 33, "dimensions"),
        ):
            with pytest.raises(BadRequest) as caught:
                await model.embed(EmbeddingRequest(inputs, dimensions))
            assert caught.value.param == param
        with pytest.raises(TooLong, match="64 tokens") as caught:
            await model.embed(EmbeddingRequest(("hello", "hello " * 70)))
        assert caught.value.param == "input[1]"
        with pytest.raises(BadRequest, match="writes no text"):
            await model.stream(ChatRequest([{"role": "user", "content": "hello"}])).__anext__()


async def test_which_engine_takes_a_file_and_why_not(bert: Any, file: Path, llama_gguf: Path, tmp_path: Path) -> None:
    assert engines.choose(ModelSource.of(file)).name == "llamacpp-embeddings"
    assert engines.choose(ModelSource.of(llama_gguf)).name == "llamacpp"
    hub = ModelHub(worker=False)
    for path, engine, said, param in (
        (file, "llamacpp", "makes embeddings and does not continue text", "engine"),
        (llama_gguf, "llamacpp-embeddings", "does not say how one vector is made", "pooling"),
        (make_bert_gguf(bert, WORDS, tmp_path / "rank.gguf", RANK), "auto", "ranks texts", "model"),
    ):
        with pytest.raises(BadRequest, match=said) as caught:
            await hub.load(str(path), engine=engine)
        assert caught.value.param == param
    with pytest.raises(BadRequest) as caught:
        await hub.load(str(file), options={"pooling": "max"})
    assert caught.value.param == "pooling"
    with pytest.raises(BadRequest, match="made for 64 tokens"):
        await hub.load(str(file), options={"context": 65})


async def test_a_failed_step_ends_its_texts_and_the_next_are_computed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("out of memory")

    async with served(file) as model:
        with monkeypatch.context() as patch:
            patch.setattr(TextModel, "_step", fails)
            with pytest.raises(EngineDead, match="out of memory"):
                await model.embed(EmbeddingRequest(("hello", "there")))
        assert len((await model.embed(EmbeddingRequest(("hello", "there")))).vectors) == 2


async def test_the_sdk_gets_vectors_of_a_file_beside_a_model_that_writes(bert: Any, file: Path) -> None:
    async with running() as daemon:
        models = daemon.daemon.services.models
        await models.load(str(file), "embedder", options=EXACT)  # in a process of its own
        async with openai.AsyncOpenAI(base_url=daemon.url, api_key="none") as sdk:
            made = await sdk.embeddings.create(model="embedder", input=[[2, 5, 3], [2, 8, 9, 3]])
            assert made.usage.prompt_tokens == 7
            for entry, ids in zip(made.data, ((2, 5, 3), (2, 8, 9, 3)), strict=True):
                assert entry.embedding == pytest.approx(pooled(bert, ids, "mean"), abs=2e-3)
            with pytest.raises(openai.BadRequestError, match="writes no text") as refused:
                await sdk.responses.create(model="embedder", input="hello")
            assert refused.value.param == "model"
            (listed,) = [model for model in (await sdk.models.list()).data if model.id == "embedder"]
            assert listed.model_extra is not None
            assert listed.model_extra["meta"]["architecture"] == "bert"


def test_models_info_names_the_engine_and_what_it_is_for(file: Path) -> None:
    shown = CliRunner().invoke(cli.app, ["models", "info", str(file)]).stdout
    assert "llamacpp-embeddings" in shown
    assert "Makes embeddings" in shown
