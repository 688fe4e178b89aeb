"""The two levels at which a model is spoken to, and the types that cross them.

`Engine` is token ids in, token ids out: it owns scheduling, the KV cache, prefix reuse, the forward pass, sampling
and exact counts. `ChatModel` is messages and tools in, reasoning, text and tool-call deltas out: `chat/` makes one
of any Engine (template, tokeniser, grammar, parser, stop strings), `remote/` is one directly. The run sees only
ChatModel.

Promises: every accepted request ends in exactly one terminal event (`Finished`, `ChatFinished`), whatever happens;
cancelling is idempotent and frees the slot within one step; errors of one request never reach another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from skilldeck_daemon.engine.messages import Message
from skilldeck_shared.json_types import JsonObject

WAIT_S = 600.0
"""Seconds that a request waits for its model to be loaded."""


# ---------------------------------------------------------------- token level


IMAGE = -1
"""In a prompt, where an image stands."""


@dataclass(frozen=True)
class Caps:
    """What an engine can do; surfaces refuse by name what it cannot."""

    max_batch: int
    context: int
    grammar: bool = True
    logprobs: bool = True
    seed: bool = True
    prefix_cache: bool = True
    images: bool = False
    lora: bool = False
    image_tokens: int = 0
    """Where the place of an image in `prompt_ids` is the id `IMAGE`: tokens of one of 512 by 512 pixels. 0: the chat
    template writes places of its own."""
    writes: bool = True  # it continues text
    embeds: bool = False  # it answers with a `Vector` instead; `max_new` of a request means nothing then


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters, OpenAI's meaning and ranges; temperature 0 is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    logit_bias: dict[int, float] = field(default_factory=dict)
    seed: int | None = None


class LogitMask(Protocol):
    """A grammar at work on one request. `fill` writes a bitmask of allowed ids, int32[ceil(vocab / 32)]."""

    def fill(self, bitmask: Any, index: int) -> bool:
        """Write the mask into row `index`; False when everything is allowed."""

    def accept(self, token: int) -> bool:
        """Advance by a sampled token; False when the grammar does not allow it."""

    def rollback(self, tokens: int) -> None: ...

    @property
    def terminated(self) -> bool: ...


@dataclass(frozen=True)
class GenRequest:
    """One generation. `prompt_ids` is never empty; `max_new` is already clamped to the context. `blank`: ids that say
    nothing; while only such were generated, and few, none of `stop_ids` is (see `sampling.py`)."""

    id: str
    prompt_ids: Sequence[int]
    max_new: int
    sampling: Sampling = field(default_factory=Sampling)
    stop_ids: frozenset[int] = frozenset()
    blank: frozenset[int] = frozenset()
    mask: LogitMask | None = None
    logprobs: int | None = None  # None: none; 0..20: the sampled token's and that many alternatives
    images: tuple[Any, ...] = ()
    cache_salt: str = ""


@dataclass(frozen=True)
class TokenLogprob:
    """Natural-log probability before the sampler; `top` holds (token id, logprob), best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Started:
    queue_s: float


@dataclass(frozen=True)
class Prefill:
    done: int
    total: int


@dataclass(frozen=True)
class Tokens:
    """Every sampled id, the stop id that ends the request included (always last; `Finished.new` counts it)."""

    ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Vector:
    """What an engine that embeds makes of a text, of whatever length; after it only `Finished`."""

    values: tuple[float, ...]


FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True)
class Finished:
    """The terminal event. Token counts are exact; `cached` of the `prompt` tokens were not computed again."""

    reason: FinishReason
    prompt: int
    cached: int
    new: int
    prefill_s: float = 0.0
    decode_s: float = 0.0
    error: Exception | None = None


Event = Started | Prefill | Tokens | Vector | Finished


