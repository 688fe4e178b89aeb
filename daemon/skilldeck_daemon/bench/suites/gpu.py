"""`skilldeckd bench --gpu`: whether exllamav2 computes the right thing on this card, then what the daemon costs there.

In this order, because a fast wrong answer is worth nothing: every attention provider against the reference; the paged
log probabilities of the bundled model against transformers; then the arms of `engine/exllama/bench.py`, interleaved
A B C C B A at every concurrency; a second round of a conversation; a cancel. What is wrong ends the suite with a
`WrongResult`. Without a model folder it makes one of Llama 3 8B's dimensions, or of as many of its layers as fit the
card twice (the daemon loads it too) and the disk once.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from skilldeck_daemon.bench.measure import Measure, interleaved, spread
from skilldeck_daemon.bench.references import weights
from skilldeck_daemon.engine.base import Finished, GenRequest, ModelSpec, Sampling, Tokens
from skilldeck_daemon.engine.models import registry
from skilldeck_shared.errors import SkilldeckError, Unavailable

RIGHT, COST, USE = "GPU: right", "GPU: cost of the daemon", "GPU: use"
PROMPT, NEW = 512, 256
CONCURRENCY = (1, 4, 8, 16, 32)
TOLERANCE = 4e-3  # half precision sums in another order
LOGPROB_TOLERANCE = 0.05
LAYER_BYTES = 436_000_000  # of Llama 3 8B in half precision; 2.1 GB are its embedding and head
ENDS_BYTES = 2_100_000_000
PAGE = 256


class WrongResult(SkilldeckError):
    """What was computed differs from the reference by more than rounding."""


async def measure(model: str, rounds: int) -> list[Measure]:
    """Raises Unavailable where there is no CUDA device or no exllamav2, WrongResult where results are wrong."""
    import torch

    if not torch.cuda.is_available():
        raise Unavailable("There is no CUDA device here.", "Run it on a machine with one: see `skilldeckd doctor`.")
    print(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}", file=sys.stderr)
    measures = providers("cuda", torch.float16)
    tiny = weights(registry.tiny_file())
    async with loaded(tiny, context=2048) as (engine, _):
        measures.append(await logits(engine, tiny))
    from skilldeck_daemon.engine.exllama.bench import Bench, fabricate, serving

    options = {"max_batch": max(CONCURRENCY), "context": 2048, "cache_tokens": 1024 * max(CONCURRENCY)}
    with tempfile.TemporaryDirectory(prefix="skilldeck-llama-") as made:
        if model == registry.TINY:
            folder = fabricate(Path(made), num_hidden_layers=_layers(Path(made)))
        else:
            folder = registry.resolve_model(model)
        async with serving(folder, options) as url, loaded(folder, **options) as (engine, backend):
            bench = Bench(engine, backend, folder, PROMPT, NEW, url)
            measures += await arms(bench, CONCURRENCY, rounds)
            measures += await conversation(engine)
    return measures


@asynccontextmanager
async def loaded(folder: Path, **options: Any) -> AsyncIterator[tuple[Any, Any]]:
    """The exllamav2 engine in this process, and its backend."""
    from skilldeck_daemon.engine.exllama.engine import ExllamaEngine
    from skilldeck_daemon.engine.exllama.v2 import Exllamav2

    backend = Exllamav2()
    engine = ExllamaEngine("exllamav2", backend)
    await engine.load(ModelSpec(str(folder), "bench", options), _progress)
    try:
        yield engine, backend
    finally:
        await engine.unload()


def _progress(fraction: float, stage: str) -> None:
    print(f"{fraction:6.1%} {stage}", file=sys.stderr)


def _layers(place: Path) -> int:
    """How many of the 32 layers fit: twice on the card beside two caches, once on the disk."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    card = (free - 12e9) / 2 - ENDS_BYTES
    disk = shutil.disk_usage(place).free * 0.9 - ENDS_BYTES
    layers = min(32, int(min(card, disk) / LAYER_BYTES))
    if layers < 1:
        raise Unavailable(
            f"No layer of Llama 3 8B fits: {free / 1e9:.0f} GB are free on the card.", "Give --model a small folder."
        )
    return layers


