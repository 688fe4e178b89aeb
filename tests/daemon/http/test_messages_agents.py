"""POST /v1/messages as Claude Code and newer SDKs send it: edits of the history, threads, deferred tools, models."""

from __future__ import annotations

import json
import threading
from typing import Any

import anthropic
import httpx
import pytest

from daemon.http.test_messages import client
from skilldeck_daemon.http import sse
from support.daemon import Running, running
from support.scripted_model import Call, Hold, Reasoning, Turn, usage
from support.web import Web

TOOL: Any = {"name": "look", "input_schema": {"type": "object"}}
BETAS = "claude-code-20250219,context-management-2025-06-27,interleaved-thinking-2025-05-14,no-such-beta-2031-01-01"


def history(calls: int) -> list[dict[str, Any]]:
    """A conversation with a thought and a call in each of the assistant's turns."""
    messages: list[dict[str, Any]] = []
    for number in range(calls):
        thought = {"type": "thinking", "thinking": f"thought {number}", "signature": ""}
        call = {"type": "tool_use", "id": f"c{number}", "name": "look", "input": {"at": f"place {number}"}}
        result = {"type": "tool_result", "tool_use_id": f"c{number}", "content": f"seen {number}"}
        messages += [
            {"role": "user", "content": f"go {number}"},
            {"role": "assistant", "content": [thought, call]},
            {"role": "user", "content": [result]},
            {"role": "assistant", "content": f"answer {number}"},
        ]
    return [*messages, {"role": "user", "content": "and now?"}]


def count(body: dict[str, Any]) -> Turn:
    """Answers a request that is only made to learn how many tokens it has: here its characters."""
    assert body["max_tokens"] == 1
    return Turn("x", usage=usage(len(str(body["messages"])), 1))


async def post(daemon: Running, path: str = "", **body: Any) -> httpx.Response:
    request = {"model": "default", "max_tokens": 64, "messages": history(5), "tools": [TOOL], **body}
    headers = {"anthropic-beta": BETAS, "anthropic-version": "2023-06-01"}
    return await daemon.http.post(f"/messages{path}?beta=true", json=request, headers=headers)


def told(daemon: Running) -> str:
    return str(daemon.model.requests[-1]["messages"])


async def test_keeping_all_thoughts_asks_nothing() -> None:
    async with running(Turn("ok")) as daemon:
        edit = {"type": "clear_thinking_20251015", "keep": "all"}
        answer = await post(daemon, context_management={"edits": [edit]})
        assert (answer.status_code, answer.json()["context_management"]) == (200, {"applied_edits": []})
        assert all(f"thought {number}" in told(daemon) for number in range(5))


@pytest.mark.parametrize(("keep", "kept"), [(None, 1), ({"type": "thinking_turns", "value": 2}, 2)])
async def test_older_thoughts_are_cleared(keep: Any, kept: int) -> None:
    async with running(count, count, Turn("ok")) as daemon:
        edit = {"type": "clear_thinking_20251015", **({"keep": keep} if keep else {})}
        answer = await post(daemon, context_management={"edits": [edit]})
        (applied,) = answer.json()["context_management"]["applied_edits"]
        assert (applied["type"], applied["cleared_thinking_turns"]) == ("clear_thinking_20251015", 5 - kept)
        assert applied["cleared_input_tokens"] > 0
        assert [f"thought {number}" in told(daemon) for number in range(5)] == [
            number >= 5 - kept for number in range(5)
        ]
        assert all(f"seen {number}" in told(daemon) for number in range(5))


async def test_older_results_are_cleared_once_there_are_as_many_calls_as_the_trigger_says() -> None:
    edit: dict[str, Any] = {"type": "clear_tool_uses_20250919", "keep": {"type": "tool_uses", "value": 2}}
    async with running(Turn("not yet"), count, count, Turn("ok")) as daemon:
        edit["trigger"] = {"type": "tool_uses", "value": 5}
        answer = await post(daemon, context_management={"edits": [edit]})
        assert answer.json()["context_management"] == {"applied_edits": []}
        edit["trigger"]["value"] = 4
        edit["clear_tool_inputs"] = True
        answer = await post(daemon, context_management={"edits": [edit]}, stream=True)
        (delta,) = [line for line in answer.text.splitlines() if line.startswith('data: {"type":"message_delta"')]
        assert '"cleared_tool_uses":3' in delta
        assert [f"seen {number}" in told(daemon) for number in range(5)] == [False] * 3 + [True] * 2
        assert [f"place {number}" in told(daemon) for number in range(5)] == [False] * 3 + [True] * 2
        assert told(daemon).count("cleared to make room") == 3


