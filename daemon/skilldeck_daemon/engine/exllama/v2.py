"""exllamav2: EXL2, GPTQ and unquantised folders, driven through its dynamic generator in paged mode, always.

The library is imported when a model is loaded: importing it compiles its extension. What is worked around here, with
the version it was seen in (0.3.2): without flash-attn its unpaged attention is not causal, so `attention.install`
supplies a paged one; it reads only the older spelling of rotary settings and falls back to a base of 10000 without a
word, so the folder's config is respelled; an unknown architecture is loaded as Llama, so it is refused first.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skilldeck_daemon.engine.base import Progress
from skilldeck_daemon.engine.errors import NotLoaded
from skilldeck_daemon.engine.exllama import attention
from skilldeck_daemon.engine.exllama.generation import Generation
from skilldeck_daemon.engine.exllama.options import PAGE, ExlOptions
from skilldeck_daemon.engine.exllama.salts import salted
from skilldeck_daemon.engine.exllama.vision import Vision
from skilldeck_daemon.engine.models.folder import read_config
from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_shared.json_types import JsonObject

GIB = 1 << 30


def library(module: str) -> Any:
    """A module of a library that is there only where there is a GPU."""
    return importlib.import_module(module)


class IdTokenizer:
    """All that the generators need of a tokenizer when text is none of their business."""

    def __init__(self, vocab: int) -> None:
        self.vocab = vocab
        self._pieces = [""] * vocab

    def get_id_to_piece_list(self, *_: Any) -> list[str]:
        return self._pieces

    def get_vocab_size(self) -> int:
        return self.vocab


class Exllamav2:
    """`Backend` of exllamav2."""

    context = 0
    vocab = 0
    parameters = 0
    family = ""

    def __init__(self) -> None:
        self._options = ExlOptions()
        self._generator: Any = None
        self._model: Any = None
        self._draft: Any = None
        self._vision: Vision | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.attention = ""

    # ------------------------------------------------------------ loading

    def load(self, folder: Path, options: ExlOptions, progress: Progress) -> None:
        self._options = options
        config = read_config(folder)
        self.family = str(config["model_type"])
        self.import_library(progress)
        try:
            self.attention = attention.install(library("exllamav2.attn"), library("exllamav2.model"), options.attention)
        except KeyError:
            have = ", ".join(attention.providers())
            raise BadRequest(
                f"There is no attention provider {options.attention!r} here.", f"Here are: {have}.", param="attention"
            ) from None
        try:
            self._model, cache = self.load_model(folder, config, options, progress)
            draft_cache = None
            if options.draft_model:
                self._draft, draft_cache = self._load_draft(Path(options.draft_model), cache)
            self._make_generator(cache, draft_cache)
            self._add_loras()
        except torch.OutOfMemoryError as error:
            raise self._too_large(folder, error) from error
        progress(1.0, f"ready ({self.attention} attention)")

    def import_library(self, progress: Progress) -> None:
        """Import exllamav2; NotLoaded says what is missing."""
        if not torch.cuda.is_available():
            raise NotLoaded(
                "exllamav2 needs a CUDA device and a CUDA build of torch; neither is here."
                if torch.version.cuda is None
                else "exllamav2 needs a CUDA device; torch sees none.",
                "Serve a GGUF of it with --engine llamacpp, or use --engine remote with a server that has one.",
            )
        progress(0.0, "loading the exllamav2 extension; the first time compiles it, which takes minutes")
        if clear_stale_lock("exllamav2_ext"):
            progress(0.0, "compiling the exllamav2 extension again: an earlier build was killed")
        try:
            library("exllamav2")
        except ModuleNotFoundError as error:
            raise NotLoaded(
                f"exllamav2 cannot be imported: {error}.", "Install the extra: pip install 'skilldeck[gpu]'"
            ) from error
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise NotLoaded(
                f"The exllamav2 extension cannot be built: {first}",
                "It needs nvcc of torch's CUDA version, g++ and ninja; set CUDA_HOME to the toolkit, or put a "
                "prebuilt exllamav2_ext on PYTHONPATH.",
            ) from error

    def load_model(self, folder: Path, config: JsonObject, options: ExlOptions, progress: Progress) -> Any:
        """The model on its device and its cache, (model, cache)."""
        self._check_architecture(config)
        self._folder = tempfile.TemporaryDirectory(prefix="skilldeck-exl-")
        settings = self._settings(compatible_folder(folder, config, Path(self._folder.name) / "model"), options)
        self.context = settings.max_seq_len
        self.vocab = settings.vocab_size
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        tokens = self._cache_tokens(settings, size)
        model = library("exllamav2").ExLlamaV2(settings)
        if settings.vision_model_type is not None and self._may_see(options):
            progress(0.01, "loading the vision tower")
            tower = library("exllamav2").ExLlamaV2VisionTower(settings)
            tower.load()
            self._vision = Vision(tower, model, folder, settings.vision_model_type)
        cache = self._cache_class()(model, max_seq_len=tokens, lazy=True)

        def report(done: int, total: int) -> None:
            used, whole = self.memory()
            progress(done / max(total, 1) * 0.98, f"layer {done} of {total}, {used / GIB:.1f} of {whole / GIB:.0f} GiB")

        model.load_autosplit(cache, reserve_vram=options.reserve_mib << 20, callback=report)
        self.parameters = sum(int(module.numel()) for module in model.modules if hasattr(module, "numel"))
        return model, cache

    @staticmethod
    def _may_see(options: ExlOptions) -> bool:
        """exllamav2 cannot draft with a model behind prompts that hold images: its whole batch would fail."""
        return not options.draft_model

    @property
    def images(self) -> bool:
        """Whether requests may hold images."""
        return self._vision is not None

    def _check_architecture(self, config: JsonObject) -> None:
        source = inspect.getsource(library("exllamav2.architecture"))
        known = set(re.findall(r'arch_string == "(\w+)"', source))
        known.add("LlamaForCausalLM")
        names = config.get("architectures") or []
        if not names or names[0] not in known:
            raise BadRequest(
                f"exllamav2 does not know the architecture {names[0] if names else '(none named)'}.",
                f"It knows {', '.join(sorted(known))}; try --engine exllamav3, or a GGUF of it with --engine llamacpp.",
                param="model",
            )

    def _settings(self, folder: Path, options: ExlOptions) -> Any:
        settings = library("exllamav2").ExLlamaV2Config(str(folder))
        settings.arch_compat_overrides(quiet=True)
        if settings.no_flash_attn:
            raise BadRequest(
                f"exllamav2 computes {settings.arch.arch_string} only with unpaged attention, which cannot batch.",
                "Use --engine exllamav3, or a GGUF of it with --engine llamacpp.",
                param="model",
            )
        longest = settings.max_seq_len
        if options.context > longest:
            raise BadRequest(f"context is {options.context}; the model was made for {longest} tokens.", param="context")
        settings.max_seq_len = options.context or min(longest, 32768)
        settings.max_input_len = options.chunk or 2048
        settings.max_attention_size = settings.max_input_len**2
        return settings

    def _cache_class(self) -> Any:
        suffix = "" if self._options.cache_type == "fp16" else f"_{self._options.cache_type.upper()}"
        return getattr(library("exllamav2"), f"ExLlamaV2Cache{suffix}")

    def _cache_tokens(self, settings: Any, weights: int) -> int:
        """As asked; else what the free memory holds behind the weights, a full batch of contexts at the most."""
        options = self._options
        if options.cache_tokens:
            return options.cache_tokens
        bits = {"fp16": 16.0, "q8": 8.5, "q6": 6.5, "q4": 4.5}[options.cache_type]
        per_token = settings.num_hidden_layers * settings.num_key_value_heads * settings.head_dim * 2 * bits / 8
        free, _ = torch.cuda.mem_get_info()
        room = free - weights * 1.05 - (options.reserve_mib << 20) - 1.5 * GIB
        fits = int(room / per_token) // PAGE * PAGE
        wanted = -(-settings.max_seq_len // PAGE) * PAGE
        if fits < wanted:
            raise NotLoaded(
                f"The device has {free / GIB:.1f} GiB free; the weights take {weights / GIB:.1f} and the cache of one "
                f"context of {wanted} tokens {wanted * per_token / GIB:.1f} GiB.",
                "Lower context, set cache_type to q8, q6 or q4, or choose a smaller model.",
            )
        return min(fits, int(wanted * options.max_batch))

    def _load_draft(self, folder: Path, cache: Any) -> Any:
        exllamav2 = library("exllamav2")
        config = read_config(folder)
        self._check_architecture(config)
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="skilldeck-exl-")
        readable = compatible_folder(folder, config, Path(self._folder.name) / "draft")
        settings = self._settings(readable, ExlOptions(context=self.context, chunk=self._options.chunk))
        if settings.vocab_size != self.vocab:
            raise BadRequest(
                f"The draft model has {settings.vocab_size} tokens, the model {self.vocab}.",
                "Choose one of the same vocabulary.",
                param="draft_model",
            )
        model = exllamav2.ExLlamaV2(settings)
        draft_cache = exllamav2.ExLlamaV2Cache(model, max_seq_len=cache.max_seq_len, lazy=True)
        model.load_autosplit(draft_cache)
        return model, draft_cache

    def _make_generator(self, cache: Any, draft_cache: Any) -> None:
        options = self._options
        self._cache, self._draft_cache = cache, draft_cache
        self._generator = library("exllamav2.generator").ExLlamaV2DynamicGenerator(
            model=self._model,
            cache=cache,
            draft_model=self._draft,
            draft_cache=draft_cache,
            tokenizer=IdTokenizer(self._model.config.vocab_size),
            max_batch_size=options.max_batch,
            max_chunk_size=min(options.chunk or 2048, self._model.config.max_input_len),
            num_draft_tokens=options.draft_tokens,
            use_ngram_draft=options.ngram,
            paged=True,
        )

    def _add_loras(self) -> None:
        if not self._options.lora:
            return
        adapter = library("exllamav2").ExLlamaV2Lora
        try:
            self._loras = [adapter.from_directory(self._model, folder) for folder in self._options.lora]
        except (OSError, ValueError, AssertionError, KeyError) as error:
            raise BadRequest(f"An adapter cannot be loaded: {error}", param="lora") from error
        self._generator.set_loras(self._loras)

    def _too_large(self, folder: Path, error: Exception) -> SkilldeckError:
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        free, total = torch.cuda.mem_get_info()
        first = str(error).splitlines()[0]
        return NotLoaded(
            f"The model's {size / GIB:.1f} GiB and its cache do not fit: {free / GIB:.1f} of {total / GIB:.1f} GiB are "
            f"free. {first}",
            "Lower context, cache_tokens or max_batch, or set cache_type to q8, q6 or q4.",
        )

    # ------------------------------------------------------------ running

    def expand(self, turn: Generation) -> None:
        """Put the turn's images into its prompt, which grows by them."""
        assert self._vision is not None
        turn.prompt, turn.embeddings = self._vision.expand(turn.prompt, turn.request.images)

    def start(self, turn: Generation, max_new: int) -> Any:
        ids = torch.tensor([turn.prompt + turn.tokens], dtype=torch.long)
        # The generator ends num_draft_tokens early, and reserves pages for prompt and answer at once.
        ahead = self._generator.num_draft_tokens
        room = self._generator.max_total_tokens - ids.shape[1] - ahead
        if room < 1:
            raise BadRequest(
                f"The prompt of {ids.shape[1]} tokens does not fit the cache of {self._generator.max_total_tokens}.",
                "Shorten the input, or raise cache_tokens.",
                param="input",
            )
        job = _job_class()(
            input_ids=ids,
            max_new_tokens=min(max_new, room) + ahead,
            gen_settings=None,
            embeddings=turn.embeddings,
        )
        job.turn, job.salt = turn, turn.request.cache_salt
        self._generator.enqueue(job)
        return job

    def step(self) -> list[JsonObject]:
        results: list[JsonObject] = self._generator.iterate()
        return results

    def cancel(self, job: Any) -> None:
        self._generator.cancel(job)

    def cached(self, job: Any) -> int:
        return int(job.cached_pages) * PAGE + int(job.cached_tokens)

    def used(self) -> float:
        generator = self._generator
        return float(len(generator.referenced_pages) / max(generator.max_pages, 1))

    def reset(self) -> None:
        # A step that failed half way leaves the page table in no known state; a new one is cheap.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        loras = self._generator.current_loras
        self._make_generator(self._cache, self._draft_cache)
        self._generator.current_loras = loras

    def memory(self) -> tuple[int, int]:
        if not torch.cuda.is_available():
            return 0, 0
        free, total = torch.cuda.mem_get_info()
        return total - free, total

    def close(self) -> None:
        tower = self._vision.tower if self._vision is not None else None
        for model in (self._draft, self._model, tower):
            if model is not None:
                model.unload()
        self._vision = None
        self._generator = self._model = self._draft = self._cache = self._draft_cache = None
        if self._folder is not None:
            self._folder.cleanup()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


