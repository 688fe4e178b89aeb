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
from functools import partial
from typing import Any

from skilldeck_daemon.agent import history
from skilldeck_daemon.agent.account import Account
from skilldeck_daemon.agent.approvals import Approvals, parse_permission
from skilldeck_daemon.agent.bus import Bus
from skilldeck_daemon.agent.claims import Claims
from skilldeck_daemon.agent.documents import Documents
from skilldeck_daemon.agent.environments import Environments, Mounted
from skilldeck_daemon.agent.fetched import keep
from skilldeck_daemon.agent.files import FileLibrary
from skilldeck_daemon.agent.gather import Sources, gather
from skilldeck_daemon.agent.included import OUTPUTS, RESULTS, with_included
from skilldeck_daemon.agent.log import Event
from skilldeck_daemon.agent.mcp.servers import McpServers
from skilldeck_daemon.agent.names import Names
from skilldeck_daemon.agent.ondisk import DiskSkills
from skilldeck_daemon.agent.request import ResponseRequest
from skilldeck_daemon.agent.response import new_response, public, summary, text_bytes
from skilldeck_daemon.agent.run import Gate, Plan, Run
from skilldeck_daemon.agent.tools.absent import without_absent
from skilldeck_daemon.agent.tools.mcp import check_approvals
from skilldeck_daemon.agent.tools.read_file import own_tools
from skilldeck_daemon.agent.unsettled import End, Unsettled
from skilldeck_daemon.agent.work import Nearby, Web, Work, hosted_auto, prepare
from skilldeck_daemon.engine.base import ChatModel, ChatRequest, Sampling, TooLong
from skilldeck_daemon.engine.hub import ModelHub
from skilldeck_daemon.store import Page, Store
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.store.responses import UNFINISHED, conversation_locked
from skilldeck_shared.errors import BadRequest, NotFound, Unavailable

log = logging.getLogger(__name__)

