"""Requests that are wrong: each is a 4xx that names the field, and leaves nothing behind."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest

from support.daemon import SHELL, running
from support.scripted_model import Turn

FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}
AUTO = "tools[0].environment"


def with_environment(**environment: Any) -> dict[str, Any]:
    return {"tools": [{"type": "shell", "environment": {"type": "container_auto", **environment}}]}


def said(**more: Any) -> dict[str, Any]:
    return {"input": [{"role": "assistant", "content": [{"type": "output_text", "text": "x", **more}]}]}


WRONG: list[tuple[dict[str, Any], str | None]] = [
    ({"input": None}, "input"),
    ({"input": 7}, "input"),
    ({"input": ["x"]}, "input[0]"),
    ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"role": "user", "content": [{"type": "input_smell"}]}]}, "input[0].content[0].type"),
    ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-none"}]}]},
        "input[0].content[0].file_id",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "%%%"}]}]},
        "input[0].content[0].file_data",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "http://127.0.0.1/x"}]}]},
        "input[0].content[0].file_url",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "ftp://x"}]}]},
        "input[0].content[0].image_url",
    ),
    ({"input": [{"type": "telepathy"}]}, "input[0].type"),
    (said(annotations=[{"type": "footnote"}]), "input[0].content[0].annotations[0].type"),
    (
        said(annotations=[{"type": "file_path", "file_id": "f", "index": -1}]),
        "input[0].content[0].annotations[0].index",
    ),
    (said(logprobs=[{"token": "a"}]), "input[0].content[0].logprobs[0].logprob"),
    (said(logprobs=[{"token": "a", "logprob": 0, "bytes": [256]}]), "input[0].content[0].logprobs[0].bytes[0]"),
    ({"input": [{"role": "assistant", "content": "x", "phase": "moon"}]}, "input[0].phase"),
    ({"input": [{"type": "item_reference", "id": "msg_none"}]}, "input[0].id"),
    ({"input": [{"type": "shell_call_output", "call_id": "c", "output": [{}]}]}, "input[0].output[0].outcome"),
    ({"model": 5}, "model"),
    ({"model": "nobody"}, "model"),
    ({"temperature": 2.5}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": -1}, "top_p"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_tokens": 5}, "max_tokens"),
    ({"max_completion_tokens": 5}, "max_completion_tokens"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"reasoning_effort": "low"}, "reasoning_effort"),
    ({"messages": [{"role": "user", "content": "x"}]}, "messages"),
    ({"functions": [FUNCTION]}, "functions"),
    ({"n": 2}, "n"),
    ({"tools": [{"type": "namespace", "name": "a", "tools": []}]}, "tools[0].tools"),
    ({"tools": [{"type": "namespace", "name": "a b", "tools": [FUNCTION]}]}, "tools[0].name"),
    ({"tools": [{"type": "namespace", "name": "a", "tools": [SHELL]}]}, "tools[0].tools[0].type"),
    ({"tools": [{"type": "namespace", "name": "a", "tools": [FUNCTION, FUNCTION]}]}, "tools[0].tools[1]"),
    ({"tools": [{**FUNCTION, "allowed_callers": ["programmatic"]}]}, "tools[0].allowed_callers"),
    ({"tools": [{"type": "image_generation"}]}, "tools[0].type"),
    ({"tools": [{"type": "file_search"}, {"type": "tool_search"}]}, "tools[0].type"),
    ({"tools": [FUNCTION, {"type": "image_generation"}], "tool_choice": {"type": "image_generation"}}, "tools[1].type"),
    ({"max_output_tokens": 20.5}, "max_output_tokens"),
    ({"max_tool_calls": 0}, "max_tool_calls"),
    ({"truncation": "maybe"}, "truncation"),
    ({"store": "yes"}, "store"),
    ({"stream": 1}, "stream"),
    ({"background": True, "store": False}, "background"),
    ({"stream_options": {"include_obfuscation": True}}, "stream_options"),
    ({"metadata": {"k": 1}}, "metadata.k"),
    ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
    ({"metadata": {"k" * 65: "x"}}, "metadata"),
    ({"include": ["everything"]}, "include[0]"),
    ({"instructions": 1}, "instructions"),
    ({"previous_response_id": "resp_none"}, "previous_response_id"),
    ({"conversation": "conv_none"}, "conversation"),
    ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "previous_response_id"),
    ({"prompt": {"id": "p"}}, "prompt"),
    ({"moderation": {"model": "m"}}, "moderation"),
    ({"context_management": [{"type": "forgetting"}]}, "context_management[0].type"),
    (
        {"context_management": [{"type": "compaction", "compact_threshold": 999}]},
        "context_management[0].compact_threshold",
    ),
    ({"input": [{"role": "user", "content": "x", "id": "m"}] * 2}, "input[1].id"),
    ({"input": [{"role": "user", "content": "x", "id": "é"}]}, "input[0].id"),
    ({"reasoning": {"effort": "heroic"}}, "reasoning.effort"),
    ({"text": {"verbosity": "chatty"}}, "text.verbosity"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
    ({"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}}, "text.format.name"),
    ({"service_tier": "first class"}, "service_tier"),
    ({"safety_identifier": "x" * 65}, "safety_identifier"),
    ({"tools": {}}, "tools"),
    ({"tools": [{}]}, "tools[0].type"),
    ({"tools": [{"type": "teleport"}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].name"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"),
    ({"tools": [FUNCTION, FUNCTION]}, "tools[1]"),
    ({"tools": [SHELL, {**FUNCTION, "name": "shell"}]}, "tools[1]"),
    ({"tools": [{"type": "custom", "name": "c", "format": {"type": "grammar"}}]}, "tools[0].format.syntax"),
    ({"tool_choice": "sometimes"}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "name": "g"}, "tools": [FUNCTION]}, "tool_choice"),
    (
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "shell"}]}, "tools": [FUNCTION]},
        "tool_choice.tools[0]",
    ),
    ({"tools": [{"type": "shell", "environment": {"type": "moon"}}]}, f"{AUTO}.type"),
    ({"tools": [{"type": "shell", "environment": {"type": "container_reference"}}]}, f"{AUTO}.container_id"),
    (
        {"tools": [{"type": "shell", "environment": {"type": "container_reference", "container_id": "cntr_none"}}]},
        f"{AUTO}.container_id",
    ),
    (with_environment(memory_limit="2g"), f"{AUTO}.memory_limit"),
    (with_environment(memory_limit="64g"), f"{AUTO}.memory_limit"),
    (
        with_environment(network_policy={"type": "allowlist", "allowed_domains": ["ok.org", "https://x"]}),
        f"{AUTO}.network_policy.allowed_domains[1]",
    ),
    (with_environment(file_ids=["file-none"]), f"{AUTO}.file_ids[0]"),
    (with_environment(file_ids=["x"] * 51), f"{AUTO}.file_ids"),
    (with_environment(network_policy={"type": "open"}), f"{AUTO}.network_policy.type"),
    (with_environment(network_policy={"type": "allowlist"}), f"{AUTO}.network_policy.allowed_domains"),
    (
        with_environment(
            network_policy={"type": "allowlist", "allowed_domains": ["a.org"], "domain_secrets": [{"domain": "a.org"}]}
        ),
        f"{AUTO}.network_policy.domain_secrets[0].name",
    ),
    (with_environment(skills=[{"type": "skill_reference"}]), f"{AUTO}.skills[0].skill_id"),
    (with_environment(skills=[{"type": "skill_reference", "skill_id": "skill_none"}]), f"{AUTO}.skills[0].skill_id"),
    (
        with_environment(
            skills=[
                {
                    "type": "inline",
                    "name": "a",
                    "description": "b",
                    "source": {"type": "base64", "media_type": "application/zip", "data": "AAAA"},
                }
            ]
        ),
        f"{AUTO}.skills[0].source.data",
    ),
    (
        {
            "tools": [
                {
                    "type": "shell",
                    "environment": {"type": "local", "skills": [{"type": "skill_reference", "skill_id": "skill_1"}]},
                }
            ]
        },
        f"{AUTO}.skills[0]",
    ),
]


async def test_every_wrong_field_is_refused_by_its_name_and_nothing_is_kept() -> None:
    async with running(strict=False) as daemon:
        for body, param in WRONG:
            answer = await daemon.http.post("/responses", json={"model": "default", "input": "x", **body})
            assert 400 <= answer.status_code < 500, (body, answer.text)
            assert answer.json()["error"]["param"] == param, (body, answer.text)
        assert (await daemon.daemon.services.runs.list()).data == []
        assert (await daemon.client.containers.list()).data == []
        assert daemon.model.requests == []


@pytest.mark.parametrize(
    "raw", ["{", "[]", "nul", '{"input": NaN}', '{"a": ' + "[" * 100_000, '{"x": 1e999}', "\xff\xfe"]
)
async def test_bodies_that_are_no_json_object_are_refused(raw: str) -> None:
    async with running(strict=False) as daemon:
        answer = await daemon.http.post(
            "/responses", content=raw.encode("latin-1"), headers={"content-type": "application/json"}
        )
        assert answer.status_code == 400, answer.text


async def test_unknown_fields_are_refused_and_null_asks_for_nothing() -> None:
    async with running(Turn("ok")) as daemon:
        asks_nothing: dict[str, Any] = {"flavour": None, "tools": None, "n": 1, "functions": []}
        assert (await daemon.respond(**asks_nothing, user="u"))["user"] == "u"
        body = {"model": "default", "input": "go", "flavour": "vanilla"}
        error = (await daemon.http.post("/responses", json=body)).json()["error"]
        assert (error["param"], error["code"]) == ("flavour", "unknown_parameter")


VALID: list[dict[str, Any]] = [
    {"model": "default", "input": "hi", "tools": [copy.deepcopy(SHELL), FUNCTION], "tool_choice": "auto"},
    {
        "model": "default",
        "input": [
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "hi"}, {"type": "input_file", "file_data": "aGk="}],
            },
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "x"},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "s"}]},
        ],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        "reasoning": {"effort": "low"},
        "metadata": {"a": "b"},
        "include": ["message.output_text.logprobs"],
        "stream": False,
        "max_output_tokens": 100,
        "temperature": 1,
    },
]
ODD: list[Any] = [
    None, True, False, 0, -1, 1.5, 2**70, -(2**70), "", "x", "\0", "\ud800", "😀" * 50, "a" * 70_000, [], {}, [[]],
    [None], {"type": None}, {"type": "message"}, {"type": []}, [{"type": "shell"}], {"": ""}, "resp_" + "0" * 48,
    "../../etc/passwd",
]  # fmt: skip


def mutated(random_: random.Random, value: Any, depth: int = 0) -> Any:
    """The value with one place in it made odd, or gone."""
    if isinstance(value, dict) and value and random_.random() < 0.9:
        key = random_.choice(list(value))
        changed = dict(value)
        if random_.random() < 0.1:
            del changed[key]
        else:
            changed[key] = mutated(random_, value[key], depth + 1)
        return changed
    if isinstance(value, list) and value and random_.random() < 0.9:
        place = random_.randrange(len(value))
        return [*value[:place], mutated(random_, value[place], depth + 1), *value[place + 1 :]]
    return random_.choice(ODD)


async def test_mutated_requests_are_answered_and_never_by_a_fault_of_the_daemon() -> None:
    random_ = random.Random(20260101)
    async with running(*[Turn("ok")] * 600, strict=False) as daemon:
        for _ in range(300):
            body = mutated(random_, random_.choice(VALID))
            if random_.random() < 0.3 and isinstance(body, dict):
                body = mutated(random_, body)
            raw = json.dumps(body).encode()
            answer = await daemon.http.post("/responses", content=raw, headers={"content-type": "application/json"})
            assert answer.status_code < 500, (raw[:2000], answer.text)
        assert daemon.daemon.services.runs.active == 0