# ---------------------------------------------------------------- right


def providers(device: str, dtype: Any, samples: int = 20) -> list[Measure]:
    """Largest error of every attention provider here, and how long a decoding step takes it."""
    from skilldeck_daemon.engine.exllama import attention

    found = attention.providers()
    measures = []
    for name, attend in found.items():
        worst = 0.0
        for lengths, new, append in (
            ([0], 300, True),
            ([5, 255, 256, 700], 1, True),
            ([700], 90, True),
            ([255, 256, 257], 5, False),
        ):
            given = _example(lengths, new, append, device, dtype)
            mine, theirs = dict(given), {key: _copied(value) for key, value in given.items()}
            error = (attend(**mine).float() - attention.reference(**theirs).float()).abs().max()
            worst = max(worst, float(error))
        if not worst <= TOLERANCE:
            raise WrongResult(
                f"The attention provider {name} is off by {worst:.3g} from the reference.",
                f"Choose another with the engine option attention: {', '.join(n for n in found if n != name)}.",
            )
        step = _example([1024] * 32, 1, True, device, dtype)
        measures.append(Measure(RIGHT, f"{name}: largest error", "", (worst,), goal=f"≤ {TOLERANCE}"))
        measures.append(
            Measure(RIGHT, f"{name}: step of 32 rows of 1024 tokens", "ms", _times(attend, step, device, samples))
        )
    return measures