async def test_a_trigger_in_tokens_what_is_excluded_and_what_would_clear_too_little() -> None:
    edit: dict[str, Any] = {"type": "clear_tool_uses_20250919"}
    async with running(count, Turn("short"), count, count, Turn("too little"), Turn("excluded")) as daemon:
        assert (await post(daemon, context_management={"edits": [edit]})).json()["context_management"] == {
            "applied_edits": []
        }
        edit |= {"trigger": {"type": "input_tokens", "value": 10}}
        least = {**edit, "clear_at_least": {"type": "input_tokens", "value": 100_000}}
        excluded = {**edit, "exclude_tools": ["look"]}
        for wanted in (least, excluded):
            answer = await post(daemon, context_management={"edits": [wanted]})
            assert answer.json()["context_management"] == {"applied_edits": []}
            assert "seen 0" in told(daemon)


async def test_counting_says_what_there_was_before() -> None:
    async with running(count, count, count, count) as daemon:
        edit = {"type": "clear_thinking_20251015"}
        answer = await post(daemon, "/count_tokens", context_management={"edits": [edit]})
        counted = answer.json()
        assert counted["context_management"]["original_input_tokens"] > counted["input_tokens"] > 0


async def test_a_conversation_beyond_the_trigger_is_compacted_and_goes_on_from_its_block() -> None:
    def turn(body: dict[str, Any]) -> Turn:
        if body["max_tokens"] == 1:
            return count(body)
        return Turn("They looked around.") if "Be short." in str(body["messages"][-1]) else Turn("ok")

    edit: dict[str, Any] = {"type": "compact_20260112", "instructions": "Be short."}
    edit["trigger"] = {"type": "input_tokens", "value": 50}
    async with running(*[turn] * 12, strict=False) as daemon, client(daemon) as api:
        asked: Any = {"model": "default", "max_tokens": 64, "context_management": {"edits": [edit]}}
        whole = await api.beta.messages.create(**asked, messages=history(2))
        assert [block.type for block in whole.content] == ["compaction", "text"]
        assert (whole.content[0].content, whole.stop_reason) == ("They looked around.", "end_turn")  # type: ignore[union-attr]

        edit["pause_after_compaction"] = True
        async with api.beta.messages.stream(**asked, messages=history(2)) as stream:
            paused = await stream.get_final_message()
        (block,) = paused.content
        assert (block.type, paused.stop_reason) == ("compaction", "compaction")

        edit["trigger"]["value"] = 100_000
        sent = block.model_dump(exclude_none=True)
        for block_back, own in ((sent, True), ({**sent, "encrypted_content": "theirs"}, False)):
            messages = [*history(2), {"role": "assistant", "content": [block_back]}, {"role": "user", "content": "on"}]
            await api.beta.messages.create(**asked, messages=messages)
            read = told(daemon)
            assert ("They looked around." in read, "go 1" in read, "seen 1" in read) == (True, own, False)
        failed = {"type": "compaction", "content": None}
        messages = [*history(2), {"role": "assistant", "content": [failed]}, {"role": "user", "content": "on"}]
        await api.beta.messages.create(**asked, messages=messages)
        assert "seen 1" in told(daemon)


@pytest.mark.parametrize(
    ("edit", "param"),
    [
        ({"type": "forget_20260112"}, "context_management.edits[0].type"),
        ({"type": "compact_20260112", "trigger": {"type": "moon"}}, "context_management.edits[0].trigger.type"),
        ({"type": "clear_thinking_20251015", "keep": "some"}, "context_management.edits[0].keep"),
        ({"type": "clear_tool_uses_20250919", "trigger": {"type": "moon"}}, "context_management.edits[0].trigger.type"),
        (
            {"type": "clear_tool_uses_20250919", "keep": {"type": "tool_uses", "value": -1}},
            "context_management.edits[0].keep.value",
        ),
    ],
)
async def test_an_edit_that_is_not_known_is_refused_by_name(edit: dict[str, Any], param: str) -> None:
    async with running() as daemon:
        answer = await post(daemon, context_management={"edits": [edit]})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


# ------------------------------------------------------------------ threads, tools, names, fields


async def test_a_thread_is_refused_so_that_clients_go_on_without() -> None:
    async with running() as daemon:
        answer = await post(daemon, thread={"type": "create"})
        error = answer.json()["error"]
        assert (answer.status_code, error["details"]) == (400, {"error_code": "thread_unsupported_request"})


