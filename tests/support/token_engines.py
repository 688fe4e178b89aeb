"""Token engines without weights, and folders of small models, for tests of what is built over an `Engine`.

`model_folder` writes a tokenizer, a chat template and the configurations of a model; `ScriptedEngine` generates given
texts token by token; `RandomEngine` draws tokens at random among those the mask allows, as a model with random weights
would. Both keep the requests they got.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from skilldeck_daemon.engine.base import (
    Caps,
    EngineStats,
    Event,
    Finished,
    GenRequest,
    LogitMask,
    ModelInfo,
    ModelSpec,
    Prefill,
    Progress,
    Started,
    TokenLogprob,
    Tokens,
)
from skilldeck_daemon.engine.detokenize import Vocabulary
from skilldeck_daemon.engine.vocabularies import load_vocabulary

END = "<|im_end|>"
SPECIAL = ("<|endoftext|>", "<|im_start|>", END)
TEMPLATE = (
    "{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\\n' + m.content }}"
    "{%- for c in m.tool_calls or [] -%}"
    "{{ ('\\n' if m.content or not loop.first else '') + '<tool_call>\\n{\"name\": \"' + c.function.name }}"
    '{{ \'", "arguments": \' + (c.function.arguments if c.function.arguments is string else '
    "c.function.arguments | tojson) + '}\\n</tool_call>' }}"
    "{%- endfor -%}{{ '<|im_end|>\\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
CORPUS = (
    'hello there, this is text with shell commands ["ls -la", "cat /mnt/data/sales.csv"] and {"name": "shell", "argum'
    'ents": {"commands": ["python3 run.py"]}} the answer is 42, and the user said so; grüße aus köln 👋 '
) * 3


def model_folder(
    folder: Path,
    *,
    template: str = TEMPLATE,
    added: Sequence[str] = (),
    size: int = 700,
    end: str = END,
    config: bool = True,
) -> Path:
    """Write a byte-level tokenizer of about `size` tokens and what belongs to it; `added` tokens are not special.

    `config=False` leaves the config.json alone that weights brought.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([CORPUS], trainer)
    tokenizer.add_special_tokens([AddedToken(end, special=True)])
    tokenizer.add_tokens([AddedToken(token, special=False) for token in added])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": end}), encoding="utf-8")
    if config:
        (folder / "config.json").write_text(json.dumps({"model_type": "llama"}), encoding="utf-8")
    return folder


class _Handle:
    def __init__(self, events: AsyncIterator[Event]) -> None:
        self._events = events

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events


class _Engine:
    """What both have in common: one request at a time is played, cancelling ends it at the next token."""

    def __init__(self, context: int, caps: Caps | None, vocab: int) -> None:
        self.vocab = vocab
        self.caps = caps or Caps(max_batch=8, context=context)
        self.requests: list[GenRequest] = []
        self.cancelled: list[str] = []
        self.active = 0

    async def load(self, spec: ModelSpec, progress: Progress | None = None) -> ModelInfo:
        return ModelInfo(spec.name, "scripted", context=self.caps.context, path=spec.path)

    async def submit(self, request: GenRequest) -> _Handle:
        self.requests.append(request)
        return _Handle(self._events(request))

    async def _events(self, request: GenRequest) -> AsyncIterator[Event]:
        self.active += 1
        sent = 0
        reason: str = "length"
        try:
            yield Started(0.0)
            yield Prefill(len(request.prompt_ids), len(request.prompt_ids))
            for token in self.ids(request):
                if request.id in self.cancelled:
                    reason = "cancelled"
                    break
                if request.mask is not None and not (self._allows(request.mask, token) and request.mask.accept(token)):
                    raise AssertionError(f"the grammar does not allow token {token} after {sent} tokens")
                sent += 1
                logprobs = ()
                if request.logprobs is not None:
                    logprobs = (TokenLogprob(token, -0.5, ((token, -0.5),)[: request.logprobs]),)
                yield Tokens((token,), logprobs)
                await asyncio.sleep(0)
                if token in request.stop_ids:
                    reason = "stop"
                    break
                if sent == request.max_new:
                    break
        finally:
            self.active -= 1
        yield Finished(reason, len(request.prompt_ids), 0, sent)  # type: ignore[arg-type]

    def _allows(self, mask: LogitMask, token: int) -> bool:
        """Whether the mask as an engine applies it lets the token through."""
        bitmask = torch.full((1, (self.vocab + 31) // 32), -1, dtype=torch.int32)
        return not mask.fill(bitmask, 0) or bool((int(bitmask[0, token // 32]) >> (token % 32)) & 1)

    def ids(self, request: GenRequest) -> Sequence[int] | AsyncIterator[int]:
        raise NotImplementedError

    def cancel(self, request_id: str) -> None:
        self.cancelled.append(request_id)

    def stats(self) -> EngineStats:
        return EngineStats(active=self.active, max_batch=self.caps.max_batch)

    async def unload(self) -> None:
        pass


class ScriptedEngine(_Engine):
    """Generates the texts in turn; `<|im_end|>` is added to each unless it is there or `end` is empty.

    `encode` may spell the texts in other tokens than the tokenizer would choose.
    """

    def __init__(
        self,
        folder: Path,
        *texts: str,
        context: int = 4096,
        caps: Caps | None = None,
        end: str = END,
        encode: Callable[[Vocabulary, str], list[int]] | None = None,
    ) -> None:
        self.vocabulary = load_vocabulary(folder)
        super().__init__(context, caps, self.vocabulary.size)
        self._texts = list(texts)
        self._end = end
        self._encode = encode or (lambda vocabulary, text: vocabulary.encode(text))

    def ids(self, request: GenRequest) -> Sequence[int]:
        text = self._texts.pop(0)
        return self._encode(self.vocabulary, text) + (self.vocabulary.encode(self._end) if self._end else [])


class RandomEngine(_Engine):
    """Draws every token evenly among those the mask allows, and end tokens among them with chance `ending`."""

    def __init__(self, vocab: int, *, seed: int = 0, context: int = 4096, ending: float = 0.2) -> None:
        super().__init__(context, None, vocab)
        self._random = random.Random(seed)
        self._ending = ending

    def ids(self, request: GenRequest) -> Sequence[int]:
        return self._draw(request)  # type: ignore[return-value]

    def _draw(self, request: GenRequest):  # type: ignore[no-untyped-def]
        bitmask = torch.zeros((1, (self.vocab + 31) // 32), dtype=torch.int32)
        while True:
            allowed = list(range(self.vocab))
            if request.mask is not None:
                bitmask.fill_(-1)
                request.mask.fill(bitmask, 0)
                bits = (bitmask.unsqueeze(-1) >> torch.arange(32, dtype=torch.int32)) & 1
                allowed = bits.flatten()[: self.vocab].nonzero().flatten().tolist()
            assert allowed, "the grammar leaves no token"
            ends = [token for token in allowed if token in request.stop_ids]
            others = [token for token in allowed if token not in request.stop_ids]
            if ends and (not others or self._random.random() < self._ending):
                yield self._random.choice(ends)
            else:
                yield self._random.choice(others)
