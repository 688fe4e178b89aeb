"""The reader of a call whose parameters stand in tags, and what their texts mean under a tool's schema."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from skilldeck_daemon.engine.parsing.calls import CallSink


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
