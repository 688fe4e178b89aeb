"""The adapter over exllamav2's real generator (extension stubbed), and what it says where it cannot run."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import types
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from daemon.engine.exl_stub import exllamav2_missing, install_exllamav2
from skilldeck_daemon.engine.base import Finished, GenRequest, ModelSpec, Sampling, Tokens
from skilldeck_daemon.engine.errors import EngineDead, NotLoaded
from skilldeck_daemon.engine.exllama.engine import ExllamaEngine, is_fatal
from skilldeck_daemon.engine.exllama.options import ExlOptions
from skilldeck_daemon.engine.exllama.v2 import Exllamav2, clear_stale_lock, compatible_folder
from skilldeck_shared.errors import BadRequest

torch = pytest.importorskip("torch")
needs_exllamav2 = pytest.mark.skipif(bool(exllamav2_missing()), reason=exllamav2_missing() or "-")
GREEDY = Sampling(temperature=0)


@asynccontextmanager
async def loaded(patch: pytest.MonkeyPatch, folder: Path, **options: Any) -> AsyncIterator[ExllamaEngine]:
    engine = install_exllamav2(patch, folder)
    await engine.load(ModelSpec(str(folder), "small", {"context": 512, "max_batch": 4, **options}))
    try:
        yield engine
    finally:
        await engine.unload()


async def collect(engine: ExllamaEngine, name: str, ids: list[int], n: int, **more: Any) -> tuple[list[int], Finished]:
    events = [event async for event in await engine.submit(GenRequest(name, ids, n, GREEDY, **more))]
    last = events[-1]
    assert isinstance(last, Finished)
    return [token for event in events if isinstance(event, Tokens) for token in event.ids], last


def prompts(count: int) -> list[list[int]]:
    source = random.Random(8)
    return [[source.randrange(3, 320) for _ in range(source.randrange(2, 60))] for _ in range(count)]


@needs_exllamav2
@pytest.mark.parametrize(
    "options",
    [{"slice": 256}, {"ngram": True}, {"ngram": True, "slice": 256}, {"cache_tokens": 1024}],
    ids=["slices", "ngram", "ngram in slices", "a cache too small for all"],
)
async def test_however_it_is_scheduled_the_tokens_are_the_same(
    monkeypatch: pytest.MonkeyPatch, llama: Path, greedy: Any, options: dict[str, Any]
) -> None:
    asked = prompts(5)
    async with loaded(monkeypatch, llama, **options) as engine:
        answers = await asyncio.gather(*(collect(engine, f"r{i}", ids, 270) for i, ids in enumerate(asked)))
    for ids, (tokens, finished) in zip(asked, answers, strict=True):
        assert tokens == greedy(llama, ids, 270)
        assert (finished.reason, finished.new, finished.prompt) == ("length", 270, len(ids))


@needs_exllamav2
async def test_a_draft_model_changes_the_speed_and_not_the_tokens(
    monkeypatch: pytest.MonkeyPatch, llama: Path, greedy: Any
) -> None:
    asked = prompts(3)
    async with loaded(monkeypatch, llama, draft_model=str(llama), draft_tokens=3) as engine:
        steps = 0
        backend = engine._backend
        assert backend is not None
        step = backend.step

        def counted() -> list[dict[str, Any]]:
            nonlocal steps
            steps += 1
            return step()

        monkeypatch.setattr(backend, "step", counted)
        for i, ids in enumerate(asked):
            stop = greedy(llama, ids, 40)[30]
            tokens, finished = await collect(engine, f"r{i}", ids, 40, stop_ids=frozenset({stop}))
            expected = greedy(llama, ids, 40)
            assert tokens == expected[: expected.index(stop) + 1]
            assert finished.reason == "stop"
    # It drafts with itself, so nearly every draft is accepted: four tokens a step.
    assert steps < 3 * 40 / 2


@needs_exllamav2
async def test_a_failed_step_ends_its_requests_and_the_next_one_works(
    monkeypatch: pytest.MonkeyPatch, llama: Path, greedy: Any
) -> None:
    asked = prompts(3)
    async with loaded(monkeypatch, llama) as engine:
        backend = engine._backend
        assert backend is not None
        step, broken = backend.step, True

        def fails() -> list[dict[str, Any]]:
            if broken:
                raise torch.OutOfMemoryError("no memory")
            return step()

        monkeypatch.setattr(backend, "step", fails)
        answers = await asyncio.gather(*(collect(engine, f"r{i}", ids, 20) for i, ids in enumerate(asked)))
        for _, finished in answers:
            assert finished.reason == "error"
            assert isinstance(finished.error, EngineDead)
        broken = False
        tokens, _ = await collect(engine, "after", asked[0], 20)
        assert tokens == greedy(llama, asked[0], 20)


@needs_exllamav2
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_cuda_error_is_fatal_and_says_so(monkeypatch: pytest.MonkeyPatch, llama: Path) -> None:
    async with loaded(monkeypatch, llama) as engine:
        backend = engine._backend
        assert backend is not None

        def fails() -> list[dict[str, Any]]:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        monkeypatch.setattr(backend, "step", fails)
        _, finished = await collect(engine, "r", [5, 6, 7], 20)
        assert finished.reason == "error"
        assert engine._thread is not None
        await asyncio.to_thread(engine._thread.join)
        assert "illegal memory access" in engine.trouble
        with pytest.raises(EngineDead, match="illegal memory access"):
            await engine.submit(GenRequest("next", [5], 1))


def test_out_of_memory_passes_and_other_cuda_errors_do_not() -> None:
    assert not is_fatal(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_fatal(RuntimeError("CUDA error: device-side assert triggered"))
    assert not is_fatal(AssertionError("Job requires 5 pages"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("name", ["exllamav2", "exllamav3"])
async def test_without_cuda_it_says_what_to_use_instead(name: str, llama: Path) -> None:
    with pytest.raises(NotLoaded, match=r"CUDA device.*--engine llamacpp"):
        await ExllamaEngine(name).load(ModelSpec(str(llama), "small"))


@needs_exllamav2
def test_an_unknown_architecture_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch, llama: Path) -> None:
    install_exllamav2(monkeypatch, llama)
    with pytest.raises(BadRequest, match=r"NoSuchForCausalLM.*Qwen2ForCausalLM"):
        Exllamav2()._check_architecture({"architectures": ["NoSuchForCausalLM"]})
    Exllamav2()._check_architecture({"architectures": ["LlamaForCausalLM"]})


def test_rotary_settings_are_respelled_for_exllamav2(make: Callable[..., Path], tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    folder = make("Llama", rope_parameters=rope)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    fixed = compatible_folder(folder, config, tmp_path)
    assert fixed == tmp_path
    read = json.loads((fixed / "config.json").read_text("utf-8"))
    assert read["rope_theta"] == 500000.0
    assert read["rope_scaling"] == {name: value for name, value in rope.items() if name != "rope_theta"}
    assert (fixed / "model.safetensors").samefile(folder / "model.safetensors")
    assert compatible_folder(folder, {"model_type": "llama", "rope_theta": 1e6}, tmp_path) == folder
    nested = {"model_type": "seeing", "text_config": {"rope_parameters": {"rope_type": "default", "rope_theta": 2e6}}}
    fixed = compatible_folder(folder, nested, tmp_path / "nested")
    assert json.loads((fixed / "config.json").read_text("utf-8"))["text_config"]["rope_theta"] == 2e6


@needs_exllamav2
def test_exllamav2_reads_the_respelled_rotary_settings(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., Path], tmp_path: Path
) -> None:
    install_exllamav2(monkeypatch, tmp_path)
    import exllamav2

    folder = make("Llama", rope_parameters={"rope_type": "default", "rope_theta": 750000.0})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert exllamav2.ExLlamaV2Config(str(folder)).rotary_embedding_base == 10000.0, "the fault this works around"
    read = exllamav2.ExLlamaV2Config(str(compatible_folder(folder, config, tmp_path)))
    assert read.rotary_embedding_base == 750000.0


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"cache_type": "q3"}, "cache_type"),
        ({"cache_tokens": 1000}, "cache_tokens"),
        ({"contxt": 4096}, "contxt"),
        ({"max_batch": 0}, "max_batch"),
        ({"context": "much"}, "context"),
        ({"ngram": True, "draft_model": "/x"}, "ngram"),
        ({"draft_tokens": 8}, "draft_tokens"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        ExlOptions.parse(options)
    assert caught.value.param == field


# ---------------------------------------------------------------- what it says when it cannot be


def as_if_cuda(patch: pytest.MonkeyPatch, free_gib: float) -> None:
    """A card of 24 GiB, as far as the adapter asks."""
    patch.setattr("torch.cuda.is_available", lambda: True)
    patch.setattr("torch.cuda.mem_get_info", lambda: (int(free_gib * 2**30), 24 * 2**30))


@pytest.mark.parametrize(
    ("fault", "words", "fix"),
    [
        (
            ModuleNotFoundError("No module named 'ninja'"),
            "cannot be imported: No module named 'ninja'",
            "skilldeck[gpu]",
        ),
        (
            RuntimeError("Error building extension\nnvcc fatal"),
            "cannot be built: Error building extension",
            "CUDA_HOME",
        ),
        (OSError("CUDA_HOME environment variable is not set"), "CUDA_HOME environment variable", "nvcc"),
    ],
)
def test_an_extension_that_is_missing_or_does_not_build_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: Exception, words: str, fix: str
) -> None:
    def fails(_module: str) -> Any:
        raise fault

    as_if_cuda(monkeypatch, 20)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr("skilldeck_daemon.engine.exllama.v2.library", fails)
    with pytest.raises(NotLoaded) as caught:
        Exllamav2().import_library(lambda _fraction, _stage: None)
    assert words in str(caught.value)
    assert fix in caught.value.hint


def test_the_lock_of_a_killed_build_is_removed_and_that_of_a_running_one_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert not clear_stale_lock("some_ext"), "nothing was ever built"
    from torch.utils.cpp_extension import _get_build_directory

    folder = Path(_get_build_directory("some_ext", False))
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "lock"
    lock.touch()
    builder = subprocess.Popen([sys.executable, "-c", "input()"], cwd=folder, stdin=subprocess.PIPE)
    try:
        assert not clear_stale_lock("some_ext")
        assert lock.exists()
    finally:
        builder.communicate(b"\n")
    assert clear_stale_lock("some_ext")
    assert not lock.exists()


@needs_exllamav2
async def test_out_of_memory_at_load_tells_the_numbers_and_the_settings(
    monkeypatch: pytest.MonkeyPatch, llama: Path
) -> None:
    engine = install_exllamav2(monkeypatch, llama)

    def too_large(*_: Any) -> Any:
        as_if_cuda(monkeypatch, 1.5)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.")

    monkeypatch.setattr(engine._given, "load_model", too_large)
    with pytest.raises(NotLoaded, match=r"1\.5 of 24\.0 GiB are free.*Tried to allocate 3\.00 GiB") as caught:
        await engine.load(ModelSpec(str(llama), "small"))
    for setting in ("context", "cache_tokens", "max_batch", "cache_type"):
        assert setting in caught.value.hint


def test_a_cache_that_does_not_fit_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    as_if_cuda(monkeypatch, 20)
    backend = Exllamav2()
    shape = types.SimpleNamespace(num_hidden_layers=32, num_key_value_heads=8, head_dim=128, max_seq_len=32768)
    tokens = backend._cache_tokens(shape, 8 << 30)
    assert 32768 <= tokens < 32768 * 16, "what is free holds one context, and not sixteen"
    assert tokens % 256 == 0
    backend._options = ExlOptions(cache_type="q4")
    assert backend._cache_tokens(shape, 8 << 30) > 3 * tokens
    with pytest.raises(NotLoaded, match=r"20\.0 GiB free; the weights take 18\.0 .* 32768 tokens 1\.1 GiB") as caught:
        backend._cache_tokens(shape, 18 << 30)
    assert "q8, q6 or q4" in caught.value.hint


@needs_exllamav2
async def test_an_attention_provider_that_is_not_here_is_refused_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, llama: Path
) -> None:
    engine = install_exllamav2(monkeypatch, llama)
    with pytest.raises(BadRequest, match=r"'flash-9' here.*gather") as caught:
        await engine.load(ModelSpec(str(llama), "small", {"attention": "flash-9"}))
    assert caught.value.param == "attention"


@needs_exllamav2
def test_a_draft_models_rotary_settings_are_respelled_too(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., Path]
) -> None:
    install_exllamav2(monkeypatch, make("Llama"))
    import exllamav2

    class Read(Exception):
        pass

    def read(settings: Any) -> Any:
        raise Read(settings.rotary_embedding_base)

    monkeypatch.setattr(exllamav2, "ExLlamaV2", read)
    backend = Exllamav2()
    backend.vocab, backend.context = 320, 256
    folder = make("Llama", rope_parameters={"rope_type": "default", "rope_theta": 750000.0})
    monkeypatch.setattr(backend, "_settings", lambda path, _options: exllamav2.ExLlamaV2Config(str(path)))
    with pytest.raises(Read, match="750000"):
        backend._load_draft(folder, None)
    backend.close()


def test_one_adapter_may_be_given_as_a_string() -> None:
    assert ExlOptions.parse({"lora": "/adapters/a"}).lora == ("/adapters/a",)
