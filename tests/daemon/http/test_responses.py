"""POST /v1/responses and what one does with its result: plain, streamed, in the background, continued, deleted."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import openai
import pytest

from support.daemon import running, sse
from support.ordering import check_stream
from support.scripted_model import Call, Drop, Endless, Fail, Hold, Reasoning, Text, Turn, usage
from support.wait import until


async def test_a_plain_response_is_complete_and_is_retrieved_as_it_was() -> None:
    async with running(Turn("Hello there.", usage=usage(12, 5, cached=4, reasoning=2))) as daemon:
        response = await daemon.client.responses.create(
            model="default", input="hi", metadata={"a": "b"}, temperature=0.5
        )
        assert (response.status, response.output_text) == ("completed", "Hello there.")
        assert response.usage is not None
        assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (12, 5, 17)
        assert response.usage.input_tokens_details.cached_tokens == 4
        assert response.usage.output_tokens_details.reasoning_tokens == 2
        assert (response.metadata, response.temperature, response.model) == ({"a": "b"}, 0.5, "scripted")
        assert await daemon.client.responses.retrieve(response.id) == response


async def test_a_stream_keeps_the_order_and_ends_with_the_response_that_is_stored() -> None:
    async with running(Turn(Reasoning("thinking", chunk=3), Text("Some longer answer.", chunk=4))) as daemon:
        events = await daemon.stream("hi")
        final = events[-1]["response"]
        assert [item["type"] for item in final["output"]] == ["reasoning", "message"]
        assert sum(event["type"] == "response.output_text.delta" for event in events) == 5
        assert (await daemon.http.get(f"/responses/{final['id']}")).json() == final


async def test_the_sdks_stream_helper_gives_text_and_the_final_response() -> None:
    async with running(Turn(Text("one two three", chunk=4)), Turn(Text("one two three", chunk=4))) as daemon:
        async with daemon.client.responses.stream(model="default", input="hi") as stream:
            deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            assert "".join(deltas) == (await stream.get_final_response()).output_text == "one two three"

        def with_the_sync_client() -> str:
            client = openai.OpenAI(base_url=daemon.url, api_key="none", _strict_response_validation=True, max_retries=0)
            with client, client.responses.stream(model="default", input="hi") as stream:
                return stream.get_final_response().output_text

        assert await asyncio.to_thread(with_the_sync_client) == "one two three"


async def test_a_stored_stream_is_replayed_from_any_event() -> None:
    async with running(Turn(Text("abcdef", chunk=2))) as daemon:
        events = await daemon.stream("hi")
        path = f"/responses/{events[0]['response']['id']}?stream=true"
        for after in (-1, 0, 4, len(events) - 1):
            async with daemon.http.stream("GET", f"{path}&starting_after={after}") as answer:
                assert await sse(answer) == events[after + 1 :]


async def test_a_live_background_run_is_followed_by_several_readers_of_one_log() -> None:
    gate = threading.Event()
    async with running(Turn("first ", Hold(gate), "second")) as daemon:
        queued = await daemon.respond("hi", background=True)
        assert queued["status"] in ("queued", "in_progress")

        async def follow(after: int) -> list[dict[str, object]]:
            path = f"/responses/{queued['id']}?stream=true&starting_after={after}"
            async with daemon.http.stream("GET", path) as answer:
                return await sse(answer)

        readers = [asyncio.create_task(follow(after)) for after in (-1, 2)]
        await until(lambda: len(daemon.daemon.services.runs.live(queued["id"]).times) > 5)  # type: ignore[union-attr]
        gate.set()
        whole, part = await asyncio.gather(*readers)
        check_stream(whole)
        assert [event["type"] for event in whole[:3]] == ["response.created", "response.queued", "response.in_progress"]
        assert part == whole[3:]
        assert (await daemon.http.get(f"/responses/{queued['id']}")).json()["status"] == "completed"


async def test_cancelling_a_background_run_stops_the_model_at_once_and_is_idempotent() -> None:
    async with running(Turn("so far ", Endless())) as daemon:
        run = await daemon.respond("hi", background=True)
        await until(lambda: "output_text" in str(daemon.daemon.services.runs.live(run["id"]).log.events))  # type: ignore[union-attr]
        cancelled = (await daemon.http.post(f"/responses/{run['id']}/cancel")).json()
        assert cancelled["status"] == "cancelled"
        assert cancelled["output"][0]["status"] == "incomplete"
        assert cancelled["output"][0]["content"][0]["text"].startswith("so far ")
        await daemon.model.until(lambda model: model.disconnects == 1)
        again = await daemon.http.post(f"/responses/{run['id']}/cancel")
        assert again.json() == cancelled
        async with daemon.http.stream("GET", f"/responses/{run['id']}?stream=true") as answer:
            assert check_stream(await sse(answer)) == cancelled


async def test_only_background_responses_can_be_cancelled() -> None:
    async with running(Turn("x")) as daemon:
        response = await daemon.respond()
        assert (await daemon.http.post(f"/responses/{response['id']}/cancel")).status_code == 400


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_cancels_its_run(stream: bool) -> None:
    async with running(Turn("so far ", Endless())) as daemon:
        body = {"model": "default", "input": "hi", "stream": stream}
        request = asyncio.create_task(daemon.http.post("/responses", json=body))
        await until(lambda: daemon.daemon.services.runs.active)
        await daemon.model.until(lambda model: len(model.requests) == 1)
        request.cancel()
        await daemon.model.until(lambda model: model.disconnects == 1)
        await until(lambda: not daemon.daemon.services.runs.active)
        page = await daemon.daemon.services.runs.list()
        assert page.data[0]["status"] == "cancelled"


async def test_a_client_that_leaves_ends_the_compaction_it_asked_for() -> None:
    async with running(Turn(Endless())) as daemon:
        body = {"model": "default", "input": "hi"}
        request = asyncio.create_task(daemon.http.post("/responses/compact", json=body))
        await daemon.model.until(lambda model: len(model.requests) == 1)
        request.cancel()
        await daemon.model.until(lambda model: model.disconnects == 1)


async def test_a_client_that_leaves_does_not_end_a_background_run() -> None:
    gate = threading.Event()
    async with running(Turn("one ", Hold(gate), "two")) as daemon:
        body = {"model": "default", "input": "hi", "stream": True, "background": True}
        async with daemon.http.stream("POST", "/responses", json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    id = json.loads(line[6:])["response"]["id"]
                    break
        gate.set()
        await until(lambda: not daemon.daemon.services.runs.active)
        assert (await daemon.client.responses.retrieve(id)).output_text == "one two"


async def test_previous_response_id_brings_the_history_but_not_the_instructions() -> None:
    async with running(Turn("Paris."), Turn("Two million."), Turn("Yes.")) as daemon:
        first = await daemon.respond("Capital of France?", instructions="Be brief.")
        second = await daemon.respond("Inhabitants?", previous_response_id=first["id"], instructions="Be exact.")
        await daemon.respond("Sure?", previous_response_id=second["id"])
        assert daemon.model.requests[2]["messages"] == [
            {"role": "user", "content": "Capital of France?"},
            {"role": "assistant", "content": "Paris."},
            {"role": "user", "content": "Inhabitants?"},
            {"role": "assistant", "content": "Two million."},
            {"role": "user", "content": "Sure?"},
        ]
        assert daemon.model.requests[1]["messages"][0] == {"role": "system", "content": "Be exact."}


async def test_a_conversation_collects_the_items_of_its_responses() -> None:
    async with running(Turn("One."), Turn("Two.")) as daemon:
        conversation = await daemon.client.conversations.create()
        first = await daemon.client.responses.create(model="default", input="1", conversation=conversation.id)
        assert first.conversation is not None
        assert first.conversation.id == conversation.id
        await daemon.client.responses.create(model="default", input="2", conversation={"id": conversation.id})
        texts = [message["content"] for message in daemon.model.requests[1]["messages"]]
        assert texts == ["1", "One.", "2"]
        items = await daemon.client.conversations.items.list(conversation.id, order="asc")
        assert [item.role for item in items.data] == ["user", "assistant", "user", "assistant"]  # type: ignore[union-attr]


async def test_without_store_nothing_is_kept() -> None:
    async with running(Turn("x")) as daemon:
        response = await daemon.respond(store=False)
        assert response["store"] is False
        assert (await daemon.http.get(f"/responses/{response['id']}")).status_code == 404
        continued = {"model": "default", "input": "y", "previous_response_id": response["id"]}
        answer = await daemon.http.post("/responses", json=continued)
        assert answer.json()["error"]["code"] == "previous_response_not_found"


async def test_input_items_are_paged_and_a_deleted_response_is_gone() -> None:
    async with running(Turn("x")) as daemon:
        response = await daemon.respond([{"role": "user", "content": text} for text in "abc"])
        listed = await daemon.client.responses.input_items.list(response["id"], limit=2)
        assert [item.content[0].text for item in listed.data] == ["c", "b"]  # type: ignore[union-attr]
        assert [item.content[0].text async for item in listed] == ["c", "b", "a"]  # type: ignore[union-attr]
        deleted = await daemon.http.delete(f"/responses/{response['id']}")
        assert deleted.json() == {"id": response["id"], "object": "response", "deleted": True}
        for path in ("", "/input_items"):
            assert (await daemon.http.get(f"/responses/{response['id']}{path}")).status_code == 404


async def test_max_output_tokens_ends_the_response_incomplete_with_what_was_written() -> None:
    async with running(Turn("cut o", finish="length")) as daemon:
        events = await daemon.stream(max_output_tokens=16)
        final = events[-1]["response"]
        assert events[-1]["type"] == "response.incomplete"
        assert final["incomplete_details"] == {"reason": "max_output_tokens"}
        assert final["output"][0]["content"][0]["text"] == "cut o"
        assert final["output"][0]["status"] == "incomplete"


@pytest.mark.parametrize("turn", [Fail(400, "no such thing"), Turn("some", Drop())])
async def test_a_failing_engine_fails_the_response_with_the_reason(turn: object) -> None:
    async with running(turn, strict=False) as daemon:  # type: ignore[arg-type]
        events = await daemon.stream()
        assert events[-1]["type"] == "response.failed"
        assert events[-1]["response"]["error"]["message"]
        stored = (await daemon.http.get(f"/responses/{events[-1]['response']['id']}")).json()
        assert stored == events[-1]["response"]


async def test_an_empty_answer_is_still_a_message() -> None:
    async with running(Turn(Text("")), Turn(Text(""))) as daemon:
        response = await daemon.respond()
        assert [item["type"] for item in response["output"]] == ["message"]


async def test_sampling_format_and_tool_fields_reach_the_model() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    async with running(Turn('{"a": 1}')) as daemon:
        response = await daemon.respond(
            temperature=0.25,
            top_p=0.5,
            max_output_tokens=99,
            text={"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}},
        )
        sent = daemon.model.requests[0]
        assert (sent["temperature"], sent["top_p"]) == (0.25, 0.5)
        assert sent["response_format"]["json_schema"]["schema"] == schema
        assert 99 in (sent.get("max_tokens"), sent.get("max_completion_tokens"))
        assert response["text"]["format"]["schema"] == schema


async def test_a_turn_that_says_nothing_is_made_once_more() -> None:
    """A model here goes on until it has said something; one behind another server is asked to."""
    tool: Any = {"type": "function", "name": "look", "parameters": {"type": "object"}}
    silent, look = Turn(usage=usage(10, 1)), Call("look", {})
    async with running(silent, Turn(look), silent, Turn("Here.", usage=usage(10, 2))) as daemon:
        first = await daemon.respond("go", tools=[tool])
        assert [item["type"] for item in first["output"]] == ["function_call"]
        asked = daemon.model.requests[1]["messages"]
        assert asked[0]["content"].startswith("go\n\n(You wrote nothing.")
        output = {"type": "function_call_output", "call_id": first["output"][0]["call_id"], "output": "sun"}
        second = await daemon.respond([output], previous_response_id=first["id"], tools=[tool])
        assert [item["content"][0]["text"] for item in second["output"]] == ["Here."]
        assert second["usage"]["output_tokens"] == 3  # both are paid for
        assert [m["role"] for m in daemon.model.requests[3]["messages"]] == ["user", "assistant", "tool", "user"]
        assert "wrote nothing" not in str(daemon.model.requests[2]["messages"])  # the wish is not kept


@pytest.mark.parametrize(
    ("turns", "body"),
    [
        (2, {}),
        (1, {"logit_bias": {"0": 5}}),
        (1, {"stop": ["x"]}),
        (1, {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "whole"}]}),
    ],
    ids=["again", "a bias", "a stop string", "a begun answer"],
)
async def test_a_turn_that_may_be_empty_or_is_so_again_is_an_answer(turns: int, body: dict[str, Any]) -> None:
    async with running(*[Turn()] * turns) as daemon:
        answer = await daemon.http.post(
            "/chat/completions", json={"model": "default", "messages": [{"role": "user", "content": "q"}], **body}
        )
        assert (answer.status_code, len(daemon.model.requests)) == (200, turns), answer.text
        choice = answer.json()["choices"][0]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", "")


async def test_leading_system_and_developer_messages_join_the_instructions() -> None:
    async with running(Turn("x")) as daemon:
        roles = [("developer", "D"), ("system", "S"), ("user", "U")]
        await daemon.respond([{"role": role, "content": text} for role, text in roles], instructions="I")
        assert daemon.model.requests[0]["messages"] == [
            {"role": "system", "content": "I\n\nD\n\nS"},
            {"role": "user", "content": "U"},
        ]


async def test_items_are_accepted_back_as_input_and_by_reference() -> None:
    async with running(Turn(Reasoning("hm"), "one"), Turn("two"), Turn("three")) as daemon:
        first = await daemon.respond(include=["reasoning.encrypted_content"])
        assert first["output"][0]["encrypted_content"]
        await daemon.respond([{"role": "user", "content": "go"}, *first["output"], {"role": "user", "content": "on"}])
        told = daemon.model.requests[1]["messages"]
        assert [message["role"] for message in told] == ["user", "assistant", "user"]
        assert told[1]["content"] == "one"
        reference = {"type": "item_reference", "id": first["output"][1]["id"]}
        await daemon.respond([{"role": "user", "content": "go"}, reference, {"role": "user", "content": "?"}])
        assert daemon.model.requests[2]["messages"][1]["content"] == "one"


async def test_what_was_stored_before_a_restart_is_the_same_after_it(tmp_path: Path) -> None:
    async with running(Turn("kept")) as daemon:
        pass
    async with running(Turn("kept"), data_dir=tmp_path / "data") as daemon:
        events = await daemon.stream()
        id = events[-1]["response"]["id"]
    async with running(Turn("more"), data_dir=tmp_path / "data") as daemon:
        assert (await daemon.http.get(f"/responses/{id}")).json() == events[-1]["response"]
        async with daemon.http.stream("GET", f"/responses/{id}?stream=true") as answer:
            assert await sse(answer) == events
        await daemon.respond(previous_response_id=id)
        assert daemon.model.requests[0]["messages"][1] == {"role": "assistant", "content": "kept"}


async def test_a_stop_ends_live_runs_as_cancelled_and_stores_them(tmp_path: Path) -> None:
    async with running(Turn(Endless()), data_dir=tmp_path / "data") as daemon:
        run = await daemon.respond(background=True)
        await daemon.model.until(lambda model: len(model.requests) == 1)
    async with running(data_dir=tmp_path / "data") as daemon:
        assert (await daemon.http.get(f"/responses/{run['id']}")).json()["status"] == "cancelled"


async def test_many_streams_at_once_lose_nothing() -> None:
    turns = [Turn(Text(f"answer number {number} " * 5, chunk=9)) for number in range(24)]
    async with running(*turns) as daemon:
        streams = await asyncio.gather(*(daemon.stream() for _ in turns))
        texts = {events[-1]["response"]["output"][0]["content"][0]["text"] for events in streams}
        assert len(texts) == len(turns)


async def test_counting_input_tokens_does_not_start_a_run() -> None:
    async with running(Turn("x"), strict=False) as daemon:
        counted = await daemon.client.responses.input_tokens.count(model="default", input="hello")
        assert counted.input_tokens > 0
        assert (await daemon.daemon.services.runs.list()).data == []


async def test_a_compacted_conversation_goes_on_from_its_summary() -> None:
    async with running(Turn("Paris."), Turn("Asked for a capital: Paris."), Turn("Two million.")) as daemon:
        first = await daemon.respond("Capital of France?")
        compacted = await daemon.client.responses.compact(model="default", previous_response_id=first["id"])
        assert [item.type for item in compacted.output] == ["compaction"]
        assert compacted.usage.output_tokens > 0
        items = [item.model_dump(exclude_none=True) for item in compacted.output]
        await daemon.respond([*items, {"role": "user", "content": "Inhabitants?"}])
        assert daemon.model.requests[2]["messages"] == [
            {"role": "user", "content": "Capital of France?"},
            {"role": "user", "content": "Summary of what was said before:\nAsked for a capital: Paris."},
            {"role": "user", "content": "Inhabitants?"},
        ]
        refused = await daemon.http.post("/responses/compact", json={"input": "x"})
        assert refused.json()["error"]["param"] == "model"


async def test_with_truncation_auto_the_oldest_turns_give_way() -> None:
    too_long = Fail(400, "This model's maximum context length is exceeded", code="context_length_exceeded")
    turns = [too_long, Turn("fits"), too_long]
    async with running(*turns) as daemon:
        items = [{"role": "user", "content": f"question {number}"} for number in range(4)]
        response = await daemon.respond(items, truncation="auto")
        assert response["output"][0]["content"][0]["text"] == "fits"
        assert [message["content"] for message in daemon.model.requests[1]["messages"]] == [
            "question 1",
            "question 2",
            "question 3",
        ]
        failed = await daemon.respond(items)
        assert (failed["status"], failed["error"]["code"]) == ("failed", "context_length_exceeded")


LOST = Turn(Text("sal-" + "le" * 400, chunk=4), Endless("le"))


async def test_a_model_that_goes_round_in_circles_is_asked_once_to_go_on_differently() -> None:
    async with running(LOST, Turn("Found it.")) as daemon:
        response = await daemon.respond("look")
        assert response["status"] == "completed"
        lost, answer = response["output"]
        assert (lost["status"], answer["status"]) == ("incomplete", "completed")
        assert len(lost["content"][0]["text"]) < 600
        assert answer["content"][0]["text"] == "Found it."
        again = daemon.model.requests[1]["messages"]
        assert "le" * 20 not in str(again)
        assert again[-1]["content"].startswith("look\n\n(You began to repeat yourself.")


async def test_a_model_that_goes_round_in_circles_twice_ends_in_a_plain_sentence() -> None:
    async with running(LOST, LOST) as daemon:
        final = (await daemon.stream(max_output_tokens=100_000))[-1]["response"]
        assert (final["status"], final["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
        assert final["output"][-1]["content"][0]["text"].startswith("The model went round in circles twice")
