"""The writer of a response's items: what is streamed is what is kept."""

from __future__ import annotations

from typing import Any

from skilldeck_daemon.engine.base import TextLogprob
from skilldeck_daemon.events.log import EventLog
from skilldeck_daemon.events.output import Output, ReasoningWriter, TextWriter, woven


def _types(output: Output) -> list[str]:
    return [event["type"].removeprefix("response.") for event in output.log.events]


def test_a_message_is_the_sum_of_its_deltas() -> None:
    output = Output(EventLog())
    text = TextWriter(output, logprobs=True)
    text.write("Hel", (TextLogprob("Hel", -0.5, (72, 101, 108)),))
    text.write("lo", ())
    text.close([{"type": "url_citation", "url": "https://a.example"}])
    assert _types(output) == [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.annotation.added",
        "output_text.done",
        "content_part.done",
        "output_item.done",
    ]
    (item,) = output.items
    (part,) = item["content"]
    assert (item["status"], part["text"]) == ("completed", "Hello")
    assert part["logprobs"][0]["bytes"] == [72, 101, 108]
    assert "bytes" not in output.log.events[2]["logprobs"][0]
    assert output.log.events[-1]["item"] == item


def test_events_hold_copies() -> None:
    output = Output(EventLog())
    index = output.add({"id": "a", "type": "message", "content": []})
    output.done(index, content=[{"text": "x"}])
    output.items[0]["content"][0]["text"] = "changed"
    assert output.log.events[0]["item"]["content"] == []
    assert output.log.events[1]["item"]["content"] == [{"text": "x"}]


def test_what_is_open_when_the_run_stops_ends_as_incomplete_in_its_order() -> None:
    output = Output(EventLog())
    done = output.add({"id": "a", "type": "function_call"})
    output.done(done, status="completed")
    ReasoningWriter(output, encrypted=False).write("hm")
    TextWriter(output, logprobs=False).write("so", ())
    output.add({"id": "b", "type": "function_call", "status": "in_progress"})
    output.abandon()
    output.abandon()
    assert [item["status"] for item in output.items] == ["completed", "incomplete", "incomplete", "incomplete"]
    assert output.items[2]["content"][0]["text"] == "so"
    assert _types(output).count("output_item.done") == 4


def test_reasoning_is_sealed_only_where_it_was_asked_for() -> None:
    output = Output(EventLog())
    for encrypted in (False, True):
        reasoning = ReasoningWriter(output, encrypted)
        reasoning.write("because")
        reasoning.close()
    assert "encrypted_content" not in output.items[0]
    assert "because" not in output.items[1]["encrypted_content"]


def test_hidden_items_stand_where_they_were_made_and_forgotten_ones_are_not_told() -> None:
    output = Output(EventLog())
    names: list[dict[str, Any]] = [{"id": name} for name in "abcd"]
    output.done(output.add(names[0]))
    output.hide(names[1])
    output.done(output.add(names[2]))
    assert [item["id"] for item in output.for_model] == ["a", "b", "c"]
    output.done(output.add(names[3]))
    output.forget(2)
    assert [item["id"] for item in output.for_model] == ["a", "b", "c"]
    assert [item["id"] for item in output.items] == ["a", "c", "d"]
    assert woven([1, 2], [(0, 0), (9, 3)]) == [0, 1, 2, 3]  # type: ignore[list-item, comparison-overlap]
