"""Calls that a model writes as text: a JSON object in the answer, fenced, in a tag of some other family, or bare.

Small models, and servers that do not read their model's calls, put them there (15 of 15 turns of Qwen2.5-Coder with two
functions). `TextCalls` takes the visible text of a turn and gives back text and calls. What counts as a call:

- it opens the text (after reasoning, or after another call), or begins a line and nothing but calls follows it;
- it is an object, or a list of objects, that names an *offered* tool under name, function or tool (or in a nested
  function) and has nothing beside it but arguments, parameters, args or input, or the tool's own parameters;
- it does not say again what an earlier one said: small models repeat a call until they are stopped (`TextCallFilter`);
- around it may stand ```` ```json ````, ```` ``` ```` or ```` ```tool_call ````, `<tools>`, `<tool_call>`,
  `<function_call>` or `<function=NAME>` (also with `<parameter=…>` inside).

Everything else stays text: a package.json, whose first key is a name too; the schema of a tool; sample JSON inside
prose or code. What may be a call is held back until it is known, so nothing of one is shown; the result does not depend
on how the text was cut. With `shell`, the name of a tool that runs commands, a turn that is one ```` ```bash ````
block is a call of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence

from skilldeck_daemon.engine.checks import ToolPlan, ToolSpec
from skilldeck_daemon.engine.parsing.text_call_candidate import Candidate, FoundCall

UNFILLED = re.compile(r"\s<[a-z][\w .-]*>(?=\s|$)", re.MULTILINE)
"""A place that is to be filled in; for bash a mistake."""


class TextCalls:
    """Splits the visible text of one turn. `feed` and `close` give text to show (str) and calls, in order."""

    def __init__(
        self,
        plan: ToolPlan,
        shell: str = "",
        answered: Sequence[str] = (),
        fenced: bool = False,
        printed: str = "",
        like: Collection[str] = (),
        asked: bool = False,
    ) -> None:
        """
        Args:
            answered: names that are read like those of tools, because somebody answers their calls.
            fenced: the model was told to call the shell by a block of commands, so each is a call, also behind text and
                unclosed, unless it repeats what the commands before it `printed`: small models put an output into a
                block to show it.
            like, asked: see `Candidate`.
        """
        tools = [*(ToolSpec(-1, "function", name, "", {}) for name in answered), *plan.tools]
        self._tools = {tool.name: tool for tool in tools} if plan.mode != "none" else {}
        self._shell = shell if shell in self._tools else ""
        self._all_blocks = fenced
        self._like, self._asked = like, asked
        self._printed = "" if "```" in printed else " ".join(printed.split())
        self._out: list[str | FoundCall] = []
        self._opens = True  # nothing but calls was written yet: what is a call here is one, whatever follows
        self._called = False
        self._line = True  # nothing but white space stands on this line yet
        self._mark = ""  # how this line begins, as far as it takes to know the fence of a code block
        self._fenced = False  # inside a code block
        self._gap = ""  # white space that is shown only when text follows
        self._candidate: Candidate | None = None
        self._waiting: list[FoundCall] = []  # calls if nothing but calls follows them, and their text
        self._behind: list[str] = []

    def feed(self, text: str) -> list[str | FoundCall]:
        if not self._tools:
            return [text] if text else []
        place = 0
        while place < len(text):
            if self._candidate is not None or self._waiting or self._line or text[place] == "\n":
                self._char(text[place])
                place += 1
                continue
            # Inside a line nothing can begin: the rest of it at once.
            end = text.find("\n", place)
            end = len(text) if end < 0 else end
            self._show(text[place:end])
            place = end
        return self._take()

    def close(self, cut_off: bool = False) -> list[str | FoundCall]:
        """The text is over."""
        candidate, self._candidate = self._candidate, None
        if candidate is not None:
            calls = candidate.close(cut_off)
            repeated = self._repeated(candidate, calls or [])
            if calls is None and cut_off and (self._waiting or (self._called and self._opens)):
                pass  # the beginning of a further call
            elif calls is None or repeated:
                self._plain(repeated or candidate.text)
            else:
                self._wait(candidate.text, calls)
        if self._waiting:
            self._are_calls()
        elif not self._called:
            self._flush_gap()
        self._gap = ""
        return self._take()

    def interrupt(self, call: bool) -> list[str | FoundCall]:
        """Reasoning, or a call in the family's own form, follows: what is held was no call. A new text may open."""
        if self._candidate is not None or self._waiting:
            held = self._candidate.text if self._candidate is not None else ""
            self._candidate = None
            self._plain(held)
        if not self._opens:
            self._flush_gap()
        self._gap = self._mark = ""
        self._opens = self._line = True
        self._fenced = False
        self._called |= call
        return self._take()

    def _take(self) -> list[str | FoundCall]:
        joined: list[str | FoundCall] = []
        for piece in self._out:
            last = joined[-1] if joined else None
            if isinstance(piece, str) and isinstance(last, str):
                joined[-1] = last + piece
            else:
                joined.append(piece)
        self._out = []
        return joined

    def _char(self, char: str) -> None:
        candidate = self._candidate
        if candidate is not None:
            verdict = candidate.step(char)
            if verdict is None:
                return
            self._candidate = None
            if not verdict:
                self._plain(candidate.text)
                return
            if repeated := self._repeated(candidate, candidate.calls):
                self._plain(repeated)
                return
            surely = self._opens and not self._waiting and not candidate.is_shell
            surely |= candidate.is_shell and self._all_blocks
            self._wait(candidate.text, candidate.calls)
            if surely:
                self._are_calls()
        elif char.isspace():
            self._space(char)
        elif self._waiting and char in ",;":
            self._wait(char, [])
        elif self._called and self._opens and char in ",;":
            self._gap += char
        elif (self._line or self._waiting) and not self._fenced and char in "`<{[":
            # A block of commands is a call only where nothing else was written, or where it was asked for.
            commands = self._all_blocks or (self._opens and not self._called)
            shell = self._shell if commands else ""
            self._candidate = Candidate(
                self._tools, shell, unclosed=self._all_blocks, like=self._like, asked=self._asked
            )
            self._char(char)
        elif self._waiting:
            self._plain(char)
        else:
            self._show(char)

    def _repeated(self, candidate: Candidate, calls: list[FoundCall]) -> str:
        """What a block of commands says, when it is most of an output or only explains; "" when it is a call."""
        if not (candidate.is_shell and self._all_blocks and calls):
            return ""
        text: str = json.loads(calls[-1].arguments)["commands"][0]
        if UNFILLED.search(text):
            return candidate.text
        words = " ".join(text.split())
        return text if self._printed and words in self._printed and len(words) * 2 >= len(self._printed) else ""

    def _wait(self, text: str, calls: list[FoundCall]) -> None:
        self._behind.append(self._gap + text)
        self._waiting += calls
        self._gap = ""

    def _are_calls(self) -> None:
        """What waits are calls."""
        self._out += self._waiting
        self._waiting, self._behind, self._gap, self._mark = [], [], "", ""
        self._called = self._opens = self._line = True

    def _plain(self, held: str) -> None:
        """What was held is text, and nothing in it a call."""
        text = "".join(self._behind) + self._gap + held
        self._waiting, self._behind, self._gap = [], [], ""
        for number, line in enumerate(text.split("\n")):
            if number:
                self._space("\n")
            if line:
                self._show(line)

    def _space(self, char: str) -> None:
        self._gap += char
        if char == "\n":
            if self._mark == "```":
                self._fenced = not self._fenced
            self._line, self._mark = True, ""

    def _show(self, text: str) -> None:
        """Text that is no call, without a line break."""
        begun = text if self._mark else text.lstrip()
        room = 3 - len(self._mark)
        if "`" in begun[room:]:
            self._mark = "no fence"  # the line of a fence has no further backticks
        elif room > 0:
            self._mark += begun[:room]
        shown = text.rstrip()
        if shown:
            self._flush_gap()
            self._out.append(shown)
            self._opens = self._line = False
        self._gap += text[len(shown) :]

    def _flush_gap(self) -> None:
        # White space between a call and the text after it belongs to neither.
        shown = self._gap.lstrip() if self._called and self._opens else self._gap
        if shown:
            self._out.append(shown)
        self._gap = ""
