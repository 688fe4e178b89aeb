"""`ResponseRequest`: the body of POST /v1/responses, read once and completely.

Every field of the API is honoured, or refused by name with `param` set; so are fields that the API does not have, but
for those that known clients send. Nothing is looked up here: ids are resolved when the run starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from skilldeck_daemon.agent.grounded import VERIFIES, Verify
from skilldeck_daemon.tools import Tool, parse_tools
from skilldeck_daemon.tools.choice import ToolChoice, parse_choice
from skilldeck_daemon.wire.fields import Fields, metadata, refuse, refuse_foreign
from skilldeck_daemon.wire.included import check_includes
from skilldeck_daemon.wire.items import REASONING, Item, parse_input
from skilldeck_daemon.wire.known_fields import refuse_unknown
from skilldeck_daemon.wire.sampling_fields import dry, logit_bias, one_or_many, template_options
from skilldeck_daemon.wire.schemas import check_schema
from skilldeck_shared.json_types import JsonObject

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SUMMARIES = ("auto", "concise", "detailed")
FOREIGN = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "functions": "tools",
    "function_call": "tool_choice",
}
"""Fields of Chat Completions, and what Responses call them: without them something else would be answered."""
TIERS = ("auto", "default", "flex", "scale", "priority", "fast")


@dataclass(frozen=True)
class ResponseRequest:
    """A valid request. `input` holds canonical items with ids; `text_format` and `echo` are shapes of the wire."""

    model: str
    input: list[Item]
    tools: list[Tool]
    tool_choice: ToolChoice
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | None = None
    store: bool = True
    background: bool = False
    stream: bool = False
    include: frozenset[str] = frozenset()
    metadata: dict[str, str] = field(default_factory=dict)
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    parallel_tool_calls: bool = True
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[int, float] = field(default_factory=dict)
    dry: JsonObject = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    reports_stop: bool = False  # whether the answer says which of them ended it
    reports_made: bool = False  # whether the answer says which files each call of the shell made
    truncation: str = "disabled"
    compacts: bool = False  # whether a conversation beyond `compact_threshold` (tokens; None: most of the context) is
    compact_threshold: int | None = None
    compact_prompt: str | None = None  # asks for the summary in place of `compaction.PROMPT`
    compact_pauses: bool = False  # whether the run ends with a compaction, for the client to go on
    text_format: JsonObject = field(default_factory=lambda: {"type": "text"})
    verbosity: str = "medium"
    continues: bool = False  # whether the last message, the assistant's, is the beginning of the answer
    template: JsonObject = field(default_factory=dict)  # variables for the model's chat template
    effort: str | None = None
    summary: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    user: str | None = None
    verify: Verify | None = None  # what is done about figures that nothing holds; None: as the settings say

    @property
    def logprobs(self) -> bool:
        return self.top_logprobs > 0 or "message.output_text.logprobs" in self.include

    @classmethod
    def parse(cls, body: Any, *, stream_field: bool = True) -> ResponseRequest:
        """Read a JSON body; raises BadRequest naming the field.

        Args:
            stream_field: without it (WebSocket) `stream` is ignored and taken as true.
        """
        fields = Fields(body)
        fields.refuse("prompt", why="Prompt templates are kept on OpenAI's servers; send 'instructions' and 'input'.")
        fields.refuse("moderation", why="No moderation model is served here.")
        refuse_foreign(fields, FOREIGN)
        refuse_unknown(fields, (*FOREIGN, "n"))
        previous = fields.string("previous_response_id")
        conversation = _conversation(fields)
        if previous and conversation:
            refuse(
                "previous_response_id",
                "'previous_response_id' and 'conversation' were both given.",
                "Use one of them.",
                "mutually_exclusive_parameters",
            )
        store, background = fields.boolean("store", True), fields.boolean("background")
        if background and not store:
            refuse("background", "A background response must be stored.", "Leave 'store' out or set it to true.")
        tools = parse_tools(fields)
        include = check_includes(fields.strings("include"))
        if REASONING in include and store is False and conversation:
            refuse("store", "A conversation keeps its items, so 'store' cannot be false.")
        text_format, verbosity = _text(fields)
        effort, summary = _reasoning(fields)
        _accepted(fields)
        compacts, threshold = _compaction(fields)
        return cls(
            model=fields.string("model", minimum=1, maximum=512) or "default",
            input=parse_input(fields.value.get("input")),
            tools=tools,
            tool_choice=parse_choice(fields, tools),
            instructions=fields.string("instructions"),
            previous_response_id=previous or None,
            conversation=conversation,
            store=store,
            background=background,
            stream=fields.boolean("stream") if stream_field else True,
            include=include,
            metadata=metadata(fields),
            max_output_tokens=fields.integer("max_output_tokens", minimum=1),
            max_tool_calls=fields.integer("max_tool_calls", minimum=1),
            parallel_tool_calls=fields.boolean("parallel_tool_calls", True),
            temperature=fields.number("temperature", minimum=0, maximum=2),
            top_p=fields.number("top_p", minimum=0, maximum=1),
            top_logprobs=fields.integer("top_logprobs", minimum=0, maximum=20) or 0,
            presence_penalty=fields.number("presence_penalty", minimum=-2, maximum=2) or 0.0,
            frequency_penalty=fields.number("frequency_penalty", minimum=-2, maximum=2) or 0.0,
            seed=fields.integer("seed", minimum=-(2**63), maximum=2**63 - 1),
            top_k=fields.integer("top_k", minimum=0),
            min_p=fields.number("min_p", minimum=0, maximum=1),
            repetition_penalty=fields.number("repetition_penalty", minimum=0.01, maximum=100),
            logit_bias=logit_bias(fields),
            dry=dry(fields),
            stop=one_or_many(fields, "stop"),
            truncation=fields.string("truncation", choices=("auto", "disabled")) or "disabled",
            compacts=compacts,
            compact_threshold=threshold,
            text_format=text_format,
            verbosity=verbosity,
            template=template_options(fields),
            effort=effort,
            summary=summary,
            prompt_cache_key=fields.string("prompt_cache_key", maximum=1024),
            safety_identifier=fields.string("safety_identifier", maximum=64),
            user=fields.string("user", maximum=1024),
            verify=verify_of(fields),
        )


def verify_of(fields: Fields) -> Verify | None:
    """`verify`: a field of our own in each of the three APIs."""
    given = fields.string("verify", choices=VERIFIES)
    return next((one for one in VERIFIES if one == given), None)


def _conversation(fields: Fields) -> str | None:
    """A conversation is named by its id, or by an object that holds it."""
    if isinstance(fields.value.get("conversation"), dict):
        holder = fields.object("conversation")
        assert holder is not None
        return holder.needed("id", maximum=256)
    return fields.string("conversation", minimum=1, maximum=256)


def _text(fields: Fields) -> tuple[JsonObject, str]:
    text = fields.object("text")
    if text is None:
        return {"type": "text"}, "medium"
    verbosity = text.string("verbosity", choices=("low", "medium", "high")) or "medium"
    shape = text.object("format")
    return ({"type": "text"} if shape is None else read_format(shape)), verbosity


def _compaction(fields: Fields) -> tuple[bool, int | None]:
    """`context_management`: at most one entry, {type: compaction, compact_threshold?}."""
    entries = fields.objects("context_management", maximum=1)
    for entry in entries:
        entry.needed("type", choices=("compaction",))
        return True, entry.integer("compact_threshold", minimum=1000)
    return False, None


def read_format(shape: Fields) -> JsonObject:
    """{type: text | json_object} or {type: json_schema, name, schema, description?, strict?}."""
    kind = shape.needed("type", choices=("text", "json_object", "json_schema"))
    if kind != "json_schema":
        return {"type": kind}
    name = shape.needed("name", maximum=64)
    if not all(char.isascii() and (char.isalnum() or char in "_-") for char in name):
        refuse(
            shape.name("name"),
            f"'{shape.name('name')}' may hold letters, digits, '_' and '-' only.",
            code="invalid_value",
        )
    schema = shape.object("schema", required=True)
    assert schema is not None
    strict = shape.boolean("strict")
    if strict:  # what cannot be followed of another schema is left out where the model's engine finds it
        check_schema(schema.value, schema.path)
    description = shape.string("description")
    described = {"description": description} if description is not None else {}
    return {"type": kind, "name": name, **described, "schema": schema.value, "strict": strict}


def _reasoning(fields: Fields) -> tuple[str | None, str | None]:
    reasoning = fields.object("reasoning")
    if reasoning is None:
        return None, None
    older = reasoning.string("generate_summary", choices=SUMMARIES)
    summary = reasoning.string("summary", choices=SUMMARIES) or older
    reasoning.string("context", choices=("auto", "current_turn", "all_turns"))
    return reasoning.string("effort", choices=EFFORTS), summary


def _accepted(fields: Fields) -> None:
    """Fields that are valid and change nothing on one's own machine: their types are still checked."""
    fields.string("service_tier", choices=TIERS)
    fields.string("prompt_cache_retention", choices=("in_memory", "in-memory", "24h"))
    fields.object("prompt_cache_options")
    options = fields.object("stream_options")
    if options is not None:
        options.boolean("include_obfuscation")
        if not fields.boolean("stream"):
            refuse("stream_options", "'stream_options' is only allowed when 'stream' is true.")
