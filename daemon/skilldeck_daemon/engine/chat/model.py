"""A `ChatModel` made of any token `Engine`: template, tokenizer, grammar, parser, stop strings, usage.

Owns everything between messages and token ids. Rendering, encoding long prompts and compiling grammars happen in
worker threads; nothing here blocks the event loop longer than one token's parsing. Per request it keeps a
detokenizer, a parser and counters; between requests only the ids of recent turns (`prompts.py`) and compiled grammars
(`grammar/`), both of which may be lost.

What a request does wrong raises before its first event: TooLong, or BadRequest naming the field. Stop strings apply
to the visible text, are authoritative, and never appear in it. A turn that names no limit ends as "length" at the
model's own `max_new_tokens` (generation_config.json) or at the end of the context; any turn once it only repeats itself
(`repetition.py`), sooner where it names no limit: whoever does wants that many tokens.
A turn says something: it does not end before a token that is more than white space, unless the request began it.
Reasoning tokens are counted where the parser was inside reasoning when the token came. Every stream ends in exactly
one `ChatFinished`; closing it cancels the request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from uuid import uuid4

from skilldeck_daemon.engine.base import (
    IMAGE,
    Caps,
    ChatEvent,
    ChatFinished,
    ChatRequest,
    Engine,
    EngineStats,
    Finished,
    GenRequest,
    ModelInfo,
    Prefill,
    PrefillProgress,
    Sampling,
    TextDelta,
    Tokens,
)
from skilldeck_daemon.engine.chat import images
from skilldeck_daemon.engine.chat.begun import begun_answer, check_begun
from skilldeck_daemon.engine.chat.completion import CompletionRequest, complete
from skilldeck_daemon.engine.chat.deltas import joined
from skilldeck_daemon.engine.chat.encoding import Encoder
from skilldeck_daemon.engine.chat.files import ModelFiles
from skilldeck_daemon.engine.chat.plain_tools import (
    FENCE,
    calls_as_commands,
    calls_as_text,
    describe_commands,
    describe_tools,
    short_id,
    system_as_user,
)
from skilldeck_daemon.engine.chat.prompts import PromptMemory
from skilldeck_daemon.engine.chat.stops import StopStrings
from skilldeck_daemon.engine.chat.styles import AUTO, BASH, JSON, choose
from skilldeck_daemon.engine.chat.turn import Prepared, Reading, TokenTurn
from skilldeck_daemon.engine.checks import ToolPlan, ToolSpec, has_images, plan_tools, wrap_custom
from skilldeck_daemon.engine.errors import EngineDead, too_long
from skilldeck_daemon.engine.families import Family, detect, family
from skilldeck_daemon.engine.grammar.compiled import Grammars
from skilldeck_daemon.engine.grammar.holding import Held
from skilldeck_daemon.engine.messages import Message
from skilldeck_daemon.engine.parsing.calls import RAW_CLOSE, RAW_OPEN
from skilldeck_shared.errors import BadRequest
from skilldeck_shared.json_types import JsonObject


class TokenChatModel:
    """One loaded model, whose folder or GGUF file `folder` is. `template` overrides its chat template, `family_name`
    the detected family; `tool_text`: whether calls are found in its text, where the family writes them there;
    `call_style`: json, bash or auto, see `styles.py`.

    Making one reads the tokenizer, a second for a large vocabulary: make it in a thread.
    """

    def __init__(
        self,
        engine: Engine,
        folder: str | Path,
        info: ModelInfo,
        *,
        template: str | None = None,
        family_name: str | None = None,
        tool_text: bool = True,
        call_style: str = AUTO,
    ) -> None:
        self.engine = engine
        self.tool_text = tool_text
        files = ModelFiles.load(Path(folder), template)
        self.vocabulary, self.template = files.vocabulary, files.template
        source = self.template.source
        self.family = family(family_name, source) if family_name else detect(source, files.model_type)
        self._info = replace(
            info,
            family=self.family.name,
            description=info.description or self.template.note,
            places_skills=self.template.places_skills,
            call_style=choose(call_style, self.family, self.template, info.parameters) if tool_text else JSON,
        )
        self.stop_ids = self._end_ids(files)
        kept = [index for index, text in self.vocabulary.added.items() if text in self.family.markers]
        self._silent = (self.vocabulary.special | self.stop_ids) - (set(kept) - self.stop_ids)
        self._memory = PromptMemory(self.vocabulary)
        self._encoder = Encoder(self.vocabulary)
        size = info.vocab or self.vocabulary.size
        thinks = "reasoning_begin" in self.family.write or any(
            mark and mark in source for mark in (self.family.think_open, self.family.think_close)
        )
        self._grammars = Grammars(
            self.vocabulary, self.family, size, self.stop_ids, self._silent, thinks=thinks, in_text=tool_text
        )
        self._generation = files.generation

    def _end_ids(self, files: ModelFiles) -> frozenset[int]:
        """Ids that end a turn: what the model's files say, and the family's own."""
        found = {self.vocabulary.id_of(name) for name in (*self.family.end_tokens, files.end_token) if name}
        return files.end_ids | {index for index in found if index is not None and index in self.vocabulary.added}

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def caps(self) -> Caps:
        return self.engine.caps

    @property
    def context(self) -> int:
        return self.engine.caps.context or self._info.context

    @property
    def defaults(self) -> Sampling:
        """Sampling where a request says nothing: what the folder's generation_config.json asks for."""
        config = self._generation
        if config.get("do_sample") is False:
            return Sampling(temperature=0.0)
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        return replace(
            Sampling(), **{name: config[name] for name in names if isinstance(config.get(name), int | float)}
        )

    @property
    def _longest(self) -> int:
        """Most tokens of a turn that names no limit, as generation_config.json says; 0: the whole context."""
        found = self._generation.get("max_new_tokens")
        return found if isinstance(found, int) and found > 0 else 0

    # ------------------------------------------------------------ before generation

    @cached_property
    def _no_fences(self) -> dict[int, float]:
        """A bias against every token with which a block of commands could begin."""
        begins = {index for index, text in enumerate(self.vocabulary.table) if b"``" in text}
        return dict.fromkeys(begins or self.vocabulary.encode("`"), -100.0)

    @cached_property
    def _blank(self) -> frozenset[int]:
        """Ids with which nothing is said yet: ends, silent ones, white space."""
        spaces = (index for index, text in enumerate(self.vocabulary.table) if not text.strip())
        return self.stop_ids | self._silent | frozenset(spaces)

    def _unsaid(self, request: ChatRequest, begun: str) -> frozenset[int]:
        """What a turn may not consist of alone. One that was begun may be at its end, and a bias may ask for it."""
        wished = any(request.sampling.logit_bias.get(index, 0.0) > 0 for index in self.stop_ids)
        return frozenset() if begun or request.continues or wished else self._blank

    def _reading(self, request: ChatRequest) -> Reading:
        """What is known of the request, kept with it. Raises BadRequest for tools that cannot be read."""
        if request.made.by is not self:
            request.made.by, request.made.what = self, Reading(plan_tools(request))
        reading: Reading = request.made.what
        return reading

    async def validate(self, request: ChatRequest) -> Sequence[str]:
        reading = self._reading(request)
        if reading.held is None:
            reading.held = await self._held(request, reading.plan)
        return reading.held.loosened

    async def _rendered(self, request: ChatRequest) -> str:
        reading = self._reading(request)
        if reading.prompt is None:
            reading.prompt = await asyncio.to_thread(self.render, request, reading.plan)
        return reading.prompt

    def _fenced(self, request: ChatRequest, plan: ToolPlan) -> bool:
        """Whether the shell is called by a block of commands: it is all that there is to call."""
        text = (request.response_format or {}).get("type", "text") == "text"
        only = [tool.name for tool in plan.every] == [request.commands_tool]
        return self._info.call_style == BASH and only and text

    async def _held(self, request: ChatRequest, plan: ToolPlan) -> Held:
        """The request as its grammar will hold it. Raises BadRequest for what cannot be honoured."""
        check_begun(request)
        if has_images(request.messages) and not self.caps.images:
            raise BadRequest(
                f"The model {self._info.name} does not read images.",
                "Attach the image as a file for tools to work on, or choose a model that does.",
                param="input",
            )
        if request.logprobs is not None and not self.caps.logprobs:
            raise BadRequest("This engine does not report log probabilities.", param="logprobs")
        if self._fenced(request, plan):
            return Held(plan, {})
        demanded = self._grammars.demanded(request, plan)
        if demanded and not self.caps.grammar:
            raise BadRequest(
                "This engine cannot constrain its output.",
                "Leave tool_choice at auto, the format at text, and tools not strict.",
                param=demanded,
            )
        if self.caps.grammar and self._grammars.wanted(request, plan):
            return await self._grammars.hold(request, plan)
        return Held(plan, request.response_format or {})

    def render(self, request: ChatRequest, plan: ToolPlan | None = None) -> str:
        """The prompt's text, up to where the model's turn begins."""
        plan = plan or plan_tools(request)
        variables: JsonObject = {}
        if request.reasoning_effort is not None:
            thinks = request.reasoning_effort != "none"
            variables = {"reasoning_effort": request.reasoning_effort, "enable_thinking": thinks, "thinking": thinks}
        variables |= request.template
        given = request.messages[:-1] if request.continues else request.messages
        messages = [self._message(message, plan) for message in given]
        tools = [self._tool(tool) for tool in plan.tools]
        if self.template.reads_system != "anywhere":
            messages = system_as_user(messages)
        if self._fenced(request, plan):
            messages = calls_as_commands(messages, request.commands_tool, answer=request.answer)
            messages, tools = describe_commands(messages) if tools else messages, []
        if self.family.describe_tools:
            messages = calls_as_text(messages, self.family.write)
        if tools and (self.family.describe_tools or not self.template.shows_tools):
            messages, tools = describe_tools(messages, tools, self.family.write), []
        if self.template.reads_system == "never":
            messages = system_as_user(messages, first=False)
        prompt = self.template.render(messages, tools, **variables)
        if request.continues:
            prompt += begun_answer(request.messages[-1], self.family.think_close if self._opened(prompt) else "")
        return prompt

    def _opened(self, prompt: str) -> bool:
        """Whether the model's turn begins inside its reasoning."""
        return bool(self.family.think_open) and prompt.rstrip().endswith(self.family.think_open)

    def _tool(self, tool: ToolSpec) -> JsonObject:
        shown = tool.as_function()
        if tool.kind == "custom" and tool.format:
            form = f'{RAW_OPEN}{tool.name}">\nTEXT{RAW_CLOSE}'
            how = f"Its text must follow this {tool.format.get('syntax')} grammar:\n{tool.format.get('definition')}"
            shown["function"]["description"] = f"{tool.description}\nCall it by writing\n{form}\n{how}".strip()
        return shown

    def _message(self, message: Message, plan: ToolPlan) -> JsonObject:
        """One message as templates expect it: text content, calls in function shape, known roles."""
        out = dict(message)
        content = message.get("content")
        if isinstance(content, list) and self.caps.image_tokens:
            out["content"] = images.as_text(content)
        elif isinstance(content, list) and self.caps.images and has_images([message]):
            # Templates know an image by its type, and write its place; the picture itself goes to the engine.
            out["content"] = [{"type": "image"} if part.get("type") == "image_url" else part for part in content]
        elif isinstance(content, list):
            out["content"] = "\n".join(part.get("text", "") for part in content)
        elif content is None:
            out["content"] = ""
        if message.get("role") == "developer" and "developer" not in self.template.source:
            out["role"] = "system"
        if message.get("reasoning_content") and not out["content"] and ".thinking" in self.template.source:
            out["thinking"] = message["reasoning_content"]
        if message.get("role") == "tool" and self.family.short_ids:
            out["tool_call_id"] = short_id(str(message.get("tool_call_id", "")))
        calls = []
        for call in message.get("tool_calls") or ():
            tool = plan.find(call["custom"]["name"]) if call.get("type") == "custom" else None
            if tool is not None and tool.format:
                text = f'{RAW_OPEN}{tool.name}">\n{call["custom"].get("input", "")}{RAW_CLOSE}'
                out["content"] = f"{out['content']}\n{text}".strip()
                continue
            shown = wrap_custom(call)
            calls.append({**shown, "id": short_id(str(shown.get("id", "")))} if self.family.short_ids else shown)
        if "tool_calls" in out:
            out["tool_calls"] = calls
        return out

    async def encode(self, prompt: str, salt: str = "") -> tuple[int, ...]:
        """The ids of a prompt; of one beyond the context as many as say so. Raises TooLong for one far beyond."""
        self._encoder.check(prompt, self.context, self._info.lengthening)
        known, rest = self._memory.split(prompt, salt)
        ids = [*known]
        for number, text in enumerate(rest.split(images.MARK)):
            ids += ([IMAGE] if number else []) + await self._encoder.encode(text, self.context - len(ids))
        return tuple(ids)

    async def count_tokens(self, request: ChatRequest) -> int:
        prompt, reading = await self._rendered(request), self._reading(request)
        ids = reading.ids or await self.encode(prompt, request.cache_salt)
        if len(ids) <= self.context:
            reading.ids = ids
            # A place of an image stands for as many tokens as one of usual size has.
            return len(ids) + ids.count(IMAGE) * (self.caps.image_tokens - 1)
        known, rest = self._memory.split(prompt, request.cache_salt)
        counts = [await self._encoder.count(text) for text in rest.split(images.MARK)]
        seen = known.count(IMAGE) + len(counts) - 1
        return len(known) - known.count(IMAGE) + sum(counts) + seen * self.caps.image_tokens

    async def measure(self, request: ChatRequest) -> tuple[int, bool]:
        return await self.count_tokens(request), True

    async def _prepare(self, request: ChatRequest) -> Prepared:
        reading = self._reading(request)
        plan, held = reading.plan, reading.held or await self._held(request, reading.plan)
        prompt = await self._rendered(request)
        opened = self._opened(prompt)
        fenced = self._fenced(request, plan) and plan.mode != "none"
        begun = ""
        if fenced and not opened and (request.begin_call is not None or plan.mode == "required"):
            begun = FENCE + (request.begin_call or "")
        sampling = request.sampling
        if fenced and request.answer:
            sampling = replace(sampling, logit_bias={**sampling.logit_bias, **self._no_fences})
        known = reading.ids if not begun else ()
        ids = known or await self.encode(prompt + begun, request.cache_salt)
        room = self.context - len(ids)
        if not ids:
            raise BadRequest("The prompt has no tokens.", "Send at least one message with text.", param="input")
        if room < 1:
            raise too_long(len(ids), self.context, self._info.lengthening, exact=False)
        max_new = min(request.max_tokens or self._longest or room, room)
        mask = None
        if self.caps.grammar and not fenced:
            mask = await self._grammars.mask(request, held, in_reasoning=opened, max_new=max_new)
        elif self.caps.grammar and request.held:
            mask = await self._grammars.terminal(request.held)
        generation = GenRequest(
            id=f"gen_{uuid4().hex[:16]}",
            prompt_ids=ids,
            max_new=max_new,
            sampling=sampling,
            stop_ids=self.stop_ids,
            blank=self._unsaid(request, begun),
            mask=mask,
            logprobs=request.logprobs,
            images=tuple(images.urls(request.messages)) if self.caps.images else (),
            cache_salt=request.cache_salt,
        )
        return Prepared(prompt + begun, generation, held.plan, begun, fenced)

    # ------------------------------------------------------------ generation

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        prepared = await self._prepare(request)
        generation, spent = prepared.generation, request.spent
        spent.input_tokens, spent.prompt_known = len(generation.prompt_ids), time.time()
        handle = await self.engine.submit(generation)
        turn = TokenTurn(
            prepared,
            request,
            self.family,
            self.vocabulary,
            self.stop_ids,
            self._silent,
            tool_text=self.tool_text,
        )
        ended: Finished | None = None
        cancelled = False
        try:
            async for event in handle:
                if isinstance(event, Tokens):
                    spent.first_token = spent.first_token or time.time()
                    for shown in joined(turn.tokens(event)):
                        spent.output_tokens = turn.count
                        yield shown
                    if turn.over and not cancelled:
                        cancelled = True
                        self.engine.cancel(generation.id)
                elif isinstance(event, Prefill):
                    yield PrefillProgress(event.done, event.total)
                elif isinstance(event, Finished):
                    ended = event
        finally:
            if ended is None:
                self.engine.cancel(generation.id)
        if ended is None:
            ended = Finished(
                "error", len(generation.prompt_ids), 0, turn.count, error=EngineDead("The engine ended without a word.")
            )
        for shown in turn.close(ended):
            yield shown
        if ended.reason == "stop" and not turn.halted:
            ids = (*generation.prompt_ids, *turn.ids)
            self._memory.remember(prepared.prompt + turn.text, ids, request.cache_salt)
        yield turn.finished(ended)

    def complete(self, request: CompletionRequest) -> AsyncGenerator[TextDelta | ChatFinished, None]:
        """Continue a text as it is (`completion.Completes`)."""
        return complete(self.engine, self.vocabulary, self._encoder, self.context, self.stop_ids, request)

    async def prompt_text(self, prompt: tuple[int, ...]) -> str:
        return self.vocabulary.decode(prompt)

    def stats(self) -> EngineStats:
        return self.engine.stats()

    async def close(self) -> None:
        await self.engine.unload()


__all__ = ["Family", "StopStrings", "TokenChatModel"]
