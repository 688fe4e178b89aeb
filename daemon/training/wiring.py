"""The wired start: attention circuits for copying and for choosing a skill, written into the weights before training.

From random weights, choosing a skill by a shared word stays at chance for millions of tokens, because it needs several
layers to be right at once. So the residual stream is divided into slots, and the heads of each layer start as:

    layer 0   previous token -> A, the one before -> B, the third -> E; a window of recent tokens -> W
    layer 1   first token of the current item (after `/mnt/skills/` or a function's frame) -> C; first of the line -> L
    layer 2   a token finds where it stood before and takes that place's C -> D; the previous token's L -> M
    layer 3   copy heads: where did the last tokens (and this line) stand before? what came next -> P
    layer 4   gathers D over the request -> D: the skill that its words point at; copy heads again
    layer 5   after `/mnt/skills/`: the item whose first token is D -> P; copy heads again

P holds the token itself and is what the tied output reads. Everything stays trainable. Amplitudes are 1 in every slot;
each layer's scale is measured on sample text, since the norm in front of it divides by what earlier layers wrote.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from training.model import TinyLM

CONST, SINK = 0, 1


def _slots(sizes: dict[str, int], start: int = 2) -> dict[str, slice]:
    slots = {}
    for name, size in sizes.items():
        slots[name] = slice(start, start + size)
        start += size
    return slots


SLOT = _slots({"P": 80, "A": 56, "B": 40, "E": 24, "W": 24, "C": 28, "D": 28, "L": 16, "M": 16})
CONST_VALUE = 4.0
MUTE = 24.0


class _Wirer:
    def __init__(self, model: TinyLM, tokenizer: Tokenizer, samples: Sequence[Sequence[int]], seed: int) -> None:
        self.model = model
        self.config = model.config
        self.tokenizer = tokenizer
        self.samples = [torch.tensor([list(ids)]) for ids in samples]
        self.random = torch.Generator().manual_seed(seed)
        self.half = self.config.head // 2
        self.frequency = 1.0 / self.config.theta ** (torch.arange(self.half).float() / self.half)
        slow = [i for i in range(self.half) if self.frequency[i] < 0.005]
        self.slow = [d for i in slow[:-1] for d in (i, i + self.half)]  # dimensions that hardly turn: for content
        self.still = self.half - 1  # the slowest pair: for constants
        self.scale = 1.0

    def code(self, *tokens: str) -> Tensor:
        """The sum of the P codes of some tokens."""
        ids = [i for i in map(self.tokenizer.token_to_id, tokens) if i is not None]
        return self.model.embed.data[ids, SLOT["P"]].sum(0)

    def measure(self, layer: int) -> None:
        """The root mean square of what layer `layer` reads."""
        with torch.no_grad():
            streams = [self.model.hidden(ids, layer).square().mean(-1).sqrt().flatten() for ids in self.samples]
        self.scale = float(torch.cat(streams).median())

    def head(self, layer: int, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(query, key, value, output) weights of a head, zeroed; rows of the first three, columns of the last."""
        block = self.model.each_block()[layer]
        rows = slice(number * self.config.head, (number + 1) * self.config.head)
        q, k, v = (block.qkv.data[i, rows] for i in range(3))
        o = block.out.data[:, rows]
        for weight in (q, k, v, o):
            weight.zero_()
        return q, k, v, o

    def constant(self, row: Tensor, value: float) -> None:
        """Make a query or key dimension constant, whatever the token."""
        row[CONST] = value * self.scale / CONST_VALUE

    def carry(self, v: Tensor, o: Tensor, source: str, target: str, gain: float = 1.0, shift: int = 0) -> None:
        """Values read slot `source`, outputs write slot `target` (as many dimensions as both have)."""
        n = min(SLOT[source].stop - SLOT[source].start, SLOT[target].stop - SLOT[target].start, self.config.head)
        for i in range(n):
            v[i, SLOT[source].start + shift + i] = self.scale
            o[SLOT[target].start + shift + i, i] = gain

    def at_distance(self, q: Tensor, k: Tensor, distance: float, sharpness: float, pairs: Sequence[int]) -> None:
        """Attend to the token `distance` back: constants turned by the rotary angles."""
        weight = (sharpness * self.config.head**0.5 / len(pairs)) ** 0.5
        for i in pairs:
            angle = -distance * float(self.frequency[i])
            self.constant(k[i], weight)
            self.constant(q[i], weight * float(torch.cos(torch.tensor(angle))))
            self.constant(q[i + self.half], weight * float(torch.sin(torch.tensor(angle))))

    def match(self, q: Tensor, k: Tensor, pairs: Sequence[tuple[str, str, int]], score: float) -> None:
        """Compare slots of the query with slots of the key: `score` nats when all of (query, key, dimensions) agree."""
        total = sum(n for _, _, n in pairs)
        weight = (score * self.config.head**0.5 / total) ** 0.5 * self.scale
        free = iter(self.slow)
        for mine, theirs, n in pairs:
            size = min(SLOT[mine].stop - SLOT[mine].start, SLOT[theirs].stop - SLOT[theirs].start)
            for i in torch.randperm(size, generator=self.random)[:n].tolist():
                dim = next(free)
                q[dim, SLOT[mine].start + i] = weight
                k[dim, SLOT[theirs].start + i] = weight

    def rest(self, q: Tensor, k: Tensor, score: float) -> None:
        """Where nothing matches, attend to the first token, whose value is empty."""
        weight = (score * self.config.head**0.5) ** 0.5
        self.constant(q[self.still], weight)
        k[self.still, SINK] = weight * self.scale

    def mute(self, q: Tensor, tokens: Sequence[str], score: float) -> None:
        """Send these tokens to the first token too, however well they match: they say nothing about a choice."""
        ids = [i for i in map(self.tokenizer.token_to_id, tokens) if i is not None]
        codes = self.model.embed.data[ids, SLOT["P"]]
        direction = torch.linalg.pinv(codes).sum(1)  # 1 on each of the tokens, as little as can be on others
        weight = (score * self.config.head**0.5) / ((2 * score * self.config.head**0.5) ** 0.5)
        q[self.still, SLOT["P"]] = weight * self.scale * direction

    def after(self, q: Tensor, k: Tensor, tokens: Sequence[str], score: float, pairs: Sequence[int]) -> None:
        """Attend to the last place that follows one of `tokens`: a key strength that fades with the distance."""
        slot = SLOT["A"]
        size = slot.stop - slot.start
        direction = self.code(*tokens)[:size] / size
        weight = (score * self.config.head**0.5 / len(pairs)) ** 0.5
        for i in pairs:
            self.constant(q[i], weight)
            self.constant(k[i], -0.2 * weight)
            k[i, slot] = weight * self.scale * direction

    def copy_head(
        self, layer: int, number: int, pairs: Sequence[tuple[str, str, int]], gain: float, score: float
    ) -> None:
        q, k, v, o = self.head(layer, number)
        self.match(q, k, pairs, score)
        self.rest(q, k, score * 0.6)
        self.carry(v, o, "P", "P", gain, shift=0 if number % 2 else 16)


