"""One turn of the model, written into the output as it comes: text, reasoning, calls, in the order of the model."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.engine.base import (
    ChatEvent,
    ChatFinished,
    PrefillProgress,
    ReasoningDelta,
    Spent,
    TextDelta,
    TextLogprob,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from skilldeck_daemon.events.output import Output, ReasoningWriter, TextWriter
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.store.run_records import Annotation
from skilldeck_daemon.tools.base import Call, CallWriter, Tool
from skilldeck_daemon.tools.citations import citations, url_citations
from skilldeck_daemon.tools.context import ToolContext
from skilldeck_daemon.tools.function import UnknownTool
from skilldeck_shared.characters import EscapedCharacters, clean_json


class Turn:
    """Reads the events of one model turn. `calls` and `finished` are set when `read` returns.

    Args:
        tools: what the model may call: the request's tools and the daemon's own.
        hosted_left: how many hosted calls may still be made (None: any number); the model's further ones are ignored,
            as if it had not written them.
    """

    def __init__(
        self,
        output: Output,
        context: ToolContext,
        request: ResponseRequest,
        tools: Sequence[Tool],
        hosted_left: int | None,
    ) -> None:
        self.calls: list[Call] = []
        self.finished = ChatFinished("error", Usage())
        self._output = output
        self._context = context
        self._request = request
        self._hosted_left = hosted_left
        self._tools: dict[str, Tool] = {name: tool for tool in tools for name in tool.names}
        self._text: TextWriter | None = None
        self._blank: list[tuple[str, tuple[TextLogprob, ...]]] = []  # white space no text has followed yet
        self._reasoning: ReasoningWriter | None = None
        self._writers: dict[int, CallWriter] = {}
        self._escapes: dict[int, EscapedCharacters] = {}  # of the calls whose arguments are JSON
        self._wrote = False

    @property
    def silent(self) -> bool:
        """Whether it ended by itself before it wrote anything. To be asked before it is closed."""
        wrote = self._wrote or self._reasoning is not None or self.calls or self._writers
        return self.finished.reason == "stop" and not (wrote or self.finished.stop_sequence)

    async def read(self, events: AsyncIterator[ChatEvent]) -> None:
        """Follow the model to its `ChatFinished`."""
        async for event in events:
            match event:
                case TextDelta(text, logprobs):
                    self._write_text(text, logprobs)
                case ReasoningDelta(text):
                    self._close_text()
                    if self._reasoning is None:
                        self._reasoning = ReasoningWriter(
                            self._output, "reasoning.encrypted_content" in self._request.include
                        )
                    self._reasoning.write(text)
                case ToolCallStart():
                    self._close_text()
                    self._close_reasoning()
                    self._begin_call(event)
                case ToolCallDelta(index, delta):
                    if index in self._writers:
                        self._write_call(index, self._escapes[index].feed(delta) if index in self._escapes else delta)
                case ToolCallDone(index, _, arguments, problem, cut_off):
                    if index in self._writers:
                        if index in self._escapes:
                            self._write_call(index, self._escapes.pop(index).flush())
                            arguments = clean_json(arguments)
                        if cut_off:
                            self._writers.pop(index).cut(arguments)
                            continue
                        self.calls.append(self._writers.pop(index).close(arguments, problem))
                case ChatFinished():
                    self.finished = event
                case PrefillProgress():
                    pass

    def _write_text(self, text: str, logprobs: tuple[TextLogprob, ...]) -> None:
        if not text and not logprobs:
            return
        if self._text is None:
            self._blank.append((text, logprobs))
            if not text.strip():
                return
            self._close_reasoning()
            self._text = TextWriter(self._output, self._request.logprobs)
            for held, probabilities in self._blank:
                self._text.write(held, probabilities)
            self._blank.clear()
        else:
            self._text.write(text, logprobs)
        self._wrote = True

    def _write_call(self, index: int, delta: str) -> None:
        if delta:
            self._writers[index].write(delta)

    def _begin_call(self, event: ToolCallStart) -> None:
        tool = self._tools.get(event.name)
        if tool is None:
            is_skill = event.name in self._context.skill_names
            text = self._context.skill_text(event.name) if is_skill else ""
            tool = UnknownTool(event.name, tuple(self._tools), is_skill, text)
        if tool.hosted and not tool.internal and self._hosted_left is not None:
            if self._hosted_left == 0:
                return
            self._hosted_left -= 1
        # Ids of our own: engines number calls per answer, which would repeat over the rounds of a run.
        self._writers[event.index] = tool.begin(self._output, self._context, new_id("call"), event.name)
        if event.kind == "function":
            self._escapes[event.index] = EscapedCharacters()

    async def close(self) -> None:
        """The turn is over: end what is open. The final text cites the files the run made."""
        if self.finished.reason == "length":
            return  # the run ends here; what is open stays incomplete
        for index in sorted(self._writers):
            if index in self._escapes:
                self._write_call(index, self._escapes.pop(index).flush())
            # An engine that never said "done" (a lost piece of its stream): the text so far is judged like any other.
            self.calls.append(self._writers[index].close_unfinished())
        self._writers.clear()
        self._close_reasoning()
        if not self.calls and self._text is None and not self._wrote:
            # An empty answer is an answer: clients read the last message.
            self._text = TextWriter(self._output, self._request.logprobs)
        if self._text is not None:
            files = [] if self.calls else await self._context.produced(self._text.so_far)
            self._text.close([*self._urls(self._text), *citations(self._text.so_far, files)])
            self._text = None

    def _close_text(self) -> None:
        self._blank.clear()
        if self._text is not None:
            self._text.close(self._urls(self._text))
            self._text = None

    def _urls(self, text: TextWriter) -> list[Annotation]:
        return url_citations(text.so_far, self._context.sources)

    def _close_reasoning(self) -> None:
        if self._reasoning is not None:
            self._reasoning.close()
            self._reasoning = None


def stopped(spent: Spent) -> ChatFinished:
    """The end of a turn that was stopped, with what it had used by then."""
    now = time.time()
    read = spent.first_token or now
    return ChatFinished(
        "cancelled",
        Usage(spent.input_tokens, 0, spent.output_tokens),
        prefill_s=read - spent.prompt_known if spent.prompt_known else 0.0,
        decode_s=now - spent.first_token if spent.first_token else 0.0,
    )
