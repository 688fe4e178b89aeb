"""Long texts become tokens in slices, no further than the context, and not at all when nobody waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tokenizers import Tokenizer, models, normalizers

from skilldeck_daemon.engine.base import ChatRequest
from skilldeck_daemon.engine.chat.encoding import SLICE, Encoder, apart
from skilldeck_daemon.engine.chat.prompts import PromptMemory
from skilldeck_daemon.engine.detokenize import Vocabulary
from skilldeck_daemon.engine.errors import TooLong
from skilldeck_daemon.engine.remote.bounds import LONGEST_TOKEN
from skilldeck_daemon.engine.remote.model import RemoteChatModel
from support.daemon import Running, running
from support.wait import until

TINY = Path(__file__).resolve().parents[3] / "daemon/training/weights"
HUGE = "An order was placed. " * 1_000_000  # 21 MB


class Watched(Vocabulary):
    """The bundled model's vocabulary; `seen` is what it was asked to encode."""

    seen: list[str]

    def encode(self, text: str) -> list[int]:
        self.seen.append(text)
        return super().encode(text)


@pytest.fixture
def vocabulary() -> Watched:
    found = Watched.load(TINY)
    assert isinstance(found, Watched)
    found.seen = []
    return found


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox jumps over 13 lazy dogs.\n\nAnd then, again:\t" * 8_000,
        "date,region,amount\n2025-01-02,north,17\n" * 10_000,
        "Größe und Übermaß der Sätze\n" * 15_000,
        "<|im_start|>user\nplease read\n<|im_end|>\n" * 10_000,
    ],
    ids=["prose", "csv", "umlauts", "markers"],
)
async def test_slices_encode_to_what_the_whole_text_does(vocabulary: Watched, text: str) -> None:
    encoder = Encoder(vocabulary)
    pieces = list(encoder.slices(text))
    assert len(pieces) > 2
    assert "".join(pieces) == text
    whole = Vocabulary.load(TINY).encode(text)
    assert await encoder.encode(text, len(whole)) == whole
    assert await encoder.count(text) == len(whole)


async def test_a_text_without_a_place_to_cut_still_reads_the_same(vocabulary: Watched) -> None:
    text = "字" * (5 * SLICE)
    ids = await Encoder(vocabulary).encode(text, 10**9)
    assert vocabulary.decode(ids) == text
    assert max(map(len, vocabulary.seen)) <= 2 * SLICE


def test_a_cut_never_splits_a_special_token(vocabulary: Watched) -> None:
    marker = max((text for text in vocabulary.added.values()), key=len)
    for shift in range(len(marker) + 2):
        text = "#" * (2 * SLICE - shift) + marker + "#" * (3 * SLICE)
        pieces = list(Encoder(vocabulary).slices(text))
        assert "".join(pieces) == text
        assert sum(piece.count(marker) for piece in pieces) == 1


async def test_encoding_ends_at_the_first_token_that_is_too_many(vocabulary: Watched) -> None:
    assert len(await Encoder(vocabulary).encode(HUGE, 1_000)) > 1_000
    assert len(vocabulary.seen) == 1


async def test_bytes_alone_refuse_what_is_far_beyond_the_context(vocabulary: Watched) -> None:
    encoder = Encoder(vocabulary)
    longest = max(map(len, vocabulary.table))
    with pytest.raises(TooLong, match=r"maximum context length is 100 tokens.* or more"):
        encoder.check("x" * (100 * longest), 100, "")
    with pytest.raises(TooLong):
        encoder.check("€" * (100 * longest // 3 + 1), 100, "")
    encoder.check("x" * (100 * longest - 1), 100, "")
    assert vocabulary.seen == []


def test_where_a_token_may_stand_for_any_number_of_bytes_they_refuse_nothing() -> None:
    plain = Vocabulary(Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?")), {})
    assert plain.longest == 0
    raw = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    byte_level = {"pre_tokenizer": {"type": "ByteLevel"}}
    base = Vocabulary(raw, byte_level).longest
    assert base > 1
    assert Vocabulary(raw, {**byte_level, "normalizer": {"type": "NFC"}}).longest == 4 * base
    raw.normalizer = normalizers.Strip()
    assert Vocabulary(raw, {**byte_level, "normalizer": {"type": "Strip"}}).longest == 0


def test_how_a_turn_was_written_is_known_under_its_salt_alone(vocabulary: Watched) -> None:
    memory = PromptMemory(vocabulary)
    text, boundary = "Say hello.", next(iter(vocabulary.added.values()))
    spelled = tuple(token for letter in text for token in vocabulary.encode(letter))
    memory.remember(text, spelled, "one")
    assert memory.split(text + boundary, "one") == (spelled, boundary)
    assert memory.split(text + boundary, "two") == ((), text + boundary)
    assert memory.split(text + boundary) == ((), text + boundary)


async def test_what_waits_for_a_thread_is_dropped_when_its_client_leaves() -> None:
    gate, under_way, begun = threading.Event(), [], []

    def occupied(_: object) -> None:
        under_way.append(1)
        gate.wait(120)

    busy = [asyncio.create_task(apart(occupied)) for _ in range(2)]
    await until(lambda: len(under_way) == 2)
    waiting = asyncio.create_task(apart(lambda _: begun.append(1)))
    await asyncio.sleep(0)  # it has asked for a thread
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    gate.set()
    await asyncio.gather(*busy)
    await apart(lambda _: None)
    assert waiting.cancelled()
    assert begun == []


async def test_what_is_under_way_ends_at_its_next_slice_when_its_client_leaves(vocabulary: Watched) -> None:
    counting = asyncio.create_task(Encoder(vocabulary).count(HUGE))
    await until(lambda: len(vocabulary.seen) > 2)
    counting.cancel()
    await asyncio.gather(counting, return_exceptions=True)
    for _ in range(2):  # both threads are free again
        await apart(lambda _: None)
    assert len(vocabulary.seen) < len(HUGE) // (2 * SLICE)


@pytest_asyncio.fixture
async def tiny() -> AsyncIterator[Running]:
    """A daemon with the bundled model."""
    async with running(load=False, model="tiny") as daemon:
        await until(lambda: daemon.daemon.services.models.status().state == "ready")
        yield daemon


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/responses", {"model": "default", "input": HUGE}, "input"),
        ("/responses/input_tokens", {"model": "default", "input": HUGE}, "input"),
        ("/chat/completions", {"model": "default", "messages": [{"role": "user", "content": HUGE}]}, "messages"),
        ("/completions", {"model": "default", "prompt": HUGE}, "prompt"),
    ],
)
async def test_an_input_far_beyond_the_context_is_refused_with_its_error(
    tiny: Running, path: str, body: dict[str, object], param: str
) -> None:
    answer = await tiny.http.post(path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", param), error


async def test_a_remote_model_is_not_sent_what_its_context_cannot_hold() -> None:
    model = RemoteChatModel("http://127.0.0.1:9", "m", context=1_000, retries=0)
    try:
        request = ChatRequest(({"role": "user", "content": "x" * (1_000 * LONGEST_TOKEN)},))
        with pytest.raises(TooLong):
            await anext(model.stream(request))
        with pytest.raises(TooLong):
            await model.count_tokens(request)
    finally:
        await model.close()
