"""What a model may write in one turn, as the text of an llguidance grammar.

`turn_grammar` joins reasoning, free text, calls in the family's own form and JSON answers into one Lark grammar with
embedded JSON schemas. The text says everything: it is the cache key of a compiled grammar and travels between
processes. Whether it compiles is for `grammar.py` to find out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skilldeck_daemon.engine.checks import ToolPlan, ToolSpec
from skilldeck_daemon.engine.families import Family
from skilldeck_daemon.engine.parsing.calls import RAW_CLOSE, RAW_OPEN
from skilldeck_daemon.engine.parsing.tags import schema_types
from skilldeck_daemon.engine.parsing.text_call_candidate import ARGUMENT_KEYS, FENCES, NAME_KEYS

WHITE_SPACE = 8  # most white space between two parts of a call: room for an indented style, none to dawdle in
JSON_WHITE_SPACE = 24
LEAST_THOUGHT = 64  # characters, where a prompt has opened the reasoning already
ANY = r"/(.|\n)*/"
NAMED_IN_TEXT = 128
"""Tools of a request up to which a call in the text is held. A token costs half a millisecond with 10 and with 128."""
GAP = r"/[ \n]{1,3}/"
_GAP = r"[ \n\t]{0,8}"
_CLOSING = rf"/{_GAP}\}}/"


def literal(text: str) -> str:
    """A string of the grammar; nothing at all for the empty one."""
    return json.dumps(text, ensure_ascii=False) if text else ""


def pattern(text: str) -> str:
    """A regex of the grammar."""
    return "/" + re.sub(r"(?<!\\)/", r"\\/", text).replace("\n", r"\n") + "/"


def json_rule(schema: Any, white_space: int, lenient: bool) -> str:
    """JSON that follows a schema, with at most `white_space` characters of space between its parts.

    `lenient` passes over keywords that cannot be enforced; without it they make the grammar fail to compile.
    """
    options = {"whitespace_pattern": rf"[ \n\r\t]{{0,{white_space}}}", "lenient": lenient}
    rooted = schema if isinstance(schema, dict) else {} if schema else {"not": {}}
    return "%json " + json.dumps({**rooted, "x-guidance": options}, ensure_ascii=False)


@dataclass
class _Lark:
    """Rules under way, and the grammars they refer to by @name."""

    rules: list[str] = field(default_factory=list)
    side: list[dict[str, str]] = field(default_factory=list)

    def rule(self, name: str, body: str) -> str:
        self.rules.append(f"{name}: {body}")
        return name.partition("[")[0]

    def text(self) -> str:
        """One Lark text, or the JSON of several grammars of which the first is the main one."""
        # no_forcing: where the text is determined, the model still chooses in which tokens it writes it
        main = '%llguidance {"no_forcing": true}\n' + "\n".join(self.rules) + "\n"
        if not self.side:
            return main
        return json.dumps({"grammars": [{"name": "turn", "lark_grammar": main}, *self.side]}, ensure_ascii=False)


def turn_grammar(
    family: Family,
    plan: ToolPlan,
    response_format: Mapping[str, Any],
    *,
    parallel: bool,
    in_reasoning: bool,
    thought: int,
    in_text: bool = True,
) -> str:
    """The grammar of one turn. plan.mode required: only calls; a response_format: only JSON, or calls if there are
    tools; mode none: text without calls; else free text in which what begins like a call must be one; `in_text`: also
    where it begins as JSON in the text does (`parsing/text_calls.py`), in families whose models write it so.

    `thought`: characters of reasoning before calls or JSON that are demanded; 0 for a model that does not reason.
    """
    lark = _Lark()
    answer = _answer(lark, family, response_format)
    if plan.mode == "required":
        body = _calls(lark, family, plan, parallel)
    elif answer and plan.tools:
        body = f"({answer} | {_calls(lark, family, plan, parallel)})"
    elif answer:
        body = answer
    elif plan.mode == "none":
        if family.write["trigger"]:
            lark.rule("CALL", f"{ANY} {literal(family.write['trigger'])} {ANY}")
        lark.rule("TEXT", f"{ANY} & ~CALL" if family.write["trigger"] else ANY)
        lark.rule("start", "TEXT")
        return lark.text()
    else:
        _free(lark, family, plan, in_text and family.text_calls)
        return lark.text()
    begin, end = _thought(family)
    if begin and (thought or in_reasoning):
        # bounded: a model that never stops thinking would use up its tokens and write nothing of what is demanded
        free = rf"/(.|\n){{0,{max(thought, LEAST_THOUGHT)}}}/"
        lark.rule("think[lazy]", f"{'' if in_reasoning else literal(begin)} {free} {literal(end)}")
        body = f"think gap? {body}" if in_reasoning else f"(think gap?)? {body}"
        lark.rule("gap", GAP)
    lark.rule("start", body)
    return lark.text()


def terminal_grammar(body: str) -> str:
    """A turn that is one terminal."""
    lark = _Lark()
    lark.rule("TURN", body)
    lark.rule("start", "TURN")
    return lark.text()


def _thought(family: Family) -> tuple[str, str]:
    write = family.write
    return write.get("reasoning_begin", family.think_open), write.get("reasoning_end", family.think_close)


def _answer(lark: _Lark, family: Family, wanted: Mapping[str, Any]) -> str:
    if wanted.get("type") not in ("json_schema", "json_object"):
        return ""
    is_schema = wanted["type"] == "json_schema"
    schema = wanted.get("schema") if is_schema else {"type": "object"}
    lenient = is_schema and not wanted.get("strict")
    text = literal(family.write.get("text", ""))
    return lark.rule("answer", f"{text} {json_rule(schema, JSON_WHITE_SPACE, lenient)}")


def _free(lark: _Lark, family: Family, plan: ToolPlan, in_text: bool) -> None:
    """Text and calls in any order. Reasoning is not set apart here: a call in it is well-formed too, and is not read
    as one. That a turn has at most one call, where it must, is the parser's business."""
    lark.rule("TEXT", ANY)
    calls = _in_text(lark, plan) if in_text else []
    kinds = sorted({RAW_OPEN if tool.format else family.write["trigger"] for tool in plan.tools})
    for index, trigger in enumerate(kinds):
        if not trigger:
            continue
        tools = [tool for tool in plan.tools if (RAW_OPEN if tool.format else family.write["trigger"]) == trigger]
        rest = " | ".join(lark.rule(f"rest_{tool.index}", _call(lark, family, tool, trigger)) for tool in tools)
        # lazy: the text ends at the first trigger in it, and a call must follow
        lark.rule(f"trigger_{index}[lazy]", f"TEXT {literal(trigger)}")
        calls.append(f"trigger_{index} ({rest})")
    if calls:
        lark.rule("call", " | ".join(calls))
    lark.rule("start", "call* TEXT" if calls else "TEXT")