async def test_the_sdks_tool_runner_falls_back_by_itself() -> None:
    @anthropic.beta_async_tool
    async def look(place: str) -> str:
        """Look at a place."""
        return f"nothing at {place}"

    async with running(Turn(Call("look", {"place": "home"})), Turn("Nothing there.")) as daemon:
        base = daemon.url.removesuffix("/v1")
        async with anthropic.AsyncAnthropic(base_url=base, api_key="x", max_retries=0) as api:
            runner = api.beta.messages.tool_runner(
                model="default", max_tokens=64, tools=[look], messages=[{"role": "user", "content": "look"}]
            )
            last = await runner.until_done()
        assert last.content[0].text == "Nothing there."  # type: ignore[union-attr]
        assert "nothing at home" in told(daemon)


async def test_deferred_tools_are_declared_and_hosted_ones_left_out() -> None:
    async with running(Turn("ok")) as daemon:
        tools = [
            {**TOOL, "defer_loading": True},
            {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
            {"type": "computer_20250124", "name": "computer", "display_width_px": 100, "display_height_px": 100},
            {"type": "memory_20250818", "name": "memory"},
        ]
        answer = await post(daemon, tools=tools)
        assert (answer.status_code, answer.headers["x-skilldeck-left-out"]) == (
            200,
            "tool_search, web_search, computer",
        )
        sent = daemon.model.requests[0]["tools"]
        assert [tool["function"]["name"] for tool in sent] == ["look", "memory"]
        assert "rename" in sent[1]["function"]["parameters"]["properties"]["command"]["enum"]


@pytest.mark.parametrize("name", ["claude-opus-4-8", "claude-3-5-haiku-latest"])
async def test_names_of_anthropics_models_are_answered_by_the_default(name: str) -> None:
    async with running(Turn("ok")) as daemon:
        answer = await post(daemon, model=name)
        assert (answer.status_code, answer.json()["model"]) == (200, "scripted")
        assert answer.headers["x-skilldeck-model"] == "scripted"


async def test_tokens_are_counted_under_names_of_anthropics_models_too() -> None:
    """Also those that an edit of the history with a trigger in tokens asks for before the run."""
    edit = {"type": "clear_tool_uses_20250919", "trigger": {"type": "input_tokens", "value": 10}}
    async with running(*[Turn("ok", usage=usage(7, 1))] * 3) as daemon:
        body = {"model": "claude-opus-4-8", "messages": [{"role": "user", "content": "hi"}]}
        answer = await daemon.http.post("/messages/count_tokens", json=body)
        assert (answer.status_code, answer.json()) == (200, {"input_tokens": 7}), answer.text
        assert answer.headers["x-skilldeck-model"] == "scripted"
        assert (await post(daemon, model="claude-opus-4-8", context_management={"edits": [edit]})).status_code == 200
        body["model"] = "opus"
        assert (await daemon.http.post("/messages/count_tokens", json=body)).status_code == 404


async def test_other_unknown_names_are_refused_and_an_alias_wins() -> None:
    async with running(Turn("ok"), aliases={"claude-opus-4-8": "scripted"}) as daemon:
        assert (await post(daemon, model="opus")).status_code == 404
        assert "x-skilldeck-model" not in (await post(daemon, model="claude-opus-4-8")).headers


async def test_the_changing_line_before_claude_codes_system_text_is_not_told() -> None:
    async with running(Turn("ok"), Turn("ok")) as daemon:
        line = "x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli;"
        await post(daemon, system=[{"type": "text", "text": line}, {"type": "text", "text": "Be brief."}])
        assert daemon.model.requests[0]["messages"][0] == {"role": "system", "content": "Be brief."}
        await post(daemon, system=f"{line}\nBe brief.")
        assert daemon.model.requests[1]["messages"][0] == {"role": "system", "content": "Be brief."}


async def test_a_system_message_behind_the_users_words_is_told_before_them() -> None:
    """Claude Code lists its agents and skills there: a small model would answer the list."""
    more = [{"role": "user", "content": "hi"}, {"role": "system", "content": "There are skills."}]
    later = [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "and?"}, more[1]]
    async with running(Turn("ok"), Turn("ok")) as daemon:
        await post(daemon, system="Be brief.", messages=more)
        first = daemon.model.requests[0]["messages"]
        assert [(m["role"], m["content"]) for m in first] == [
            ("system", "Be brief.\n\nThere are skills."),
            ("user", "hi"),
        ]
        await post(daemon, system="Be brief.", messages=[*more, *later])
        second = daemon.model.requests[1]["messages"]
        assert second[:2] == first  # what was read of the prompt stays read
        assert [m["role"] for m in second[2:]] == ["assistant", "system", "user"]


