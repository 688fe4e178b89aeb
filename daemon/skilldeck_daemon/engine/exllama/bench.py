"""The arms of `skilldeckd bench --gpu`: what the daemon costs over the raw generator. `bench/suites/gpu.py` runs them.

A is exllamav2's own generator loop with its own sampler; B our engine without HTTP; C the daemon over loopback with
server-sent events. Same prompts, all of them unique, same lengths, greedy. `fabricate` makes a model of stated
dimensions with random weights, because a benchmark machine need not have any.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import string
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skilldeck_daemon.engine.base import Finished, GenRequest, Sampling, Tokens
from skilldeck_daemon.engine.exllama.engine import ExllamaEngine
from skilldeck_daemon.engine.exllama.v2 import Exllamav2, library
from skilldeck_shared.json_types import JsonObject

LLAMA_3_8B: JsonObject = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
}


@dataclass
class Sample:
    """One run of an arm: output tokens per second, and seconds to first tokens and between tokens."""

    rate: float
    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


@dataclass
class Times:
    """When the tokens of one request arrived."""

    asked: float
    arrivals: list[float] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        sample.first.append(self.arrivals[0] - self.asked)
        sample.gaps += [b - a for a, b in zip(self.arrivals, self.arrivals[1:], strict=False)]


Arm = Callable[[list[str]], Awaitable[Sample]]


def fabricate(folder: Path, **dimensions: int) -> Path:
    """Write a Llama of `dimensions`: random float16 weights, a tokenizer of one token a byte, a bare template.

    The ids that no byte takes spell four letters each, so that whatever is sampled says something to a reader.
    """
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    d = {**LLAMA_3_8B, **dimensions}
    folder.mkdir(parents=True, exist_ok=True)
    head = d["hidden_size"] // d["num_attention_heads"]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "head_dim": head,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "bos_token_id": 0,
        "eos_token_id": 1,
        **d,
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    vocabulary = {"<s>": 0, "</s>": 1} | {
        letter: index + 2 for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))
    }
    for index in range(len(vocabulary), d["vocab_size"]):
        vocabulary["".join(chr(97 + index // 26**place % 26) for place in range(4))] = index
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}), "utf-8")
    (folder / "chat_template.jinja").write_text("{{ messages[-1]['content'] }}", "utf-8")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(0)

    def weight(*shape: int) -> Any:
        made = torch.randn(*shape, generator=generator, device=device, dtype=torch.float16)
        return (made * shape[-1] ** -0.5).cpu()

    size, inner, kv = d["hidden_size"], d["intermediate_size"], head * d["num_key_value_heads"]
    save_file(
        {
            "model.embed_tokens.weight": weight(d["vocab_size"], size),
            "model.norm.weight": torch.ones(size, dtype=torch.float16),
            "lm_head.weight": weight(d["vocab_size"], size),
        },
        folder / "model-ends.safetensors",
        metadata={"format": "pt"},
    )
    for i in range(d["num_hidden_layers"]):
        at = f"model.layers.{i}."
        layer = {
            f"{at}{name}.weight": weight(*shape)
            for name, shape in {
                "self_attn.q_proj": (size, size),
                "self_attn.k_proj": (kv, size),
                "self_attn.v_proj": (kv, size),
                "self_attn.o_proj": (size, size),
                "mlp.gate_proj": (inner, size),
                "mlp.up_proj": (inner, size),
                "mlp.down_proj": (size, inner),
            }.items()
        }
        for name in ("input_layernorm", "post_attention_layernorm"):
            layer[f"{at}{name}.weight"] = torch.ones(size, dtype=torch.float16)
        save_file(layer, folder / f"model-{i:03}.safetensors", metadata={"format": "pt"})
    return folder


def end_ids(folder: Path) -> list[int]:
    """The ids that end a turn, which the daemon is told not to sample: every answer has the same length."""
    ids: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        with contextlib.suppress(FileNotFoundError):
            found = json.loads((folder / name).read_text("utf-8")).get("eos_token_id")
            ids |= set(found) if isinstance(found, list) else {found} if isinstance(found, int) else set()
    return sorted(ids)


class Bench:
    """The arms over one loaded engine; C talks to the daemon at `url`, which has loaded the folder too.

    `prompt`: letters of a prompt, each a token of a fabricated model; `new`: tokens of every answer.
    """

    def __init__(
        self, engine: ExllamaEngine, backend: Exllamav2, folder: Path, prompt: int, new: int, url: str
    ) -> None:
        from tokenizers import Tokenizer

        self.prompt, self.new, self.url = prompt, new, url
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.backend, self.engine = backend, engine
        self.ends = end_ids(folder)
        self.arms: dict[str, Arm] = {"A": self.raw, "B": self.ours, "C": self.daemon}
        self._random = random.Random(1)
        self._count = 0

    def ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def texts(self, count: int) -> list[str]:
        """Prompts nobody has seen, so that no arm gets its prefix from the cache."""
        return ["".join(self._random.choices(string.ascii_letters, k=self.prompt)) for _ in range(count)]

    async def raw(self, texts: list[str]) -> Sample:
        """Arm A: the library's generator, its own job and sampler, in the engine's thread's stead."""
        return await asyncio.to_thread(self._raw, texts)

    def _raw(self, texts: list[str]) -> Sample:
        import torch

        library("exllamav2.device").set_device_streams()  # they belong to a thread, and this is not the engine's
        lib = library("exllamav2.generator")
        generator = self.backend._generator
        settings = lib.ExLlamaV2Sampler.Settings.greedy()
        started = time.perf_counter()
        jobs: dict[Any, Times] = {}
        for text in texts:
            job = lib.ExLlamaV2DynamicJob(
                input_ids=torch.tensor([self.ids(text)]), max_new_tokens=self.new, gen_settings=settings
            )
            generator.enqueue(job)
            jobs[job] = Times(started)
        tokens = 0
        while generator.num_remaining_jobs():
            for result in generator.iterate():
                if result["stage"] == "streaming" and "token_ids" in result:
                    tokens += result["token_ids"].shape[-1]
                    jobs[result["job"]].arrivals.append(time.perf_counter())
        sample = Sample(tokens / (time.perf_counter() - started))
        for times in jobs.values():
            times.add(sample)
        return sample

    async def ours(self, texts: list[str]) -> Sample:
        """Arm B: our engine, no HTTP."""
        started = time.perf_counter()

        async def one(text: str) -> tuple[Times, int]:
            self._count += 1
            times = Times(started)
            request = GenRequest(f"b{self._count}", self.ids(text), self.new, Sampling(temperature=0))
            async for event in await self.engine.submit(request):
                if isinstance(event, Tokens):
                    times.arrivals.append(time.perf_counter())
                elif isinstance(event, Finished) and (event.new != self.new or event.cached):
                    raise RuntimeError(f"measured something else: {event}")
            return times, self.new

        return self._summed(started, await asyncio.gather(*(one(text) for text in texts)))

    async def daemon(self, texts: list[str]) -> Sample:
        """Arm C: POST /v1/chat/completions with stream=true over loopback."""
        import httpx

        started = time.perf_counter()
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self.url, timeout=600, limits=limits, trust_env=False) as client:

            async def one(text: str) -> tuple[Times, int]:
                times, tokens = Times(started), 0
                body = {
                    "model": "default",
                    "messages": [{"role": "user", "content": text}],
                    "max_completion_tokens": self.new,
                    "temperature": 0,
                    "logit_bias": {str(token): -100 for token in self.ends},
                    "stream": True,
                    "stream_options": {"include_usage": True},
                }
                async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                    answer.raise_for_status()
                    async for line in answer.aiter_lines():
                        if not line.startswith("data: {"):
                            continue
                        chunk = json.loads(line[6:])
                        if chunk.get("usage"):
                            tokens = chunk["usage"]["completion_tokens"]
                        elif chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                            times.arrivals.append(time.perf_counter())
                return times, tokens

            results = await asyncio.gather(*(one(text) for text in texts))
        if any(tokens != self.new for _, tokens in results):
            raise RuntimeError(f"the daemon's answers have {sorted({tokens for _, tokens in results})} tokens")
        return self._summed(started, results)

    def _summed(self, started: float, results: list[tuple[Times, int]]) -> Sample:
        sample = Sample(sum(tokens for _, tokens in results) / (time.perf_counter() - started))
        for times, _ in results:
            if times.arrivals:
                times.add(sample)
        return sample


@contextlib.asynccontextmanager
async def serving(folder: Path, options: JsonObject) -> AsyncIterator[str]:
    """A daemon in a process of its own that serves `folder`; yields its URL when it is ready."""
    import httpx

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="skilldeck-bench-") as home:
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "skilldeck_daemon", "serve", "--port", str(port), "--data-dir", f"{home}/data"],
            *["--socket", f"{home}/daemon.sock", "--model", str(folder), "--engine", "exllamav2"],
            env={**os.environ, "SKILLDECK_ENGINE_OPTIONS": json.dumps(options)},
            stdout=sys.stderr.fileno(),
        )
        url = f"http://127.0.0.1:{port}"
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
                async with asyncio.timeout(1800):
                    while True:
                        with contextlib.suppress(httpx.HTTPError):
                            if (await client.get(f"{url}/health")).status_code == 200:
                                break
                        if process.returncode is not None:
                            raise RuntimeError(f"the daemon ended with {process.returncode}")
                        await asyncio.sleep(0.5)
            yield url
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
