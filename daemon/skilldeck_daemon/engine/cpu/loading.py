"""A model folder (config.json and safetensors) into a decoder with its cache, within a stated memory budget.

Refuses by name what the slot cache cannot hold: sliding windows shorter than the context, recurrent or convolutional
layers, weights that are not safetensors, quantised checkpoints. Reads weights tensor by tensor with progress.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from skilldeck_daemon.engine.base import Progress
from skilldeck_daemon.engine.cpu import llama
from skilldeck_daemon.engine.cpu.slots import LayerShape, SlotCache, bytes_per_token
from skilldeck_daemon.engine.folder import read_config
from skilldeck_shared.errors import BadRequest, SkilldeckError

GIB = 1 << 30
# float32 is exact and the fastest type on CPUs without bf16 units; larger models keep their own type to fit.
_FLOAT32_LIMIT = 2 * GIB
_UNKNOWN_CONTEXT = 8192  # of a model that does not say what it was made for
_ENOUGH = 32768
"""Tokens that a request has before a second one has a place: agents' first prompts have 6,000 to 25,000."""
_LEAST = 2048
_MOST_BATCH = 8


class Decoder(Protocol):
    """A model over a `SlotCache`; see `LlamaDecoder`."""

    vocab: int
    parameters: int

    def shapes(self) -> list[LayerShape]: ...

    def prefill(self, cache: SlotCache, row: int, ids: Sequence[int], start: int, keep: int) -> Tensor: ...

    def decode(self, cache: SlotCache, ids: Sequence[int], lengths: Sequence[int]) -> Tensor: ...


@dataclass(frozen=True)
class CpuOptions:
    """The CPU engine's options (`ModelSpec.options`); 0 and "auto" choose by the model.

    context: tokens a request may hold; max_batch: requests computed at once; slots: sequences kept for reuse, at least
    max_batch; queue: requests that may wait; threads: torch threads; prefill_chunk: prompt tokens computed between two
    decoding steps; dtype: auto, float32, bfloat16 or float16; kv_memory: bytes the cache may take; draft_tokens: tokens
    that `lookup` guesses for a request that is alone, at most (0: none).
    """

    context: int = 0
    max_batch: int = 0
    slots: int = 0
    queue: int = 64
    threads: int = 0
    prefill_chunk: int = 256
    dtype: str = "auto"
    kv_memory: int = 0
    draft_tokens: int = 64

    @classmethod
    def parse(cls, options: dict[str, Any]) -> CpuOptions:
        """Raises BadRequest that names the option."""
        known = set(cls.__dataclass_fields__)
        for name, value in options.items():
            if name not in known:
                raise BadRequest(
                    f"Unknown option {name!r} of the CPU engine.", f"Known: {', '.join(sorted(known))}.", param=name
                )
            if name == "dtype":
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise BadRequest(f"Option {name} is {value!r}, not a whole number.", param=name)
            if value < (1 if name in ("max_batch", "queue", "prefill_chunk") else 0):
                raise BadRequest(f"Option {name} is {value}, too small.", param=name)
        if options.get("dtype", "auto") not in ("auto", "float32", "bfloat16", "float16"):
            raise BadRequest(
                f"Option dtype is {options['dtype']!r}.", "Use auto, float32, bfloat16 or float16.", param="dtype"
            )
        return cls(**options)


@dataclass
class Loaded:
    """A decoder, its cache and what was decided on the way."""

    decoder: Decoder
    cache: SlotCache
    config: dict[str, Any]
    context: int
    longest: int
    max_batch: int
    threads: int
    parameters: int


def weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadRequest(
            f"{folder} holds no *.safetensors.", "Convert the weights to safetensors first.", param="model"
        )
    return files


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    return config["text_config"] if isinstance(config.get("text_config"), dict) else config


def longest_context(config: dict[str, Any]) -> int:
    """What the model was made for, 0 where it does not say."""
    text = _text_config(config)
    return int(text.get("max_position_embeddings") or text.get("n_positions") or text.get("n_ctx") or 0)


def choose_context(config: dict[str, Any], asked: int) -> int:
    """The context to serve if memory allows, refusing what a cache of every token cannot represent."""
    text = _text_config(config)
    kind = config["model_type"]
    longest = longest_context(config)
    if longest and asked > longest:
        raise BadRequest(f"context is {asked}; {kind} was made for {longest} tokens.", param="context")
    context = asked or longest or _UNKNOWN_CONTEXT
    layers = set(text.get("layer_types") or ())
    foreign = layers - {"full_attention", "sliding_attention", "chunked_attention"}
    if foreign or text.get("ssm_cfg") or kind in ("mamba", "mamba2", "rwkv", "recurrent_gemma", "jamba", "bamba"):
        named = ", ".join(sorted(foreign)) or "recurrent"
        raise BadRequest(
            f"The CPU engine serves full-attention models; {kind} has {named} layers.",
            "Serve it with another server and use --engine remote.",
            param="model",
        )
    windowed = bool(layers - {"full_attention"}) or (not layers and text.get("use_sliding_window") is not False)
    window = text.get("sliding_window") or text.get("attention_chunk_size") if windowed else None
    if window and context > int(window):
        if asked or int(window) < 2048:
            raise BadRequest(
                f"{kind} attends over a sliding window of {window} tokens, which the CPU engine serves only up to that "
                f"context; the context is {context}.",
                f"Set context to {window} or less, or serve it with another server and use --engine remote.",
                param="context",
            )
        context = int(window)
    return context


