"""What a request asks for, looked up and validated before it is acknowledged: `PlanBuilder` makes the whole `Plan`.

Nothing is begun or stored here. What the request names and is not there, what this daemon does not offer, and what the
model cannot honour are errors that name the field.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from skilldeck_daemon.agent.grounded import Verify
from skilldeck_daemon.agent.guidance.outlines import held
from skilldeck_daemon.agent.guidance.preload import Mode, Preload
from skilldeck_daemon.agent.guidance.skill_commands import PARTS, NextTurn, Part, SkillCommands, commands_ran
from skilldeck_daemon.agent.guidance.skill_paths import SkillPaths
from skilldeck_daemon.agent.live import LiveRun
from skilldeck_daemon.agent.planning import history
from skilldeck_daemon.agent.planning.left_out import without_absent
from skilldeck_daemon.agent.planning.placement import Placer, hosted_auto, preload_of
from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.agent.prompt import (
    Message,
    split_system,
    system_first,
    system_message,
    to_messages,
    unfold,
)
from skilldeck_daemon.agent.response import new_response, text_bytes
from skilldeck_daemon.agent.room import took_room
from skilldeck_daemon.attachments.documents import Documents
from skilldeck_daemon.attachments.gather import Sources, gather
from skilldeck_daemon.attachments.listing import Attachments
from skilldeck_daemon.engine.base import ChatModel, ChatRequest, Sampling
from skilldeck_daemon.engine.errors import TooLong, too_long
from skilldeck_daemon.engine.hub import ModelHub
from skilldeck_daemon.libraries.approvals import Approvals
from skilldeck_daemon.libraries.containers.environments import Environments
from skilldeck_daemon.libraries.containers.mounted import Mounted
from skilldeck_daemon.libraries.files import FileLibrary
from skilldeck_daemon.libraries.ondisk import DiskSkills
from skilldeck_daemon.skills.needs import read_folder
from skilldeck_daemon.skills.scan import DiskSkill
from skilldeck_daemon.store import Store
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.store.run_records import StoredResponse
from skilldeck_daemon.tools.base import Tool
from skilldeck_daemon.tools.context import Offer, Surroundings, ToolContext
from skilldeck_daemon.tools.read_file import own_tools
from skilldeck_daemon.wire.caller import cache_salt
from skilldeck_daemon.wire.error_names import Names
from skilldeck_daemon.wire.item_kinds import Item, check_input
from skilldeck_shared.errors import BadRequest
from skilldeck_shared.json_types import JsonObject


@dataclass(frozen=True)
class Nearby:
    """What a caller on this machine may add to a request, and no HTTP client can.

    `mounts` are folders mounted read-only as skills; `project` is the caller's working directory ("" for the
    daemon's own project) and `skills` names skills on disk (see `ondisk`).
    """

    mounts: tuple[Mounted, ...] = ()
    project: str = ""
    skills: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Everything a run needs, looked up and validated before it is acknowledged.

    `items` are history and input with references resolved, the first `known` of them history; `raw` holds the calls'
    arguments as the model wrote them; `own_tools` are the daemon's, beside the request's; `left_out` are types of the
    request's tools that this daemon does not have; `loosened` names those whose schema no grammar holds whole;
    `skills` writes out paths of the mounted skills and `preload` opens those that are meant, where the model's
    template does not place them itself; `opening` are the items as the model reads them, `asked` the commands of the
    skill it is asked to run, `outline` the headings of the answer it is asked for; `cache_salt` keeps what the engine
    caches of it from other callers; `chosen` are the skills opened for the user's words; `led`: what of a small
    model's turns is chosen for it (`guidance/skill_commands.py`); `first` is the first turn, as the model was asked
    whether it can honour it; `refused`: why a streamed run ends before that turn.
    """

    request: ResponseRequest
    response: StoredResponse
    model: ChatModel
    sampling: Sampling
    items: list[Item]
    files: Attachments
    context: ToolContext
    known: int
    raw: Mapping[str, str]
    own_tools: tuple[Tool, ...]
    left_out: tuple[str, ...]
    skills: SkillPaths | None
    preload: Preload | None
    opening: list[Message]
    asked: SkillCommands | None
    cache_salt: str
    loosened: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    outline: tuple[str, ...] = ()
    verify: Verify = "off"
    led: Collection[Part] = PARTS
    first: ChatRequest | None = None
    refused: TooLong | None = None

    @property
    def tools(self) -> list[Tool]:
        """What the model may call."""
        return [*self.request.tools, *self.own_tools]

    @property
    def cache_key(self) -> str:
        return self.request.prompt_cache_key or self.context.session

    def messages(
        self,
        output: Sequence[Item] = (),
        raw: Mapping[str, str] | None = None,
        decided: Mapping[str, str] | None = None,
        around: Surroundings | None = None,
    ) -> list[Message]:
        """The conversation so far, as the model reads it.

        Args:
            output: this run's, when a compaction is in it; `raw`: the arguments of its calls.
            decided: what approval requests came to in this run.
            around: stands for the surroundings as they are.
        """
        system, around = self.request.instructions or "", around or self.context.place.around
        items, arguments = [*self.items, *output], {**self.raw, **(raw or {})}
        return render(
            items, system, around, arguments, self.files, self.skills, decided, self.preload, self.model.info.context
        )

    def continued(self, base: list[Message], output: Sequence[Item], raw: Mapping[str, str]) -> list[Message]:
        """The conversation with this run's output behind it; an answer it began is one message with it."""
        more = to_messages(output, raw, self.files, None, self.skills, self.model.info.context)
        if self.request.continues and base and more and base[-1]["role"] == more[0]["role"] == "assistant":
            begun = {**more[0], "content": (base[-1].get("content") or "") + (more[0].get("content") or "")}
            return [*base[:-1], begun, *more[1:]]
        return base + more

    def chat(
        self, messages: list[Message], *, tool_choice: Any, max_tokens: int | None, output: Sequence[Item] = ()
    ) -> ChatRequest:
        """A turn of the model; the first one as it was validated. `output`: of this run so far."""
        request = self.request
        turn = self._next_turn(output) if tool_choice == "auto" else NextTurn()
        shape = request.text_format
        chat = ChatRequest(
            messages=messages,
            tools=[function for tool in self.tools for function in tool.declare()],
            tool_choice=tool_choice,
            parallel_tool_calls=request.parallel_tool_calls,
            response_format=None if shape["type"] == "text" else shape,
            sampling=self.sampling,
            max_tokens=max_tokens,
            stop=request.stop,
            reports_stop=request.reports_stop,
            logprobs=request.top_logprobs if request.logprobs else None,
            reasoning_effort=request.effort,
            cache_key=self.cache_key,
            cache_salt=self.cache_salt,
            commands_tool=self._commands_tool(),
            answered=self.context.skill_names,
            continues=request.continues and bool(messages) and messages[-1]["role"] == "assistant",
            template=request.template,
            begin_call=turn.begin,
            commands_like=turn.like,
            answer=turn.answer,
            held=turn.held,
        )
        return self.first if self.first is not None and self.first == chat else chat

    def _next_turn(self, output: Sequence[Item]) -> NextTurn:
        if self.preload is None or not self.preload.bare:
            return NextTurn()
        files = [file.name for file in self.files.files.values() if file.path]
        ran = commands_ran(output)
        turn = (self.asked or SkillCommands()).next_turn(ran, files, self.asked is not None)
        if turn == NextTurn() and self.outline:
            turn = NextTurn(held=held(self.outline))
        return turn if turn.part(ran) in self.led else NextTurn()

    def _commands_tool(self) -> str:
        """The daemon's own shell, where there is something to work on: a block of commands is then no explanation."""
        there = self.context.place.around.skills or self.context.place.around.files
        return next((tool.names[0] for tool in self.tools if tool.runs == "commands" and tool.hosted and there), "")


