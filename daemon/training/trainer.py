"""The training loop: one schedule from a wired start to a learning rate of zero, in one or more processes, or on CUDA.

Owns an output folder: `checkpoint.pt` (weights, optimiser, progress; written whole, then renamed) and `log.txt`.
Killed at any moment it loses what came after the last checkpoint. Given a seed, a worker count and a number of steps,
an uninterrupted CPU run is deterministic; `deadline` re-plans the steps by the clock instead, and writes the plan it
followed into the checkpoint.

Workers share the parameters. Each computes gradients of its own batches; the matrices are then divided among them for
Muon (momentum, orthogonalised), the embedding and the norms for Adam.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from training.data import encode, sample
from training.export import adopt
from training.model import Block, Config, TinyLM, restore
from training.wiring import wire

LENGTHS = (128, 256, 384, 512, 768, 1024, 1408)


@dataclass
class Plan:
    """What a run does. Rates are those of the plateau; `decay` is the last share of the run, falling to zero."""

    steps: int = 3000
    base: str = ""  # an exported folder to go on from, instead of a wired start
    begin: float = 0.0  # where in the schedule the run begins (0 to 1): 0.7 with a base that was trained already
    deadline: float = 0.0  # minutes; more than 0: the schedule follows the clock, not the steps
    batch_tokens: int = 3072  # one worker, one micro-batch
    growth: int = 3  # micro-batches a step at the end (1 at the start)
    rate: float = 0.006
    embed_rate: float = 1.5e-3
    norm_rate: float = 1e-3
    weight_decay: float = 0.03
    warmup: int = 20
    decay: float = 0.65
    seed: int = 1
    workers: int = 2
    device: str = "cpu"
    bfloat16: bool = True  # matrix products; a processor with AMX or AVX-512 is many times faster, one without slower
    compile: bool = True  # needs a C++ compiler on a CPU
    save_minutes: float = 4.0


@dataclass
class Batch:
    ids: Tensor  # [rows, length]
    places: Tensor  # flat indices of the positions that predict
    targets: Tensor
    weights: Tensor


def batches(rng: random.Random, tokenizer: Tokenizer, tokens: int, state: dict[str, float]) -> Iterator[Batch]:
    """Endless batches of about `tokens` tokens of similar length; `state["progress"]` steers the mix."""
    waiting: dict[int, list[tuple[list[int], list[int]]]] = {length: [] for length in LENGTHS}
    while True:
        ids, weights = encode(tokenizer, sample(rng, state["progress"]))
        length = next((size for size in LENGTHS if len(ids) <= size), None)
        if length is None:
            continue
        waiting[length].append((ids, weights))
        if (len(waiting[length]) + 1) * length > tokens:
            yield collate(waiting[length], length)
            waiting[length] = []


def collate(rows: list[tuple[list[int], list[int]]], length: int) -> Batch:
    """Rows padded to `length`, so that a compiled block meets one shape for each of LENGTHS."""
    table = torch.zeros(len(rows), length, dtype=torch.long)
    places: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    for i, (ids, wanted) in enumerate(rows):
        table[i, : len(ids)] = torch.tensor(ids)
        for j in range(1, len(ids)):
            if wanted[j]:
                places.append(i * length + j - 1)
                targets.append(ids[j])
                weights.append(float(wanted[j]))
    return Batch(table, torch.tensor(places), torch.tensor(targets), torch.tensor(weights))


def orthogonalise(update: Tensor) -> Tensor:
    """Newton-Schulz iteration towards the nearest orthogonal matrix, for a stack [n, rows, columns]."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = update.size(-2) > update.size(-1)
    x = (update.mT if tall else update).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.mT if tall else x).float()


