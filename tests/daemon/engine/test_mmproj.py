"""Images for a GGUF: a projector with random weights beside a model with random weights. What they answer is held to
llama.cpp's own server on the same two files."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.engine.conftest import make_chat_folder
from skilldeck_daemon.engine.base import (
    IMAGE,
    ChatFinished,
    ChatRequest,
    Finished,
    GenRequest,
    ModelSpec,
    Sampling,
    Tokens,
)
from skilldeck_daemon.engine.errors import TooLong
from skilldeck_daemon.engine.hub import ModelHub
from skilldeck_daemon.engine.llamacpp.engine import LlamaCppEngine
from skilldeck_daemon.engine.llamacpp.sequences import SequenceTable
from skilldeck_shared.errors import BadRequest
from support.daemon import running
from support.make_gguf import make_gguf
from support.make_projector import PLAIN, TWO_DIMENSIONAL, make_projector, picture

pytest.importorskip("PIL.Image")
GREEDY = Sampling(temperature=0)
WIDTH = 64
SECTIONS = {"qwen2vl.rope.dimension_sections": [2, 3, 3, 0]}
OPTIONS = {"threads": 1, "context": 256, "max_batch": 2}
THEIRS = """
import json, os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.mmproj.path, params.n_ctx, params.n_parallel = sys.argv[1], sys.argv[2], 256, 1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.verbosity, params.api_keys, params.cache_ram_mib = 0, ["not for anyone"], 0
print(json.dumps(xllamacpp.Server(params).handle_chat_completions(json.loads(sys.argv[3]))), flush=True)
os._exit(0)
"""
Kind = tuple[str, str]  # of the model, of its projector
KINDS: list[Kind] = [("llama", PLAIN), ("qwen2vl", TWO_DIMENSIONAL)]


@pytest.fixture(scope="module")
def files(make: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Path]:
    """A model's file, its projector beside it."""
    made: dict[Kind, Path] = {}

    def get(kind: Kind) -> Path:
        if kind not in made:
            folder = make_chat_folder(make("Llama"), tmp_path_factory.mktemp("seeing") / "chatty")
            more = SECTIONS if kind[0] == "qwen2vl" else {}
            made[kind] = make_gguf(folder, folder.parent / f"{kind[0]}.gguf", kind[0], more=more)
            make_projector(folder.parent / f"mmproj-{kind[0]}-F16.gguf", WIDTH, kind[1])
        return made[kind]

    return get


@asynccontextmanager
async def seeing(file: Path, **options: Any) -> AsyncIterator[LlamaCppEngine]:
    engine = LlamaCppEngine()
    await engine.load(ModelSpec(str(file), "m", {**OPTIONS, **options}))
    try:
        yield engine
    finally:
        await engine.unload()


async def collect(engine: LlamaCppEngine, name: str, ids: list[int], *urls: str) -> tuple[list[int], Finished]:
    events = [event async for event in await engine.submit(GenRequest(name, ids, 12, GREEDY, images=urls))]
    assert isinstance(events[-1], Finished)
    return [token for event in events if isinstance(event, Tokens) for token in event.ids], events[-1]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[1])
async def test_what_a_model_sees_is_what_llama_cpp_itself_sees(files: Callable[[Kind], Path], kind: Kind) -> None:
    file = files(kind)
    urls = [picture("orange", (84, 56)), picture("navy", (56, 112))]
    image = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    content = [{"type": "text", "text": "one"}, image[0], {"type": "text", "text": "two"}, image[1]]
    content.append({"type": "text", "text": "three"})
    messages = [{"role": "user", "content": content}]
    body = {"messages": messages, "max_tokens": 12, "temperature": 0, "logprobs": True, "ignore_eos": True}
    projector = file.parent / f"mmproj-{kind[0]}-F16.gguf"
    command = [sys.executable, "-c", THEIRS, str(file), str(projector), json.dumps(body)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True, timeout=60)
    answer = json.loads(done.stdout.splitlines()[-1])
    expected = [entry["id"] for entry in answer["choices"][0]["logprobs"]["content"]]
    assert len(expected) > 7

    hub = ModelHub(worker=False)
    await hub.load(str(file), "m", options={**OPTIONS, "max_batch": 1})
    model: Any = hub.get("m")
    ids = list(await model.encode(model.render(ChatRequest(messages))))
    assert ids.count(IMAGE) == 2
    tokens, ended = await collect(model.engine, "a", ids, *urls)
    # Its list leaves out the tokens that end inside a character.
    left = iter(tokens)
    assert all(token in left for token in expected), (tokens, expected)
    assert ended.prompt == answer["usage"]["prompt_tokens"]
    again, ended = await collect(model.engine, "b", ids, *urls)
    assert (again, ended.cached) == (tokens, ended.prompt - 1)
    # Another picture in the second place: all up to it is kept, and what follows is computed from there.
    branch, ended = await collect(model.engine, "c", ids, urls[0], urls[0])
    _, fresh = await collect(model.engine, "d", [*ids[:-1], 40], urls[0], urls[0])
    assert fresh.cached == ended.prompt - 1
    assert 0 < ended.cached < ended.prompt - 6
    assert branch != tokens
    await hub.close()