class PlanBuilder:
    """Makes plans. `private_hosts`: those that URLs of requests may lead to all the same."""

    def __init__(
        self,
        store: Store,
        models: ModelHub,
        environments: Environments,
        files: FileLibrary,
        approvals: Approvals,
        documents: Documents,
        private_hosts: Collection[str] = (),
        disk: DiskSkills | None = None,
        offer: Offer | None = None,
        skills_preload: Mode = "named",
        verify: Verify = "mark",
    ) -> None:
        self._store = store
        self._models = models
        self._environments = environments
        self._files = files
        self._approvals = approvals
        self._documents = documents
        self._private_hosts = private_hosts
        self._disk = disk
        self._offer = offer or Offer()
        self.skills_preload = skills_preload
        self.verify = verify
        self.led: Collection[Part] = PARTS  # the bench measures what each is worth

    async def build(
        self,
        request: ResponseRequest,
        permission: str | None = None,
        *,
        live: Collection[str] = (),
        after: LiveRun | None = None,
        nearby: Nearby | None = None,
        response_id: str = "",
        created_at: int | None = None,
    ) -> Plan:
        """Look up and validate everything the request names.

        Args:
            live: ids of the responses that have not ended.
            after: the run that `request.previous_response_id` means although it is not stored (WebSocket).
            response_id, created_at: of a response that is run anew.
        """
        model = await self._models.ready(request.model)
        past = await history.load(self._store, request, live, after)
        items = past.items + await history.references(request.input, past.items, self._store)
        if not request.input and not past.items:
            raise BadRequest("Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
        history.check_calls(items, len(past.items))
        id_ = response_id or new_id("resp")
        request, left_out = without_absent(request, self._offer, id_)
        check_input(items, len(past.items), request.tools)
        paths = {
            item["id"]: f"input[{position}]"
            for position, item in enumerate(request.input)
            if item["type"] != "item_reference"
        }
        earlier = after.pages if after is not None else {}
        sources = Sources(self._store, self._files, self._documents, self._private_hosts, earlier, model.caps.images)
        attachments = await gather(items, sources, len(past.items), paths)
        nearby = nearby or Nearby()
        disk = await self._from_disk(request, items, nearby)
        placer = Placer(id_, self._environments, sources, attachments, nearby.mounts, disk)
        placed = await placer.place(request.tools, items)
        bare = model.info.call_style == "bash"
        if bare:  # a small model runs what a skill says and is better off with less to read
            placed = replace(placed, around=replace(placed.around, programs=()))
        skills = SkillPaths((mount.name, mount.path) for mount in placed.mounted)
        written_out = None if model.info.places_skills else skills
        context = ToolContext(
            run_id=id_,
            session=past.session or id_,
            permission=permission,
            approvals=self._approvals,
            environments=self._environments,
            offer=self._offer,
            place=placed,
            include=request.include,
            reports_made=request.reports_made,
            said=items,
            instructions=request.instructions or "",
            fits=partial(_fits, model),
            skill_text=(written_out or SkillPaths()).instructions,
        )
        sampling = _sampling(request, getattr(model, "defaults", None) or Sampling())
        if bare and request.temperature is None and placed.around.skills:
            sampling = replace(sampling, temperature=0.0)  # a command is right or wrong; drawn ones were wrong
        response = new_response(id_, request, model.info.name, sampling)
        response["session"] = context.session
        if created_at is not None:
            response["created_at"] = created_at
        own = own_tools(request.tools, request.tool_choice, request.text_format, attachments, model.info)
        system, around = request.instructions or "", context.place.around
        mode = preload_of(request.tools) or self.skills_preload
        preload = Preload.of(skills, mode, model.info.context, bare) if written_out is not None else None
        opening = render(items, system, around, past.raw, attachments, written_out, context=model.info.context)
        plan = Plan(
            request=request,
            response=response,
            model=model,
            sampling=sampling,
            items=items,
            files=attachments,
            context=context,
            known=len(past.items),
            raw=past.raw,
            own_tools=own,
            left_out=left_out,
            skills=written_out,
            preload=preload,
            chosen=() if preload is None else preload.chosen(opening, around),
            opening=opening if preload is None else preload.opened(opening, around),
            asked=preload.asked(opening, around) if preload is not None else None,
            outline=preload.outline(opening, around) if preload is not None and bare else (),
            cache_salt=cache_salt(request.prompt_cache_key),
            verify=request.verify or self.verify,
            led=self.led,
        )
        first = _first(plan)
        try:
            return replace(plan, first=first, loosened=await _check(plan, first))
        except TooLong as error:
            # Codex makes a prompt shorter at a stream that fails with this error's code, and not at a status of 400.
            if not request.stream:
                raise
            return replace(plan, refused=error)

    async def _from_disk(self, request: ResponseRequest, items: list[Item], nearby: Nearby) -> tuple[Mounted, ...]:
        """The skills on disk that the request asks for."""
        if self._disk is None or not hosted_auto(request.tools):
            return ()
        wanted = await self._disk.wanted(items, self._disk.project(nearby.project), nearby.skills)
        return tuple([await _on_disk(skill) for skill in wanted])


async def _on_disk(skill: DiskSkill) -> Mounted:
    needs = await asyncio.to_thread(read_folder, skill.path)
    return Mounted(skill.name, skill.description, str(skill.path), "", "", needs.kept() if needs else {})


def render(
    items: Sequence[Item],
    system: str,
    around: Surroundings,
    raw: Mapping[str, str],
    files: Attachments,
    skills: SkillPaths | None = None,
    decided: Mapping[str, str] | None = None,
    preload: Preload | None = None,
    context: int = 0,
) -> list[Message]:
    """Items as the messages a model reads, opened by the one system message."""
    instructions, rest = split_system(system_first(unfold(items)))
    messages = system_message([system, *instructions], around, context)
    messages += to_messages(rest, raw, files, decided, skills, context)
    return messages if preload is None else preload.opened(messages, around)


def _first(plan: Plan) -> ChatRequest:
    choice = plan.request.tool_choice.for_model(plan.tools, plan.tools, called=False)
    return plan.chat(plan.opening, tool_choice=choice, max_tokens=plan.request.max_output_tokens)


async def _check(plan: Plan, chat: ChatRequest) -> tuple[str, ...]:
    """Ask the model whether it can honour the request, before it is acknowledged; whose schemas it holds in part."""
    # The model counts the functions it is given, of which a tool of the request may be several.
    places = [index for index, tool in enumerate(plan.tools) for _function in tool.declare()]
    with Names(tool=lambda index, rest: f"tools[{places[index]}].{rest}").renamed():
        loosened = await plan.model.validate(chat)
    context = plan.model.info.context
    # A token is at least a byte, so only what has more bytes than the context has tokens needs to be counted.
    if context and plan.request.truncation == "disabled" and text_bytes(chat) >= context:
        tokens, counted = await plan.model.measure(chat)
        if counted and tokens >= context:
            error = too_long(tokens, context, plan.model.info.lengthening, what="input")
            error.hint = f"{error.hint} {took_room(plan.opening)}".strip()
            raise error
    return tuple(loosened)


async def _fits(model: ChatModel, function: JsonObject) -> bool:
    """Whether the model's grammar can hold a function that no client has declared."""
    try:
        await model.validate(
            ChatRequest([{"role": "user", "content": ""}], [{"type": "function", "function": function}])
        )
    except BadRequest:
        return False
    return True


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
