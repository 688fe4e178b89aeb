"""What a person may choose of the llama.cpp engine, and how much of it fits this machine.

Options are one JSON object; an unknown one is refused with those there are. What is left open is chosen by the file and
the memory: how many requests run at once, and how many tokens each may hold. The whole cache is set aside when the
model is loaded, so what does not fit is refused before anything is read, with the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from skilldeck_daemon.engine.llamacpp.gguf import Gguf
from skilldeck_daemon.engine.llamacpp.library import TYPES
from skilldeck_shared.errors import BadRequest
from skilldeck_shared.json_types import JsonObject

GIB = 1 << 30
CACHE = 2 * GIB
"""Most that keys and values take for the sake of more than two requests side by side."""
MOST_CACHE = 8 * GIB
"""Most that they take for the sake of a long context, and at most half of the memory that the weights leave free."""
ENOUGH = 32768
"""Tokens that a request has before two have a place: agents' first prompts have 6,000 to 25,000. Beyond it two requests
come before a longer context: agents ask side questions, for which a single place would forget their prompt."""
LEAST = 2048  # a shorter context than this is no use to anyone who did not ask for it
_UNIT = 256  # the library rounds contexts up to it
# Numbers in a block and its bytes, by the names of `TYPES`.
_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32}
_BYTES["q4_0"] = 18 / 32
_OVERHEAD = 300 << 20  # what computing takes beside weights and cache


@dataclass(frozen=True)
class Options:
    """Fields of one JSON object: whole numbers from 0 or `LEAST` on, words, of `CHOICES` where there are any, flags."""

    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {}
    LEAST: ClassVar[dict[str, int]] = {}

    @classmethod
    def parse(cls, options: JsonObject) -> Self:
        """Raises BadRequest that names the option."""
        known = {field.name: field for field in fields(cls)}
        given = dict(options)
        for name, value in options.items():
            if name not in known:
                raise BadRequest(
                    f"Unknown option {name!r} of this engine.", f"Known: {', '.join(sorted(known))}.", param=name
                )
            default: Any = known[name].default
            kind = type(default)
            if kind is tuple:
                given[name] = cls.several(name, value)
            elif kind is bool:
                if not isinstance(value, bool):
                    raise BadRequest(f"Option {name} is {value!r}, neither true nor false.", param=name)
            elif kind is str:
                choices = cls.CHOICES.get(name)
                if not isinstance(value, str) or (choices is not None and value not in choices):
                    hint = f"Use {', '.join(choices)}." if choices else ""
                    raise BadRequest(f"Option {name} is {value!r}.", hint, param=name)
            elif not isinstance(value, int) or isinstance(value, bool):
                raise BadRequest(f"Option {name} is {value!r}, not a whole number.", param=name)
            elif value < cls.LEAST.get(name, 0):
                raise BadRequest(f"Option {name} is {value}, too small.", param=name)
        return cls(**given)

    @classmethod
    def several(cls, name: str, value: Any) -> tuple[Any, ...]:
        """The value of an option that is a list."""
        raise NotImplementedError(name)


@dataclass(frozen=True)
class LlamaOptions(Options):
    """0 chooses by the file and the memory.

    context: tokens a request may hold; max_batch: requests computed at once; slots: sequences kept for reuse, at least
    max_batch; queue: requests that may wait; threads: of the CPU; prefill_chunk: most prompt tokens computed between
    two decoding steps; cache_type_k, cache_type_v: how keys and values are stored; cache_memory: bytes they may take;
    n_gpu_layers: layers on the GPU, -1 as many as fit; flash_attention: auto, on, off; draft_tokens: tokens guessed
    ahead for a request that is alone (0: none); lora: GGUF adapters, by path or {"path", "scale"}; mmap: map the file
    instead of reading it; repack: lay weights out anew for writing token by token, off for reading prompts (see
    `weights.repacked`); mmproj: the GGUF that reads images for the model, auto the one beside it, off none;
    draft_model: a small GGUF of the same vocabulary that guesses for a request that is alone what it does not copy.
    """

    context: int = 0
    max_batch: int = 0
    slots: int = 0
    queue: int = 64
    threads: int = 0
    prefill_chunk: int = 256
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    cache_memory: int = 0
    n_gpu_layers: int = -1
    flash_attention: str = "auto"
    draft_tokens: int = 15
    lora: tuple[tuple[str, float], ...] = ()
    mmap: bool = True
    repack: str = "auto"
    mmproj: str = "auto"
    draft_model: str = ""

    CHOICES: ClassVar = {
        "cache_type_k": tuple(TYPES),
        "cache_type_v": tuple(TYPES),
        "flash_attention": ("auto", "on", "off"),
        "repack": ("auto", "on", "off"),
    }
    LEAST: ClassVar = {"queue": 1, "prefill_chunk": 1, "n_gpu_layers": -1}

    @classmethod
    def parse(cls, options: JsonObject) -> LlamaOptions:
        """Raises BadRequest that names the option."""
        found = super().parse(options)
        if found.cache_type_v not in ("f32", "f16", "bf16") and found.flash_attention == "off":
            raise BadRequest(
                f"Values are stored as {found.cache_type_v} only with flash attention.",
                "Leave flash_attention at auto, or cache_type_v at f16.",
                param="cache_type_v",
            )
        return found

    @classmethod
    def several(cls, name: str, value: Any) -> tuple[tuple[str, float], ...]:
        return _adapters(value)


def _adapters(value: Any) -> tuple[tuple[str, float], ...]:
    found = []
    for entry in value if isinstance(value, list) else [value]:
        path, scale = (entry.get("path"), entry.get("scale", 1.0)) if isinstance(entry, dict) else (entry, 1.0)
        if not isinstance(path, str) or not isinstance(scale, int | float) or isinstance(scale, bool):
            raise BadRequest('Option lora is a path, {"path", "scale"}, or a list of these.', param="lora")
        if not Path(path).expanduser().is_file():
            raise BadRequest(f"There is no LoRA file {path}.", param="lora")
        found.append((str(Path(path).expanduser()), float(scale)))
    return tuple(found)


@dataclass(frozen=True)
class Fit:
    """What was chosen: `context` tokens in each of `slots` sequences, of which `max_batch` are computed at once."""

    context: int
    slots: int
    max_batch: int
    cache_bytes: int


def token_bytes(model: Gguf, options: LlamaOptions) -> float:
    """Bytes that keys and values of one token take."""
    keys, values = model.cache_numbers
    return keys * _BYTES[options.cache_type_k] + values * _BYTES[options.cache_type_v]


def fit(model: Gguf, options: LlamaOptions, free: int) -> Fit:
    """What of `free` bytes the model gets. Raises BadRequest when the model, or what was asked for, does not fit."""
    check_weights(model, free)
    check_context(model, options.context)
    each = max(token_bytes(model, options), 1)
    trained = model.context or ENOUGH
    room = options.cache_memory or (min(MOST_CACHE, max(free - model.size - _OVERHEAD, 0) // 2) if free else CACHE)
    fixed = options.slots or options.max_batch
    slots = fixed or 1

    def bytes_of(tokens: int, count: int) -> int:
        return int(_rounded(tokens) * count * each)

    def longest(count: int) -> int:
        """Tokens that each of so many sequences may have."""
        return int(room / (count * each)) // _UNIT * _UNIT

    if not fixed and longest(2) >= (options.context or min(trained, ENOUGH)):
        slots = 2
    context = options.context or min(trained, max(longest(slots), LEAST))
    while not fixed and slots < 4 and bytes_of(context, slots + 1) <= (options.cache_memory or min(room, CACHE)):
        slots += 1
    needed = bytes_of(context, slots)
    limit = options.cache_memory or (free - model.size - _OVERHEAD if free else needed)
    if needed > limit:
        raise BadRequest(
            f"{slots} requests of {context} tokens need {_gib(needed)} of cache; {_gib(max(limit, 0))} are there "
            f"beside the weights of {model.path.name} ({_gib(model.size)}).",
            "Ask for a smaller context or max_batch, or for cache_type_k and cache_type_v of q8_0.",
            param="context" if options.context else "max_batch" if slots > 1 else "model",
        )
    return Fit(context, slots, min(options.max_batch or slots, slots), needed)


def check_weights(model: Gguf, free: int) -> None:
    """Raise BadRequest for weights larger than the `free` bytes; 0: nobody knows."""
    if free and model.size + _OVERHEAD > free:
        raise BadRequest(
            f"{model.path.name} needs {_gib(model.size + _OVERHEAD)} for its weights alone; {_gib(free)} are free.",
            "Take a smaller quantisation or model, or end what else uses the memory.",
            param="model",
        )


def check_context(model: Gguf, wanted: int) -> None:
    """Raise BadRequest for more tokens than the model was made for."""
    if wanted > (model.context or wanted):
        raise BadRequest(
            f"{model.path.name} was made for {model.context} tokens; context is {wanted}.",
            f"Ask for at most {model.context}.",
            param="context",
        )


def _rounded(tokens: int) -> int:
    return (tokens + _UNIT - 1) // _UNIT * _UNIT


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def free_memory() -> int:
    """Bytes a process here may still take, by the machine and its cgroup; 0 when nobody says."""
    free = 0
    try:
        for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
        group = Path("/proc/self/cgroup").read_text("utf-8").splitlines()[-1].rpartition(":")[2]
        home = Path("/sys/fs/cgroup") / group.lstrip("/")
        for folder in (home, *home.parents[: len(home.parts) - 4]):
            most = (folder / "memory.max").read_text("utf-8").strip()
            if most != "max":
                free = min(free, max(int(most) - int((folder / "memory.current").read_text("utf-8")), 0))
    except (OSError, ValueError, IndexError):
        pass
    return free
