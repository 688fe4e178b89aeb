"""One place of a text that may be a call, read one character at a time (see `text_calls.py` for what counts as one)."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from skilldeck_daemon.engine.checks import CUSTOM_INPUT, ToolSpec
from skilldeck_daemon.engine.parsing.jsonscan import SPACE, At, JsonScan
from skilldeck_daemon.engine.parsing.tags import cast, schema_types
from skilldeck_shared.json_types import JsonObject

NAME_KEYS = ("name", "function", "tool", "tool_name", "function_name")
ARGUMENT_KEYS = ("arguments", "parameters", "args", "input")
BESIDE = ("type", "id", "call_id", "index")  # what a call may hold that says nothing
KEYS = frozenset((*NAME_KEYS, *ARGUMENT_KEYS, *BESIDE, "tool_calls"))
FENCES = frozenset(("", "json", "json5", "jsonc", "tool_call", "tool_calls", "tool", "tools", "function_call"))
SCHEMA = frozenset(("required", "additionalProperties"))  # of a schema, which models write off among the arguments
SHELLS = frozenset(("bash", "sh", "shell"))
TAGS = frozenset(("tools", "tool", "tool_call", "tool_calls", "function_call", "function_calls"))
LONGEST_OPENER = 160  # characters of a fence's or a tag's first line
PARAMETER = re.compile(r"\s*<parameter=(?P<key>[^>]*)>\n?(?P<value>.*?)\n?</parameter>", re.DOTALL)
NAMED = re.compile(rf'"(?:{"|".join(NAME_KEYS)})"\s*:\s*"([^"\\]+)"')
ARGUED = re.compile(rf'"(?:{"|".join(ARGUMENT_KEYS)})"\s*:\s*')


@dataclass(frozen=True)
class FoundCall:
    """A call in the text; `arguments` as a `ToolCallDone` holds them. `cut_off`: the output limit ended it."""

    name: str
    arguments: str
    cut_off: bool = False


class Candidate:
    """What may be a call, from its first character on. `step` gives True when it is one, False when it is none."""

    def __init__(
        self,
        tools: Mapping[str, ToolSpec],
        shell: str,
        unclosed: bool = False,
        like: Collection[str] = (),
        asked: bool = False,
    ) -> None:
        """
        Args:
            unclosed: a block of commands whose fence is missing at the end of the turn is a call.
            asked: the turn was to be such a block, so that a script in it is to run.
            like: such a block ends before a line that begins with none of these words; none: at its fence.
        """
        self.calls: list[FoundCall] = []
        self.is_shell = False
        self._tools = tools
        self._shell = shell
        self._unclosed = unclosed
        self._like = like
        self._asked = asked
        self._chars: list[str] = []
        self._closers: list[str] = []
        self._mark = ""  # a tag or a fence being read
        self._reading = "begin"
        self._function = ""  # the NAME of <function=NAME>
        self._before = 0  # calls before it
        self._value: _Value | None = None

    @property
    def text(self) -> str:
        return "".join(self._chars)

    def step(self, char: str) -> bool | None:
        self._chars.append(char)
        return self._READERS[self._reading](self, char)

    def close(self, cut_off: bool) -> list[FoundCall] | None:
        """The text ended inside it: the calls that can be made out, None when there are none."""
        if self._reading == "commands" and self._unclosed and cut_off and self._runs(self._mark):
            command = json.dumps({"commands": [self._mark.strip()]}, ensure_ascii=False)
            return [FoundCall(self._shell, command, cut_off=True)]
        if self._reading == "closer" or (self._reading == "commands" and self._unclosed):
            self._shell_line("\n")
        if self._function and self._value is None and cut_off:
            return [*self.calls, FoundCall(self._function, self._mark, cut_off=True)]
        if self._value is not None:
            text = self._value.text
            found = None if cut_off else read_calls(self._value.mended(), self._tools, self._function)
            if found is not None:
                return self.calls + found
            name = self._function or next((name for name in NAMED.findall(text) if name in self._tools), "")
            if cut_off and name:
                begun = None if self._function else ARGUED.search(text)
                written = text if self._function else text[begun.end() :] if begun else ""
                return [*self.calls, FoundCall(name, written, cut_off=True)]
            return None
        return self.calls or None

    # ------------------------------------------------------------ readers, by what is read

    def _begin(self, char: str) -> bool | None:
        if char in "{[":
            return self._start(char)
        self._mark = char
        self._reading = "tag" if char == "<" else "fence"
        return None

    def _fence(self, char: str) -> bool | None:
        """```json, up to the end of its line or the object."""
        if char not in "\n{[":
            self._mark += char
            marked = self._mark.startswith("```"[: len(self._mark)])
            return None if marked and len(self._mark) < LONGEST_OPENER else False
        language = self._mark[3:].strip().lower()
        if not self._mark.startswith("```") or language.startswith("`"):
            return False
        if language in SHELLS and char == "\n" and self._shell:
            self.is_shell, self._reading, self._mark = True, "commands", ""
            return None
        if language not in FENCES:
            return False
        self._closers.append("```")
        self._reading, self._mark = "between", ""
        return self._between(char)

    def _tag(self, char: str) -> bool | None:
        self._mark += char
        if char in "\n{[" or len(self._mark) > LONGEST_OPENER:
            return False
        if char != ">":
            return None
        mark, self._mark = self._mark, ""
        if self._closers and mark == self._closers[-1]:
            return self._closed()
        name = mark[1:-1]
        if name.startswith("function="):
            self._function = name.removeprefix("function=").strip().strip("\"'")
            if self._function not in self._tools:
                return False
            self._before = len(self.calls)
            self._closers.append("</function>")
        elif name in TAGS and not self._function:
            self._closers.append(f"</{name}>")
        elif name.startswith("parameter=") and self._function:
            self._reading, self._mark = "parameters", mark
            return None
        else:
            return False
        self._reading = "between"
        return None

    def _between(self, char: str) -> bool | None:
        """Between the objects of one fence or tag."""
        if char in SPACE or char in ",;":
            return None
        if char in "{[":
            return self._start(char)
        if char == "`" and self._closers and self._closers[-1] == "```":
            self._mark, self._reading = "`", "backticks"
            return None
        if char == "<" and self._closers and self._closers[-1] != "```":
            self._mark, self._reading = "<", "tag"
            return None
        return False

    def _backticks(self, char: str) -> bool | None:
        self._mark += char
        if self._mark != "```"[: len(self._mark)]:
            return False
        return self._closed() if self._mark == "```" else None

    def _closed(self) -> bool | None:
        if self._closers.pop() == "</function>":
            if len(self.calls) == self._before:  # no parameters
                self.calls.append(FoundCall(self._function, "{}"))
            self._function = ""
        self._reading, self._mark = "between", ""
        return None if self._closers else bool(self.calls)

    def _parameters(self, char: str) -> bool | None:
        """<parameter=KEY>VALUE</parameter> …, up to </function>."""
        self._mark += char
        if char != ">" or not self._mark.endswith("</function>"):
            return None
        properties = self._tools[self._function].parameters.get("properties") or {}
        values: JsonObject = {}
        at = 0
        while (match := PARAMETER.match(self._mark, at)) is not None:
            types = schema_types(properties.get(match["key"]))
            values[match["key"]] = match["value"] if types == ("string",) else cast(match["value"], types)
            at = match.end()
        if self._mark[at:].strip() != "</function>":
            return False
        found = _made(self._tools[self._function], values)
        assert found is not None
        self.calls.append(found)
        return self._closed()

    def _start(self, char: str) -> bool | None:
        self._value = _Value(self._tools, self._function)
        self._reading = "value"
        return self._object(char)

    def _object(self, char: str) -> bool | None:
        value = self._value
        assert value is not None
        verdict = value.step(char)
        if verdict is not True:
            return verdict
        found = read_calls(value.text, self._tools, self._function)
        if found is None:
            return False
        self.calls += found
        self._value, self._reading = None, "between"
        return None if self._closers else True

    def _commands(self, char: str) -> bool | None:
        """The lines of a ```bash block, up to the fence."""
        self._mark += char
        if self._like and char in SPACE and (before := self._ended_before(char)):
            self._mark = before
            return self._shell_line("\n")
        if char == "`" and (self._mark == "```" or self._mark.endswith("\n```")):
            self._reading = "closer"
        return None

    def _ended_before(self, char: str) -> str:
        """The commands before a line that has begun and is none; "" while there is no such line."""
        before, _, line = self._mark[:-1].rpartition("\n")
        word = line.strip()
        if not before.strip() or not word or " " in word or word[0] in "#`" or word in self._like:
            return ""
        inside = before.endswith("\\") or "<<" in before or before.count("'") % 2 or before.count('"') % 2
        return "" if inside else before

    def _shell_line(self, char: str) -> bool | None:
        """After the fence that may close a block of commands."""
        if char != "\n":
            self._mark += char
            self._reading = "closer" if char in " \t\r" else "commands"
            return None
        command = self._mark.rstrip().removesuffix("```").strip()
        if not self._runs(command):
            return False
        self.calls.append(FoundCall(self._shell, json.dumps({"commands": [command]}, ensure_ascii=False)))
        return True

    def _runs(self, block: str) -> bool:
        """Whether a block of commands is one to run: there is one in it, and it is no script that is shown (`#!`)."""
        written = [line.lstrip() for line in block.split("\n") if line.strip()]
        return any(line[0] != "#" for line in written) and (self._asked or not written[0].startswith("#!"))

    _READERS = {  # noqa: RUF012  (a table of methods, never changed)
        "begin": _begin,
        "fence": _fence,
        "tag": _tag,
        "between": _between,
        "backticks": _backticks,
        "parameters": _parameters,
        "value": _object,
        "commands": _commands,
        "closer": _shell_line,
    }


