"""The body of POST /v1/messages (Anthropic Messages), read once and completely into a `ResponseRequest`.

Every field is honoured, or refused by name. Tools: the client's own (with `input_schema`), the client-side bash, text
editor and memory in Anthropic's versions, web_search, and code_execution, which is the hosted shell; `container` names
its container or the skills it has. A thinking budget reaches the model as effort: low, medium or high.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from skilldeck_daemon.agent.planning.request import ResponseRequest, verify_of
from skilldeck_daemon.http.anthropic.blocks import BlockReader, texts
from skilldeck_daemon.http.anthropic.context_edits import Edit, apply_edits, parse_compaction, parse_edits
from skilldeck_daemon.libraries.containers.environments import Environments
from skilldeck_daemon.tools import Tool, parse_tools
from skilldeck_daemon.tools.choice import ToolChoice, parse_choice
from skilldeck_daemon.tools.function import check_callers
from skilldeck_daemon.tools.web.items import RESULTS
from skilldeck_daemon.wire.error_names import Names
from skilldeck_daemon.wire.fields import Fields, refuse, refuse_foreign
from skilldeck_daemon.wire.items import Item
from skilldeck_daemon.wire.known_fields import MESSAGES, ignored
from skilldeck_daemon.wire.sampling_fields import template_options
from skilldeck_shared.errors import BadRequest
from skilldeck_shared.json_types import JsonObject

EFFORTS = ("low", "medium", "high", "xhigh", "max")
CODE_EXECUTION = "code_execution"
_TEXT = {"type": "string"}
CLIENT_TOOLS: dict[str, tuple[str, JsonObject]] = {
    "bash_": (
        "Run a command in a bash session that stays open between calls.",
        {"command": _TEXT, "restart": {"type": "boolean", "description": "Start the session anew."}},
    ),
    "text_editor_": (
        "View, create and edit text files.",
        {
            "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert"]},
            "path": _TEXT,
            "file_text": _TEXT,
            "old_str": _TEXT,
            "new_str": _TEXT,
            "insert_line": {"type": "integer"},
            "insert_text": _TEXT,
            "view_range": {"type": "array", "items": {"type": "integer"}},
        },
    ),
    "memory_": (
        "View and change the files of a memory that stays between conversations, below /memories.",
        {
            "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert", "delete", "rename"]},
            **dict.fromkeys(("path", "file_text", "old_str", "new_str", "insert_text", "old_path", "new_path"), _TEXT),
            "insert_line": {"type": "integer"},
            "view_range": {"type": "array", "items": {"type": "integer"}},
        },
    ),
}
"""Tools that the client carries out and Anthropic's models know by their types, by the beginnings of those."""
NAMES = {
    "input": "messages",
    "text.format": "output_config.format",
    "reasoning.effort": "output_config.effort",
    "max_output_tokens": "max_tokens",
    "*.image_url": ".url",
    "*.file_data": ".data",
    "*.file_url": ".url",
}


FOREIGN = {
    "input": "messages",
    "instructions": "system",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "response_format": "output_config.format",
    "reasoning_effort": "output_config.effort",
    "stop": "stop_sequences",
}
"""Fields of OpenAI's APIs, and what Messages call them."""
BILLING = "x-anthropic-billing-header:"
"""Begins a line that Claude Code puts before its system text, another one in each session: the prompt's cached
beginning would end there."""
WEB_SEARCH = "web_search"
ABSENT = {"tool_search_tool_": "tool_search", "web_fetch_": "web_fetch", "computer_": "computer"}
"""Tools that are not here, by the beginnings of their types, and what Responses call them."""


@dataclass(frozen=True)
class Container:
    """The request's `container`: an id, or skills for a new one; both name a container and what it must have."""

    id: str = ""
    skills: tuple[JsonObject, ...] = ()
    path: str = "container"


