"""What of a request's tools and output format a model is held to by grammar.

A `Holder` belongs to one model. Too large for any grammar: BadRequest, whoever sent it. Within that, a schema that is
`strict` (and a Lark or regex grammar always) is followed whole, or refused naming the tool and the path. Any other
schema is held as far as it can be: what no grammar follows is left out, keyword by keyword, then property by property,
in the end all of it (any JSON object); a warning is logged once and the other tools stay as they are. What a grammar
does not hold is left to whoever reads the arguments.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from skilldeck_daemon.engine.checks import ToolPlan, ToolSpec
from skilldeck_daemon.engine.families import Family
from skilldeck_daemon.engine.grammar.lark_size import too_large
from skilldeck_daemon.engine.grammar.schema_form import Form, read_form, without
from skilldeck_daemon.engine.grammar.text import WHITE_SPACE, custom_grammar, json_rule, tool_grammar
from skilldeck_daemon.engine.grammar.trial import Verdict
from skilldeck_shared.errors import BadRequest
from skilldeck_shared.json_types import JsonObject

log = logging.getLogger(__name__)

REMEMBERED = 1024
MAX_BYTES = 1 << 20  # of all schemas of a request
PLAIN_BYTES = 64 << 10  # of a request's schemas that are compiled together without being tried first
PLAIN_NODES = 2000
MOST_PROBES = 64  # patterns, or properties, looked at one by one
MOST_FATAL = 2  # probes that end a process, before everything is left out
NAMED = 4  # of what is left out, in one warning
REASON = 200  # characters of a compiler's words
LONGEST_PATH = 300  # characters: names of properties are a client's data, and as long as it likes
SMALL = 20_000  # characters of a schema that is read at once; a longer one in a thread
SIMPLER = "Make it smaller or simpler."
LOOSER = "Leave it out, or set strict to false."

# Where in a grammar that we wrote; in a client's own Lark the place is worth knowing, and has no "at".
_PLACE = re.compile(r"^at \d+\(\d+\): ")

Compile = Callable[[str, bool], Awaitable[Verdict]]
"""Whether a grammar compiles; the second says that it may be compiled here, without being tried elsewhere first."""


@dataclass(frozen=True)
class Held:
    """A request as its grammar holds it: tools and format with schemas that compile. `plain`: all may be compiled
    here untried. `loosened`: whose schemas are held in part only, names of tools and "text.format"."""

    plan: ToolPlan
    format: Mapping[str, Any]
    plain: bool = True
    loosened: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Schema:
    """One schema of a request, what it is called, and the grammar it becomes."""

    schema: Any
    strict: bool
    path: str
    what: str
    grammar: Callable[[Any], str]


@dataclass(frozen=True)
class _Kept:
    schema: Any
    plain: bool
    size: int
    nodes: int
    loosened: bool = False


class Holder:
    def __init__(self, family: Family, compiles: Compile) -> None:
        self._family = family
        self._compiles = compiles
        self._known: OrderedDict[str, _Kept] = OrderedDict()

    async def hold(self, plan: ToolPlan, wanted: Mapping[str, Any]) -> Held:
        """The request as it is held. Raises BadRequest naming the tool and the path."""
        kept: list[_Kept] = []
        tools: list[ToolSpec] = []
        loosened: list[str] = []
        plain = True
        for tool in plan.tools:
            if tool.format is not None:
                await self._custom(tool, tool.format)
                plain = False
            elif tool.kind == "function":
                found = await self._schema(self._of_tool(tool))
                kept.append(found)
                loosened += [tool.name] if found.loosened else []
                tool = replace(tool, parameters=found.schema)
            tools.append(tool)
        if wanted.get("type") == "json_schema":
            found = await self._schema(_of_answer(wanted))
            kept.append(found)
            loosened += ["text.format"] if found.loosened else []
            wanted = {**wanted, "schema": found.schema}
        size = sum(each.size for each in kept)
        if size > MAX_BYTES:
            raise BadRequest(f"The schemas have more than {MAX_BYTES >> 20} MiB together.", SIMPLER, param="tools")
        plain = plain and all(each.plain for each in kept)
        plain = plain and size <= PLAIN_BYTES and sum(each.nodes for each in kept) <= PLAIN_NODES
        by_index = {tool.index: tool for tool in tools}
        every = tuple(by_index.get(tool.index, tool) for tool in plan.every)
        return Held(replace(plan, tools=tuple(tools), every=every), wanted, plain, tuple(loosened))

    def loosened(self, held: Held) -> Held | None:
        """The same with every schema that is not strict given up; None when nothing is left to give up. For parts that
        compile, but not together."""
        tools = tuple(
            tool
            if tool.strict or tool.kind != "function" or tool.parameters == FREE
            else replace(tool, parameters=FREE)
            for tool in held.plan.tools
        )
        if tools == held.plan.tools:
            return None
        log.warning("The tools of a request compile one by one but not together: their arguments are not held.")
        return Held(replace(held.plan, tools=tools), held.format, False)

    # -- what is asked for

    def _of_tool(self, tool: ToolSpec) -> _Schema:
        def grammar(schema: Any) -> str:
            return tool_grammar(self._family, replace(tool, parameters=schema))

        path = f"tools[{tool.index}].parameters"
        return _Schema(tool.parameters, tool.strict, path, f"tool {tool.name[:64]!r}", grammar)

    async def _custom(self, tool: ToolSpec, form: Mapping[str, Any]) -> None:
        path = f"tools[{tool.index}].format"
        if form.get("syntax") not in ("regex", "lark"):
            raise BadRequest("A grammar's syntax is lark or regex.", param=f"{path}.syntax")
        definition = form.get("definition")
        if not isinstance(definition, str):
            raise BadRequest("A grammar needs a definition.", param=f"{path}.definition")
        what = f"The {form['syntax']} grammar of tool {tool.name[:64]!r}"
        large = too_large(form["syntax"], definition)
        if large:
            raise BadRequest(f"{what} {large}.", SIMPLER, param=f"{path}.definition")
        verdict = await self._compiles(custom_grammar(tool), False)
        if verdict.fatal:
            raise BadRequest(f"{what} {verdict.problem}.", SIMPLER, param=f"{path}.definition")
        if verdict.problem:
            raise BadRequest(f"{what} does not compile: {reason(verdict.problem)}", param=f"{path}.definition")

    # -- one schema

    async def _schema(self, asked: _Schema) -> _Kept:
        if not isinstance(asked.schema, dict):
            raise BadRequest(f"The schema of {asked.what} must be a JSON object.", param=asked.path)
        key = json.dumps([asked.strict, asked.what, asked.schema], sort_keys=False)
        kept = self._known.get(key)
        if kept is None:
            form = read_form(asked.schema) if len(key) < SMALL else await asyncio.to_thread(read_form, asked.schema)
            kept = self._known[key] = await self._read(asked, form)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return kept

    async def _read(self, asked: _Schema, form: Form) -> _Kept:
        if form.large:
            raise BadRequest(f"The schema of {asked.what} {form.large}: '{asked.path}'.", SIMPLER, param=asked.path)
        if asked.strict and form.faults:
            self._refuse(asked, form.faults[0].path, form.faults[0].why)
        if asked.strict and form.unheld:
            self._refuse(asked, form.unheld[0], "is a keyword that no grammar can follow")
        left_out = [(fault.path, fault.why) for fault in form.faults]
        verdict = await self._compiles(asked.grammar(form.held), form.plain)
        if verdict.problem:
            form, more = await self._loosened(asked, form, verdict)
            left_out += more
        if left_out:
            places = "; ".join(f"{cut(asked.path + path, LONGEST_PATH)} {why}" for path, why in left_out[:NAMED])
            rest = f"; and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
            log.warning("No grammar holds all of the schema of %s. Left out: %s%s", asked.what, places, rest)
        return _Kept(form.held, form.plain, form.size, form.nodes, bool(left_out))

    async def _loosened(self, asked: _Schema, form: Form, verdict: Verdict) -> tuple[Form, list[tuple[str, str]]]:
        """A form that compiles, and what was left out of it. Raises BadRequest where the schema is strict."""
        why = verdict.problem if verdict.fatal else reason(verdict.problem)
        left_out: list[tuple[str, str]] = []
        fatal = int(verdict.fatal)
        if not verdict.fatal and len(form.patterns) <= MOST_PROBES:
            for path, regex in form.patterns:
                probe = await self._compiles(asked.grammar(_with("x", {"type": "string", "pattern": regex})), False)
                if probe.problem:
                    about = probe.problem if probe.fatal else reason(probe.problem)
                    if asked.strict:
                        self._refuse(asked, path, about)
                    left_out.append((path, about))
            if left_out:
                form = without(form, {path for path, _why in left_out}, asked.schema)
                verdict = await self._compiles(asked.grammar(form.held), False)
        properties = form.held.get("properties") if isinstance(form.held, dict) else None
        if verdict.problem and isinstance(properties, dict) and len(properties) <= MOST_PROBES:
            bad: JsonObject = {}
            for name, inner in properties.items():
                if fatal > MOST_FATAL:
                    break
                probe = await self._compiles(asked.grammar(_with(name, inner, form.held.get("$defs"))), False)
                fatal += probe.fatal
                if probe.problem:
                    about = probe.problem if probe.fatal else reason(probe.problem)
                    if asked.strict:
                        self._refuse(asked, f".properties.{name[:64]}", about)
                    bad[name] = True
                    left_out.append((f".properties.{name[:64]}", about))
            if bad and fatal <= MOST_FATAL:
                form = replace(form, held={**form.held, "properties": {**properties, **bad}}, plain=False)
                verdict = await self._compiles(asked.grammar(form.held), False)
        if verdict.problem:
            if asked.strict:
                self._refuse(asked, "", why)
            is_object = asked.path.startswith("tools") or asked.schema.get("type") == "object"
            form = replace(form, held=dict(FREE) if is_object else {}, plain=True, size=0, nodes=1)
            left_out.append(("", why))
        return form, left_out

    def _refuse(self, asked: _Schema, path: str, why: str) -> NoReturn:
        place = cut(asked.path + path, LONGEST_PATH)
        raise BadRequest(
            f"The schema of {asked.what} cannot be followed strictly: '{place}' {why}.",
            LOOSER,
            param=place,
            code="invalid_json_schema",
        )


FREE: JsonObject = {"type": "object"}


def _of_answer(wanted: Mapping[str, Any]) -> _Schema:
    strict = bool(wanted.get("strict"))

    def grammar(schema: Any) -> str:
        return "start: " + json_rule(schema, WHITE_SPACE, lenient=not strict)

    return _Schema(wanted.get("schema"), strict, "text.format.schema", "the output format", grammar)


def _with(name: str, inner: Any, definitions: Any = None) -> JsonObject:
    """An object that needs only one property."""
    held = {"type": "object", "properties": {name: inner}, "required": [name]}
    return {**held, "$defs": definitions} if definitions else held


def reason(problem: str) -> str:
    """A compiler's words, short and without the grammar that it repeats."""
    lines = [line.strip() for line in problem.strip().splitlines()]
    said = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), (lines or [""])[0])
    return cut(_PLACE.sub("", said, count=1).removeprefix("failed to compile JSON schema: ").rstrip(":"), REASON)


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"
