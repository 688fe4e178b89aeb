"""The reader of the harmony format, in which a turn is a series of messages on named channels.

    <|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json
    <|message|>{…}<|call|>

analysis is reasoning; commentary with a recipient is a call, without one it is text; final is text. The same promises
as `parsing.TextParser`.
"""

from __future__ import annotations

import re

from skilldeck_daemon.engine.base import ChatEvent, ReasoningDelta, TextDelta
from skilldeck_daemon.engine.checks import CUT_OFF, ToolPlan
from skilldeck_daemon.engine.families import Family
from skilldeck_daemon.engine.parsing.calls import CallEvents, held_back

MESSAGE = "<|message|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>")
RECIPIENT = re.compile(r"\bto=([^\s<]+)")
CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")


class ChannelParser:
    """Between messages it collects a header up to `<|message|>`, then passes the message on as it comes."""

    over = False

    def __init__(self, family: Family, plan: ToolPlan) -> None:
        self._namespace: str = family.calls["namespace"]
        self._writer = CallEvents(plan)
        self._plan = plan
        self._buffer = ""
        self._in_header = True
        self._kind = "text"  # of the message being read: text, reasoning or call
        self._wrote = False

    @property
    def state(self) -> str:
        """In a header the turn is on its way to something that is not text yet."""
        return "call" if self._in_header and self._buffer else self._kind

    @property
    def calls(self) -> int:
        return self._writer.count

    def feed(self, text: str) -> list[ChatEvent]:
        self._buffer += text
        while self._header() if self._in_header else self._message():
            pass
        return self._writer.take()

    def close(self, cut_off: bool = False) -> list[ChatEvent]:
        if self._in_header:
            begun = cut_off and "<|channel|>" in self._buffer  # a header that the output limit ended
            stray = "" if self._wrote or begun else re.sub(r"<\|[a-z]+\|>", "", self._buffer).strip()
            if stray and stray != "assistant":  # a model that does not keep to the format; show what it wrote
                self._writer.events.append(TextDelta(stray))
        else:
            self._pass(self._buffer)
            if self._kind == "call":
                self._writer.end(CUT_OFF if cut_off else None)
        self._buffer = ""
        return self._writer.take()

    def _header(self) -> bool:
        at = self._buffer.find(MESSAGE)
        if at < 0:
            return False
        header, self._buffer = self._buffer[:at], self._buffer[at + len(MESSAGE) :]
        channel = CHANNEL.search(header)
        recipient = RECIPIENT.search(header)
        if recipient is not None and self._plan.mode != "none":
            self._kind = "call"
            self._writer.name(recipient[1].removeprefix(self._namespace))
        else:
            self._kind = "reasoning" if channel is not None and channel[1] == "analysis" else "text"
        self._in_header = False
        self._wrote = True
        return True

    def _message(self) -> bool:
        hits = sorted((self._buffer.find(end), end) for end in ENDS if end in self._buffer)
        cut = hits[0][0] if hits else len(self._buffer) - held_back(self._buffer, ENDS)
        self._pass(self._buffer[:cut])
        self._buffer = self._buffer[cut:]
        if not hits:
            return False
        if self._kind == "call":
            self._writer.end()
        end = hits[0][1]
        if end not in ("<|start|>", "<|channel|>"):
            self._buffer = self._buffer[len(end) :]
        self._in_header, self._kind = True, "text"
        return True

    def _pass(self, text: str) -> None:
        if not text:
            return
        if self._kind == "call":
            self._writer.arguments(text)
        else:
            self._writer.events.append(ReasoningDelta(text) if self._kind == "reasoning" else TextDelta(text))
