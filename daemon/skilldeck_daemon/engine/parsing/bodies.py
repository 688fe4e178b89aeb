"""Readers of the inside of one tool call, one for each way families write it.

A body takes text as it comes and reports to a `CallSink` what it understands: the name, then pieces of the arguments
as JSON text, then the end. `feed` returns None while the call goes on, or the text that follows it. A body that meets
something it cannot read sets `failed`; its owner then collects the text up to the closing marker and surfaces it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from skilldeck_daemon.engine.parsing.calls import Body, CallSink
from skilldeck_daemon.engine.parsing.jsonscan import SPACE, At, JsonScan
from skilldeck_daemon.engine.parsing.tags import TagsBody
from skilldeck_shared.json_types import JsonObject


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
        self._doubled = False  # {{…}}, as a template's own example of the form shows it

    @property
    def unread(self) -> str | None:
        return None

    def feed(self, text: str) -> str | None:
        for place, char in enumerate(text):
            if char == "{" and self._scan.at is At.KEY_OR_END and self._scan.depth == 1 and not self._doubled:
                self._doubled = True
                continue
            if self._scan.at is At.DONE and char not in SPACE:  # the second of the two closing braces
                return text[place + 1 :] if char == "}" else text[place:]
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
                if self.failed:
                    return None
                if not self._doubled:
                    return text[place + 1 :]
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
            if isinstance(value, dict):  # {"function": {"name": …, "arguments": …}}
                self._nested(value)
            elif isinstance(value, str) and value:
                self._name(value)
        elif key in self._argument_keys and not self._have_arguments:
            self._have_arguments = True
            if text[0] in '"n':  # a string holding the JSON, or null
                value = json.loads(text)
                (self._fresh if self._named else self._held).append(value if isinstance(value, str) else "{}")

    def _name(self, name: str) -> None:
        self._named = True
        self._sink.name(name)
        self._fresh, self._held = [*self._held, *self._fresh], []

    def _nested(self, value: JsonObject) -> None:
        name = value.get("name")
        if not isinstance(name, str) or not name:
            return
        key = next((key for key in self._argument_keys if key in value), None)
        if key is not None and not self._have_arguments:
            self._have_arguments = True
            given = value[key]
            self._held = [given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)]
        self._name(name)

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


class ListBody:
    """`[{"name": …}, {"name": …}]`: a list of objects."""

    def __init__(self, calls: Mapping[str, Any], sink: CallSink) -> None:
        self.failed = ""
        self._calls = calls
        self._sink = sink
        self._object: ObjectBody | None = None
        self._opened = False

    @property
    def unread(self) -> str | None:
        return None

    def feed(self, text: str) -> str | None:
        while text:
            if self._object is None:
                text = text.lstrip(SPACE + ",")
                if not text:
                    return None
                if not self._opened:
                    self._opened, text = True, text[1:]
                    continue
                if text[0] == "]":
                    return text[1:]
                self._object = ObjectBody(self._calls, self._sink)
            rest = self._object.feed(text)
            self.failed = self._object.failed
            if rest is None:
                return None
            self._object, text = None, rest
        return None


class NamedBody:
    """A name, a separator, then the arguments as JSON; or, where the family has it, a list of objects."""

    def __init__(self, calls: Mapping[str, Any], sink: CallSink) -> None:
        self.failed = ""
        self._calls = calls
        self._sink = sink
        self._buffer = ""
        self._scan: JsonScan | None = None
        self._list: ListBody | None = None
        self._fenced = False
        self._complete = False  # the arguments are; a code fence may follow

    @property
    def unread(self) -> str | None:
        return None

    def feed(self, text: str) -> str | None:
        if self._list is not None:
            return self._in_list(text)
        if self._scan is not None:
            return self._json(text)
        self._buffer += text
        head = self._buffer.lstrip()
        if not head:
            return None
        if self._calls.get("list") and head[0] == "[" and not head.startswith(("[ARGS", "[CALL")):
            self._list = ListBody(self._calls, self._sink)
            self._buffer = ""
            return self._in_list(head)
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

    def _in_list(self, text: str) -> str | None:
        assert self._list is not None
        rest = self._list.feed(text)
        self.failed = self._list.failed
        return rest


class AnyBody:
    """The three forms that models of one family mix: an object, a list of objects, a name with parameters in tags."""

    def __init__(self, calls: Mapping[str, Any], sink: CallSink) -> None:
        self._calls = calls
        self._sink = sink
        self._body: Body | None = None
        self._begun = ""

    @property
    def failed(self) -> str:
        return self._body.failed if self._body is not None else ""

    @property
    def unread(self) -> str | None:
        return self._body.unread if self._body is not None else None

    def feed(self, text: str) -> str | None:
        if self._body is None:
            self._begun += text
            head = self._begun.lstrip()
            if not head:
                return None
            self._body, text = self._chosen(head[0]), self._begun
        return self._body.feed(text)

    def _chosen(self, first: str) -> Body:
        if first == "[":
            return ListBody(self._calls, self._sink)
        if first == "<" and self._calls["close"]:
            return TagsBody({**FUNCTION_TAGS, **self._calls}, self._sink)
        return (
            BODIES[self._calls["body"]](self._calls, self._sink)
            if first != "{"
            else ObjectBody(self._calls, self._sink)
        )


# <function=NAME><parameter=KEY>VALUE</parameter></function>, where a family's own data does not say otherwise
FUNCTION_TAGS = {
    "name": r"\s*<function=(?P<name>[^>]*)>\s*",
    "key": r"\s*<parameter=(?P<key>[^>]*)>\n?",
    "value_close": "</parameter>",
    "body_close": r"\s*</function>\s*",
    "value_trim": "\n",
}
BODIES: dict[str, type[ObjectBody] | type[NamedBody] | type[TagsBody]] = {
    "object": ObjectBody,
    "named": NamedBody,
    "tags": TagsBody,
}


def body_for(calls: Mapping[str, Any], sink: CallSink) -> Body:
    """The reader of one call of a family."""
    return AnyBody(calls, sink) if calls.get("mixed") else BODIES[calls["body"]](calls, sink)