def _available_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _make_cache(decoder: Decoder, options: CpuOptions, context: int, dtype: torch.dtype) -> tuple[SlotCache, int]:
    """The cache within its budget (a stated kv_memory, or four fifths of the memory that is free now), and how many
    requests are computed at once.

    What is not asked for is chosen: the context agents need first, then up to eight requests, then a longer context.
    """
    shapes = decoder.shapes()
    each = bytes_per_token(shapes, dtype)
    budget = options.kv_memory or int(_available_memory() * 0.8)
    batch = options.max_batch or _MOST_BATCH
    if budget and not options.max_batch:
        batch = min(batch, max(1, budget // (each * (options.context or min(context, _ENOUGH)))))
    if options.slots:
        batch = batch if options.max_batch else min(batch, options.slots)
    if budget and not options.context:
        context = min(context, max(budget // (each * (options.slots or batch)), min(context, _LEAST)))
    row = each * context
    rows = options.slots or (2 * batch if 2 * batch * row <= min(GIB, budget or GIB) else batch)
    if rows < batch:
        raise BadRequest(f"slots is {rows}, less than max_batch {batch}.", param="slots")
    if budget and rows * row > budget:
        raise BadRequest(
            f"The cache of {rows} sequences of {context} tokens takes {rows * row / GIB:.2f} GiB; "
            f"{budget / GIB:.2f} GiB {'are allowed (kv_memory)' if options.kv_memory else 'are free'}.",
            "Lower context or max_batch.",
            param="context",
        )
    return SlotCache(shapes, rows, context, dtype), batch


def load(folder: Path, options: CpuOptions, progress: Progress) -> Loaded:
    """Blocks while it reads; call it on the thread that will compute. Raises BadRequest, NotFound."""
    config = read_config(folder)
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "quantised")
        raise BadRequest(
            f"{folder.name} holds {method} weights, which the CPU engine cannot compute.",
            "Use the unquantised model, or --engine exllamav2 on a CUDA machine for exl2 weights.",
            param="model",
        )
    context = choose_context(config, options.context)
    files = weight_files(folder)
    size = sum(file.stat().st_size for file in files)
    dtype = _choose_dtype(config, options, size)
    progress(0.02, "reading weights")
    decoder: Decoder
    if llama.supports(config):
        decoder = _load_llama(config, files, context, dtype, progress)
        cache, batch = _make_cache(decoder, options, context, dtype)
    else:
        from skilldeck_daemon.engine.cpu.hf import HfDecoder

        progress(0.1, f"loading {config['model_type']} with transformers")
        try:
            decoder = hf = HfDecoder(folder, context, dtype)
            cache, batch = _make_cache(decoder, options, context, dtype)
            progress(0.9, "checking")
            hf.verify(cache)
        except SkilldeckError:
            raise
        except Exception as error:  # whatever an unknown architecture's code raises, it is not for this engine
            raise BadRequest(
                f"The CPU engine cannot serve {folder.name} ({config['model_type']}): {_first_line(error)}",
                "Serve it with another server and use --engine remote.",
                param="model",
            ) from error
    tiny = decoder.parameters < 50_000_000
    threads = options.threads or (1 if tiny else torch.get_num_threads())
    progress(1.0, "ready")
    longest = longest_context(config)
    return Loaded(decoder, cache, config, cache.context, longest, batch, threads, decoder.parameters)


def _choose_dtype(config: dict[str, Any], options: CpuOptions, size: int) -> torch.dtype:
    own = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    if options.dtype != "auto":
        own = options.dtype
    elif own != "float32" and size <= _FLOAT32_LIMIT:
        own = "float32"
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(own, torch.float32)


def _load_llama(
    config: dict[str, Any], files: list[Path], context: int, dtype: torch.dtype, progress: Progress
) -> llama.LlamaDecoder:
    from safetensors import SafetensorError, safe_open

    try:
        shards = [safe_open(str(file), framework="pt") for file in files]
    except SafetensorError as error:
        raise BadRequest(f"A weights file of {files[0].parent} is damaged: {error}.", param="model") from error
    where = {name: shard for shard in shards for name in shard.keys()}  # type: ignore[no-untyped-call]  # noqa: SIM118
    read = 0

    def weight(name: str) -> Tensor | None:
        nonlocal read
        shard = where.get(name)
        if shard is None:
            return None
        read += 1
        if read % 16 == 0:
            progress(0.02 + 0.96 * read / len(where), "reading weights")
        tensor: Tensor = shard.get_tensor(name)  # type: ignore[no-untyped-call]
        return tensor

    try:
        return llama.LlamaDecoder(config, weight, context, dtype)
    except KeyError as error:
        raise BadRequest(
            f"The weights of {files[0].parent.name} lack {error.args[0]}.", "Download the model again.", param="model"
        ) from None
    except (RuntimeError, SafetensorError) as error:
        raise BadRequest(
            f"The weights of {files[0].parent.name} do not fit its config: {error}.", param="model"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