@dataclass(frozen=True)
class ModelSpec:
    """What to load: a folder, with the served name and the engine's own options."""

    path: str
    name: str
    options: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class ModelInfo:
    """A loaded (or loadable) model as surfaces show it.

    `context`: tokens that a request may hold; `longest`: what the model was made for, where that is known.
    `quantization`, `size` (bytes) and `licence` are the file's, where it says them.
    `places_skills`: its chat template knows where skills lie and was learned with their instructions as they are.
    `call_style`: how it calls the shell, in its family's form (json) or by a block of commands (bash).
    """

    name: str
    engine: str
    family: str = ""
    context: int = 0
    vocab: int = 0
    parameters: int = 0
    path: str = ""
    description: str = ""
    created: int = 0
    quantization: str = ""
    size: int = 0
    licence: str = ""
    places_skills: bool = False
    call_style: str = "json"
    longest: int = 0

    @property
    def lengthening(self) -> str:
        """What gives it a longer context, to follow an "or"; empty where nothing does."""
        if self.engine == "remote":
            return "start its server with a longer context (-c of llama.cpp, --max-model-len of vLLM)"
        if self.longest > self.context:
            return (
                f"serve it with more of its {self.longest} tokens: --engine-options '{{\"context\": {self.longest}}}'"
            )
        return ""


@dataclass(frozen=True)
class EngineStats:
    active: int = 0
    queued: int = 0
    max_batch: int = 0
    cache_used: float = 0.0  # fraction of the KV cache that holds live tokens
    tokens_per_s: float = 0.0  # decode, over the last seconds
    prefill_per_s: float = 0.0
    last_token_at: float = 0.0  # monotonic seconds, 0 when none yet
    device_memory_used: int = 0  # bytes
    device_memory_total: int = 0


Progress = Callable[[float, str], None]
"""Called with a fraction 0..1 and what is being done, from any thread."""


class RequestHandle(Protocol):
    """The events of one accepted request, ending in exactly one `Finished`."""

    def __aiter__(self) -> AsyncIterator[Event]: ...


@runtime_checkable
class Engine(Protocol):
    """Token ids in, token ids out. Methods are called from the event loop and never block it."""

    @property
    def caps(self) -> Caps: ...

    async def load(self, spec: ModelSpec, progress: Progress | None = None) -> ModelInfo: ...

    async def submit(self, request: GenRequest) -> RequestHandle:
        """Raises TooLong, EngineBusy, NotLoaded, EngineDead."""

    def cancel(self, request_id: str) -> None:
        """Idempotent; the request still ends in its one `Finished`."""

    def stats(self) -> EngineStats: ...

    async def unload(self) -> None: ...


# ---------------------------------------------------------------- message level


@dataclass
class Spent:
    """What a turn has used so far, for whoever stops it; written by models that count. Times in unix seconds, or 0."""

    input_tokens: int = 0
    output_tokens: int = 0
    prompt_known: float = 0.0
    first_token: float = 0.0


@dataclass
class Made:
    """What a model has made of a request, for its own later steps. Only the model that is `by` reads `what`."""

    by: object = None
    what: Any = None


@dataclass(frozen=True)
class ChatRequest:
    """One model turn, in Chat Completions shapes.

    messages: see `messages.py`; the arguments of calls are the JSON text that the model wrote.
    tools: [{"type": "function", "function": {name, description, parameters, strict}}] and
    [{"type": "custom", "custom": {name, description, format}}].
    tool_choice: "auto", "none", "required", {"type": "function", "name": …}, or
    {"type": "allowed_tools", "mode": "auto"|"required", "names": […]}.
    commands_tool: the tool that a turn of nothing but a ```bash block calls, where the daemon runs its commands.
    begin_call: the turn is to be a call of that tool; a model that calls it by such a block begins inside one, with
    this text. commands_like: what its further lines begin with where they are commands too; none: anything.
    answer: the turn is to be one, asked for so; a model that calls by such blocks writes none. "": as it likes.
    held: what such a model writes in this turn behind what is begun for it: a terminal in llguidance's Lark, of our own
    making and small; "": anything.
    answered: names of no tool (skills) whose calls the daemon answers; in the text they are read as calls as well.
    cache_key: the conversation, for whoever keeps its prefix near; cache_salt: only requests of the same one share what
    an engine keeps (prefixes, remembered answers).
    continues: whether the last message, the assistant's and without calls, is the beginning of the answer.
    template: further variables for the model's chat template.
    reports_stop: whether `ChatFinished` has to name the stop string that ended the answer, even at the price of an
    exact usage where the model is served elsewhere.
    response_format: None, {"type": "json_object"} or {"type": "json_schema", "name", "schema", "strict"}.
    spent: filled while the turn goes on.
    made: kept by the model, so that what it has validated and measured is not validated and rendered once more when it
    is streamed; a changed copy of the request begins anew.
    """

    messages: Sequence[Message]
    tools: Sequence[JsonObject] = ()
    tool_choice: str | JsonObject = "auto"
    parallel_tool_calls: bool = True
    response_format: JsonObject | None = None
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    reasoning_effort: str | None = None
    cache_key: str = ""
    cache_salt: str = ""
    commands_tool: str = ""
    begin_call: str | None = None
    commands_like: tuple[str, ...] = ()
    answer: str = ""
    held: str = ""
    answered: tuple[str, ...] = ()
    continues: bool = False
    template: Mapping[str, Any] = field(default_factory=dict)
    reports_stop: bool = False
    spent: Spent = field(default_factory=Spent, compare=False, repr=False)
    made: Made = field(default_factory=Made, init=False, compare=False, repr=False)


