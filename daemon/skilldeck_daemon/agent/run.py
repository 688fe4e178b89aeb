"""One run: the loop between the model and its tools.

    messages → the model writes text, reasoning, calls → hosted calls are executed → their outputs → the model …

until the model answers without calls, calls something only the client can carry out, or a limit is reached. Everything
that happens goes into one ordered log; the run ends in exactly one terminal event, whatever happens. What was
acknowledged is stored before anybody sees it: the response before `start` returns, its end before the terminal event.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

from skilldeck_daemon.agent.accounts.account import Account, Entry, Stopped, call_entry, turn_entry
from skilldeck_daemon.agent.astray import asked_differently, asked_to_answer, give_up, may_retry, narrowed
from skilldeck_daemon.agent.compaction import compaction_item, summarise
from skilldeck_daemon.agent.grounded import asked_again, places_of
from skilldeck_daemon.agent.planning.plan import Plan
from skilldeck_daemon.agent.prompt import Message
from skilldeck_daemon.agent.response import End, Ending, add_usage, error_of, text_bytes, usage_of
from skilldeck_daemon.agent.room import shorter_history, shorter_outputs, tight, took_room
from skilldeck_daemon.agent.so_far import so_far
from skilldeck_daemon.agent.turn import Turn, stopped
from skilldeck_daemon.attachments.url_files import Page
from skilldeck_daemon.engine.base import ChatFinished, Usage
from skilldeck_daemon.engine.errors import TooLong
from skilldeck_daemon.events.log import Event, EventLog
from skilldeck_daemon.events.output import Output
from skilldeck_daemon.store.records import ContainerFileObject
from skilldeck_daemon.store.run_records import Beside, ResponseObject, StoredResponse, public_response
from skilldeck_daemon.tools.base import Call
from skilldeck_daemon.wire.item_kinds import Item, decisions
from skilldeck_shared.errors import SkilldeckError

log = logging.getLogger(__name__)

COMPACT_AT = 0.75
"""How full the context is when a conversation is compacted and the request names no threshold."""
MAX_ROUNDS = 100
"""Model turns of one run; in the last one the model may call nothing, so that it has to answer."""
MAX_MISTAKES = 4
"""Turns in a row with a call that could not be carried out because of how it was written."""

# OpenAI has no event for a cancelled response: its stream ends as incomplete, the response says cancelled.
TERMINAL: dict[str, str] = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "failed": "response.failed",
    "cancelled": "response.incomplete",
}


Save = Callable[["Run"], Awaitable[None]]
Observer = Callable[[Account], None]
Gate = AbstractAsyncContextManager[None]


class Run:
    """One run as surfaces see it. `times` and `timeline` are kept beside the log."""

    def __init__(
        self,
        plan: Plan,
        *,
        begun: Save,
        ended: Callable[[Run, Event], Awaitable[None]],
        over: Observer = lambda account: None,
        gate: Gate | None = None,
    ) -> None:
        """`ended` stores the end before it is published; `over` is given the account of the run after that.

        `gate` is held from the first turn to the last; what waits for it can be cancelled like any other run.
        """
        self.id: str = plan.response["id"]
        self.request = plan.request
        self.log = EventLog()
        self.output = Output(self.log)
        self.timeline: list[Entry] = []
        self.usage = Usage()
        self.error: SkilldeckError | None = None  # why it failed
        self.stop_sequence: str | None = None  # the stop string that ended the last turn
        self._plan = plan
        self.chosen = plan.chosen
        self._response = plan.response
        self._last: End | None = None  # the end, until it is stored: it is not published before
        self._begun = begun
        self._ended = ended
        self._over = over
        self._gate = gate or contextlib.nullcontext()
        self._task: asyncio.Task[None] | None = None
        self.abandoned = False
        self._entered = False  # whether its task has made its first step
        self._cancelled = self._leaving = False
        self._hosted_calls = 0

    # -- as surfaces see it

    @property
    def response(self) -> ResponseObject:
        """The Response as it is now; a copy."""
        return {**public_response(self._response), "output": copy.deepcopy(self.output.items)}

    @property
    def record(self) -> StoredResponse:
        """The same with what stays inside, as it is stored; ahead of `response` while its end is being stored."""
        record: StoredResponse = {**self._response, "output": copy.deepcopy(self.output.items)}
        return record if self._last is None else {**record, **self._last}

    @property
    def partial(self) -> StoredResponse:
        """The record with what was streamed of the items in progress."""
        return {**self._response, "output": so_far(copy.deepcopy(self.output.items), self.log.events)}

    @property
    def times(self) -> list[float]:
        """Unix seconds of each event, by sequence number."""
        return self.log.times

    @property
    def items(self) -> list[Item]:
        """The whole conversation including this run's output."""
        return self._plan.items + self.output.for_model

    @property
    def new_items(self) -> list[Item]:
        """What the request added to the history, references as the items they mean."""
        return self._plan.items[self._plan.known :]

    @property
    def raw(self) -> dict[str, str]:
        """The arguments of all calls of the conversation as the model wrote them, by call id."""
        return {**self._plan.raw, **self.output.raw}

    @property
    def pages(self) -> dict[str, Page]:
        """What URLs of the conversation led to, when it is not stored."""
        return self._plan.files.unsaved

    def made_by(self, call_id: str) -> Sequence[ContainerFileObject]:
        """container.file objects of what a call that has ended made or changed, where the request `reports_made`."""
        return self._plan.context.made.get(call_id, ())

    @property
    def session(self) -> str:
        return self._plan.context.session

    @property
    def left_out(self) -> tuple[str, ...]:
        """Types of the request's tools that the run does without."""
        return self._plan.left_out

    @property
    def loosened(self) -> tuple[str, ...]:
        """Names of tools (and "text.format") whose schema the model is held to in part only."""
        return self._plan.loosened

    def events(self, after: int = -1) -> AsyncIterator[Event]:
        """The log from `after` on, to its terminal event."""
        return self.log.follow(after)

    async def finished(self) -> ResponseObject:
        """The Response once the run has ended."""
        async for _ in self.log.follow(len(self.log.events)):
            pass
        return self.response

    def start(self) -> None:
        self._publish("response.created")
        if self.request.background:
            self._publish("response.queued")
        self._task = asyncio.create_task(self._main(), name=f"run {self.id}")

    def cancel(self) -> None:
        """Stop the model and the processes now; the run still ends in its terminal event. Idempotent."""
        if not self._cancelled and self._task is not None and not self.log.closed:
            self._cancelled = True
            if self._entered:  # else its first step would never come, nor the run's end
                self._task.cancel()

    def cancel_after_turn(self) -> None:
        """End as cancelled before the model's next turn, once the commands of this one have ended: whoever asked goes
        on with a further message."""
        self._leaving = True

    def abandon(self) -> None:
        """Stop here without an end: another daemon goes on with it. Readers see their stream break off."""
        self.abandoned = True
        self.cancel()

    def _publish(self, type: str) -> None:
        self.log.append(type, response=self.response)

    # -- the run

    async def _main(self) -> None:
        ending: Ending
        error: SkilldeckError | None = None
        self._entered = True
        try:
            if self._cancelled:
                raise asyncio.CancelledError
            if self._response["status"] == "queued":
                self._response["status"] = "in_progress"
                await self._begun(self)
            self._publish("response.in_progress")
            async with self._gate:
                ending = await self._loop()
        except asyncio.CancelledError:
            ending = "cancelled"
        except SkilldeckError as raised:
            ending, error = "failed", raised
        except Exception:
            log.exception("run %s failed by a fault of the daemon", self.id)
            ending, error = "failed", SkilldeckError("The daemon failed inside this run.", "Its log says where.")
        await self._end(ending, error)

    async def _loop(self) -> Ending:
        """Rounds until the model has answered."""
        plan = self._plan
        if plan.refused is not None:
            raise plan.refused
        for tool in plan.tools:
            for call in await tool.open(self.output, plan.context):
                await self._execute(call)
        decided = decisions(self.output.items)  # before the first turn: what approvals came to
        base = plan.messages(decided=decided) if decided else plan.opening
        mistakes = 0
        doubted: list[Message] = []  # the wish for an answer that holds what was read
        astray = again = False  # a turn went round in circles; this one is made in its place
        compacted = False
        for number in range(MAX_ROUNDS):
            room = self._room()
            if room is not None and room <= 0:
                return self._stop_at("max_output_tokens")
            messages = plan.continued(base, self.output.for_model, self.output.raw) + doubted
            if again:
                messages = asked_differently(messages)
            if compacted:
                messages = base = plan.messages(self.output.for_model, self.output.raw, decided)
            choice = self._tool_choice(last=number == MAX_ROUNDS - 1)
            if number == 0 and choice != "none":
                plan.context.begin_container()
            if self.request.compacts and await self._compact(messages, choice):
                if self.request.compact_pauses:
                    return "completed"
                compacted = True
                messages = base = plan.messages(self.output.for_model, self.output.raw, decided)
            first = len(self.output.items)
            turn, base = await self._turn(base, messages, choice, room)
            again = turn.finished.looped and may_retry(self.output.items[first:], plan.tools)
            if again:
                self.output.abandon()
                self.output.forget(first)
                if astray:
                    give_up(self.output)
                    return self._stop_at("max_output_tokens")
                astray = True
                base = plan.messages(decided=decided, around=narrowed(plan.context.place.around, base))
                continue
            if turn.finished.reason == "length":
                self.output.abandon()
                return self._stop_at("max_output_tokens")
            if turn.finished.reason == "content_filter":
                return self._stop_at("content_filter")
            for call in turn.calls:
                if call.hosted:
                    await self._execute(call)
            if not any(call.hosted for call in turn.calls) or any(not call.hosted for call in turn.calls):
                read = messages[: len(messages) - len(doubted)]
                places = [] if turn.calls or plan.verify == "off" else places_of(self.output.items, read)
                if places and plan.verify == "retry" and not doubted:
                    doubted = [asked_again(places)]
                    continue
                if places:
                    self._note({"ungrounded": places})
                return "completed"
            if self._leaving:
                return "cancelled"
            mistakes = mistakes + 1 if any(call.problem for call in turn.calls) else 0
            if mistakes >= MAX_MISTAKES:
                raise ModelFault(f"The model wrote {mistakes} invalid tool calls in a row: {turn.calls[-1].problem}")
        raise ModelFault(f"The model called tools for {MAX_ROUNDS} turns without answering.")

    async def _compact(self, messages: list[Message], choice: Any) -> bool:
        """Put a compaction into the output when the prompt is beyond the threshold. Whether it was done."""
        plan = self._plan
        # One beyond the context would never be reached: the prompt would be refused first.
        limits = (self.request.compact_threshold, int((plan.model.info.context or 0) * COMPACT_AT))
        threshold = min((limit for limit in limits if limit), default=0)
        chat = plan.chat(messages, tool_choice=choice, max_tokens=self._room(), output=self.output.for_model)
        if not threshold or text_bytes(chat) < threshold or (await plan.model.measure(chat))[0] < threshold:
            return False
        summary, finished = await summarise(plan, messages)
        self.usage = add_usage(self.usage, finished.usage)
        item = compaction_item([*plan.items, *self.output.for_model], summary)
        self.output.done(self.output.add(item))
        return True

    async def _turn(
        self, base: list[Message], messages: list[Message], choice: Any, room: int | None
    ) -> tuple[Turn, list[Message]]:
        """One turn of the model. Until it fits, the longest outputs of this run are cut, and with truncation "auto"
        what was before gives way. One that says nothing is made once more."""
        auto = self.request.truncation == "auto"
        asked = False  # to say something
        while True:
            chat = self._plan.chat(messages, tool_choice=choice, max_tokens=room, output=self.output.for_model)
            if auto and await tight(self._plan.model, chat) and (shorter := shorter_history(base)) is not None:
                messages, base = shorter + messages[len(base) :], shorter
                self._note({"shortened": True})
                continue
            turn = Turn(self.output, self._plan.context, self.request, self._plan.tools, self._hosted_left())
            begun = time.time()
            try:
                async with aclosing(self._plan.model.stream(chat)) as events:  # type: ignore[type-var]
                    await turn.read(events)
            except TooLong as error:
                cut = shorter_outputs(messages, len(base))
                if cut is not None:
                    messages = cut
                    continue
                shorter = shorter_history(base) if auto else None
                if shorter is None:
                    error.hint = f"{error.hint} {took_room(messages)}".strip()
                    raise
                messages, base = shorter + messages[len(base) :], shorter
                self._note({"shortened": True})
                continue
            except asyncio.CancelledError:
                self._account(begun, stopped(chat.spent))
                raise
            self._account(begun, turn.finished)
            if turn.finished.reason == "error":
                raise _engine_error(turn.finished.error)
            if turn.silent and not asked and (more := asked_to_answer(chat)) is not None:
                messages, asked = more, True
                continue
            await turn.close()
            return turn, base

    async def _execute(self, call: Call) -> None:
        begun = time.time()
        first, before = len(self.output.items), len(self.log.events)
        self._hosted_calls += not call.tool.internal
        stopped: Stopped | None = "failed"
        try:
            await call.tool.execute(call, self.output, self._plan.context)
            stopped = None
        except asyncio.CancelledError:
            stopped = "cancelled"
            raise
        finally:
            verdict = self._plan.context.verdicts.get(call.call_id)
            item = self.log.events[-1].get("item") if len(self.log.events) > before else None
            self.timeline.append(call_entry(call, first, begun, verdict, item, stopped))

    def _account(self, begun: float, finished: ChatFinished) -> None:
        self.usage = add_usage(self.usage, finished.usage)
        self.stop_sequence = finished.stop_sequence
        self._response["usage"] = usage_of(self.usage)
        self.timeline.append(turn_entry(begun, finished))

    def _note(self, more: Beside) -> None:
        """What a response has no field for, beside it."""
        self._response["skilldeck"] = {**self._response.get("skilldeck", {}), **more}

    # -- limits

    def _room(self) -> int | None:
        """Tokens left to write, over all rounds."""
        limit = self.request.max_output_tokens
        return None if limit is None else limit - self.usage.output_tokens

    def _hosted_left(self) -> int | None:
        limit = self.request.max_tool_calls
        return None if limit is None else max(0, limit - self._hosted_calls)

    def _tool_choice(self, last: bool) -> Any:
        tools = self._plan.tools
        spent = self._hosted_left() == 0
        usable = [] if last else [tool for tool in tools if tool.internal or not (tool.hosted and spent)]
        return self.request.tool_choice.for_model(tools, usable, called=bool(self.output.raw))

    def _stop_at(self, reason: str) -> Ending:
        self._response["incomplete_details"] = {"reason": reason}
        return "incomplete"

    # -- the end

    async def _end(self, ending: Ending, error: SkilldeckError | None) -> None:
        self.output.abandon()
        self._plan.context.close()
        self.error = error
        self._last = {
            "status": ending,
            "error": error_of(error) if error is not None else None,
            "completed_at": int(time.time()) if ending == "completed" else None,
        }
        if error is not None:
            log.warning("run %s failed: %s", self.id, error)
        # The end is stored before it is published; a second cancellation (shutdown) does not interrupt that.
        while True:
            event = self.log.make(TERMINAL[ending], response=public_response(self.record))
            saving = asyncio.ensure_future(self._ended(self, event))
            try:
                while not saving.done():
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.shield(saving)
                saving.result()
            except Exception:
                log.exception("the end of run %s could not be stored", self.id)
                if ending != "failed":
                    ending = "failed"
                    fault = SkilldeckError("The response could not be stored.", "The daemon's log says why.")
                    self._last = {"status": ending, "error": error_of(fault), "completed_at": None}
                    continue
            break
        if not self.abandoned:
            self._response = {**self._response, **self._last}
            self.log.add(event)
        self.log.close()
        if not self.abandoned:
            self._over(
                Account.of(self._response, self.usage, self.error, self.times, self.timeline, self._plan.context)
            )


class ModelFault(SkilldeckError):
    """The model does what no client asked for; the run cannot go on."""

    code = "model_fault"


def _engine_error(error: Exception | None) -> SkilldeckError:
    if isinstance(error, SkilldeckError):
        return error
    return SkilldeckError(f"The engine failed: {error or 'no reason given'}.", "The daemon's log says more.")