def _in_text(lark: _Lark, plan: ToolPlan) -> list[str]:
    """Calls as JSON in the text. From the name of an offered tool on nothing else can follow than its arguments, and
    where a fence was opened its end: an object that names something else is text, like the name of a package.json.

    What comes before the name is looked for once, whatever the tools: looked for with each name, the ten tools of an
    agent program were more than llguidance's lexer holds.
    """
    tools = [tool for tool in plan.tools if not tool.format]
    if not tools or len(tools) > NAMED_IN_TEXT:
        return []
    names, keys, fences = "|".join(NAME_KEYS), "|".join(ARGUMENT_KEYS), "|".join(sorted(filter(None, FENCES)))
    opening = rf'\{{{_GAP}"({names})"{_GAP}:{_GAP}"'
    fenced = pattern(rf"((.|\n)*\n)?```({fences})?[ ]*\n{_GAP}{opening}")
    bare = pattern(rf"((.|\n)*[\n;}}\]>])?{_GAP}{opening}")
    lark.rule("fenced[lazy]", fenced)
    lark.rule("bare[lazy]", f"{bare} & ~{fenced}")
    held = pattern(rf',{_GAP}"({keys})"{_GAP}:{_GAP}')
    for tool in tools:
        arguments = json_rule(tool.parameters, WHITE_SPACE, lenient=not tool.strict)
        lark.rule(f"name_{tool.index}[lazy]", pattern(f'{re.escape(tool.name)}"'))
        lark.rule(f"named_{tool.index}", f"name_{tool.index} {held} {arguments} {_CLOSING}")
    lark.rule("named", " | ".join(f"named_{tool.index}" for tool in tools))
    lark.rule("fence_end", pattern(rf"{_GAP}```"))
    return ["fenced (named fence_end)?", "bare named?"]


