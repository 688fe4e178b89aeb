"""All runs of the daemon: starting, finding, following, cancelling, deleting.

A run is live until its terminal event; from then on the stored response and log answer. What is asked with
`store: false` is not stored: it can be followed while it is live and is gone afterwards. Runs that an earlier start
of the daemon left unfinished are marked failed when this one starts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import replace

from skilldeck_daemon.agent import compaction
from skilldeck_daemon.agent.accounts.account import Account
from skilldeck_daemon.agent.admission import Admission
from skilldeck_daemon.agent.admission import Run as Admitted
from skilldeck_daemon.agent.failover import Claims
from skilldeck_daemon.agent.pending_writes import End, Unsettled
from skilldeck_daemon.agent.planning.plan import Nearby, Plan, PlanBuilder
from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.agent.progress import Progress
from skilldeck_daemon.agent.response import CompactedResponse, Detail, summary, timeline
from skilldeck_daemon.agent.run import Gate, Run
from skilldeck_daemon.attachments.url_files import keep
from skilldeck_daemon.engine.hub import ModelHub
from skilldeck_daemon.events.log import Event
from skilldeck_daemon.libraries.approvals import parse_permission
from skilldeck_daemon.libraries.bus import Bus
from skilldeck_daemon.store import Page, Store
from skilldeck_daemon.store.page import page_of
from skilldeck_daemon.store.records import Deleted
from skilldeck_daemon.store.run_records import (
    Again,
    Extra,
    Item,
    ResponseObject,
    RunSummary,
    StoredResponse,
    public_response,
)
from skilldeck_daemon.store.tables.responses import UNFINISHED, conversation_locked
from skilldeck_daemon.wire.caller import CALLER
from skilldeck_daemon.wire.included import of_calls, with_included
from skilldeck_shared.errors import BadRequest, NotFound, Unavailable
from skilldeck_shared.json_types import JsonObject

log = logging.getLogger(__name__)

Items = list[Item]
Times = list[float]
Ids = list[str]
ELSEWHERE_SECONDS = 0.5
"""How often a run of another daemon is looked at."""


class Runs:
    """The runs of one daemon. `open` first, `close` last."""

    def __init__(
        self,
        store: Store,
        models: ModelHub,
        plans: PlanBuilder,
        bus: Bus,
        observers: Sequence[Callable[[Account], None]] = (),
        admission: Admission | None = None,
    ) -> None:
        """`observers` are given the account of every run that ends here; `admission` may refuse one that begins."""
        self._store = store
        self._models = models
        self._plans = plans
        self._bus = bus
        self._observers = observers
        self._admission = admission
        self._admitted: dict[str, Admitted] = {}
        self._instance = ""
        self._live: dict[str, Run] = {}
        self._busy_conversations: set[str] = set()
        self._stopping = False
        self._progress = Progress(store, self._live)
        self._unsettled = Unsettled(store)
        self._claims = Claims(store, self._live, self._again)

    # -- life

    async def open(self, instance: str) -> Ids:
        """Mark what an earlier start of the daemon left unfinished as failed; returns the ids.

        Args:
            instance: names this start.
        """
        self._instance = self._claims.instance = instance
        if self._claims.shared:
            return []  # they may be another daemon's; those of one that is gone are claimed
        return await self._store.responses.fail_interrupted(self._instance)

    async def close(self) -> None:
        """Cancel every live run and wait for its end; where other daemons can, they go on with background ones."""
        self._stopping = True
        runs = list(self._live.values())
        given_up = {run.id: run for run in runs if self._claims.shared and run.request.background}
        for run in runs:
            if run.id in given_up:
                run.abandon()
            else:
                run.cancel()
        await asyncio.gather(*(run.finished() for run in runs))
        await self._claims.release(given_up)
        await self.settle()

    async def beat(self) -> None:
        """Say that this daemon lives, and go on with what others left (see failover.py)."""
        await self._claims.beat(claim=not self._stopping and self._models.status().state == "ready")

    async def keep(self) -> None:
        """Store what live runs have so far."""
        await self._progress.keep(self._instance)

    async def settle(self) -> None:
        """Store the ends that the store refused."""
        await self._unsettled.settle(self._instance)

    @property
    def active(self) -> int:
        """How many runs are live."""
        return len(self._live)

    # -- starting

    async def start(
        self,
        request: ResponseRequest,
        permission: str | None = None,
        *,
        after: Run | None = None,
        nearby: Nearby | None = None,
        body: JsonObject | None = None,
        gate: Gate | None = None,
    ) -> Run:
        """Begin a run; it is stored (unless `store` is false) when this returns.

        Args:
            permission: "auto", "ask" or "deny"; the operator's policy counts when it is stricter.
            after: the run that `request.previous_response_id` means although it is not stored (WebSocket).
            nearby: what only a caller on this machine may add: its project, folders to mount.
            body: what the request was read from, so that another daemon can run a background one anew.
            gate: held while it runs; it waits for it once it has begun.
        Raises:
            SkilldeckError: the request cannot be carried out; nothing was stored or begun.
        """
        self._accepting()
        wanted = parse_permission(permission)
        self._reserve(request.conversation)
        try:
            plan = await self._plans.build(request, wanted, live=self._live, after=after, nearby=nearby)
            self._accepting()  # fetching what the request names can take long
            again: Again | None = None
            if body is not None and request.background and self._claims.shared:
                again = {"body": body, "permission": permission}
            return await self._begin(plan, again, gate=gate)
        except BaseException:
            self._busy_conversations.discard(request.conversation or "")
            raise

    def _accepting(self) -> None:
        if self._stopping:
            raise Unavailable("The daemon is shutting down.", "Try again when it is back.")

    def _reserve(self, conversation: str | None) -> None:
        """One response at a time, from before its history is read until its items are added: none misses a turn."""
        if not conversation:
            return
        if conversation in self._busy_conversations:
            raise conversation_locked(conversation)
        self._busy_conversations.add(conversation)

    async def _again(self, response: StoredResponse) -> None:
        """Run a claimed background response from its beginning."""
        kept = await self._store.responses.request(response["id"])
        if kept is None:
            raise Unavailable("It can only be run where it was asked for.")
        items = await self._store.responses.input_items(response["id"])
        request = replace(ResponseRequest.parse(kept["body"]), input=items)
        self._reserve(request.conversation)
        try:
            id_, created = response["id"], response["created_at"]
            permission = parse_permission(kept["permission"])
            caller = CALLER.set(id_)  # whose key it was is not kept: it shares no cached prompt
            try:
                plan = await self._plans.build(
                    request, permission, live=self._live, response_id=id_, created_at=created
                )
            finally:
                CALLER.reset(caller)
            await self._begin(plan, stored=True)
        except BaseException:
            self._busy_conversations.discard(request.conversation or "")
            raise

    async def _begin(
        self, plan: Plan, again: Again | None = None, *, stored: bool = False, gate: Gate | None = None
    ) -> Run:
        admitted = self._admission.run(CALLER.get(), plan.opening) if self._admission and not stored else None
        try:
            run = await self._acknowledged(plan, again, stored=stored, gate=gate)
        except BaseException:
            if admitted is not None:
                admitted.end()
            raise
        if admitted is not None:
            self._admitted[run.id] = admitted
        self._live[run.id] = run
        run.start()
        self._publish(run)
        return run

    async def _acknowledged(self, plan: Plan, again: Again | None, *, stored: bool, gate: Gate | None) -> Run:
        request = plan.request
        run = Run(plan, begun=self._save, ended=self._ended, over=self._over, gate=gate)
        if request.store:
            await keep(self._store, plan.files.unsaved)
        if request.store and not stored:
            lease = self._claims.lease
            await self._store.responses.create(
                run.record, request.input, request.background, self._instance, request=again, lease=lease
            )
        return run

    # -- what runs publish

    async def _save(self, run: Run) -> None:
        if run.request.store and not run.abandoned:
            await self._store.responses.update(run.record, self._instance)
        self._publish(run)

    async def _ended(self, run: Run, event: Event) -> None:
        """Store a run's end; its terminal event is published when this returns."""
        request = run.request
        try:
            turn: Items = []
            if request.conversation:
                # A conversation keeps nothing beside its items.
                turn = run.new_items + with_included(run.output.items, of_calls(), run.output.hidden)
            if request.store and not run.abandoned:
                extra: Extra = {
                    "times": run.times,
                    "timeline": run.timeline,
                    "opened": list(run.chosen),
                    "raw": run.output.raw,
                    "hidden": run.output.hidden,
                }
                end = End(run.record, [*run.log.events, event], extra, turn)
                try:
                    taken = await self._store.responses.finish(end.response, end.events, extra, self._instance, turn)
                except Unavailable:
                    # Another end that cannot be stored fails the run, and only the failure is published.
                    if run.record["status"] == "failed":
                        self._unsettled.keep(end)
                    raise
                if not taken and self._claims.shared:
                    run.abandoned = True  # another daemon has it, and publishes its end
            elif request.conversation and not run.abandoned:
                await self._store.conversations.add_items(request.conversation, turn)
        finally:
            self._busy_conversations.discard(request.conversation or "")
            self._live.pop(run.id, None)
            self._progress.forget(run.id)
            if (admitted := self._admitted.pop(run.id, None)) is not None:
                admitted.end()
            self._publish(run)

    def _over(self, account: Account) -> None:
        for observe in self._observers:
            try:
                observe(account)
            except Exception:
                log.exception("the account of run %s was not taken", account.id)

    def _publish(self, run: Run) -> None:
        self._bus.publish("run", "put", run.id, summary(run.record))

    # -- finding

    def live(self, response_id: str) -> Run | None:
        """The run, while it has not ended."""
        return self._live.get(response_id)

    async def get(self, response_id: str, include: Collection[str] = ()) -> ResponseObject:
        """The Response as it is now, with what `include` asks for beside that."""
        run = self._live.get(response_id)
        if run is not None and run.request.store:
            response, hidden = run.response, run.output.hidden
        else:
            response, hidden = public_response(await self._stored(response_id)), []
            if include:
                hidden = (await self._store.responses.extra(response_id)).get("hidden", [])
        return {**response, "output": with_included(response["output"], include, hidden)} if include else response

    async def list(
        self, limit: int = 20, order: str = "desc", after: str = "", conversation: str | None = None
    ) -> Page[RunSummary]:
        """Summaries of stored runs (see `response.summary`)."""
        page = await self._store.responses.list(limit, order, after, conversation)
        return page.map(summary)

    async def input_items(
        self, response_id: str, limit: int = 20, order: str = "desc", after: str = "", include: Collection[str] = ()
    ) -> Page[Item]:
        """The items the response was asked with."""
        await self._stored(response_id)
        items = await self._store.responses.input_items(response_id)
        page = page_of(items, limit, order, after, "item")
        return Page(with_included(page.data, include), page.has_more)

    async def detail(self, response_id: str) -> Detail:
        """A live or stored run; its calls hold all that came of them, whatever the request included, and compactions
        what they say."""
        run = self._live.get(response_id)
        if run is not None:
            kept: Extra = {"times": run.times, "timeline": run.timeline, "opened": list(run.chosen)}
            live = run.response
            live["output"] = compaction.opened(live["output"])
            return {"response": live, "input": list(run.request.input), "timeline": timeline(kept)}
        response = public_response(await self._stored(response_id))
        extra = await self._store.responses.extra(response_id)
        response["output"] = compaction.opened(with_included(response["output"], of_calls(), extra.get("hidden", [])))
        items = await self._store.responses.input_items(response_id)
        return {"response": response, "input": items, "timeline": timeline(extra)}

    async def times(self, response_id: str) -> Times:
        """Unix seconds of each event of a stored or live run, by sequence number."""
        run = self._live.get(response_id)
        if run is not None:
            return list(run.times)
        return list((await self._store.responses.extra(response_id)).get("times", []))

    async def replay(self, response_id: str, after: int = -1) -> AsyncIterator[Event]:
        """The log of a live or stored run from `after` on; a live one is followed to its end."""
        run = self._live.get(response_id)
        if run is not None:
            async for event in run.events(after):
                yield event
            return
        await self._elsewhere(await self._stored(response_id))
        end = self._unsettled.get(response_id)
        for event in end.events if end else await self._store.responses.events(response_id):
            if event["sequence_number"] > after:
                yield event

    async def _stored(self, response_id: str) -> StoredResponse:
        end = self._unsettled.get(response_id)
        response = end.response if end else await self._store.responses.get(response_id)
        if response is None:
            raise NotFound(f"Response with id {response_id[:100]!r} not found.", param="response_id")
        return response

    async def _elsewhere(self, response: StoredResponse, *, cancel: bool = False) -> StoredResponse:
        """The Response once it has ended, when another daemon runs it; `cancel` asks that one to cancel it."""
        if not self._claims.shared or response["status"] not in UNFINISHED:
            return response
        if cancel:
            await self._store.leases.ask_cancel(response["id"])
        while response["status"] in UNFINISHED:
            await asyncio.sleep(ELSEWHERE_SECONDS)
            response = await self._stored(response["id"])
        return response

    # -- ending

    async def cancel(self, response_id: str, *, background_only: bool = False) -> ResponseObject:
        """Stop a run; returns the Response it ended with. One that has ended is returned as it is.

        Args:
            background_only: refuse others, as the HTTP endpoint does.
        """
        run = self._live.get(response_id)
        if run is None:
            response = await self._stored(response_id)
            if background_only and not response["background"]:
                raise _not_background()
            return public_response(await self._elsewhere(response, cancel=True))
        if background_only and not run.request.background:
            raise _not_background()
        run.cancel()
        return await run.finished()

    async def cancel_after_turn(self, response_id: str) -> ResponseObject:
        """Have a run end before the model's next turn; returns the Response as it is now."""
        run = self._live.get(response_id)
        if run is None:
            return public_response(await self._stored(response_id))
        run.cancel_after_turn()
        return run.response

    async def delete(self, response_id: str) -> Deleted:
        """Delete a stored response; a live one is cancelled first."""
        run = self._live.get(response_id)
        if run is not None:
            run.cancel()
            await run.finished()
        else:
            await self._elsewhere(await self._stored(response_id), cancel=True)
        self._unsettled.drop(response_id)
        if not await self._store.responses.delete(response_id):
            await self._stored(response_id)
        self._bus.publish("run", "delete", response_id)
        return {"id": response_id, "object": "response", "deleted": True}

    # -- what no run is needed for

    async def compact(self, request: ResponseRequest) -> CompactedResponse:
        """The response.compaction object of a conversation; nothing is stored. Raises the error of the engine."""
        plan = await self._plans.build(request, live=self._live)
        return await compaction.as_object(plan)

    async def compact_conversation(self, conversation: str, model: str = "") -> ResponseObject:
        """Put a summary in place of what was said, by a stored run of its own; returns its Response."""
        self._accepting()
        self._reserve(conversation)
        try:
            plan = await self._plans.build(compaction.of_conversation(conversation, model), live=self._live)
            done = await compaction.compact(plan)
            extra: Extra = {"times": done.log.times, "timeline": [*done.timeline]}
            items = done.response["output"]
            await self._store.responses.create(plan.response, [], instance=self._instance, lease=self._claims.lease)
            await self._store.responses.finish(done.response, done.log.events, extra, self._instance, items)
        finally:
            self._busy_conversations.discard(conversation)
        self._bus.publish("run", "put", done.response["id"], summary(done.response))
        return public_response(done.response)

    async def count_tokens(self, request: ResponseRequest) -> int:
        """Tokens of the prompt the request would begin with."""
        plan = await self._plans.build(replace(request, truncation="auto"), live=self._live)
        assert plan.first is not None
        return await plan.model.count_tokens(plan.first)


def _not_background() -> BadRequest:
    return BadRequest("Only responses made with 'background' can be cancelled.", "Close the stream instead.")