def _example(lengths: list[int], new: int, append: bool, device: str, dtype: Any) -> dict[str, Any]:
    """Arguments of one call: rows of cached tokens and `new` ones, four query heads to a key head."""
    import torch

    rows, heads, kv_heads, dim = len(lengths), 8, 2, 128
    per_row = max(-(-(length + new) // PAGE) for length in lengths)

    def some(*shape: int) -> Any:
        return torch.randn(*shape, device=device, dtype=dtype)

    return {
        "q": some(rows, new, heads, dim),
        "k": some(rows, new, kv_heads, dim) if append else None,
        "v": some(rows, new, kv_heads, dim) if append else None,
        "k_cache": some(rows * per_row, PAGE, kv_heads, dim),
        "v_cache": some(rows * per_row, PAGE, kv_heads, dim),
        "cache_seqlens": torch.tensor(lengths, dtype=torch.int32, device=device) + (0 if append else new),
        "block_table": torch.randperm(rows * per_row, device=device).view(rows, per_row).int(),
        "causal": True,
        "softmax_scale": dim**-0.5,
    }


def _copied(value: Any) -> Any:
    return value.clone() if hasattr(value, "clone") else value


def _times(attend: Any, arguments: dict[str, Any], device: str, samples: int) -> tuple[float, ...]:
    """Milliseconds of single calls, after a few to warm up."""
    import torch

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    times = []
    for number in range(samples + 5):
        wait()
        begun = time.perf_counter()
        attend(**arguments)
        wait()
        if number >= 5:
            times.append((time.perf_counter() - begun) * 1e3)
    return tuple(times)


async def logits(engine: Any, folder: Path, new: int = 32) -> Measure:
    """Largest difference of log probabilities between the engine's paged ones and transformers' in float32."""
    import torch
    import transformers

    transformers_model: Any = transformers.AutoModelForCausalLM
    model = transformers_model.from_pretrained(str(folder), dtype=torch.float32).eval()
    source = torch.Generator().manual_seed(3)
    worst = 0.0
    for number, length in enumerate((3, 200, 256, 700)):
        ids = torch.randint(3, model.config.vocab_size, (length,), generator=source).tolist()
        tokens, scores, _ = await _generate(engine, f"logits-{number}", ids, new, logprobs=0)
        with torch.no_grad():
            rows = model(torch.tensor([ids + tokens])).logits[0, length - 1 : -1].log_softmax(-1)
        worst = max([worst, *(abs(float(row[s.token]) - s.logprob) for row, s in zip(rows, scores, strict=True))])
    if not worst <= LOGPROB_TOLERANCE:
        raise WrongResult(f"Paged log probabilities are off by {worst:.3g} from transformers' on {folder.name}.")
    return Measure(RIGHT, "paged log probabilities: largest error", "nat", (worst,), goal=f"≤ {LOGPROB_TOLERANCE}")


async def _generate(
    engine: Any, name: str, ids: Sequence[int], new: int, logprobs: int | None = None
) -> tuple[list[int], list[Any], Finished]:
    request = GenRequest(name, ids, new, Sampling(temperature=0), logprobs=logprobs)
    tokens: list[int] = []
    scores: list[Any] = []
    async for event in await engine.submit(request):
        if isinstance(event, Tokens):
            tokens += event.ids
            scores += event.logprobs
        elif isinstance(event, Finished):
            if event.error is not None:
                raise event.error
            return tokens, scores, event
    raise AssertionError("no Finished came")


# ---------------------------------------------------------------- cost


async def arms(bench: Any, concurrencies: Sequence[int], rounds: int) -> list[Measure]:
    """B and C over A at every concurrency: tokens per second, then what a reader of C waits for."""
    measures = []
    for count in concurrencies:
        first: list[float] = []
        gaps: list[float] = []

        def sampler(name: str, count: int = count, first: list[float] = first, gaps: list[float] = gaps) -> Any:
            async def sample() -> float:
                got = await bench.arms[name](bench.texts(count))
                if name == "C":
                    first.extend(got.first)
                    gaps.extend(got.gaps)
                print(f"{count:>3} {name} {got.rate:9.1f} tokens/s", file=sys.stderr, flush=True)
                return float(got.rate)

            return sample

        samples = await interleaved({name: sampler(name) for name in "ABC"}, rounds)
        waits = ", ".join(
            f"{what} p50 {spread(values)['median'] * 1e3:.3g} ms, p95 {spread(values)['p95'] * 1e3:.3g} ms"
            for what, values in (("first token", first), ("between tokens", gaps))
            if values
        )
        title = f"{count} request{'s' if count > 1 else ''} at once"
        for name, what, goal, note in (("B", "engine", "", ""), ("C", "daemon", "≥ 0.97", waits)):
            measures.append(
                Measure(
                    COST,
                    f"{what}, {title}",
                    "tokens/s",
                    samples[name],
                    "raw generator",
                    samples["A"],
                    better="higher",
                    goal=goal,
                    note=note,
                )
            )
    return measures


async def conversation(engine: Any, prompt: int = 1500, new: int = 40) -> list[Measure]:
    """How much of a second round's prompt is computed, and what a cancelled request still generates."""
    ids = [5, 6, 7, *[9] * (prompt - 3)]
    tokens, _, _ = await _generate(engine, "round-1", ids, new)
    _, _, second = await _generate(engine, "round-2", [*ids, *tokens, *range(10, 40)], 2)
    seen = 0
    late = 0
    async for event in await engine.submit(GenRequest("cancelled", [5, 6, 7], 1500, Sampling(temperature=0))):
        if isinstance(event, Tokens):
            seen += len(event.ids)
            engine.cancel("cancelled")
        elif isinstance(event, Finished):
            late = event.new - seen
    begun = time.perf_counter()
    await asyncio.wait_for(_generate(engine, "after", [5, 6, 8], 1), 60)
    return [
        Measure(
            USE,
            "second round: part of its prompt that is computed",
            "",
            ((second.prompt - second.cached) / second.prompt,),
            goal="≤ 0.05",
        ),
        Measure(USE, "tokens after a cancel", "", (float(late),), goal="≤ 1 step"),
        Measure(USE, "first token of the next request", "ms", ((time.perf_counter() - begun) * 1e3,)),
    ]
