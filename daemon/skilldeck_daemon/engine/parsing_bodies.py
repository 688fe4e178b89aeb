"""Readers of the inside of one tool call, one for each way families write it.

A body takes text as it comes and reports to a `CallSink` what it understands: the name, then pieces of the arguments
as JSON text, then the end. `feed` returns None while the call goes on, or the text that follows it. A body that meets
something it cannot read sets `failed`; its owner then collects the text up to the closing marker and surfaces it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Protocol

from skilldeck_daemon.engine.jsonscan import SPACE, At, JsonScan


class CallSink(Protocol):
    """Where a body reports. `name` comes first and once, `end` last and once."""

    def name(self, name: str) -> None: ...

    def arguments(self, delta: str) -> None: ...

    def end(self) -> None: ...

    def schema(self, name: str) -> Mapping[str, Any]: ...


class Body(Protocol):
    """`failed` says why it gave up; `unread` is what it holds and has not reported (None: the owner can tell)."""

    failed: str

    @property
    def unread(self) -> str | None: ...

    def feed(self, text: str) -> str | None: ...


class ObjectBody:
    """`{"name": "f", "arguments": {…}}`: the arguments stream as the model writes them."""

    def __init__(self, calls: Mapping[str, Any], sink: CallSink) -> None:
        self.failed = ""
        self._sink = sink
        self._name_keys = calls.get("name_keys", ("name",))
        self._argument_keys = calls.get("arguments_keys", ("arguments",))
        self._scan = JsonScan()
        self._key: list[str] = []
        self._current: str | None = None  # the key whose value is being read
        self._value: list[str] = []
        self._named = False
        self._have_arguments = False
        self._held: list[str] = []  # arguments that came before the name, or are not streamed
        self._fresh: list[str] = []  # arguments to report at the end of this feed

    @property
    def unread(self) -> str | None:
        return None

    def feed(self, text: str) -> str | None:
        for place, char in enumerate(text):
            before, depth = self._scan.at, self._scan.depth
            if depth == 0 and char not in SPACE and char != "{":
                self.failed = "the call is not a JSON object"
            else:
                self._scan.step(char)
                if self._scan.at is At.BAD:
                    self.failed = f"the call is not valid JSON: {before.value} was expected, not {char!r}"
            if self.failed:
                self._report()
                return None
            self._track(char, before, depth)
            if self._scan.at is At.DONE:
                self._finish()
                return text[place + 1 :] if not self.failed else None
        self._report()
        return None

    def _track(self, char: str, before: At, depth: int) -> None:
        """Collect the keys and values of the outermost object."""
        scan = self._scan
        if self._current is not None:
            ended = (scan.depth == 1 and scan.at in (At.AFTER, At.KEY)) or scan.depth == 0
            if not (ended and before is At.LITERAL and depth == 1) and (self._value or char not in SPACE):
                self._take(char)
            if ended:
                self._end_value()
        elif depth == 1 and before in (At.KEY, At.KEY_OR_END):
            self._key = []
        elif depth == 1 and before in (At.STRING, At.ESCAPE, At.HEX):
            if scan.at is not At.COLON:
                self._key.append(char)
        elif depth == 1 and before is At.COLON and scan.at is At.VALUE:
            self._current = json.loads('"' + "".join(self._key) + '"')
            self._value = []

    def _take(self, char: str) -> None:
        self._value.append(char)
        if self._current in self._argument_keys and self._value[0] != '"' and self._value[0] != "n":
            (self._fresh if self._named else self._held).append(char)

    def _end_value(self) -> None:
        key, text = self._current, "".join(self._value)
        self._current = None
        if key in self._name_keys and not self._named:
            value = json.loads(text)
            if isinstance(value, str) and value:
                self._named = True
                self._sink.name(value)
                self._fresh, self._held = [*self._held, *self._fresh], []
        elif key in self._argument_keys and not self._have_arguments:
            self._have_arguments = True
            if text[0] in '"n':  # a string holding the JSON, or null
                value = json.loads(text)
                (self._fresh if self._named else self._held).append(value if isinstance(value, str) else "{}")

    def _finish(self) -> None:
        if not self._named:
            self.failed = "the call does not name a tool"
            return
        if not self._have_arguments:
            self._fresh.append("{}")
        self._report()
        self._sink.end()

    def _report(self) -> None:
        if self._fresh and self._named:
            self._sink.arguments("".join(self._fresh))
            self._fresh = []


class NamedBody:
    """A name, a separator, then the arguments as JSON; or, where the family has it, a list of objects."""

    def __init__(self, calls: Mapping[str, Any], sink: CallSink) -> None:
        self.failed = ""
        self._calls = calls
        self._sink = sink
        self._buffer = ""
        self._scan: JsonScan | None = None
        self._object: ObjectBody | None = None
        self._in_list = False
        self._fenced = False
        self._complete = False  # the arguments are; a code fence may follow

    @property
    def unread(self) -> str | None:
        return None

    def feed(self, text: str) -> str | None:
        if self._object is not None or self._in_list:
            return self._list(text)
        if self._scan is not None:
            return self._json(text)
        self._buffer += text
        head = self._buffer.lstrip()
        if not head:
            return None
        if self._calls.get("list") and head[0] == "[" and not head.startswith(("[ARGS", "[CALL")):
            self._in_list = True
            self._buffer = ""
            return self._list(head[1:])
        prefix = self._calls.get("prefix", "")
        if prefix:
            if len(head) < len(prefix) and prefix.startswith(head):
                return None
            head = head.removeprefix(prefix)
        return self._head(head)

    def _head(self, head: str) -> str | None:
        """Read the name; wait while it is not complete."""
        ends = self._calls["name_end"]
        found = [(head.find(end), end) for end in ends if end in head]
        if not found:
            return None
        at, end = min(found)
        rest = head[at:] if end == "{" else head[at + len(end) :]
        if end == "[CALL_ID]":
            if "[ARGS]" not in rest:
                return None
            rest = rest.partition("[ARGS]")[2]
        if self._calls.get("fence"):
            body = rest.lstrip()
            if len(body) < 7 and "```json".startswith(body):
                return None
            if body.startswith("```json"):
                self._fenced, rest = True, body[7:]
        name = head[:at].strip()
        if not name:
            self.failed = "the call does not name a tool"
            return None
        self._sink.name(name)
        self._scan = JsonScan()
        self._buffer = ""
        return self._json(rest)

    def _json(self, text: str) -> str | None:
        scan, start = self._scan, 0
        assert scan is not None
        if self._complete:
            return self._unfence(text)
        for place, char in enumerate(text):
            if scan.depth == 0:
                if char in SPACE:
                    start = place + 1
                    continue
                if char != "{":
                    self.failed = f"the arguments are not a JSON object: they begin with {char!r}"
                    return None
            scan.step(char)
            if scan.at is At.BAD:
                self.failed = f"the arguments are not valid JSON at {char!r}"
                if place > start:
                    self._sink.arguments(text[start:place])
                return None
            if scan.at is At.DONE:
                self._sink.arguments(text[start : place + 1])
                self._complete = True
                return self._unfence(text[place + 1 :])
        if start < len(text):
            self._sink.arguments(text[start:])
        return None

    def _unfence(self, text: str) -> str | None:
        """Drop the code fence after the arguments, when there was one before them."""
        if self._fenced:
            self._buffer += text
            text = self._buffer
            body = text.lstrip()
            if len(body) < 3 and "```".startswith(body):
                return None
            text = body.removeprefix("```")
        self._sink.end()
        return text

    def _list(self, text: str) -> str | None:
        while text:
            if self._object is None:
                text = text.lstrip(SPACE + ",")
                if not text:
                    return None
                if text[0] == "]":
                    return text[1:]
                self._object = ObjectBody(self._calls, self._sink)
            rest = self._object.feed(text)
            self.failed = self._object.failed
            if rest is None:
                return None
            self._object, text = None, rest
        return None


class TagsBody:
    """A name and parameters in tags; the arguments are put together as JSON while the values stream."""

    def __init__(self, calls: Mapping[str, Any], sink: CallSink) -> None:
        self.failed = ""
        self._sink = sink
        self._name = re.compile(calls["name"])
        self._key = re.compile(calls["key"], re.DOTALL)
        self._body_close = re.compile(calls["body_close"])
        self._value_close: str = calls["value_close"]
        self._trim: str = calls.get("value_trim", "")
        self._close: str = calls["close"]
        self._buffer = ""
        self._schema: Mapping[str, Any] | None = None  # known once the name is
        self._count = 0
        self._types: tuple[str, ...] | None = None  # of the value being read; None between values
        self._raw: list[str] = []

    @property
    def unread(self) -> str | None:
        return "".join(self._raw) + self._buffer

    def feed(self, text: str) -> str | None:
        self._buffer += text
        while True:
            if self._schema is None:
                match = self._name.match(self._buffer)
                if match is None:
                    self._stuck("the call does not name a tool")
                    return None
                self._buffer = self._buffer[match.end() :]
                name = match["name"].strip()
                self._schema = (self._sink.schema(name).get("properties")) or {}
                self._sink.name(name)
                self._sink.arguments("{")
            elif self._types is None:
                match = self._key.match(self._buffer)
                if match is not None:
                    # an optional newline after the key may still be on its way
                    if match.end() == len(self._buffer) and self._trim:
                        return None
                    self._begin_value(match["key"].strip())
                    self._buffer = self._buffer[match.end() :]
                    continue
                end = self._body_close.match(self._buffer)
                if end is None:
                    self._stuck("a parameter cannot be read")
                    return None
                self._sink.arguments("}")
                self._sink.end()
                return self._buffer[end.end() :]
            else:
                at = self._buffer.find(self._value_close)
                if at < 0:
                    keep = len(self._value_close) + len(self._trim) - 1
                    if len(self._buffer) > keep:
                        self._value(self._buffer[:-keep])
                        self._buffer = self._buffer[-keep:]
                    return None
                self._value(self._buffer[:at].removesuffix(self._trim) if self._trim else self._buffer[:at])
                self._buffer = self._buffer[at + len(self._value_close) :]
                self._end_value()

    def _stuck(self, why: str) -> None:
        if self._close in self._buffer:
            self.failed = why

    def _begin_value(self, key: str) -> None:
        assert self._schema is not None
        self._types = schema_types(self._schema.get(key))
        self._raw = []
        lead = ", " if self._count else ""
        quote = '"' if self._types == ("string",) else ""
        self._sink.arguments(f"{lead}{json.dumps(key, ensure_ascii=False)}: {quote}")
        self._count += 1

    def _value(self, text: str) -> None:
        if self._types == ("string",):
            if text:
                self._sink.arguments(json.dumps(text, ensure_ascii=False)[1:-1])
        else:
            self._raw.append(text)

    def _end_value(self) -> None:
        assert self._types is not None
        if self._types == ("string",):
            self._sink.arguments('"')
        else:
            self._sink.arguments(json.dumps(cast("".join(self._raw), self._types), ensure_ascii=False))
        self._types = None
        self._raw = []


def schema_types(schema: Any) -> tuple[str, ...]:
    """The JSON types a schema allows at its top, () when it does not say."""
    if not isinstance(schema, dict):
        return ()
    declared = schema.get("type")
    types = [declared] if isinstance(declared, str) else list(declared or ())
    for word in ("anyOf", "oneOf"):
        for choice in schema.get(word) or ():
            types += schema_types(choice)
    if not types and schema.get("enum"):
        kinds = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
        types = [kinds.get(type(value), "object") for value in schema["enum"]]
    return tuple(dict.fromkeys(types))


def cast(text: str, types: tuple[str, ...]) -> Any:
    """The value a tag's text means under the types its schema allows; the text itself when none fits."""
    stripped = text.strip()
    try:
        value = json.loads({"None": "null", "True": "true", "False": "false"}.get(stripped, stripped))
    except ValueError:
        return text
    kinds: dict[str, tuple[type, ...]] = {
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
        "null": (type(None),),
        "object": (dict,),
        "array": (list,),
    }
    if not types:
        return value if not isinstance(value, str) else text
    for kind in types:
        fits = isinstance(value, kinds.get(kind, ()))
        if fits and (kind == "boolean" or not isinstance(value, bool)):
            return value
    return text


BODIES: dict[str, type[ObjectBody] | type[NamedBody] | type[TagsBody]] = {
    "object": ObjectBody,
    "named": NamedBody,
    "tags": TagsBody,
}