@pytest.mark.parametrize("program", ["claude-cli/2.1.197 (external, sdk-cli)", "another/1.0"])
async def test_claude_code_hears_no_pings_and_is_told_that_nothing_is_new(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_S", 0.02)
    gate = threading.Event()
    async with running(Turn(Hold(gate), "Hello.")) as daemon:
        async with client(daemon) as own:
            body: Any = {"model": "default", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}
            async with own.messages.stream(**body, extra_headers={"user-agent": program}) as stream:
                seen = []
                async for event in stream:
                    seen.append(event.type)
                    if seen.count("message_delta") >= 2 or program.startswith("another"):
                        gate.set()
                message = await stream.get_final_message()
        assert (message.stop_reason, message.content[0].text) == ("end_turn", "Hello.")  # type: ignore[union-attr]
        assert (seen.count("message_delta") > 2) == program.startswith("claude-cli")


async def test_an_answer_has_every_field_of_anthropics_schema() -> None:
    async with running(Turn(Reasoning("hm" * 20), "ok")) as daemon:
        message = (await post(daemon)).json()
        assert message["stop_details"] is None
        # In the schema, and no null: the Vercel AI SDK (@ai-sdk/anthropic 3.0) takes none of it, or a list.
        assert message["content"] == [{"type": "text", "text": "ok", "citations": []}]
        used = message["usage"]
        assert used["cache_creation"] == {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}
        assert used["output_tokens_details"] == {"thinking_tokens": 10}
        assert {"inference_geo", "server_tool_use"} <= used.keys()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_output_tokens": 5}, "max_output_tokens"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"instructions": "x"}, "instructions"),
        ({"stop": ["x"]}, "stop"),
        ({"n": 2}, "n"),
        ({"tools": [{**TOOL, "allowed_callers": ["code_execution_20250825"]}]}, "tools[0].allowed_callers"),
    ],
)
async def test_fields_of_other_apis_are_refused_with_their_name_here(body: dict[str, Any], param: str) -> None:
    async with running() as daemon:
        answer = await post(daemon, **body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


# ------------------------------------------------------------------ web search

SEARCH: Any = {"type": "web_search_20250305", "name": "web_search", "max_uses": 1}


async def test_a_web_search_is_made_here_told_in_blocks_and_read_when_they_come_back() -> None:
    async with (
        Web() as web,
        running(Turn(Call("web_search", {"query": "cats"})), Turn("Cats."), **web.settings) as daemon,
    ):
        web.results = [web.result("/cats", "Cats", "All about cats")]
        asked = [{"role": "user", "content": "search"}]
        choice = {"type": "tool", "name": "web_search"}
        message = (await post(daemon, messages=asked, tools=[SEARCH], tool_choice=choice)).json()
        use, result, text = message["content"]
        assert (use["type"], use["name"], use["input"]) == ("server_tool_use", "web_search", {"query": "cats"})
        assert (result["tool_use_id"], result["content"][0]["type"]) == (use["id"], "web_search_result")
        assert message["usage"]["server_tool_use"] == {"web_search_requests": 1, "web_fetch_requests": 0}
        assert (text["text"], web.searches) == ("Cats.", ["cats"])
        first = told(daemon)
        daemon.model.then(Turn("Again."))
        more = [*asked, {"role": "assistant", "content": message["content"]}, {"role": "user", "content": "again"}]
        await post(daemon, messages=more, tools=[SEARCH])
        assert ("All about cats" in first, "All about cats" in told(daemon)) == (True, True)
        assert "encrypted" not in told(daemon)


async def test_a_streamed_search_opens_and_closes_its_two_blocks() -> None:
    async with (
        Web() as web,
        running(Turn(Call("web_search", {"query": "cats"})), Turn("Cats."), **web.settings) as daemon,
    ):
        asked = [{"role": "user", "content": "search"}]
        answer = await post(daemon, messages=asked, tools=[SEARCH], stream=True)
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
        blocks = [event for event in events if event["type"].startswith("content_block")]
        shown = [event["content_block"]["type"] for event in blocks if event["type"] == "content_block_start"]
        assert shown == ["server_tool_use", "web_search_tool_result", "text"]
        assert [event["index"] for event in blocks if event["type"] == "content_block_stop"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"blocked_domains": ["a.org"]}, "tools[0].blocked_domains"),
        ({"allowed_domains": ["https://a.org"]}, "tools[0].allowed_domains[0]"),
        ({"max_uses": 0}, "tools[0].max_uses"),
        ({"name": "search"}, "tools[0].name"),
    ],
)
async def test_what_a_search_cannot_be_is_refused_by_its_name(more: dict[str, Any], param: str) -> None:
    async with running(web_search="searxng", searxng_url="http://127.0.0.1:9") as daemon:
        answer = await post(daemon, messages=[{"role": "user", "content": "x"}], tools=[{**SEARCH, **more}])
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