@dataclass(frozen=True)
class MessagesBody:
    """A valid request. `thinking`: whether reasoning is shown."""

    request: ResponseRequest
    names: Names
    container: Container = field(default_factory=Container)
    hosted: bool = False
    stream: bool = False
    thinking: bool = False
    ignored: tuple[str, ...] = ()
    edits: tuple[Edit, ...] | None = None  # None: the request has no `context_management`

    @classmethod
    def parse(cls, body: Any, *, counting: bool = False) -> MessagesBody:
        """Read a JSON body; raises BadRequest naming the field. `counting`: for count_tokens, without max_tokens."""
        fields = Fields(body)
        _refused(fields)
        model = fields.needed("model", maximum=512)
        limit = fields.integer("max_tokens", required=not counting, minimum=1)
        container = _container(fields)
        reader = BlockReader(container.id)
        reader.read(fields)
        tools, tool_name = _tools(fields, container)
        names = Names(reader.places, tool_name, NAMES, reader.parts)
        thinking, effort = _thinking(fields, limit)
        with names.renamed():
            parsed = parse_tools(Fields({"tools": tools}))
        choice, parallel = _choice(fields, parsed)
        request = ResponseRequest(
            model=model,
            input=reader.items,
            tools=parsed,
            tool_choice=choice,
            instructions=_system(fields),
            store=False,
            max_output_tokens=limit,
            parallel_tool_calls=parallel,
            max_tool_calls=_max_uses(fields),
            include=frozenset({RESULTS}),
            temperature=fields.number("temperature", minimum=0, maximum=1),
            top_p=fields.number("top_p", minimum=0, maximum=1),
            top_k=fields.integer("top_k", minimum=0),
            stop=_stops(fields),
            reports_stop=True,
            reports_made=True,
            text_format=_format(fields),
            continues=reader.begun,
            template=template_options(fields),
            effort=effort,
            user=_user(fields),
            verify=verify_of(fields),
            **parse_compaction(fields),
        )
        hosted = any(tool.hosted and tool.runs == "commands" for tool in parsed)
        edits = parse_edits(fields) if fields.value.get("context_management") is not None else None
        known = ignored(fields, MESSAGES)
        return cls(request, names, container, hosted, fields.boolean("stream"), thinking, known, edits)

    async def edited(
        self, count: Callable[[ResponseRequest], Awaitable[int]]
    ) -> tuple[ResponseRequest, list[JsonObject]]:
        """(the request with what `context_management` clears cleared, what that was)."""

        async def tokens(items: list[Item]) -> int:
            return await count(replace(self.request, input=items))

        items, applied = await apply_edits(self.edits or (), self.request.input, tokens)
        return replace(self.request, input=items), applied

    async def check(self, environments: Environments) -> None:
        """A container that is named together with skills must have them."""
        if not (self.container.id and self.container.skills):
            return
        record = await environments.record(self.container.id)
        mounted = {mount["skill_id"] for mount in record["mounts"]}
        for index, skill in enumerate(self.container.skills):
            if skill["skill_id"] not in mounted:
                where = f"container.skills[{index}].skill_id"
                hint = "Leave 'container.id' out to get a new container with these skills."
                refuse(where, f"Container {self.container.id[:100]!r} has no skill {skill['skill_id'][:64]!r}.", hint)


def _refused(fields: Fields) -> None:
    """What is not served here, and what is valid and changes nothing on one's own machine."""
    fields.refuse("mcp_servers", why="MCP servers are configured with the daemon.")
    if fields.value.get("thread") is not None:
        error = BadRequest(
            "'thread' is not supported: no conversation is held here between requests.",
            "Send all messages each time; Anthropic's SDKs do so by themselves after this answer.",
            param="thread",
            code="unsupported_parameter",
        )
        error.details = {"error_code": "thread_unsupported_request"}
        raise error
    refuse_foreign(fields, FOREIGN)
    fields.object("cache_control")
    fields.object("diagnostics")
    fields.string("inference_geo")
    fields.string("service_tier", choices=("auto", "standard_only"))
    fields.string("speed", choices=("standard", "fast"))


def _system(fields: Fields) -> str | None:
    text = texts(fields, "system")
    if text is None or BILLING not in text:
        return text
    return "\n".join(line for line in text.split("\n") if not line.startswith(BILLING)).lstrip("\n")


def _user(fields: Fields) -> str | None:
    holder = fields.object("metadata")
    return None if holder is None else holder.string("user_id", maximum=1024)


def _stops(fields: Fields) -> tuple[str, ...]:
    stops = fields.strings("stop_sequences", maximum=8192)
    for index, stop in enumerate(stops):
        if not stop.strip():
            refuse(f"stop_sequences[{index}]", f"'stop_sequences[{index}]' must hold more than white space.")
    return tuple(stops)


def _format(fields: Fields) -> JsonObject:
    config = fields.object("output_config")
    shape = fields.object("output_format") or (config.object("format") if config is not None else None)
    if shape is None:
        return {"type": "text"}
    shape.needed("type", choices=("json_schema",))
    schema = shape.object("schema", required=True)
    assert schema is not None
    return {"type": "json_schema", "name": "answer", "schema": schema.value, "strict": True}


def _thinking(fields: Fields, limit: int | None) -> tuple[bool, str | None]:
    """(whether reasoning is shown, the effort)."""
    config = fields.object("output_config")
    effort = config.string("effort", choices=EFFORTS) if config is not None else None
    thinking = fields.object("thinking")
    if thinking is None:
        return False, effort
    kind = thinking.needed("type", choices=("enabled", "disabled", "adaptive", "between_tools"))
    shown = thinking.string("display", choices=("summarized", "omitted")) != "omitted"
    if kind == "disabled":
        return False, "none"
    if kind != "enabled":
        return shown, effort
    budget = thinking.integer("budget_tokens", required=True, minimum=1024) or 0
    if limit is not None and budget >= limit:
        refuse("thinking.budget_tokens", f"'thinking.budget_tokens' is {budget}.", "It must be less than 'max_tokens'.")
    return shown, effort or ("low" if budget < 4096 else "medium" if budget < 16384 else "high")


# ------------------------------------------------------------------ tools