class _Value:
    """One object or list as it is written. `step`: True when it is complete, False when it can be no call.

    It looks at the keys and names of the outermost objects, so that other JSON is not held for long.
    """

    def __init__(self, tools: Mapping[str, ToolSpec], function: str) -> None:
        self._tools = tools
        self._free = bool(function)  # the object is the arguments themselves
        self._chars: list[str] = []
        self._scan = JsonScan()
        self._base = 0  # 1 inside a list
        self._key = ""
        self._word: list[str] | None = None  # the key or the name being read
        self._own: Mapping[str, Any] | None = None  # the properties of the tool, once it is named
        self._opened: list[str] = []
        self._doubled = False  # between two pairs of braces

    @property
    def text(self) -> str:
        return "".join(self._chars)

    def mended(self) -> str:
        """The text with what is not closed closed, as models forget the last brace; "" when that is not all."""
        if self._scan.at not in (At.AFTER, At.LITERAL, At.DONE):
            return ""
        return self.text + "".join("}" if char == "{" else "]" for char in reversed(self._opened))

    def step(self, char: str) -> bool | None:
        scan, before = self._scan, self._scan.at
        if self._chars == ["{"] and char == "{":  # {{…}}, as a template's own example of the form shows it
            self._doubled = True
            return None
        if before is At.DONE:
            return True if char == "}" else None if char in SPACE else False
        if not self._chars and char == "[":
            self._base = 1
        elif self._base and scan.depth == 1 and before in (At.VALUE, At.VALUE_OR_END) and char not in SPACE + "{":
            return False
        self._chars.append(char)
        depth = scan.depth
        # Line breaks in strings are no JSON, but models write them.
        scan.step(" " if char in "\n\t" and before is At.STRING else char)
        if scan.depth > depth:
            self._opened.append(char)
        elif scan.depth < depth:
            self._opened.pop()
        if scan.at is At.BAD:
            return False
        if not self._free and not self._word_char(char, before):
            return False
        return True if scan.at is At.DONE and not self._doubled else None

    def _word_char(self, char: str, before: At) -> bool:
        """Follow keys and names of the outermost objects; False when one says that this is no call."""
        scan = self._scan
        if self._word is not None:
            if before is At.STRING and char == '"':
                word, self._word = "".join(self._word), None
                return self._known(word, is_key=scan.at is At.COLON)
            self._word.append(char)
            return True
        if scan.depth == self._base + 1:
            if scan.at is At.STRING and char == '"' and (scan.is_key or self._key in NAME_KEYS):
                self._word = []
            elif char == "{" and scan.at is At.KEY_OR_END:
                self._own = None
        return True

    def _known(self, word: str, is_key: bool) -> bool:
        if is_key:
            self._key = word
            return word in KEYS or word in (self._own or ()) or "\\" in word
        if self._own is not None:
            return self._key in self._own  # a parameter that is called like one of our keys
        if word not in self._tools:
            return False
        self._own = self._tools[word].parameters.get("properties") or {}
        return True