@dataclass(frozen=True)
class TextLogprob:
    """One token of text with its probabilities, in OpenAI's `logprobs` meaning."""

    token: str
    logprob: float
    bytes: tuple[int, ...]
    top: tuple[tuple[str, float, tuple[int, ...]], ...] = ()


@dataclass(frozen=True)
class PrefillProgress:
    done: int
    total: int


@dataclass(frozen=True)
class ReasoningDelta:
    text: str


@dataclass(frozen=True)
class TextDelta:
    text: str
    logprobs: tuple[TextLogprob, ...] = ()


@dataclass(frozen=True)
class ToolCallStart:
    """Call number `index` begins; `kind` is custom for free-text tools."""

    index: int
    id: str
    name: str
    kind: Literal["function", "custom"] = "function"


@dataclass(frozen=True)
class ToolCallDelta:
    """More of the call's arguments (JSON text) or of a custom tool's input."""

    index: int
    delta: str


@dataclass(frozen=True)
class ToolCallDone:
    """The call is complete; `arguments` is the whole text as the model wrote it.

    `problem` says why it is not a valid call (not JSON, unknown tool); the agent shows that to the model. `cut_off`:
    the output limit was reached inside it, so `arguments` are only its beginning.
    """

    index: int
    name: str
    arguments: str
    problem: str | None = None
    cut_off: bool = False


@dataclass(frozen=True)
class Usage:
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class ChatFinished:
    """The terminal event. reason: stop, length, tool_calls, cancelled, error (then `error` is set).

    `stop_sequence` is the stop string that ended the text, None when none did; where the model is served elsewhere it
    is sure only for a request with `reports_stop`.
    `looped`: the turn was ended (as length) because it only repeated itself.
    """

    reason: Literal["stop", "length", "tool_calls", "cancelled", "error", "content_filter"]
    usage: Usage
    prefill_s: float = 0.0
    decode_s: float = 0.0
    error: Exception | None = None
    stop_sequence: str | None = None
    looped: bool = False


ChatEvent = PrefillProgress | ReasoningDelta | TextDelta | ToolCallStart | ToolCallDelta | ToolCallDone | ChatFinished


@runtime_checkable
class ChatModel(Protocol):
    """Messages and tools in; deltas, then exactly one `ChatFinished` out."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def caps(self) -> Caps: ...

    def stream(self, request: ChatRequest) -> AsyncIterator[ChatEvent]:
        """An async generator; closing it (`aclose`) cancels the request and frees its slot.

        Errors that the request itself causes (TooLong, a schema that does not compile: BadRequest naming the field)
        raise before the first event; anything later arrives as `ChatFinished(reason="error")`.
        """

    async def validate(self, request: ChatRequest) -> Sequence[str]:
        """Raise BadRequest for what this model cannot honour (a strict schema or a grammar that does not compile,
        images …). Returns whose schemas are held in part only: names of tools, and "text.format"."""

    async def count_tokens(self, request: ChatRequest) -> int:
        """Tokens of the rendered prompt."""

    async def measure(self, request: ChatRequest) -> tuple[int, bool]:
        """(tokens of the rendered prompt, whether they were counted). Nothing is generated for it: where counting
        would need that, the first is a guess by the text's bytes."""

    def stats(self) -> EngineStats: ...

    async def close(self) -> None: ...