async def test_images_come_beside_other_requests_and_without_one_nothing_is_seen(
    files: Callable[[Kind], Path],
) -> None:
    red, blue, ids = picture("red"), picture("blue"), [5, 6, 7, IMAGE, 8, 9]
    async with seeing(files(KINDS[0])) as engine:
        assert (engine.caps.images, engine.caps.image_tokens) == (True, 4)
        one, _ = await collect(engine, "one", ids, red)
        two, _ = await collect(engine, "two", ids, blue)
        assert one != two
        beside = await asyncio.gather(
            collect(engine, "a", ids, red), collect(engine, "b", [5, 6, 7, 8, 9]), collect(engine, "c", ids, blue)
        )
        assert [tokens for tokens, _ in beside][::2] == [one, two]
        for wrong, urls, said in (
            (ids, (), "0..319"),
            ([5, 6], (red,), "0 places for 1 images"),
            ([5, IMAGE], (red,), "ends with an image"),
            (ids, ("data:image/png;base64,AAAA",), "cannot be read"),
        ):
            with pytest.raises(BadRequest, match=said):
                await collect(engine, "wrong", wrong, *urls)
        with pytest.raises(TooLong, match="256"):
            await collect(engine, "long", [5, IMAGE] * 60 + [5], *[red] * 60)


async def test_a_step_that_fails_at_an_image_ends_its_request_alone(
    files: Callable[[Kind], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with seeing(files(KINDS[0])) as engine:
        with monkeypatch.context() as patch:
            patch.setattr("skilldeck_daemon.engine.llamacpp.vision.Vision.compute", lambda *_: False)
            _, ended = await collect(engine, "a", [5, IMAGE, 6], picture("red"))
            assert "could not compute an image of 4 tokens" in str(ended.error)
        _, ended = await collect(engine, "b", [5, IMAGE, 6], picture("red"))
        assert (ended.reason, ended.cached) == ("length", 0)


async def test_what_is_no_projector_of_the_model_is_refused_by_its_option(
    files: Callable[[Kind], Path], tmp_path: Path
) -> None:
    file = files(KINDS[0])
    other = make_projector(tmp_path / "other.gguf", 2 * WIDTH)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(other.read_bytes()[:-100])
    for path, said in (
        (other, "cannot read images for llama.gguf"),
        (file, "is no projector"),
        (cut, "cut short"),
        (tmp_path / "nothing.gguf", "no file"),
    ):
        with pytest.raises(BadRequest, match=said) as caught:
            async with seeing(file, mmproj=str(path)):
                pass
        assert caught.value.param == "mmproj"
    with pytest.raises(BadRequest, match="reads images for another model") as caught:
        async with seeing(other):
            pass
    assert caught.value.param == "model"
    async with seeing(file, mmproj="off") as engine:
        assert not engine.caps.images
        with pytest.raises(BadRequest, match="reads no images"):
            await collect(engine, "a", [5, IMAGE, 6], picture("red"))


async def test_a_response_takes_images_and_counts_them(files: Callable[[Kind], Path]) -> None:
    async with running() as daemon:
        models = daemon.daemon.services.models
        await models.load(str(files(KINDS[0])), "seeing", options=OPTIONS)  # in a process of its own

        async def ask(*parts: dict[str, Any]) -> dict[str, Any]:
            item = {"role": "user", "content": [{"type": "input_text", "text": "what <image>"}, *parts]}
            return await daemon.respond([item], model="seeing", max_output_tokens=4, temperature=0)

        plain = await ask()
        one = await ask({"type": "input_image", "image_url": picture("red"), "detail": "auto"})
        two = await ask(*[{"type": "input_image", "image_url": picture("blue"), "detail": "auto"}] * 2)
        known = [answer["usage"]["input_tokens"] for answer in (plain, one, two)]
        # Four tokens for each; the mark of its place costs nothing.
        assert (known[1] - known[0], known[2] - known[1]) == (4, 4)
        model: Any = models.get("seeing")
        image = {"type": "image_url", "image_url": {"url": picture("red")}}
        request = ChatRequest([{"role": "user", "content": [{"type": "text", "text": "what"}, image]}], max_tokens=3)
        counted = await model.count_tokens(request)
        events = [event async for event in model.stream(replace(request, sampling=GREEDY))]
        assert isinstance(events[-1], ChatFinished)
        assert events[-1].usage.input_tokens == counted


def test_a_prefix_never_ends_inside_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        whole = False
        cut = copy = lambda *_: True
        forget = lambda _: None  # noqa: E731

    table = SequenceTable(Memory(), 1)  # type: ignore[arg-type]
    held, _ = table.claim([1, 2, -10, -11, -12, 3, 4], "", "a")
    held.tokens = [1, 2, -10, -11, -12, 3, 4]
    table.release(held)
    for prompt, cached in (
        ([1, 2, -10, -11, -12, 3, 5], 6),
        ([1, 2, -10, -11, -12], 2),  # one id must be computed: that is the whole image
        ([1, 2, -20, -21, -22, 3], 2),
        ([1, 2, -10, -11, -12, -10, -11, -12, 3], 5),
    ):
        held, found = table.claim(list(prompt), "", "b")
        assert found == cached
        held.tokens = [1, 2, -10, -11, -12, 3, 4]
        table.release(held)