@torch.no_grad()
def wire(model: TinyLM, tokenizer: Tokenizer, samples: Sequence[Sequence[int]], seed: int = 0) -> None:
    """Write the circuits into `model` in place; `samples` are token ids of ordinary examples."""
    w = _Wirer(model, tokenizer, samples, seed)
    embed = model.embed.data
    embed.zero_()
    embed[:, CONST] = CONST_VALUE
    size = (embed.size(0), SLOT["P"].stop - SLOT["P"].start)
    embed[:, SLOT["P"]] = torch.randint(0, 2, size, generator=w.random).float() * 2 - 1
    first = tokenizer.token_to_id("<|endoftext|>")
    embed[first, SLOT["P"]] = 0.0
    embed[first, SINK] = 1.0
    embed[first, -1] = 15.0  # as long as any other token's stream, so that the norms treat it alike
    near = list(range(9))
    fading = list(range(6, 11))

    w.measure(0)
    for number, (distance, target) in enumerate(((1, "A"), (2, "B"), (3, "E"))):
        q, k, v, o = w.head(0, number)
        w.at_distance(q, k, distance, 90.0, near)
        w.carry(v, o, "P", target)
    q, k, v, o = w.head(0, 3)
    w.at_distance(q, k, 4.5, 8.0, near[2:])
    w.carry(v, o, "P", "W", 2.5)

    w.measure(1)
    q, k, v, o = w.head(1, 0)
    w.after(q, k, ["/mnt/skills/", '{"name": "'], 50.0, fading)
    w.rest(q, k, 8.0)
    w.carry(v, o, "P", "C")
    q, k, v, o = w.head(1, 1)
    w.after(q, k, ["Ċ", "Result:\n", "```bash\n"], 50.0, list(range(5, 10)))
    w.rest(q, k, 8.0)
    w.carry(v, o, "P", "L")

    w.measure(2)
    quiet = ["/mnt/skills/", "/mnt/data/", "Ġ", "-", "the", "of", "in", "for", ".", "?"]
    for number, pairs in enumerate(([("P", "A", 38)], [("P", "A", 20), ("A", "B", 18)])):
        q, k, v, o = w.head(2, number)
        w.match(q, k, pairs, 24.0)
        w.rest(q, k, 16.0)
        w.mute(q, quiet, MUTE)
        w.carry(v, o, "C", "D")
    q, k, v, o = w.head(2, 2)
    w.at_distance(q, k, 1, 90.0, near)
    w.carry(v, o, "L", "M")

    w.measure(3)
    w.copy_head(3, 0, [("P", "A", 20), ("A", "B", 12), ("B", "E", 6)], 0.6, 24.0)
    w.copy_head(3, 1, [("P", "A", 16), ("A", "B", 12), ("B", "E", 10)], 0.6, 24.0)
    w.copy_head(3, 2, [("P", "A", 14), ("A", "B", 10), ("L", "M", 8), ("W", "W", 6)], 0.6, 24.0)
    w.copy_head(3, 3, [("P", "A", 16), ("A", "B", 10), ("C", "C", 12)], 0.6, 24.0)

    w.measure(4)
    q, k, v, o = w.head(4, 0)
    w.at_distance(q, k, 9, 9.0, list(range(3, 9)))
    w.carry(v, o, "D", "D", 3.0)
    w.copy_head(4, 1, [("P", "A", 14), ("A", "B", 12), ("B", "E", 12)], 0.6, 24.0)
    w.copy_head(4, 2, [("P", "A", 14), ("A", "B", 10), ("L", "M", 8), ("W", "W", 6)], 0.6, 24.0)

    w.measure(5)
    q, k, v, o = w.head(5, 0)
    w.match(q, k, [("D", "P", 24)], 9.0)
    direction = w.code("/mnt/skills/")
    weight = (60.0 * w.config.head**0.5) ** 0.5 * w.scale
    q[w.half - 2, SLOT["P"]] = weight * direction / 80
    k[w.half - 2, SLOT["A"]] = weight * direction[:56] / 56
    w.rest(q, k, 45.0)
    w.carry(v, o, "P", "P", 2.0)
    w.copy_head(5, 1, [("P", "A", 16), ("A", "B", 12), ("B", "E", 10)], 0.6, 24.0)

    model.norm.data.fill_(0.12)
