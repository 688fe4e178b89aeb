"""The body of POST /v1/completions (the older text completion), read once and completely.

Every field is honoured, or refused by name. Prompts are texts or token ids, one or several; they reach the model as
they are, without a chat template.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from skilldeck_daemon.engine.base import Sampling
from skilldeck_daemon.engine.chat.completion import CompletionRequest
from skilldeck_daemon.wire.caller import cache_salt
from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_daemon.wire.sampling_fields import logit_bias, one_or_many
from skilldeck_shared.characters import clean
from skilldeck_shared.json_types import JsonObject

MAX_PROMPTS = 2048
DEFAULT_TOKENS = 16
Prompt = str | tuple[int, ...]


@dataclass(frozen=True)
class CompletionBody:
    """A valid request: `n` choices for each of `prompts`."""

    model: str
    prompts: tuple[Prompt, ...]
    sampling: JsonObject
    max_tokens: int
    stop: tuple[str, ...]
    logprobs: int | None
    logit_bias: dict[int, float]
    n: int
    echo: bool
    stream: bool
    include_usage: bool

    @classmethod
    def parse(cls, body: Any) -> CompletionBody:
        """Read a JSON body; raises BadRequest naming the field."""
        fields = Fields(body)
        fields.refuse("suffix", why="Models are not asked to fill in text here.")
        n = fields.integer("n", minimum=1, maximum=128) or 1
        best = fields.integer("best_of", minimum=0, maximum=20)
        if best is not None and best not in (0, 1, n):
            refuse("best_of", f"'best_of' is {best}.", "Choosing the best of several is not supported; leave it out.")
        fields.string("user", maximum=1024)
        echo = fields.boolean("echo")
        logprobs = fields.integer("logprobs", minimum=0, maximum=5)
        if echo and logprobs is not None:
            refuse(
                "logprobs", "The log probabilities of the prompt are not returned.", "Leave out 'echo' or 'logprobs'."
            )
        stream = fields.boolean("stream")
        options = fields.object("stream_options")
        if options is not None and not stream:
            refuse("stream_options", "'stream_options' is only allowed when 'stream' is true.")
        limit = fields.integer("max_tokens", minimum=0)
        return cls(
            model=fields.string("model", minimum=1, maximum=512) or "default",
            prompts=prompts(fields),
            sampling={
                "temperature": fields.number("temperature", minimum=0, maximum=2),
                "top_p": fields.number("top_p", minimum=0, maximum=1),
                "presence_penalty": fields.number("presence_penalty", minimum=-2, maximum=2),
                "frequency_penalty": fields.number("frequency_penalty", minimum=-2, maximum=2),
                "top_k": fields.integer("top_k", minimum=0),
                "min_p": fields.number("min_p", minimum=0, maximum=1),
                "repetition_penalty": fields.number("repetition_penalty", minimum=0.01, maximum=100),
                "seed": fields.integer("seed", minimum=-(2**63), maximum=2**63 - 1 - 128),
            },
            max_tokens=DEFAULT_TOKENS if limit is None else limit,
            stop=one_or_many(fields, "stop"),
            logprobs=logprobs,
            logit_bias=logit_bias(fields),
            n=n,
            echo=echo,
            stream=stream,
            include_usage=options is not None and options.boolean("include_usage"),
        )

    def requests(self, defaults: Sampling) -> list[tuple[Prompt, CompletionRequest]]:
        """What the model is asked, choice by choice."""
        given = {name: value for name, value in self.sampling.items() if value is not None}
        sampling = replace(defaults, **given, logit_bias=self.logit_bias)
        wanted = []
        for prompt in self.prompts:
            for number in range(self.n):
                # A seed fixes every choice; the choices still differ.
                seed = None if sampling.seed is None else sampling.seed + number
                one = replace(sampling, seed=seed)
                ask = CompletionRequest(prompt, one, self.max_tokens, self.stop, self.logprobs, cache_salt())
                wanted.append((prompt, ask))
        return wanted


def prompts(fields: Fields, name: str = "prompt") -> tuple[Prompt, ...]:
    """The field of that name: one text or list of token ids, or several of either."""
    value = fields.value.get(name)
    if isinstance(value, str):
        return (clean(value),)
    entries = fields.array(name, required=True, minimum=1, maximum=None)
    if _is_id(entries[0]):
        return (_ids(entries, name),)
    if len(entries) > MAX_PROMPTS:
        refuse(name, f"'{name}' has {len(entries)} entries.", f"At most {MAX_PROMPTS} are allowed.")
    found: list[Prompt] = []
    for index, entry in enumerate(entries):
        if isinstance(entry, str) == isinstance(entries[0], str) and isinstance(entry, str):
            found.append(clean(entry))
        elif isinstance(entry, list) and isinstance(entries[0], list):
            found.append(_ids(entry, f"{name}[{index}]"))
        else:
            hint = "Send a text, an array of texts, of token ids, or of arrays of token ids."
            refuse(f"{name}[{index}]", f"'{name}[{index}]' is not like the others or no text.", hint, "invalid_type")
    return tuple(found)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _ids(values: list[Any], path: str) -> tuple[int, ...]:
    for index, value in enumerate(values):
        if not _is_id(value) or not 0 <= value < 2**31:
            refuse(f"{path}[{index}]", f"'{path}[{index}]' is no token id.", code="invalid_type")
    if not values:
        refuse(path, f"'{path}' is empty.", "Send at least one token.")
    return tuple(values)
