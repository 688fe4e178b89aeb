"""Grammars that make malformed tool calls and malformed structured output impossible.

`Grammars` belongs to one model. From a request it makes one grammar (`grammar_text.py`), compiles it with llguidance
in a worker thread and hands out a `LogitMask`. Compiled grammars are cached by their text. What is held, and what is
refused or left out, `holding.py` decides.

llguidance recurses natively, so a grammar may end the process that compiles it. Nothing a client made is compiled
here, or in the engine's process, before a disposable one has compiled it (`trial.py`), alone and together with what it
is joined to. Only schemas that are `plain` (`schema_form.py`) are not tried: of at most 300 parts, none of which
multiplies, they take less than a fifth of a thread's stack and some milliseconds, which is what keeps an ordinary
request as fast as one without tools.

A mask knows its `spec`, plain JSON from which `rebuild` makes it again in another process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from skilldeck_daemon.engine.base import ChatRequest, LogitMask
from skilldeck_daemon.engine.checks import ToolPlan
from skilldeck_daemon.engine.detokenize import Vocabulary
from skilldeck_daemon.engine.families import Family
from skilldeck_daemon.engine.grammar.holding import SIMPLER, Held, Holder, reason
from skilldeck_daemon.engine.grammar.text import terminal_grammar, turn_grammar
from skilldeck_daemon.engine.grammar.trial import TrialVocabulary, Verdict, tried
from skilldeck_daemon.engine.vocabularies import load_vocabulary
from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_shared.json_types import JsonObject

log = logging.getLogger(__name__)

COMPILED = 64  # compiled grammars kept for each model
COMPILED_MIB = 512  # and how large they may be together, as far as they were measured
SOUND = 1024  # schemas remembered to compile
LONGEST_THOUGHT = 1 << 16  # characters
AT_ONCE = 4096  # characters of a plain grammar that is checked without a thread: it takes a millisecond


class _Tokens:
    """A vocabulary as llguidance wants to see it."""

    def __init__(self, vocabulary: Vocabulary, stop_ids: Sequence[int], silent: Collection[int], size: int) -> None:
        self._vocabulary = vocabulary
        self.eos_token_id = stop_ids[0] if stop_ids else 0
        self.bos_token_id = None
        self.special_token_ids = list(stop_ids)
        table = vocabulary.table[:size]
        self.tokens = [b"" if index in silent else raw for index, raw in enumerate(table)] + [b""] * (size - len(table))

    def __call__(self, text: bytes | str) -> list[int]:
        return self._vocabulary.encode(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)


class Backend:
    """One vocabulary in llguidance's form, and the grammars compiled for it. Thread-safe.

    `size`: of the model's logits, which may be padded; `silent` ids say nothing and are never allowed.
    """

    def __init__(self, vocabulary: Vocabulary, size: int, stop_ids: Sequence[int], silent: Collection[int]) -> None:
        wrapped = TokenizerWrapper(_Tokens(vocabulary, stop_ids, frozenset(silent), size))
        self._tokenizer = LLTokenizer(wrapped, eos_token=list(stop_ids) or None)
        self._compiled: OrderedDict[str, tuple[LLMatcher, int]] = OrderedDict()  # with its MiB
        self._sound: OrderedDict[str, None] = OrderedDict()  # grammars known to compile
        self._lock = threading.Lock()

    def known(self, grammar: str) -> str | None:
        """ "" for a grammar that is known to compile, None for one that is not."""
        with self._lock:
            return "" if grammar in self._sound else None

    def problem(self, grammar: str) -> str:
        """Why a grammar does not compile, "" when it does."""
        failed, messages = LLMatcher.validate_grammar_with_warnings(grammar, self._tokenizer)
        if failed:
            return messages[0].strip()
        with self._lock:
            self._sound[grammar] = None
            while len(self._sound) > SOUND:
                self._sound.popitem(last=False)
        return ""

    def matcher(self, grammar: str, mib: int = 0) -> LLMatcher:
        """A fresh matcher. Raises ValueError when the grammar does not compile. Blocks, by milliseconds mostly.

        `mib`: what the grammar takes, where that was measured.
        """
        with self._lock:
            found = self._compiled.get(grammar, (None, 0))[0]
        if found is None:
            found = LLMatcher(self._tokenizer, grammar, log_level=0)
            if found.is_error():
                raise ValueError(found.get_error())
        with self._lock:
            self._compiled[grammar] = found, mib
            self._compiled.move_to_end(grammar)
            while (
                len(self._compiled) > COMPILED or sum(size for _matcher, size in self._compiled.values()) > COMPILED_MIB
            ):
                self._compiled.popitem(last=False)
            return found.deep_copy()


class GrammarTooComplex(SkilldeckError):
    """The grammar of a request compiled, and became too much while the model wrote."""

    code = "grammar_too_complex"


class GrammarMask:
    """A `LogitMask` over an llguidance matcher. Used by one engine thread at a time.

    A matcher that fails in the middle of a turn (its lexer's states multiply) allows nothing but end tokens from there
    on, and says so only when it is asked: the turn would end, or be empty. It goes on without the grammar, or fails
    where the grammar is `demanded`.
    """

    def __init__(self, backend: Backend, spec: JsonObject) -> None:
        self.spec = spec
        self._matcher = backend.matcher(spec["grammar"], spec.get("mib", 0))
        self._stops = frozenset(spec["stop_ids"])
        self._free = False

    def fill(self, bitmask: Any, index: int) -> bool:
        """`bitmask`: a CPU tensor of torch or an array of numpy, int32 [rows, ceil(vocab / 32)], contiguous."""
        row = bitmask[index]
        if not self._free:
            address, size = (row.data_ptr(), row.numel()) if hasattr(row, "data_ptr") else (row.ctypes.data, row.size)
            self._matcher.unsafe_compute_mask_ptr(address, size * 4)
        if self._gave_up():
            row[:] = -1
        return True

    def accept(self, token: int) -> bool:
        if self._gave_up():
            return True
        if self._matcher.is_stopped():
            return token in self._stops
        if not self._matcher.validate_tokens([token]):
            return self._gave_up() or (token in self._stops and self._matcher.is_accepting())
        return bool(self._matcher.consume_token(token)) or self._gave_up()

    def rollback(self, tokens: int) -> None:
        if not self._gave_up():
            self._matcher.rollback(tokens)

    def _gave_up(self) -> bool:
        """Whether everything is allowed now. Raises GrammarTooComplex."""
        if self._free or not self._matcher.is_error():
            return self._free
        why = str(self._matcher.get_error()).partition("\n")[0]
        if self.spec.get("demanded"):
            raise GrammarTooComplex(f"{self.spec['demanded']} became too much while the model wrote: {why}.", SIMPLER)
        log.warning("a turn goes on without its grammar: %s", why)
        self._free = True
        return True

    @property
    def terminated(self) -> bool:
        """Nothing but an end token may follow."""
        return not self._free and bool(self._matcher.is_stopped())


_backends: dict[tuple[Any, ...], Backend] = {}
_backends_lock = threading.Lock()


def rebuild(spec: JsonObject, folder: str | Path, vocab: int | None = None) -> LogitMask:
    """The mask of a `spec`, for a model whose folder is at hand. Blocks while it compiles."""
    size = vocab or int(spec["vocab"])
    key = (str(folder), size, tuple(spec["stop_ids"]), tuple(spec["silent"]))
    with _backends_lock:
        if key not in _backends:
            _backends[key] = Backend(load_vocabulary(Path(folder)), size, spec["stop_ids"], spec["silent"])
        backend = _backends[key]
    return GrammarMask(backend, spec)


class Grammars:
    """The grammars of one model. Making one builds llguidance's view of the vocabulary (a second at 150,000 tokens)."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        family: Family,
        size: int,
        stop_ids: Collection[int],
        silent: Collection[int] = (),
        *,
        thinks: bool = True,
        in_text: bool = True,
    ) -> None:
        """`thinks`: whether the model was made to reason; one that was not may not begin to under a grammar.
        `in_text`: see `turn_grammar`."""
        self._in_text = in_text
        self._family = family
        self._thinks = thinks
        self._size = size
        self._stop_ids = sorted(stop_ids)
        self._silent = sorted(set(silent) - set(stop_ids))
        self._backend = Backend(vocabulary, size, self._stop_ids, self._silent)
        self._trial = TrialVocabulary(size, tuple((index, vocabulary.bytes_of(index)) for index in self._stop_ids))
        self._holder = Holder(family, self._verdict)

    def demanded(self, request: ChatRequest, plan: ToolPlan) -> str:
        """The field that cannot be honoured without a grammar, or ""."""
        if plan.mode == "required":
            return "tool_choice"
        if (request.response_format or {}).get("type", "text") != "text":
            return "text.format"
        return next((f"tools[{tool.index}]" for tool in plan.tools if tool.strict or tool.format), "")

    def wanted(self, request: ChatRequest, plan: ToolPlan) -> bool:
        """Whether there is anything to constrain."""
        return bool(plan.every) or bool(self.demanded(request, plan))

    async def hold(self, request: ChatRequest, plan: ToolPlan) -> Held:
        """The request as a grammar holds it. Raises BadRequest for what must be held and cannot be."""
        return await self._holder.hold(plan, request.response_format or {})

    async def _verdict(self, grammar: str, plain: bool) -> Verdict:
        if plain:
            problem = self._backend.known(grammar)
            if problem is None and len(grammar) <= AT_ONCE:
                problem = self._backend.problem(grammar)
            return Verdict(await asyncio.to_thread(self._backend.problem, grammar) if problem is None else problem)
        return await tried(grammar, self._trial)

    async def mask(
        self, request: ChatRequest, held: Held, *, in_reasoning: bool, max_new: int = LONGEST_THOUGHT
    ) -> LogitMask | None:
        """The compiled mask for a request that `hold` let pass; None when there is nothing to constrain.

        Reasoning before what is demanded may take about half of `max_new` tokens.
        """
        if not self.wanted(request, held.plan):
            return None
        thought = _thought_limit(max_new) if self._thinks else 0

        def grammar(held: Held, *, in_reasoning: bool = False, thought: int = 0) -> str:
            return turn_grammar(
                self._family,
                held.plan,
                held.format,
                parallel=request.parallel_tool_calls,
                in_reasoning=in_reasoning,
                thought=thought,
                in_text=self._in_text,
            )

        trying: Held | None = held
        why = ""
        while trying is not None:
            verdict = Verdict("")
            if not trying.plain:
                # What is sound by itself may be too much together. Reasoning is our own rule: tried once without it.
                verdict = await self._verdict(grammar(trying), False)
            if not verdict.problem:
                try:
                    text = grammar(trying, in_reasoning=in_reasoning, thought=thought)
                    return await self._made(text, verdict.mib, self.demanded(request, trying.plan))
                except ValueError as err:
                    verdict = Verdict(str(err))
            why = why or (verdict.problem if verdict.fatal else reason(verdict.problem))
            trying = self._holder.loosened(trying)
        raise BadRequest(f"The tools and the output format do not compile together: {why}", SIMPLER, param="tools")

    async def terminal(self, body: str) -> LogitMask | None:
        """A turn that is one terminal of our own making (`ChatRequest.held`); None, logged, if it does not compile."""
        try:
            return await self._made(terminal_grammar(body))
        except ValueError as error:
            log.warning("a turn is not held, for its grammar does not compile: %s", error)
            return None

    async def _made(self, grammar: str, mib: int = 0, demanded: str = "") -> GrammarMask:
        spec = {
            "grammar": grammar,
            "vocab": self._size,
            "stop_ids": self._stop_ids,
            "silent": self._silent,
            "mib": mib,
            "demanded": demanded,
        }
        return await asyncio.to_thread(GrammarMask, self._backend, json.loads(json.dumps(spec)))


def _thought_limit(max_new: int) -> int:
    """Characters of reasoning, of which a token has about four: a power of two, so that few grammars differ by it."""
    return min(LONGEST_THOUGHT, 1 << max(max_new * 2, 1).bit_length() - 1)
