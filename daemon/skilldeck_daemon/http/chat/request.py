"""`ChatRequest`s of the wire: the body of POST /v1/chat/completions, read once and completely.

The request becomes a `ResponseRequest`, so that Chat has the same run with the same tools as Responses. Every field is
honoured, or refused by name. Beyond OpenAI's fields: tools of the types that Responses hosts (`shell` and its kin, in
their Responses shape), the sampling options top_k, min_p, repetition_penalty and dry_…, `verify`, and what
`chat_messages` reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from skilldeck_daemon.agent.planning.request import EFFORTS, TIERS, ResponseRequest, read_format, verify_of
from skilldeck_daemon.http.chat.messages import MessageReader
from skilldeck_daemon.tools import MAX_TOOLS, TOOLS, Tool, parse_tools
from skilldeck_daemon.tools.choice import ToolChoice, parse_choice
from skilldeck_daemon.tools.mcp import McpTool
from skilldeck_daemon.wire.error_names import Names
from skilldeck_daemon.wire.fields import Fields, metadata, refuse, refuse_foreign
from skilldeck_daemon.wire.items import Item
from skilldeck_daemon.wire.known_fields import CHAT, ignored
from skilldeck_daemon.wire.sampling_fields import dry, logit_bias, one_or_many, template_options
from skilldeck_shared.json_types import JsonObject

FOREIGN = {
    "input": "messages",
    "instructions": "messages",
    "system": "messages",
    "max_output_tokens": "max_completion_tokens",
    "text": "response_format",
    "reasoning": "reasoning_effort",
    "stop_sequences": "stop",
}
"""Fields of Responses and Messages, and what Chat Completions call them: without them something else is answered."""
LOGPROBS = "message.output_text.logprobs"
NAMES = {
    "input": "messages",
    "text.format.schema": "response_format.json_schema.schema",
    "text.format": "response_format",
    "text.verbosity": "verbosity",
    "reasoning.effort": "reasoning_effort",
    "max_output_tokens": "max_completion_tokens",
    "*.image_url": ".image_url.url",
    "*.file_id": ".file.file_id",
    "*.file_data": ".file.file_data",
    "*.file_url": ".file.file_url",
}


@dataclass(frozen=True)
class ChatBody:
    """A valid request: `requests` are the runs that make its choices, in order."""

    requests: tuple[ResponseRequest, ...]
    messages: list[JsonObject]
    names: Names
    stream: bool = False
    include_usage: bool = False
    store: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    @classmethod
    def parse(cls, body: Any) -> ChatBody:
        """Read a JSON body; raises BadRequest naming the field."""
        fields = Fields(body)
        _refused(fields)
        reader = MessageReader()
        reader.read(fields)
        tools, names = _tools(fields, reader.places)
        stream = fields.boolean("stream")
        count = fields.integer("n", minimum=1, maximum=128) or 1
        with names.renamed():
            request = _request(fields, reader.items, tools)
        requests = [request]
        for number in range(1, count):
            # A seed fixes every choice; the choices still differ.
            seed = None if request.seed is None else request.seed + number
            requests.append(replace(request, seed=seed))
        return cls(
            requests=tuple(requests),
            messages=fields.value["messages"],
            names=names,
            stream=stream,
            include_usage=_stream_options(fields, stream),
            store=fields.boolean("store"),
            metadata=metadata(fields),
            ignored=ignored(fields, CHAT),
        )


def _request(fields: Fields, items: list[Item], tools: list[Tool]) -> ResponseRequest:
    wants_logprobs = fields.boolean("logprobs")
    top = fields.integer("top_logprobs", minimum=0, maximum=20)
    if top and not wants_logprobs:
        refuse("top_logprobs", "'top_logprobs' needs 'logprobs'.", "Set 'logprobs' to true.")
    return ResponseRequest(
        model=fields.string("model", minimum=1, maximum=512) or "default",
        input=items,
        tools=tools,
        tool_choice=_choice(fields, tools),
        store=False,
        include=frozenset({LOGPROBS} if wants_logprobs else ()),
        max_output_tokens=_max_tokens(fields),
        parallel_tool_calls=fields.boolean("parallel_tool_calls", True),
        temperature=fields.number("temperature", minimum=0, maximum=2),
        top_p=fields.number("top_p", minimum=0, maximum=1),
        top_logprobs=top or 0,
        presence_penalty=fields.number("presence_penalty", minimum=-2, maximum=2) or 0.0,
        frequency_penalty=fields.number("frequency_penalty", minimum=-2, maximum=2) or 0.0,
        seed=fields.integer("seed", minimum=-(2**63), maximum=2**63 - 1 - 128),
        top_k=fields.integer("top_k", minimum=0),
        min_p=fields.number("min_p", minimum=0, maximum=1),
        repetition_penalty=fields.number("repetition_penalty", minimum=0.01, maximum=100),
        logit_bias=logit_bias(fields),
        dry=dry(fields),
        stop=one_or_many(fields, "stop"),
        text_format=_format(fields),
        verbosity=fields.string("verbosity", choices=("low", "medium", "high")) or "medium",
        continues=_continues(fields),
        template=template_options(fields),
        effort=fields.string("reasoning_effort", choices=EFFORTS),
        prompt_cache_key=fields.string("prompt_cache_key", maximum=1024),
        safety_identifier=fields.string("safety_identifier", maximum=64),
        user=fields.string("user", maximum=1024),
        verify=verify_of(fields),
    )


def _continues(fields: Fields) -> bool:
    """Whether the answer goes on with the last message: an assistant's without calls, unless the request says no."""
    last = fields.objects("messages")[-1]
    begun = last.value.get("role") == "assistant" and not last.value.get("tool_calls")
    wanted = fields.value.get("continue_final_message")
    if fields.boolean("continue_final_message") and not begun:
        hint = "End 'messages' with an assistant message without tool calls."
        refuse("continue_final_message", "There is no answer to go on with.", hint)
    if wanted and fields.boolean("add_generation_prompt"):
        hint = "Set one of the two."
        refuse(
            "add_generation_prompt", "'add_generation_prompt' and 'continue_final_message' exclude each other.", hint
        )
    if wanted is None:
        return begun and not fields.boolean("add_generation_prompt")
    return bool(wanted)