Items = list[dict[str, Any]]
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
        environments: Environments,
        files: FileLibrary,
        approvals: Approvals,
        bus: Bus,
        documents: Documents,
        private_hosts: Collection[str] = (),
        disk: DiskSkills | None = None,
        web: Web | None = None,
        mcp: McpServers | None = None,
        observers: Sequence[Callable[[Account], None]] = (),
    ) -> None:
        """`observers` are given the account of every run that ends here, once it is over."""
        self._store = store
        self._models = models
        self._environments = environments
        self._files = files
        self._approvals = approvals
        self._bus = bus
        self._documents = documents
        self._private_hosts = private_hosts
        self._disk = disk
        self._web = web
        self._mcp = mcp
        self._observers = observers
        self._instance = ""
        self._live: dict[str, Run] = {}
        self._busy_conversations: set[str] = set()
        self._stopping = False
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
        """Say that this daemon lives, and go on with what others left (see claims.py)."""
        await self._claims.beat(claim=not self._stopping and self._models.status().state == "ready")

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
        body: dict[str, Any] | None = None,
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
            plan = await self.plan(request, wanted, after, nearby)
            self._accepting()  # fetching what the request names can take long
            again = None
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

    async def _again(self, response: dict[str, Any]) -> None:
        """Run a claimed background response from its beginning."""
        kept = await self._store.responses.request(response["id"])
        if kept is None:
            raise Unavailable("It can only be run where it was asked for.")
        items = await self._store.responses.input_items(response["id"])
        request = replace(ResponseRequest.parse(kept["body"]), input=items)
        self._reserve(request.conversation)
        try:
            plan = await self.plan(request, parse_permission(kept["permission"]), response_id=response["id"])
            plan.response["created_at"] = response["created_at"]
            await self._begin(plan, stored=True)
        except BaseException:
            self._busy_conversations.discard(request.conversation or "")
            raise

    async def plan(
        self,
        request: ResponseRequest,
        permission: str | None = None,
        after: Run | None = None,
        nearby: Nearby | None = None,
        response_id: str = "",
    ) -> Plan:
        """Look up and validate everything the request names; nothing is begun or stored."""
        model = self._models.get(request.model)
        past = await history.load(self._store, request, self._live, after)
        items = past.items + await history.references(request.input, past.items, self._store)
        if not request.input and not past.items:
            raise BadRequest("Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
        history.check_calls(items, len(past.items))
        paths = {id(item): f"input[{position}]" for position, item in enumerate(request.input)}
        earlier = after.pages if after is not None else {}
        sources = Sources(self._store, self._files, self._documents, self._private_hosts, earlier, model.caps.images)
        attachments = await gather(items, sources, paths)
        id_ = response_id or new_id("resp")
        work = Work(id_, past.session or id_, permission, self._approvals, self._environments)
        work.include = request.include
        work.web, work.mcp = self._web, self._mcp
        work.fits = partial(_fits, model)
        work.said, work.instructions = items, request.instructions or ""
        work.cite(found for item in items for found in item.get("results") or ())
        request, left_out = without_absent(request, work)
        check_approvals(items, len(past.items), request.tools)
        nearby = nearby or Nearby()
        work.mounts = nearby.mounts
        if self._disk is not None and hosted_auto(request.tools):
            project = self._disk.project(nearby.project)
            for skill in await self._disk.wanted(items, project, nearby.skills):
                work.disk.append(Mounted(skill.name, skill.description, str(skill.path), "", ""))
        await prepare(work, request.tools, items, attachments, sources)
        sampling = _sampling(request, getattr(model, "defaults", None) or Sampling())
        response = new_response(id_, request, model.info.name, sampling)
        response["_session"] = work.session
        plan = Plan(request, response, model, sampling, items, attachments, work, len(past.items), past.raw)
        plan.left_out = left_out
        plan.own_tools = own_tools(request, attachments, model.info)
        await self._check(plan)
        return plan

    async def _check(self, plan: Plan) -> None:
        """Ask the model whether it can honour the request, before it is acknowledged."""
        choice = plan.request.tool_choice.for_model(plan.tools, plan.tools, called=False)
        chat = plan.chat(plan.messages(), tool_choice=choice, max_tokens=plan.request.max_output_tokens)
        # The model counts the functions it is given, of which a tool of the request may be several.
        places = [index for index, tool in enumerate(plan.tools) for _function in tool.declare()]
        with Names(tool=lambda index, rest: f"tools[{places[index]}].{rest}").told():
            await plan.model.validate(chat)
        context = plan.model.info.context
        # A token is at least a byte, so only what has more bytes than the context has tokens needs to be counted.
        if context and plan.request.truncation == "disabled" and text_bytes(chat) >= context:
            tokens = await plan.model.count_tokens(chat)
            if tokens >= context:
                raise TooLong(
                    f"The input has {tokens} tokens; this model's context holds {context}.",
                    "Shorten it, or set 'truncation' to 'auto'.",
                    param="input",
                )

    async def _begin(
        self, plan: Plan, again: dict[str, Any] | None = None, *, stored: bool = False, gate: Gate | None = None
    ) -> Run:
        request = plan.request
        run = Run(plan, begun=self._save, ended=self._ended, over=self._over, gate=gate)
        if request.store:
            await keep(self._store, plan.files.unsaved)
        if request.store and not stored:
            lease = self._claims.lease
            await self._store.responses.create(
                run.record, request.input, request.background, self._instance, request=again, lease=lease
            )
        self._live[run.id] = run
        run.start()
        self._publish(run)
        return run

    # -- what runs tell

    async def _save(self, run: Run) -> None:
        if run.request.store and not run.abandoned:
            await self._store.responses.update(run.record, self._instance)
        self._publish(run)

    async def _ended(self, run: Run, event: Event) -> None:
        """Store a run's end; its terminal event is told when this returns."""
        request = run.request
        try:
            turn: Items = []
            if request.conversation:
                # A conversation keeps nothing beside its items.
                turn = run.new_items + with_included(run.output.items, (OUTPUTS, RESULTS), run.output.hidden)
            if request.store and not run.abandoned:
                extra = {
                    "times": run.times,
                    "timeline": run.timeline,
                    "raw": run.output.raw,
                    "hidden": run.output.hidden,
                }
                end = End(run.record, [*run.log.events, event], extra, turn)
                try:
                    taken = await self._store.responses.finish(end.response, end.events, extra, self._instance, turn)
                except Unavailable:
                    # Any other end becomes this one when it cannot be stored, and only this one is told.
                    if run.record["status"] == "failed":
                        self._unsettled.keep(end)
                    raise
                if not taken and self._claims.shared:
                    run.abandoned = True  # another daemon has it, and tells its end
            elif request.conversation and not run.abandoned:
                await self._store.conversations.add_items(request.conversation, turn)
        finally:
            self._busy_conversations.discard(request.conversation or "")
            self._live.pop(run.id, None)
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

    async def get(self, response_id: str, include: Collection[str] = ()) -> dict[str, Any]:
        """The Response as it is now, with what `include` asks for beside that."""
        run = self._live.get(response_id)
        if run is not None and run.request.store:
            response, hidden = run.response, run.output.hidden
        else:
            response, hidden = public(await self._stored(response_id)), []
            if include:
                hidden = (await self._store.responses.extra(response_id)).get("hidden", [])
        return {**response, "output": with_included(response["output"], include, hidden)} if include else response

    async def list(
        self, limit: int = 20, order: str = "desc", after: str = "", conversation: str | None = None
    ) -> Page:
        """Summaries of stored runs (see `response.summary`)."""
        page = await self._store.responses.list(limit, order, after, conversation)
        return page.map(summary)

    async def input_items(
        self, response_id: str, limit: int = 20, order: str = "desc", after: str = "", include: Collection[str] = ()
    ) -> Page:
        """The items the response was asked with."""
        await self._stored(response_id)
        items = await self._store.responses.input_items(response_id)
        ordered = items if order == "asc" else items[::-1]
        first = 0
        if after:
            places = [place for place, item in enumerate(ordered) if item.get("id") == after]
            if not places:
                raise BadRequest(
                    "`after` names no item of this list.", "Pass the last_id of the page before.", param="after"
                )
            first = places[0] + 1
        return Page(with_included(ordered[first : first + limit], include), len(ordered) > first + limit)

    async def detail(self, response_id: str) -> dict[str, Any]:
        """{"response", "input": items, "timeline": {"times", "spans"}} of a live or stored run."""
        run = self._live.get(response_id)
        if run is not None:
            timeline = {"times": list(run.times), "spans": list(run.timeline)}
            return {"response": run.response, "input": list(run.request.input), "timeline": timeline}
        response = public(await self._stored(response_id))
        extra = await self._store.responses.extra(response_id)
        items = await self._store.responses.input_items(response_id)
        timeline = {"times": extra.get("times", []), "spans": extra.get("timeline", [])}
        return {"response": response, "input": items, "timeline": timeline}

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

    async def _stored(self, response_id: str) -> dict[str, Any]:
        end = self._unsettled.get(response_id)
        response = end.response if end else await self._store.responses.get(response_id)
        if response is None:
            raise NotFound(f"Response with id {response_id[:100]!r} not found.", param="response_id")
        return response

    async def _elsewhere(self, response: dict[str, Any], *, cancel: bool = False) -> dict[str, Any]:
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

    async def cancel(self, response_id: str, *, background_only: bool = False) -> dict[str, Any]:
        """Stop a run; returns the Response it ended with. One that has ended is returned as it is.

        Args:
            background_only: refuse others, as the HTTP endpoint does.
        """
        run = self._live.get(response_id)
        if run is None:
            response = await self._stored(response_id)
            if background_only and not response["background"]:
                raise _not_background()
            return public(await self._elsewhere(response, cancel=True))
        if background_only and not run.request.background:
            raise _not_background()
        run.cancel()
        return await run.finished()

    async def delete(self, response_id: str) -> dict[str, Any]:
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

    # -- counting

    async def count_tokens(self, request: ResponseRequest) -> int:
        """Tokens of the prompt the request would begin with."""
        plan = await self.plan(replace(request, truncation="auto"))
        choice = request.tool_choice.for_model(plan.tools, plan.tools, called=False)
        return await plan.model.count_tokens(plan.chat(plan.messages(), tool_choice=choice, max_tokens=None))


async def _fits(model: ChatModel, function: dict[str, Any]) -> bool:
    """Whether the model's grammar can hold a function that no client has declared."""
    try:
        await model.validate(
            ChatRequest([{"role": "user", "content": ""}], [{"type": "function", "function": function}])
        )
    except BadRequest:
        return False
    return True


def _not_background() -> BadRequest:
    return BadRequest("Only responses made with 'background' can be cancelled.", "Close the stream instead.")


def _sampling(request: ResponseRequest, defaults: Sampling) -> Sampling:
    return replace(
        defaults,
        temperature=defaults.temperature if request.temperature is None else float(request.temperature),
        top_p=defaults.top_p if request.top_p is None else float(request.top_p),
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        seed=request.seed,
        top_k=defaults.top_k if request.top_k is None else request.top_k,
        min_p=defaults.min_p if request.min_p is None else float(request.min_p),
        repetition_penalty=(
            defaults.repetition_penalty if request.repetition_penalty is None else float(request.repetition_penalty)
        ),
        logit_bias=request.logit_bias,
        **request.dry,
    )