class Optimiser:
    """Muon for the matrices, Adam for the rest; a worker updates every `workers`-th tensor."""

    def __init__(self, model: TinyLM, plan: Plan, rank: int) -> None:
        self.plan = plan
        named = list(model.named_parameters())
        matrices = [p for n, p in named if n != "embed" and p.ndim >= 2]
        others = [p for n, p in named if n == "embed" or p.ndim < 2]
        share = 1 if plan.device != "cpu" else plan.workers
        self.matrices = [(p, torch.zeros_like(p)) for p in matrices[rank::share]]
        self.others = [(p, torch.zeros_like(p), torch.zeros_like(p)) for p in others[rank::share]]
        self.steps = 0

    @torch.no_grad()
    def step(self, gradient: Mapping[Any, Tensor], factor: float) -> None:
        plan = self.plan
        self.steps += 1
        for weight, momentum in self.matrices:
            g = gradient[weight]
            momentum.lerp_(g, 0.05)
            update = orthogonalise((g * 0.05 + momentum * 0.95).reshape(-1, *g.shape[-2:]))
            rows, columns = g.shape[-2:]
            weight.mul_(1 - plan.rate * factor * plan.weight_decay)
            weight.add_(update.reshape(g.shape), alpha=-plan.rate * factor * max(1.0, rows / columns) ** 0.5)
        for weight, first, second in self.others:
            g = gradient[weight]
            first.lerp_(g, 0.1)
            second.lerp_(g * g, 0.05)
            rate = (plan.embed_rate if weight.ndim == 2 else plan.norm_rate) * factor
            scale = (second / (1 - 0.95**self.steps)).sqrt() + 1e-10
            weight.sub_(rate * (first / (1 - 0.9**self.steps)) / scale)

    def state(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "matrices": [momentum for _, momentum in self.matrices],
            "others": [(first, second) for _, first, second in self.others],
        }

    def load(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        for (_, momentum), saved in zip(self.matrices, state["matrices"], strict=True):
            momentum.copy_(saved)
        for (_, first, second), (one, two) in zip(self.others, state["others"], strict=True):
            first.copy_(one)
            second.copy_(two)


def micro_batches(plan: Plan, progress: float) -> int:
    return 1 if progress < 0.5 else max(1, plan.growth - 1) if progress < 0.8 else plan.growth


def rate_factor(plan: Plan, step: int, progress: float) -> float:
    fall = 1.0 if progress < 1 - plan.decay else max(0.0, (1 - progress) / plan.decay)
    return min(1.0, (step + 1) / plan.warmup) * fall


class _Worker:
    def __init__(
        self, rank: int, plan: Plan, out: Path, model: TinyLM, grads: list[Tensor], board: Tensor, barrier: Any
    ) -> None:
        self.rank, self.plan, self.out, self.model = rank, plan, out, model
        self.grads, self.board, self.barrier = grads, board, barrier
        self.optimiser = Optimiser(model, plan, rank)
        self.parameters = list(model.parameters())
        self.state = {"progress": 0.0}
        self.spent = 0.0  # seconds of earlier runs
        self.step = 0

    def resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if path.exists():
            saved = torch.load(path, map_location=self.plan.device)
            self.step, self.spent = saved["step"], saved["seconds"]
            if self.rank < len(saved["optimisers"]):
                self.optimiser.load(saved["optimisers"][self.rank])

    def log(self, text: str) -> None:
        with (self.out / "log.txt").open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def progress(self, seconds: float) -> float:
        plan = self.plan
        share = seconds / (60 * plan.deadline) if plan.deadline > 0 else self.step / plan.steps
        return plan.begin + (1 - plan.begin) * share

    def run(self) -> None:
        torch.set_num_threads(1)
        plan = self.plan
        self.resume()
        self.compile()
        tokenizer = Tokenizer.from_file(str(self.out / "tokenizer.json"))
        rng = random.Random(f"{plan.seed}/{self.rank}/{self.step}")
        supply = batches(rng, tokenizer, plan.batch_tokens, self.state)
        start = time.monotonic() - self.spent
        saved_at = time.monotonic()
        tokens, mean, right = 0, -1.0, 0.0
        while True:
            if self.rank == 0:
                self.board[0] = self.progress(time.monotonic() - start)
                self.board[1] = float(time.monotonic() - saved_at > 60 * plan.save_minutes)
            self.barrier.wait()
            self.state["progress"] = progress = float(self.board[0])
            if self.board[1] or progress >= 1:
                self.save(time.monotonic() - start)
                saved_at = time.monotonic()
            if progress >= 1:
                return
            count = micro_batches(plan, progress)
            for _ in range(count):
                batch = next(supply)
                loss, exact = self.gradients(batch, 1 / count)
                tokens += batch.ids.numel()
                keep = 0.98 if mean >= 0 else 0.0
                mean, right = keep * mean + (1 - keep) * loss, keep * right + (1 - keep) * exact
            for shared, weight in zip(self.grads, self.parameters, strict=True):
                assert weight.grad is not None
                shared[self.rank].copy_(weight.grad)
                weight.grad = None
            self.barrier.wait()
            means = {w: g.mean(0) for g, w in zip(self.grads, self.parameters, strict=True) if self.owns(w)}
            self.optimiser.step(means, rate_factor(plan, self.step, progress))
            self.step += 1
            if self.step % 20 == 0 and self.rank == 0:
                seconds = time.monotonic() - start
                self.log(
                    f"step {self.step} progress {progress:.3f} loss {mean:.4f} exact {right:.3f} "
                    f"tokens {plan.workers * tokens / 1e6:.2f}M minutes {seconds / 60:.1f}"
                )
            self.barrier.wait()

    def owns(self, weight: Tensor) -> bool:
        mine = self.optimiser.matrices + [(w, a) for w, a, _ in self.optimiser.others]
        return any(weight is w for w, _ in mine)

    def compile(self) -> None:
        """Compile a block once for all layers, and meet every shape before the clock starts."""
        if not self.plan.compile:
            return
        torch._dynamo.config.recompile_limit = 2 * len(LENGTHS)
        compiled = torch.compile(Block.forward, dynamic=False)
        for block in self.model.each_block():
            block.forward = compiled.__get__(block)  # type: ignore[method-assign]
        for length in LENGTHS:
            ids = torch.zeros(self.plan.batch_tokens // length, length, dtype=torch.long, device=self.plan.device)
            with self.precision():
                self.model.hidden(ids).float().sum().backward()  # type: ignore[no-untyped-call]
        for weight in self.parameters:
            weight.grad = None

    def precision(self) -> torch.autocast:
        return torch.autocast(self.plan.device.split(":")[0], dtype=torch.bfloat16, enabled=self.plan.bfloat16)

    def gradients(self, batch: Batch, share: float) -> tuple[float, float]:
        model = self.model
        with self.precision():
            hidden = model.hidden(batch.ids).flatten(0, 1)[batch.places]
            logits = model.logits(hidden)
        losses = F.cross_entropy(logits.float(), batch.targets, reduction="none")
        (share * (losses * batch.weights).sum() / batch.weights.sum()).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            exact = (logits.argmax(-1) == batch.targets).float().mean()
        return float(losses.detach().mean()), float(exact)

    def save(self, seconds: float) -> None:
        """Every worker leaves its optimiser state; the first one joins them with the weights."""
        torch.save(self.optimiser.state(), self.out / f"optimiser-{self.rank}.pt")
        self.barrier.wait()
        if self.rank == 0:
            parts = [torch.load(self.out / f"optimiser-{i}.pt") for i in range(self.plan.workers)]
            whole = {
                "config": asdict(self.model.config),
                "weights": self.model.state_dict(),
                "optimisers": parts,
                "step": self.step,
                "seconds": seconds,
                "plan": asdict(self.plan),
            }
            torch.save(whole, self.out / "checkpoint.tmp")
            (self.out / "checkpoint.tmp").replace(self.out / "checkpoint.pt")
        self.barrier.wait()


def _work(rank: int, *rest: Any) -> None:
    _Worker(rank, *rest).run()


def start(plan: Plan, out: Path, config: Config) -> TinyLM:
    """The model to train: the checkpoint in `out`, the plan's base, or a freshly wired one."""
    path = out / "checkpoint.pt"
    if path.exists():
        return restore(torch.load(path, map_location="cpu"))
    if plan.base:
        return adopt(Path(plan.base), config)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    model = TinyLM(config, plan.seed)
    rng = random.Random(plan.seed)
    wire(model, tokenizer, [encode(tokenizer, sample(rng, 0.9))[0][:400] for _ in range(12)], plan.seed)
    return model


def train(plan: Plan, out: Path, config: Config | None = None) -> None:
    """Train to the end of the plan; continues where `out` holds a checkpoint. Needs `out/tokenizer.json`."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    torch.manual_seed(plan.seed)
    model = start(plan, out, config or Config())
    if plan.device != "cpu":
        train_on_device(plan, out, model)
        return
    model.share_memory()
    grads = [torch.zeros(plan.workers, *p.shape) for p in model.parameters()]
    board = torch.zeros(4, dtype=torch.float64)
    for shared in (*grads, board):
        shared.share_memory_()  # type: ignore[no-untyped-call]
    context = mp.get_context("fork")
    barrier = context.Barrier(plan.workers)
    processes = [
        context.Process(target=_work, args=(rank, plan, out, model, grads, board, barrier))
        for rank in range(plan.workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a training worker failed; its traceback is above")


def train_on_device(plan: Plan, out: Path, model: TinyLM) -> None:
    """The same loop in one process on an accelerator, with larger batches in place of workers."""
    model.to(plan.device)
    grads = [torch.zeros(1, *p.shape, device=plan.device) for p in model.parameters()]
    board = torch.zeros(4, dtype=torch.float64)
    plan.workers = 1

    class Alone:
        def wait(self) -> None:
            return None

    worker = _Worker(0, plan, out, model, grads, board, Alone())
    gradients = worker.gradients

    def moved(batch: Batch, share: float) -> tuple[float, float]:
        tensors = (batch.ids, batch.places, batch.targets, batch.weights)
        return gradients(Batch(*(t.to(plan.device) for t in tensors)), share)

    worker.gradients = moved  # type: ignore[method-assign]
    worker.run()