def _refused(fields: Fields) -> None:
    """What is not served here, and what is valid and changes nothing on one's own machine."""
    refuse_foreign(fields, FOREIGN, one_answer=False)
    fields.refuse("functions", why="Send them as 'tools' of type 'function'.")
    fields.refuse("function_call", why="Use 'tool_choice'.")
    fields.refuse("audio", why="This server has no audio.")
    fields.refuse("moderation", why="No moderation model is served here.")
    fields.refuse("web_search_options", why="Web search is not part of Chat Completions here.")
    for index, entry in enumerate(fields.strings("modalities")):
        if entry != "text":
            refuse(f"modalities[{index}]", f"'modalities[{index}]' is {entry[:64]!r}.", "Only text is made here.")
    fields.object("prediction")  # a hint for speed; the answer is the same without it
    fields.object("prompt_cache_options")
    fields.string("prompt_cache_retention", choices=("in_memory", "in-memory", "24h"))
    fields.string("service_tier", choices=TIERS)


def _stream_options(fields: Fields, stream: bool) -> bool:
    options = fields.object("stream_options")
    if options is None:
        return False
    if not stream:
        refuse("stream_options", "'stream_options' is only allowed when 'stream' is true.")
    options.boolean("include_obfuscation")
    return options.boolean("include_usage")


def _max_tokens(fields: Fields) -> int | None:
    new = fields.integer("max_completion_tokens", minimum=1)
    old = fields.integer("max_tokens", minimum=1)
    if new is not None and old is not None:
        refuse("max_tokens", "'max_tokens' and 'max_completion_tokens' were both given.", "Use the second.")
    return old if new is None else new


def _format(fields: Fields) -> JsonObject:
    shape = fields.object("response_format")
    if shape is None:
        return {"type": "text"}
    if shape.needed("type", choices=("text", "json_object", "json_schema")) != "json_schema":
        return {"type": shape.value["type"]}
    inner = shape.object("json_schema", required=True)
    assert inner is not None
    return read_format(Fields({"schema": {}, **inner.value, "type": "json_schema"}, inner.path))


# ------------------------------------------------------------------ tools


def _tools(fields: Fields, places: list[str]) -> tuple[list[Tool], Names]:
    """The tools in Responses' flat shape, parsed; and the names for errors."""
    kinds: list[str] = []
    flat: list[JsonObject] = []
    for entry in fields.objects("tools", maximum=MAX_TOOLS):
        type = entry.needed("type", choices=tuple(TOOLS))
        kinds.append(type)
        if type not in ("function", "custom"):
            flat.append(entry.value)
            continue
        body = entry.object(type, required=True)
        assert body is not None
        flat.append({**body.value, **_custom_format(body), "type": type})

    def named(index: int, rest: str) -> str:
        type = kinds[index]
        if type not in ("function", "custom") or rest == "type":
            return f"tools[{index}].{rest}"
        for name in ("syntax", "definition"):
            rest = rest.replace(f"format.{name}", f"format.grammar.{name}")
        return f"tools[{index}].{type}.{rest}"

    names = Names(places, named, {**NAMES, **_limit_name(fields)})
    with names.renamed():
        tools = parse_tools(Fields({"tools": flat}))
        for index, tool in enumerate(tools):
            if isinstance(tool, McpTool) and tool.asks:
                name = f"tools[{index}].require_approval"
                refuse(name, f"'{name}' must be 'never': Chat Completions have no way to ask for an approval.")
        return tools, names


def _limit_name(fields: Fields) -> dict[str, str]:
    return {"max_output_tokens": "max_tokens"} if fields.value.get("max_tokens") is not None else {}


def _custom_format(body: Fields) -> JsonObject:
    """Chat nests a grammar once more than Responses."""
    shape = body.value.get("format")
    if not isinstance(shape, dict) or not isinstance(shape.get("grammar"), dict):
        return {}
    return {"format": {**shape["grammar"], "type": shape.get("type")}}


def _choice(fields: Fields, tools: list[Tool]) -> ToolChoice:
    value = fields.value.get("tool_choice")
    if value is None or isinstance(value, str):
        return parse_choice(fields, tools)
    choice = fields.object("tool_choice")
    assert choice is not None
    return parse_choice(Fields({"tool_choice": _flat_choice(choice)}), tools)


def _flat_choice(choice: Fields) -> JsonObject:
    type = choice.needed("type")
    if type in ("function", "custom"):
        body = choice.object(type, required=True)
        assert body is not None
        return {"type": type, "name": body.needed("name")}
    if type == "allowed_tools":
        body = choice.object("allowed_tools", required=True)
        assert body is not None
        tools = [_flat_choice(entry) for entry in body.objects("tools", required=True, minimum=1)]
        return {"type": type, "mode": body.needed("mode", choices=("auto", "required")), "tools": tools}
    if type not in TOOLS:
        hint = f"Use one of: {', '.join((*TOOLS, 'allowed_tools'))}."
        refuse(choice.name("type"), f"'{choice.name('type')}' is {type[:64]!r}.", hint, "invalid_value")
    return choice.value