def read_calls(text: str, tools: Mapping[str, ToolSpec], function: str = "") -> list[FoundCall] | None:
    """The calls that a JSON text is; None when it is none. `function`: the tool whose arguments it is."""
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    if function:
        made = _made(tools[function], value)
        return None if made is None else [made]
    if isinstance(value, dict) and set(value) <= {"tool_calls", "type"} and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    found = [_read_call(entry, tools) for entry in (value if isinstance(value, list) else [value])]
    calls = [call for call in found if call is not None]
    return calls if calls and len(calls) == len(found) else None


def _read_call(value: Any, tools: Mapping[str, ToolSpec]) -> FoundCall | None:
    if not isinstance(value, dict):
        return None
    nested = value.get("function")
    if isinstance(nested, dict):
        outer = {key: entry for key, entry in value.items() if key not in (*BESIDE, "function")}
        value = {**outer, **nested}
    key = next((key for key in NAME_KEYS if isinstance(value.get(key), str)), None)
    tool = tools.get(value[key]) if key is not None else None
    if tool is None:
        return None
    rest = {name: entry for name, entry in value.items() if name != key}
    own = tool.parameters.get("properties") or {}
    held = next((name for name in ARGUMENT_KEYS if name in rest), None)
    if held is not None and not set(rest) - {held, *BESIDE}:
        return _made(tool, rest[held])
    flat = {name: entry for name, entry in rest.items() if name in own or name not in BESIDE}
    return _made(tool, flat) if not set(flat) - set(own) else None


def _made(tool: ToolSpec, arguments: Any) -> FoundCall | None:
    """The call of a tool with these arguments; None when they are none."""
    if tool.kind == "custom" and isinstance(arguments, str):
        return FoundCall(tool.name, arguments)
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, strict=False)
        except (ValueError, RecursionError):
            return None
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        return None
    own = tool.parameters.get("properties") or {}
    if "properties" in arguments and "properties" not in own:
        return None  # the tool's schema, written off
    if own:  # a part of it
        arguments = {name: given for name, given in arguments.items() if name in own or name not in SCHEMA}
    if tool.kind == "custom":
        text = arguments.get(CUSTOM_INPUT)
        return FoundCall(tool.name, text) if isinstance(text, str) else None
    return FoundCall(tool.name, json.dumps(arguments, ensure_ascii=False))
