"""exllamav3: EXL3 and unquantised folders, the same adapter over a generator of the same shape.

Needs no flash-attn (it brings its kernels) and knows more architectures; its jobs contain their own errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skilldeck_daemon.engine.base import Progress
from skilldeck_daemon.engine.errors import NotLoaded
from skilldeck_daemon.engine.exllama.generation import Generation
from skilldeck_daemon.engine.exllama.options import PAGE, ExlOptions
from skilldeck_daemon.engine.exllama.salts import salted
from skilldeck_daemon.engine.exllama.v2 import GIB, Exllamav2, IdTokenizer, library
from skilldeck_shared.errors import BadRequest
from skilldeck_shared.json_types import JsonObject


class Exllamav3(Exllamav2):
    """`Backend` of exllamav3."""

    def load(self, folder: Path, options: ExlOptions, progress: Progress) -> None:
        from skilldeck_daemon.engine.models.folder import read_config

        self._options = options
        self.family = str(read_config(folder)["model_type"])
        self.import_library(progress)
        try:
            self._model, cache = self.load_model(folder, {}, options, progress)
            draft_cache = None
            if options.draft_model:
                self._draft, draft_cache = self._load_draft(Path(options.draft_model), cache)
            self._make_generator(cache, draft_cache)
            self._add_loras()
        except torch.OutOfMemoryError as error:
            raise self._too_large(folder, error) from error
        progress(1.0, "ready")

    def import_library(self, progress: Progress) -> None:
        if not torch.cuda.is_available():
            raise NotLoaded(
                "exllamav3 needs a CUDA device and a CUDA build of torch.",
                "Serve a GGUF of it with --engine llamacpp, or use --engine remote with a server that has one.",
            )
        progress(0.0, "loading the exllamav3 extension; the first time may compile it, which takes minutes")
        try:
            library("exllamav3")
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise NotLoaded(
                f"exllamav3 cannot be imported: {first}",
                "Install the wheel that fits torch and CUDA: pip install exllamav3",
            ) from error

    def load_model(self, folder: Path, config: JsonObject, options: ExlOptions, progress: Progress) -> Any:
        exllamav3 = library("exllamav3")
        try:
            settings = exllamav3.Config.from_directory(str(folder))
        except AssertionError as error:
            known = library("exllamav3.architecture.architectures").get_architectures()
            raise BadRequest(
                f"exllamav3 cannot load {folder.name}: {error}.",
                f"It knows {', '.join(sorted(known))}.",
                param="model",
            ) from error
        model = exllamav3.Model.from_config(settings)
        longest = int(settings.default_max_position_embeddings() or 32768)
        if options.context > longest:
            raise BadRequest(f"context is {options.context}; the model was made for {longest} tokens.", param="context")
        self.context = options.context or min(longest, 32768)
        self.vocab = int(settings.vocab_size)
        # Pages for half a batch of full contexts unless told otherwise: layers differ too much to add up beforehand.
        pages = -(-self.context // PAGE) * max(1, options.max_batch // 2)
        tokens = options.cache_tokens or min(pages * PAGE, max(-(-self.context // PAGE) * PAGE, 65536))
        bits = {"fp16": 0, "q8": 8, "q6": 6, "q4": 4}[options.cache_type]
        quantised = {"k_bits": bits, "v_bits": bits} if bits else {}
        cache = exllamav3.Cache(
            model,
            max_num_tokens=tokens,
            layer_type=exllamav3.CacheLayer_quant if bits else exllamav3.CacheLayer_fp16,
            max_batch_size=options.max_batch,
            max_history=self._ahead(),
            **quantised,
        )

        def report(done: int, total: int) -> None:
            used, whole = self.memory()
            progress(done / max(total, 1) * 0.98, f"layer {done} of {total}, {used / GIB:.1f} of {whole / GIB:.0f} GiB")

        model.load(
            reserve_per_device=options.reserve_mib / 1024,
            callback=report,
            max_chunk_size=options.chunk or 2048,
            max_batch_size=options.max_batch,
        )
        return model, cache

    def _ahead(self) -> int:
        options = self._options
        return options.draft_tokens if options.draft_model or options.ngram else 0

    def _load_draft(self, folder: Path, cache: Any) -> Any:
        exllamav3 = library("exllamav3")
        settings = exllamav3.Config.from_directory(str(folder))
        if int(settings.vocab_size) != self.vocab:
            raise BadRequest(
                f"The draft model has {settings.vocab_size} tokens, the model {self.vocab}.",
                "Choose one of the same vocabulary.",
                param="draft_model",
            )
        model = exllamav3.Model.from_config(settings)
        draft_cache = exllamav3.Cache(
            model, max_num_tokens=cache.max_num_tokens, max_batch_size=self._options.max_batch
        )
        model.load()
        return model, draft_cache

    def _make_generator(self, cache: Any, draft_cache: Any) -> None:
        options = self._options
        self._cache, self._draft_cache = cache, draft_cache
        self._generator = library("exllamav3").Generator(
            model=self._model,
            cache=cache,
            tokenizer=IdTokenizer(self.vocab),
            draft_model=self._draft,
            draft_cache=draft_cache,
            num_draft_tokens=options.draft_tokens if self._ahead() else None,
            ngram_match_min=2 if options.ngram else 0,
            max_batch_size=options.max_batch,
            max_chunk_size=options.chunk or 2048,
        )

    def _add_loras(self) -> None:
        if not self._options.lora:
            return
        adapter = library("exllamav3.model.lora").LoRA
        try:
            self._loras = [adapter.from_directory(self._model, folder) for folder in self._options.lora]
        except (OSError, ValueError, AssertionError, KeyError) as error:
            raise BadRequest(f"An adapter cannot be loaded: {error}", param="lora") from error

    def start(self, turn: Generation, max_new: int) -> Any:
        ids = torch.tensor([turn.prompt + turn.tokens], dtype=torch.long)
        room = self._generator.max_total_tokens - ids.shape[1] - 1 - self._ahead()
        if room < 1:
            raise BadRequest(
                f"The prompt of {ids.shape[1]} tokens does not fit the cache of {self._generator.max_total_tokens}.",
                "Shorten the input, or raise cache_tokens.",
                param="input",
            )
        job = salted(library("exllamav3").Job)(
            input_ids=ids, max_new_tokens=min(max_new, room), sampler=_sampler(turn, bool(self._ahead()))
        )
        job.salt = turn.request.cache_salt
        self._generator.enqueue(job)
        return job

    def used(self) -> float:
        table = self._generator.pagetable
        return 1.0 - float(table.num_unreferenced_pages()) / max(int(table.max_pages), 1)

    def reset(self) -> None:
        torch.cuda.empty_cache()
        self._make_generator(self._cache, self._draft_cache)


def _sampler(turn: Generation, drafting: bool) -> Any:
    """exllamav3's Sampler over the turn. Asking for past ids makes its drafting loop sample one token at a time."""

    def forward(_sampler: Any, logits: Tensor, *_: Any, **__: Any) -> Tensor:
        return torch.tensor([[turn.sample(logits.reshape(-1, logits.shape[-1])[0])]], device=logits.device)

    sampler = type("TurnSampler", (library("exllamav3.generator.sampler").Sampler,), {"forward": forward})()
    sampler.reqs_past_ids = drafting
    return sampler
