"""GGUF files: what they say of themselves, which engine takes them, what of them fits, what is wrong with others."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.engine.conftest import make_chat_folder
from skilldeck_daemon.engine import engines
from skilldeck_daemon.engine.base import ChatFinished, ChatRequest, ModelSpec, TextDelta
from skilldeck_daemon.engine.chat.completion import CompletionRequest
from skilldeck_daemon.engine.hub import ModelHub, make_engine
from skilldeck_daemon.engine.llamacpp import gguf
from skilldeck_daemon.engine.llamacpp.options import GIB, LlamaOptions, fit
from skilldeck_daemon.engine.models import registry
from skilldeck_daemon.engine.models.source import ModelSource
from skilldeck_daemon.engine.vocabularies import load_vocabulary
from skilldeck_shared.errors import BadRequest, NotFound
from support.make_gguf import encode, make_gguf

needs_library = pytest.mark.skipif(
    bool(engines.kind("llamacpp").missing), reason=f"not installed: {engines.kind('llamacpp').missing}"
)


@pytest.fixture(scope="module")
def chat_folder(make: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chat_folder(make("Llama"), tmp_path_factory.mktemp("chat") / "chatty")


@pytest.fixture(scope="module")
def file(chat_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gguf(chat_folder, tmp_path_factory.mktemp("gguf") / "chatty.gguf")


def test_a_file_tells_what_it_is(file: Path, chat_folder: Path) -> None:
    found = gguf.read(file)
    assert (found.architecture, found.name, found.quantisation, found.context) == ("llama", "chatty", "F32", 512)
    assert found.size == file.stat().st_size
    assert found.cache_numbers == (3 * 2 * 16, 3 * 2 * 16)
    assert found.template == (chat_folder / "chat_template.jinja").read_text("utf-8")
    assert found.parameters > 10_000
    described = registry.info(str(file))
    assert (described.family, described.context, described.quantization) == ("llama", 512, "F32")
    assert (described.path, described.template) == (file, True)


def test_a_template_for_tools_wins_over_the_plain_one(tmp_path: Path) -> None:
    names = {"general.architecture": "llama", "tokenizer.chat_template": "plain"}
    path = tmp_path / "m.gguf"
    path.write_bytes(encode({**names, "tokenizer.chat_template.tool_use": "tools"}, {"a": np.zeros((2, 2))}))
    assert gguf.read(path).template == "tools"


def test_any_part_of_a_split_model_stands_for_the_whole(chat_folder: Path, tmp_path: Path) -> None:
    first = make_gguf(chat_folder, tmp_path / "big.gguf", parts=3)
    assert first.name == "big-00001-of-00003.gguf"
    third = tmp_path / "big-00003-of-00003.gguf"
    assert ModelSource.of(third) == ModelSource("gguf", first)
    whole = gguf.read(first)
    assert [part.name[4:9] for part in whole.parts] == ["00001", "00002", "00003"]
    assert whole.size == sum(part.stat().st_size for part in whole.parts)
    assert registry.served_name(str(third)) == "big"
    (tmp_path / "big-00002-of-00003.gguf").unlink()
    with pytest.raises(NotFound, match=r"one of 3 parts.*big-00002-of-00003"):
        gguf.read(first)


def test_what_is_no_gguf_or_cut_short_is_refused_with_the_numbers(file: Path, tmp_path: Path) -> None:
    whole, bad = file.read_bytes(), tmp_path / "bad.gguf"
    for data, said in (
        (b"", "no GGUF"),
        (b"PK\x03\x04" + whole, "no GGUF"),
        (whole[:20], "20 bytes end inside its header"),
        (whole[: len(whole) // 2], rf"has {len(whole) // 2:,} bytes and needs {len(whole):,}"),
        (b"GGUF" + struct.pack("<I", 1) + whole[8:], "version 1"),
        (whole[:8] + struct.pack("<QQ", 1 << 40, 1 << 40) + whole[24:], "end inside its header"),
    ):
        bad.write_bytes(data)
        with pytest.raises(BadRequest, match=said) as caught:
            gguf.read(bad)
        assert caught.value.param == "model"


def test_a_folder_with_one_gguf_is_that_model_and_several_are_named(file: Path, tmp_path: Path) -> None:
    (tmp_path / "a-Q4_K_M.gguf").write_bytes(file.read_bytes())
    (tmp_path / "mmproj-a.gguf").write_bytes(file.read_bytes())
    assert ModelSource.of(tmp_path) == ModelSource("gguf", tmp_path / "a-Q4_K_M.gguf")
    (tmp_path / "a-Q8_0.gguf").write_bytes(file.read_bytes())
    with pytest.raises(BadRequest, match=r"2 GGUF models: a-Q4_K_M.gguf, a-Q8_0.gguf"):
        ModelSource.of(tmp_path)
    (tmp_path / "x.bin").write_bytes(b"hello")
    with pytest.raises(BadRequest, match="no GGUF file"):
        ModelSource.of(tmp_path / "x.bin")


def test_the_engine_follows_the_model_and_another_is_refused_by_name(file: Path, chat_folder: Path) -> None:
    assert engines.choose(ModelSource.of(file)).name == "llamacpp"
    with pytest.raises(BadRequest, match=r"exllamav2 engine serves folders .* is a GGUF file") as caught:
        engines.chosen("exllamav2", ModelSource.of(file))
    assert caught.value.param == "engine"
    with pytest.raises(BadRequest, match="llamacpp engine serves GGUF files"):
        engines.chosen("llamacpp", ModelSource.of(chat_folder))
    assert engines.chosen("exllamav2", ModelSource.of(chat_folder)).name == "exllamav2"
    with pytest.raises(BadRequest, match="auto, llamacpp"):
        engines.kind("gpu")
    assert engines.ahead("auto", str(file)) == engines.ahead("auto", "tiny") == engines.kind("llamacpp").ahead
    assert engines.ahead("auto", str(chat_folder)) == ("torch",)


@pytest.mark.skipif(engines.serves_folders(), reason="this machine computes folders of safetensors")
def test_safetensors_without_a_gpu_name_the_gguf_to_take(chat_folder: Path, file: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="only a CUDA card") as caught:
        engines.choose(ModelSource.of(chat_folder))
    assert caught.value.param == "model"
    assert "skilldeckd models pull ORG/NAME-GGUF:Q4_K_M" in caught.value.hint
    assert "pip install 'skilldeck[gpu]'" in caught.value.hint
    for place in ("models--Qwen--Qwen3-4B/snapshots/abc", "Qwen--Qwen3-4B"):  # of the Hugging Face cache, and ours
        folder = shutil.copytree(chat_folder, tmp_path / place)
        with pytest.raises(BadRequest) as caught:
            engines.choose(ModelSource.of(folder))
        assert "models pull Qwen/Qwen3-4B-GGUF:Q4_K_M" in caught.value.hint
    beside = shutil.copy(file, folder / "mine-Q8_0.gguf")
    with pytest.raises(BadRequest) as caught:
        engines.choose(ModelSource.of(folder))
    assert f"take the GGUF beside them: --model {beside}." in caught.value.hint
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    beside.unlink()
    with pytest.raises(BadRequest, match=r"neither a GGUF nor \*\.safetensors"):
        engines.choose(ModelSource.of(folder))


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"contxt": 5}, "contxt"),
        ({"context": "long"}, "context"),
        ({"context": True}, "context"),
        ({"queue": 0}, "queue"),
        ({"n_gpu_layers": -2}, "n_gpu_layers"),
        ({"cache_type_k": "q9"}, "cache_type_k"),
        ({"cache_type_v": "q8_0", "flash_attention": "off"}, "cache_type_v"),
        ({"mmap": 1}, "mmap"),
        ({"lora": [{"scale": 1}]}, "lora"),
        ({"lora": "/nothing.gguf"}, "lora"),
    ],
)
def test_options_are_refused_by_name(options: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        LlamaOptions.parse(options)
    assert caught.value.param == param


class Sized(gguf.Gguf):
    """A model of a made-up size: one of 7 billion parameters in four bits, 128 KiB of cache for a token."""

    size = 4 * GIB
    context = 131072
    cache_numbers = (32768, 32768)
    path = Path("big.gguf")


def test_what_fits_is_chosen_by_the_memory_and_what_does_not_is_refused_with_the_numbers() -> None:
    model = Sized((), {"general.architecture": "llama"}, ())
    plenty = fit(model, LlamaOptions(), 64 * GIB)
    assert (plenty.context, plenty.slots, plenty.cache_bytes) == (32768, 2, 8 * GIB)
    halved = fit(model, LlamaOptions(cache_type_k="q8_0", cache_type_v="q8_0"), 64 * GIB)
    assert (halved.context, halved.slots) == (61440, 2)
    little = fit(model, LlamaOptions(), 5 * GIB)
    assert little.slots == 1
    assert 2048 <= little.context < 8192
    asked = fit(model, LlamaOptions(context=32768, max_batch=4), 64 * GIB)
    assert (asked.context, asked.max_batch, asked.cache_bytes) == (32768, 4, 16 * GIB)
    with pytest.raises(BadRequest, match=r"4 requests of 32768 tokens need 16.0 GiB of cache; 3.7 GiB are there"):
        fit(model, LlamaOptions(context=32768, max_batch=4), 8 * GIB)
    with pytest.raises(BadRequest, match=r"needs 4.3 GiB for its weights alone; 3.0 GiB are free"):
        fit(model, LlamaOptions(n_gpu_layers=0), 3 * GIB)
    with pytest.raises(BadRequest, match="made for 131072 tokens; context is 200000") as caught:
        fit(model, LlamaOptions(context=200_000), 64 * GIB)
    assert caught.value.param == "context"


@needs_library
async def test_the_hub_serves_a_file_and_its_vocabulary_is_the_folders(file: Path, chat_folder: Path) -> None:

    ours, theirs = load_vocabulary(file), load_vocabulary(chat_folder)
    text = "<s>naïve 😀 漢字</s>\n\tend"
    assert ours.encode(text) == theirs.encode(text)
    assert ours.table[: theirs.size] == theirs.table
    assert (ours.special, ours.byte_level) == (theirs.special, True)
    hub = ModelHub(worker=False)
    info = await hub.load(str(file), options={"context": 256, "max_batch": 2})
    assert (info.name, info.engine, info.context, info.path) == ("chatty", "llamacpp", 256, str(file))
    request = ChatRequest([{"role": "user", "content": "hello"}], max_tokens=5)
    assert await hub.get("chatty").count_tokens(request) == len("user: hello\nassistant:")
    events = [event async for event in hub.get("chatty").stream(request)]
    assert isinstance(events[-1], ChatFinished)
    assert events[-1].error is None
    await hub.close()


@needs_library
async def test_a_base_model_says_so_and_continues_text(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_chat_folder(make("Llama"), tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    path = make_gguf(folder, tmp_path / "base.gguf")
    hub = ModelHub(worker=False)
    info = await hub.load(str(path), options={"context": 256})
    assert "does not chat" in info.description
    model: Any = hub.get("base")
    with pytest.raises(BadRequest, match=r"no chat template") as caught:
        await model.stream(ChatRequest([{"role": "user", "content": "hello"}])).__anext__()
    assert "--chat-template" in caught.value.hint
    events = [event async for event in model.complete(CompletionRequest("abc", max_tokens=4))]
    assert events[-1].usage.input_tokens == 3
    assert any(isinstance(event, TextDelta) for event in events)
    template = tmp_path / "mine.jinja"
    template.write_text("{% for m in messages %}[{{ m['content'] }}]{% endfor %}", "utf-8")
    await hub.load(str(path), options={"context": 256, "chat_template": str(template)})
    assert await hub.get("base").count_tokens(ChatRequest([{"role": "user", "content": "hello"}])) == len("[hello]")
    await hub.close()


@needs_library
@pytest.mark.parametrize("worker", [False, True], ids=["here", "worker"])
async def test_an_unknown_architecture_is_refused_with_the_librarys_reason(
    make: Callable[..., Path], tmp_path: Path, worker: bool
) -> None:
    path = make_gguf(make("Llama"), tmp_path / "odd.gguf", architecture="brandnew")
    engine = make_engine("llamacpp", worker=worker)
    with pytest.raises(BadRequest, match=r"odd.gguf \(brandnew\) cannot be loaded: .*unknown model architecture"):
        await engine.load(ModelSpec(str(path), "odd", {}))
    await engine.unload()