def _container(fields: Fields) -> Container:
    value = fields.value.get("container")
    if value is None:
        return Container()
    if isinstance(value, str):
        return Container(fields.needed("container", maximum=256))
    holder = fields.object("container")
    assert holder is not None
    skills = []
    for entry in holder.objects("skills", maximum=200):
        if entry.needed("type", choices=("custom", "anthropic")) == "anthropic":
            hint = "Upload a skill and name it with type 'custom'."
            refuse(entry.name("type"), "Anthropic's own skills are not served here.", hint, "unsupported_value")
        version = entry.value.get("version")
        reference = {"type": "skill_reference", "skill_id": entry.needed("skill_id", maximum=64)}
        skills.append({**reference, **({"version": version} if version is not None else {})})
    return Container(holder.string("id", maximum=256) or "", tuple(skills), "container.id")


def _tools(fields: Fields, container: Container) -> tuple[list[JsonObject], Any]:
    """The tools in Responses' shape, and the names of their fields."""
    flat: list[JsonObject] = []
    kinds: list[str] = []
    for entry in fields.objects("tools", maximum=1024):
        kind = entry.string("type") or "custom"
        kinds.append(kind)
        flat.append(_tool(entry, kind, container))
    if (container.id or container.skills) and not any(kind.startswith(CODE_EXECUTION) for kind in kinds):
        hint = f'Add {{"type": "{CODE_EXECUTION}_20250825", "name": "{CODE_EXECUTION}"}} to \'tools\'.'
        refuse("container", "'container' needs the code execution tool.", hint)

    def named(index: int, rest: str) -> str:
        if kinds[index].startswith(CODE_EXECUTION):
            rest = rest.removeprefix("environment")
            return container.path if rest == ".container_id" else f"container{rest}"
        rest = rest.replace("filters.", "") if kinds[index].startswith(WEB_SEARCH) else rest
        return f"tools[{index}].{rest.replace('parameters', 'input_schema', 1)}"

    return flat, named


def _tool(entry: Fields, kind: str, container: Container) -> JsonObject:
    entry.boolean("defer_loading")  # every tool is declared at once
    if kind == "custom":
        check_callers(entry)
        schema = entry.object("input_schema", required=True)
        assert schema is not None
        function = {"type": "function", "name": entry.needed("name"), "parameters": schema.value}
        described = {"description": entry.string("description")} if entry.value.get("description") else {}
        return {**function, **described, "strict": entry.boolean("strict")}
    if kind.startswith(CODE_EXECUTION):
        entry.needed("name", choices=(CODE_EXECUTION,))
        if container.id:
            return {"type": "shell", "environment": {"type": "container_reference", "container_id": container.id}}
        return {"type": "shell", "environment": {"type": "container_auto", "skills": list(container.skills)}}
    for prefix, (description, properties) in CLIENT_TOOLS.items():
        if kind.startswith(prefix):
            parameters = {"type": "object", "properties": properties}
            name = entry.needed("name", maximum=128)
            return {"type": "function", "name": name, "description": description, "parameters": parameters}
    if kind.startswith(f"{WEB_SEARCH}_"):
        return _web_search(entry)
    for prefix, type in ABSENT.items():
        if kind.startswith(prefix):
            return {"type": type}
    hint = f"Supported: custom, {CODE_EXECUTION}_…, {WEB_SEARCH}_…, bash_…, text_editor_…, memory_…."
    refuse(entry.name("type"), f"Tools of type {kind[:64]!r} are not supported.", hint, "unsupported_tool")


def _web_search(entry: Fields) -> JsonObject:
    entry.needed("name", choices=(WEB_SEARCH,))
    entry.refuse("blocked_domains", why="Name the sites that may be searched, in 'allowed_domains'.")
    check_callers(entry)
    tool: JsonObject = {"type": WEB_SEARCH, "user_location": entry.value.get("user_location")}
    domains = entry.strings("allowed_domains")
    return {**tool, "filters": {"allowed_domains": domains}} if domains else tool


def _max_uses(fields: Fields) -> int | None:
    """`max_uses` of a web search that is the only hosted tool: a run has one limit for all of them."""
    limits = [
        entry.integer("max_uses", minimum=1) if str(entry.value.get("type")).startswith(f"{WEB_SEARCH}_") else None
        for entry in fields.objects("tools")
    ]
    alone = not any(str(entry.value.get("type")).startswith(CODE_EXECUTION) for entry in fields.objects("tools"))
    return next((limit for limit in limits if limit is not None), None) if alone else None


def _choice(fields: Fields, tools: list[Tool]) -> tuple[ToolChoice, bool]:
    """(the choice, whether calls may be parallel)."""
    choice = fields.object("tool_choice")
    if choice is None:
        return ToolChoice("auto"), True
    parallel = not choice.boolean("disable_parallel_tool_use")
    kind = choice.needed("type", choices=("auto", "any", "tool", "none"))
    wanted: Any = {"any": "required"}.get(kind, kind)
    if kind == "tool":
        name = choice.needed("name")
        named = {"type": "function", "name": name}
        hosted = {CODE_EXECUTION: "shell", WEB_SEARCH: WEB_SEARCH}.get(name)
        wanted = {"type": hosted} if any(tool.type == hosted for tool in tools) else named
    return parse_choice(Fields({"tool_choice": wanted}), tools), parallel
