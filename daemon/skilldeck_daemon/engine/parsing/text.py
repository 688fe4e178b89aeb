"""The reader of every family that marks calls and reasoning inside one text (`TextParser`)."""

from __future__ import annotations

from dataclasses import replace

from skilldeck_daemon.engine.base import (
    ChatEvent,
    ReasoningDelta,
    TextDelta,
)
from skilldeck_daemon.engine.checks import CUT_OFF, ToolPlan
from skilldeck_daemon.engine.families import Family
from skilldeck_daemon.engine.parsing.bodies import body_for
from skilldeck_daemon.engine.parsing.calls import RAW_CLOSE, RAW_OPEN, Body, CallEvents, held_back
from skilldeck_daemon.engine.parsing.jsonscan import SPACE
from skilldeck_daemon.engine.parsing.strays import Code, Marks


class TextParser:
    """The reader of every family that marks calls and reasoning inside one text. `marks`: see `strays.py`."""

    def __init__(
        self, family: Family, plan: ToolPlan, *, in_reasoning: bool = False, marks: Marks | None = None
    ) -> None:
        self.state = "reasoning" if in_reasoning else "text"
        self.over = False
        self._family = family
        self._calls = family.calls
        self._parse_calls = plan.mode != "none"
        self._writer = CallEvents(plan)
        self._buffer = ""
        self._space = ""  # white space at the end of what was read: shown only if text follows
        self._lead = in_reasoning  # white space here belongs to the marker before it
        self._kept = False  # but for one that was left out of a text: that parts the text
        self._behind = ""  # white space that was read here
        self._body: Body | None = None
        self._body_text = ""
        self._raw = False  # inside a free-text call
        self._before = 0  # calls before the body being read
        self._marks = marks or Marks.of(family)
        if not self._parse_calls:  # a call stays text, and so does its end
            self._marks = replace(self._marks, stray=tuple(m for m in self._marks.stray if m != self._calls["close"]))
        self._quotes, self._owned = self._marks.quotes, False
        self._code = Code()
        self._wrote = False  # anything that the client sees
        markers = [family.think_open, *family.ignore, *self._marks.stray, *self._marks.ends]
        if self._parse_calls:
            markers += [self._calls["open"], RAW_OPEN]
        self._markers = [marker for marker in markers if marker]
        self._firsts = {marker[0] for marker in self._markers}

    @property
    def calls(self) -> int:
        return self._writer.count

    def feed(self, text: str) -> list[ChatEvent]:
        if self.over:
            return []
        self._buffer += text
        while self._step():
            pass
        return self._writer.take()

    def close(self, cut_off: bool = False) -> list[ChatEvent]:
        if self.state == "call":
            self._end_call(cut_off)
        elif self.state == "after":
            self._buffer = self._buffer.strip()
            self.state = "text"
        if self.state == "reasoning":
            self._write(ReasoningDelta, self._buffer)
        elif self.state == "text":
            self._write(TextDelta, self._buffer)
            if self._space and not self._lead and not self.calls:
                self._writer.events.append(TextDelta(self._space))
        self._buffer = self._space = ""
        return self._writer.take()

    # ------------------------------------------------------------ the four states; each says whether to go on

    def _step(self) -> bool:
        if self.state == "text":
            return self._text()
        if self.state == "reasoning":
            return self._reasoning()
        if self.state == "call":
            return self._call()
        return self._after()

    def _write(self, kind: type[TextDelta] | type[ReasoningDelta], text: str) -> None:
        """Show text, keeping white space back at both sides of markers."""
        if self._lead:
            whole, text = text, text.lstrip()
            self._behind += whole[: len(whole) - len(text)]
        if not text:
            return
        if self._lead and self._kept:
            # Of the white space before and behind what was left out, that which parts more.
            self._code.feed(self._behind)
            self._space = max(self._space, self._behind, key=lambda space: (space.count("\n"), len(space)))
        self._lead = self._kept = False
        self._behind = ""
        shown = text.rstrip()
        if kind is TextDelta:
            self._code.feed(text)
        if shown:
            self._wrote |= kind is TextDelta
            self._writer.events.append(kind(self._space + shown))
            self._space = ""
        self._space += text[len(shown) :]

    def _drop_space(self) -> None:
        """What stands at either side of a marker belongs to it."""
        self._space = self._behind = ""
        self._lead, self._kept = True, False

    def _text(self) -> bool:
        if self._firsts.isdisjoint(self._buffer):  # nearly every piece: no marker in it or at its end
            self._write(TextDelta, self._buffer)
            self._buffer = ""
            return False
        found = [(self._buffer.find(marker), -len(marker), marker) for marker in self._markers]
        hits = sorted(hit for hit in found if hit[0] >= 0)
        held = held_back(self._buffer, self._markers)
        if not hits:
            cut = len(self._buffer) - held
            self._write(TextDelta, self._buffer[:cut])
            self._buffer = self._buffer[cut:]
            return False
        at, _, marker = hits[0]
        self._write(TextDelta, self._buffer[:at])
        self._buffer = self._buffer[at + len(marker) :]
        if marker == self._family.think_open:
            self.state = "reasoning"
            self._drop_space()
        elif marker in self._family.ignore:
            self._drop_space()
        elif marker in self._marks.stray or marker in self._marks.ends:
            return self._mark(marker)
        else:
            self._open_call(raw=marker == RAW_OPEN)
        return True

    def _mark(self, mark: str) -> bool:
        """A mark of the template in the text; whether to go on."""
        if self._code.inside:
            self._write(TextDelta, mark)
            return True
        guessed = mark == self._marks.guessed and (self._wrote or bool(self.calls))
        again = bool(self._marks.own) and mark == self._marks.own and self._owned
        if mark in self._marks.ends or again or (guessed and (self.calls or not self._quotes)):
            self._buffer, self._space, self.over = "", "", True
            return False
        self._quotes &= mark != self._marks.guessed
        self._owned |= mark == self._marks.own
        self._space = self._space if self._wrote else ""
        self._lead, self._kept = True, self._wrote
        return True

    def _reasoning(self) -> bool:
        close = self._family.think_close
        at = self._buffer.find(close)
        if at < 0:
            cut = len(self._buffer) - held_back(self._buffer, [close])
            self._write(ReasoningDelta, self._buffer[:cut])
            self._buffer = self._buffer[cut:]
            return False
        self._write(ReasoningDelta, self._buffer[:at])
        self._buffer = self._buffer[at + len(close) :]
        self.state = "text"
        self._drop_space()
        return True

    def _open_call(self, raw: bool) -> None:
        self.state = "call"
        self._drop_space()
        self._raw = raw
        self._body_text = ""
        self._before = self._writer.count
        self._body = None if raw else body_for(self._calls, self._writer)

    def _call(self) -> bool:
        if self._raw:
            return self._raw_call()
        body, text = self._body, self._buffer
        assert body is not None
        self._buffer = ""
        self._body_text += text
        if not body.failed:
            rest = body.feed(text)
            if rest is not None:
                self._buffer, self.state = rest, "after"
                return True
        if body.failed:
            close = self._calls["close"]
            at = self._body_text.find(close) if close else -1
            if at < 0:
                return False
            if body.unread is None:
                left = self._body_text[:at].strip()
            else:
                left = body.unread.partition(close)[0]
            self._writer.fail(left, self._explain(body.failed))
            self._buffer, self.state = self._body_text[at + len(close) :], "text"
            return True
        return False

    @staticmethod
    def _explain(failed: str) -> str:
        return f"The call could not be read: {failed}. Write it again in the right form."

    def _raw_call(self) -> bool:
        """`<custom_call name="patch">` newline, the text, newline `</custom_call>`."""
        if not self._writer.open:
            name, mark, rest = self._buffer.partition('">\n')
            if not mark:
                return False
            self._writer.name(name, raw=True)
            self._buffer = rest
        at = self._buffer.find(RAW_CLOSE)
        cut = at if at >= 0 else len(self._buffer) - held_back(self._buffer, [RAW_CLOSE])
        if cut:
            self._writer.arguments(self._buffer[:cut])
        self._buffer = self._buffer[cut:]
        if at < 0:
            return False
        self._writer.end()
        self._buffer, self.state, self._lead = self._buffer[len(RAW_CLOSE) :], "text", True
        return True

    def _after(self) -> bool:
        """Between the end of a call's object and its closing marker, where there is one."""
        close = self._calls["close"]
        head = self._buffer.lstrip()
        if close and head.startswith(close):
            self._buffer, self.state = head[len(close) :], "text"
            return True
        if close and close.startswith(head):
            return False
        if close and head[0] in "{,;":  # several calls between one pair of markers
            further = head.lstrip(",;" + SPACE)
            if not further:
                return False
            if further[0] == "{":
                self._buffer = further
                self._open_call(raw=False)
                return True
        self._buffer, self.state = head, "text"
        return True

    def _end_call(self, cut_off: bool) -> None:
        """The output ended inside a call."""
        body = self._body
        self.state = "done"
        if self._raw:
            if self._writer.open:
                self._writer.arguments(self._buffer)
                self._writer.end(CUT_OFF if cut_off else None)
            else:
                self._writer.fail(RAW_OPEN + self._buffer, CUT_OFF if cut_off else self._explain("it is not closed"))
            return
        assert body is not None
        left = self._body_text.strip() if body.unread is None else body.unread
        if self._writer.open or not self._closed_list(left):
            self._writer.fail(left, CUT_OFF if cut_off else self._explain(body.failed or "it is not complete"))

    def _closed_list(self, left: str) -> bool:
        """Whether every call of a list was read and only the list itself is not closed."""
        return self._writer.count > self._before and not left.endswith('"')