def _calls(lark: _Lark, family: Family, plan: ToolPlan, parallel: bool) -> str:
    """One call or more, and nothing else."""
    write = family.write
    tools = [lark.rule(f"tool_{tool.index}", _call(lark, family, tool, "")) for tool in plan.tools]
    single = plan.named is not None or not parallel or bool(write.get("single"))
    lark.rule("one_call", " | ".join(tools))
    separator = literal(write["separator"])
    calls = "one_call" if single else f"one_call ({separator} one_call)*"
    return lark.rule("calls", f"{literal(write.get('before', ''))} {calls} {literal(write.get('after', ''))}")


def _call(lark: _Lark, family: Family, tool: ToolSpec, trigger: str) -> str:
    """One call of a tool after its trigger, in the family's form; a free-text tool with a grammar in its own."""
    if tool.format:
        begin = literal(f'{RAW_OPEN}{tool.name}">\n'[len(trigger) :])
        return f"{begin} {custom_content(lark, tool)} {literal(RAW_CLOSE)}"
    write = family.write
    begin = literal(write["begin"].replace("{name}", tool.name)[len(trigger) :])
    if write["style"] in ("qwen_xml", "glm_xml"):
        # every parameter ends with the line break that the form's end begins with
        return f"{begin} {_tagged(lark, tool, write['style'])} {literal(write['end'].removeprefix(chr(10)))}"
    content = json_rule(tool.parameters, WHITE_SPACE, lenient=not tool.strict)
    return f"{begin} {content} {literal(write['end'])}"


def custom_content(lark: _Lark, tool: ToolSpec) -> str:
    """A free-text tool's own grammar."""
    assert tool.format is not None
    if tool.format["syntax"] == "regex":
        return pattern(tool.format["definition"])
    lark.side.append({"name": f"custom_{tool.index}", "lark_grammar": tool.format["definition"]})
    return f"@custom_{tool.index}"


def custom_grammar(tool: ToolSpec) -> str:
    """A free-text tool's grammar alone, to see whether it compiles."""
    lark = _Lark()
    lark.rule("start", custom_content(lark, tool))
    return lark.text()


def tool_grammar(family: Family, tool: ToolSpec) -> str:
    """One call of a function alone, in the family's form, to see whether it compiles."""
    lark = _Lark()
    lark.rule("start", _call(lark, family, tool, ""))
    return lark.text()


TAGS = {
    "qwen_xml": ("<parameter={key}>\n", "\n</parameter>", "\n"),
    "glm_xml": ("<arg_key>{key}</arg_key>\n<arg_value>", "</arg_value>", "\n"),
}


def _tagged(lark: _Lark, tool: ToolSpec, style: str) -> str:
    """Parameters in tags, in the order the schema declares them; those not required may be left out."""
    begin, end, between = TAGS[style]
    schema = tool.parameters
    required = set(schema.get("required") or ())
    roots = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    if "properties" not in schema and schema.get("additionalProperties") is not False:
        before, after = begin.split("{key}")
        lark.rule(f"key_{tool.index}", rf"/[^<>\n]{{1,64}}/ {literal(after)}")
        lark.rule(f"value_{tool.index}[lazy]", f"{ANY} {literal(end)}")
        return f"({literal(before)} key_{tool.index} value_{tool.index} {literal(between)})*"
    parts = []
    for number, (key, inner) in enumerate((schema.get("properties") or {}).items()):
        name = f"value_{tool.index}_{number}"
        types = schema_types(inner)
        opened = literal(begin.replace("{key}", key))
        if isinstance(inner, dict) and isinstance(inner.get("enum"), list) and types == ("string",):
            choices = " | ".join(literal(str(value)) for value in inner["enum"])
            lark.rule(name, f"({choices}) {literal(end)}")
        elif types == ("string",) and isinstance(inner.get("pattern"), str):
            lark.rule(name, f"{pattern(inner['pattern'])} {literal(end)}")
        elif types == ("string",) and ("maxLength" in inner or "minLength" in inner):
            least, most = inner.get("minLength", 0), inner.get("maxLength", "")
            lark.rule(f"{name}_text", rf"/[^<]{{{least},{most}}}/")
            lark.rule(name, f"{name}_text? {literal(end)}" if not least else f"{name}_text {literal(end)}")
        elif types in (("string",), ("string", "null")):
            lark.rule(f"{name}[lazy]", f"{ANY} {literal(end)}")
        else:
            value = {**(inner if isinstance(inner, dict) else {}), **roots}
            lark.rule(name, f"{json_rule(value, WHITE_SPACE, lenient=not tool.strict)} {literal(end)}")
        part = f"{opened} {name} {literal(between)}"
        parts.append(part if key in required else f"({part})?")
    return " ".join(parts)
