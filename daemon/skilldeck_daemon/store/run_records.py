"""The records of runs: items, responses, events, and what is kept beside the log. See `records.py`."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, Required, TypedDict

from skilldeck_daemon.store.records import Metadata, without
from skilldeck_shared.json_types import JsonObject

# ------------------------------------------------------------------ items


class TopLogprob(TypedDict):
    """A token and its probability. Events leave the bytes out."""

    token: str
    logprob: float
    bytes: NotRequired[list[int]]


class Logprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class Annotation(TypedDict, total=False):
    """What a text cites; which fields it has depends on its type."""

    type: Required[str]
    url: str
    title: str
    file_id: str
    filename: str
    container_id: str
    start_index: int
    end_index: int
    index: int


class Part(TypedDict, total=False):
    """A part of a message, of a reasoning or of an output: text with what stands beside it, an image, or a file."""

    type: Required[str]
    text: str
    annotations: list[Annotation]
    logprobs: list[Logprob]
    refusal: str
    detail: str
    image_url: str | None
    file_id: str | None
    file_data: str
    file_url: str
    filename: str


class Item(TypedDict, total=False):
    """One item of a conversation or an output: what is asked of items of any type.

    Those of messages and reasoning are complete here; a call's and an output's own fields are named by the tool that
    they belong to (`class ShellCall(Item)`). Only the hidden items and the histories of other servers lack an id.
    """

    type: Required[str]
    id: str
    status: str
    role: str
    phase: str
    content: list[Part]
    summary: list[Part]
    encrypted_content: str
    call_id: str


# ------------------------------------------------------------------ responses


class TokenDetails(TypedDict):
    cached_tokens: int
    cache_write_tokens: int


class OutputTokenDetails(TypedDict):
    reasoning_tokens: int


class ResponseUsage(TypedDict):
    input_tokens: int
    input_tokens_details: TokenDetails
    output_tokens: int
    output_tokens_details: OutputTokenDetails
    total_tokens: int


class ResponseError(TypedDict):
    code: str
    message: str


class IncompleteDetails(TypedDict):
    reason: str


class ResponseReasoning(TypedDict):
    effort: str | None
    summary: str | None


class ResponseText(TypedDict):
    format: JsonObject
    verbosity: str


class ConversationRef(TypedDict):
    id: str


class Ungrounded(TypedDict):
    """A place in the answer that says what nothing the run has read says; characters, the end exclusive."""

    output_index: int
    content_index: int
    start_index: int
    end_index: int
    text: str


class Beside(TypedDict, total=False):
    """What a Response of ours has beside OpenAI's fields."""

    ungrounded: list[Ungrounded]
    shortened: bool  # the oldest messages gave way to make room


class ResponseObject(TypedDict):
    """A Response."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: str
    background: bool
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: list[Item]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: ResponseReasoning
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float
    text: ResponseText
    tool_choice: Any  # as the request had it: a word or an object
    tools: list[JsonObject]
    top_logprobs: int
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    truncation: str
    usage: ResponseUsage
    metadata: Metadata
    conversation: ConversationRef | None
    user: NotRequired[str]
    skilldeck: NotRequired[Beside]


class StoredResponse(ResponseObject):
    """A Response with the id of the whole exchange, the beginning of what the user said, and what program asked."""

    session: NotRequired[str]
    title: NotRequired[str]
    origin: NotRequired[str]


class RunSummary(TypedDict):
    """A Response without its input and output, with a `title`, for lists of runs."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: str
    model: str
    background: bool
    conversation: ConversationRef | None
    previous_response_id: str | None
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    usage: ResponseUsage | None
    metadata: Metadata
    title: str
    origin: str


class TurnEntry(TypedDict):
    """Of a run's timeline: a turn of the model. Times are unix seconds."""

    kind: Literal["turn"]
    start: float
    end: float
    finish: str
    prefill_s: float
    decode_s: float
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    context_tokens: NotRequired[int]  # of the next prompt, where a compaction knows it


class CallEntry(TypedDict):
    """Of a run's timeline: a call that the daemon carried out. One that no item shows has a name instead of an index;
    what else a tool counts stands beside (`ItemKind.account`)."""

    kind: Literal["call"]
    call_id: str
    tool: str
    outcome: str
    start: float
    end: float
    name: NotRequired[str]
    output_index: NotRequired[int]
    asked_s: NotRequired[float]
    exit_codes: NotRequired[list[int | None]]


class Extra(TypedDict, total=False):
    """What is kept beside a run's log: of each event its time, the timeline's entries, the skills whose instructions
    were opened, each call's arguments as the model wrote them, and the items that only the model is shown, each
    behind the number of items before it."""

    times: list[float]
    timeline: list[TurnEntry | CallEntry]
    opened: list[str]
    raw: dict[str, str]
    hidden: list[tuple[int, Item]]


class Event(TypedDict, total=False):
    """An event of a run's log. What it has beside these two depends on its type."""

    type: Required[str]
    sequence_number: Required[int]
    response: ResponseObject
    output_index: int
    item: Item
    item_id: str
    content_index: int
    summary_index: int
    command_index: int
    delta: Any  # a text, or of a shell's output {stdout, stderr}
    logprobs: list[Logprob]
    annotation: Annotation
    part: Part


class Again(TypedDict):
    """What another daemon needs to run a response anew."""

    body: JsonObject
    permission: str | None


_INSIDE = StoredResponse.__annotations__.keys() - ResponseObject.__annotations__.keys()


def public_response(record: StoredResponse) -> ResponseObject:
    """Without what stays inside."""
    shown: ResponseObject = without(_INSIDE, record)
    return shown