_made: list[Any] = []


def _job_class() -> Any:
    """The generator's job with our sampler in it; made once the library may be imported."""
    if not _made:

        def receive_logits(job: Any, logits: Tensor) -> tuple[Any, ...]:
            return torch.tensor([[job.turn.sample(logits[0, 0])]]), None, None, None, False

        base = salted(library("exllamav2.generator").ExLlamaV2DynamicJob)
        _made.append(type("Job", (base,), {"receive_logits": receive_logits}))
    return _made[0]


def compatible_folder(folder: Path, config: JsonObject, target: Path) -> Path:
    """`folder` itself when exllamav2 reads its config right, else `target`, made of links to its files with a config
    that it does: the rotary settings in their older spelling, those of a nested text model too."""
    fixed = _older_rope(config)
    if isinstance(config.get("text_config"), dict):
        fixed["text_config"] = _older_rope(config["text_config"])
    if fixed == config:
        return folder
    target.mkdir(exist_ok=True)
    if "dtype" in fixed:
        fixed.setdefault("torch_dtype", fixed["dtype"])
    for file in folder.iterdir():
        if file.name != "config.json":
            os.symlink(file.resolve(), target / file.name)
    (target / "config.json").write_text(json.dumps(fixed), "utf-8")
    return target


def _older_rope(config: JsonObject) -> JsonObject:
    if "rope_parameters" not in config:
        return dict(config)
    rope = {**(config.get("rope_scaling") or {}), **config["rope_parameters"]}
    rope["rope_type"] = rope.get("rope_type") or rope.get("type") or "default"
    fixed = {name: value for name, value in config.items() if name != "rope_parameters"}
    fixed["rope_theta"] = float(rope.pop("rope_theta", None) or config.get("rope_theta") or 10000.0)
    if rope["rope_type"] != "default":
        rope.pop("type", None)
        fixed["rope_scaling"] = rope
    return fixed


def clear_stale_lock(extension: str) -> bool:
    """Remove the lock of a build that was killed, which makes the next import wait for ever; whether there was one.

    A build that goes on has a process in the build's directory: torch runs ninja there.
    """
    from torch.utils.cpp_extension import _get_build_directory

    try:
        folder = Path(_get_build_directory(extension, False)).resolve()
    except (OSError, RuntimeError):
        return False
    lock = folder / "lock"
    if not lock.exists() or any(_works_in(process, folder) for process in Path("/proc").glob("[0-9]*")):
        return False
    lock.unlink(missing_ok=True)
    return True


def _works_in(process: Path, folder: Path) -> bool:
    try:
        return (process / "cwd").resolve(strict=True) == folder
    except OSError:  # gone, or another user's
        return False
