"""Images through exllamav2's real generator: a tower whose embeddings are words tells what must come out."""

from __future__ import annotations

import base64
import io
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from daemon.engine.conftest import make_chat_folder
from daemon.engine.exl_stub import exllamav2_missing, install_exllamav2
from skilldeck_daemon.engine.base import Event, Finished, GenRequest, ModelSpec, Sampling, Tokens
from skilldeck_daemon.engine.errors import TooLong
from skilldeck_daemon.engine.exllama.engine import ExllamaEngine
from skilldeck_daemon.engine.exllama.options import ExlOptions
from skilldeck_daemon.engine.exllama.v2 import Exllamav2
from skilldeck_daemon.engine.exllama.vision import Vision, read_image
from skilldeck_shared.errors import BadRequest

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")
needs_exllamav2 = pytest.mark.skipif(bool(exllamav2_missing()), reason=exllamav2_missing() or "-")

IMG = 259  # the id of [IMG] in the tokenizer made here
RED, BLUE = [5, 6, 7, 8, 9], list(range(10, 310))  # what the tower makes of a picture: these words


def picture(colour: str, size: tuple[int, int] = (30, 20)) -> str:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


class Tower:
    """A vision tower of two pictures. Counts how often it works."""

    def __init__(self) -> None:
        self.config = types.SimpleNamespace(vision_max_size=64)
        self.worked = 0

    def get_image_embeddings(self, model: Any, tokenizer: Any, image: Any) -> Any:
        from exllamav2.generator import ExLlamaV2MMEmbedding

        self.worked += 1
        words = RED if image.getpixel((0, 0)) == (255, 0, 0) else BLUE
        return ExLlamaV2MMEmbedding(model, model.model.get_input_embeddings().weight[words].detach().clone())

    def unload(self) -> None: ...


@pytest.fixture
async def seeing(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[ExllamaEngine, Tower]]:
    from tokenizers import Tokenizer

    folder = make_chat_folder(llama, tmp_path / "chatty")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["[IMG]"])
    tokenizer.save(str(folder / "tokenizer.json"))
    engine = install_exllamav2(monkeypatch, folder)
    await engine.load(ModelSpec(str(folder), "small", {"context": 512, "max_batch": 4, "slice": 256}))
    backend: Any = engine._backend
    assert not engine.caps.images
    tower = Tower()
    backend._vision = Vision(tower, backend._model, folder, "pixtral")
    yield engine, tower
    await engine.unload()


async def collect(engine: ExllamaEngine, name: str, ids: list[int], n: int, *images: str) -> tuple[list[int], Finished]:
    request = GenRequest(name, ids, n, Sampling(temperature=0), images=images)
    events: list[Event] = [event async for event in await engine.submit(request)]
    last = events[-1]
    assert isinstance(last, Finished)
    return [token for event in events if isinstance(event, Tokens) for token in event.ids], last


@needs_exllamav2
async def test_an_image_stands_for_its_embeddings_and_stays_in_the_cache(
    seeing: tuple[ExllamaEngine, Tower], llama: Path, greedy: Any
) -> None:
    engine, tower = seeing
    assert engine.caps.images
    prompt, words = [20, 21, IMG, 22, IMG, 23], [20, 21, *RED, 22, *BLUE, 23]
    tokens, finished = await collect(engine, "one", prompt, 12, picture("red"), picture("blue"))
    assert tokens == greedy(llama, words, 12)
    assert (finished.reason, finished.prompt, finished.cached) == ("length", len(words), 0)
    again = [*prompt, *tokens, 30, IMG]
    tokens, finished = await collect(engine, "two", again, 8, picture("red"), picture("blue"), picture("red"))
    assert tokens == greedy(llama, [*words, *again[len(prompt) : -1], *RED], 8)
    assert finished.cached >= 256, "the images of the first round were not computed again"
    assert tower.worked == 2
    alone, _ = await collect(engine, "text", [40, 41], 6)
    assert alone == greedy(llama, [40, 41], 6)


@needs_exllamav2
async def test_what_cannot_be_shown_ends_its_own_request(seeing: tuple[ExllamaEngine, Tower]) -> None:
    engine, _ = seeing
    broken = "data:image/png;base64," + base64.b64encode(b"no picture").decode()
    for prompt, images, kind, words in (
        ([20, IMG], [picture("red"), picture("red")], BadRequest, "1 places for 2 images"),
        ([20, IMG], [broken], BadRequest, "cannot be read"),
        ([20, IMG, IMG], [picture("blue"), picture("blue")], TooLong, "with its images"),
    ):
        _, finished = await collect(engine, f"r-{words}", prompt, 5, *images)
        assert finished.reason == "error"
        assert isinstance(finished.error, kind)
        assert words in str(finished.error)
    assert (await collect(engine, "after", [20, IMG], 5, picture("red")))[1].new == 5


@needs_exllamav2
async def test_a_model_without_a_tower_refuses_images(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = install_exllamav2(monkeypatch, llama)
    await engine.load(ModelSpec(str(llama), "small", {"context": 512}))
    with pytest.raises(BadRequest, match="no vision tower"):
        await engine.submit(GenRequest("r", [5], 1, images=(picture("red"),)))
    await engine.unload()
    assert not Exllamav2._may_see(ExlOptions(draft_model="/drafts/small")), "its whole batch would fail"


def test_a_large_picture_is_made_to_fit_and_rubbish_is_named() -> None:
    assert read_image(picture("red", (300, 100)), 64).size == (64, 21)
    for url in ("data:image/png;base64,%%%", "data:image/png;base64,aGVsbG8=", ""):
        with pytest.raises(BadRequest, match="image cannot be read"):
            read_image(url, 64)
