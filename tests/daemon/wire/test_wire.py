"""What crosses the wire in small: names of errors, what is included, what comes back with a text, what is sealed."""

from __future__ import annotations

from typing import Any

import pytest

from skilldeck_daemon.tools import TOOLS
from skilldeck_daemon.wire import sealed
from skilldeck_daemon.wire.caller import CALLER, cache_salt
from skilldeck_daemon.wire.environment import LEFT_OUT, parse_environment
from skilldeck_daemon.wire.error_names import Names
from skilldeck_daemon.wire.fields import Fields
from skilldeck_daemon.wire.included import check_includes, of_calls, with_included
from skilldeck_daemon.wire.items import parse_input
from skilldeck_daemon.wire.output_text import annotation, logprob
from skilldeck_shared.errors import BadRequest

NAMES = Names(
    items=["messages[0]", "messages[2].tool_calls[0]"],
    tool=lambda index, rest: f"tools[{index}].function.{rest}",
    others={"max_output_tokens": "max_tokens", "*.file_id": ".file.file_id"},
    parts={0: ["messages[0].content[3]"]},
)


@pytest.mark.parametrize(
    ("param", "theirs"),
    [
        ("input[0].content[0].file_id", "messages[0].content[3].file.file_id"),
        ("input[1].arguments", "messages[2].tool_calls[0].arguments"),
        ("input[9]", "input"),
        ("tools[2].parameters", "tools[2].function.parameters"),
        ("tools[2]", "tools[2]"),
        ("max_output_tokens", "max_tokens"),
        ("model", "model"),
    ],
)
def test_an_error_names_the_clients_own_field(param: str, theirs: str) -> None:
    with pytest.raises(BadRequest) as raised, NAMES.renamed():
        raise BadRequest(f"'{param}' is wrong.", f"Mend '{param}'.", param=param)
    assert (raised.value.param, raised.value.title) == (theirs, f"'{theirs}' is wrong.")
    assert raised.value.hint == f"Mend '{theirs}'."


def test_includes_are_those_of_the_kinds_and_no_others() -> None:
    assert TOOLS
    assert "code_interpreter_call.outputs" in of_calls()
    assert check_includes(["reasoning.encrypted_content"]) == {"reasoning.encrypted_content"}
    with pytest.raises(BadRequest) as raised:
        check_includes(["message.output_text.logprobs", "everything"])
    assert raised.value.param == "include[1]"


def test_what_a_call_shows_only_to_those_who_ask_comes_from_what_the_model_read() -> None:
    call: dict[str, Any] = {"id": "ci_1", "type": "code_interpreter_call", "code": "1", "outputs": None}
    hidden = [(1, {"type": "function_call_output", "call_id": "ci_1", "output": "1\n"})]
    assert with_included([call], (), hidden) == [call]
    (shown,) = with_included([call], ["code_interpreter_call.outputs"], hidden)
    assert shown["outputs"] == [{"type": "logs", "logs": "1\n"}]
    assert call["outputs"] is None


def test_annotations_and_probabilities_are_read_whole_or_refused() -> None:
    found = annotation(
        Fields({"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1, "x": 1})
    )
    assert found == {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
    top = {"token": "b", "logprob": -2.0, "bytes": [98]}
    assert logprob(Fields({"token": "a", "logprob": -1, "bytes": [97], "top_logprobs": [top]}))["top_logprobs"] == [top]
    for wrong in ({"type": "quote"}, {"type": "file_path", "file_id": "f", "index": -1}):
        with pytest.raises(BadRequest):
            annotation(Fields(wrong))


def test_what_is_sealed_is_read_with_its_key_alone() -> None:
    text = sealed.seal("a thought")
    assert "thought" not in text
    assert sealed.unseal(text) == "a thought"
    assert sealed.unseal(text[:-4] + "AAAA") == ""
    assert sealed.unseal("sd2.no base64") == ""


def test_callers_and_their_prompt_keys_share_no_salt() -> None:
    token = CALLER.set("one")
    try:
        mine = {cache_salt(None), cache_salt("a"), cache_salt("b")}
        CALLER.set("other")
        theirs = {cache_salt(None), cache_salt("a"), cache_salt("b")}
    finally:
        CALLER.reset(token)
    assert len(mine | theirs) == 6


@pytest.mark.parametrize(
    ("environment", "param"),
    [
        ({}, "environment.type"),
        ({"type": "container_reference"}, "environment.container_id"),
        ({"type": "container_reference", "container_id": "c", "memory_limit": "1g"}, "environment.memory_limit"),
        ({"type": "container_auto", "memory_limit": "2g"}, "environment.memory_limit"),
        ({"type": "container_auto", "skills": [{"type": "inline"}]}, "environment.skills[0].source"),
        ({"type": "local", "skills": [{"type": "skill_reference"}]}, "environment.skills[0]"),
        (
            {"type": "container_auto", "network_policy": {"type": "allowlist", "allowed_domains": []}},
            "environment.network_policy.allowed_domains",
        ),
    ],
)
def test_an_environment_that_cannot_be_is_refused_by_its_field(environment: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        parse_environment(Fields(environment, "environment"))
    assert raised.value.param == param


def test_an_environment_is_shown_without_secrets_and_bundles() -> None:
    secret = {"domain": "a.example", "name": "TOKEN", "value": "hush"}
    policy = {"type": "allowlist", "allowed_domains": ["a.example"], "domain_secrets": [secret]}
    source = {"type": "base64", "media_type": "application/zip", "data": "AAAA"}
    skill = {"type": "inline", "name": "s", "description": "d", "source": source}
    spec = parse_environment(Fields({"type": "container_auto", "network_policy": policy, "skills": [skill]}))
    assert [secret.value for secret in spec.secrets] == ["hush"]
    assert spec.echo is not None
    assert "hush" not in str(spec.echo)
    assert spec.echo["skills"][0]["source"]["data"] == LEFT_OUT


def test_items_of_tools_that_other_servers_have_are_read_as_what_they_mean_here() -> None:
    items = parse_input(
        [
            {"type": "local_shell_call", "call_id": "c", "action": {"type": "exec", "command": ["ls"]}},
            {"type": "local_shell_call_output", "id": "c", "output": "a"},
            {"type": "tool_search_call", "arguments": {"query": "x"}},
            {"type": "tool_search_output", "tools": [{"name": "found_it"}]},
            {"type": "file_search_call", "queries": ["q"]},
            {"type": "image_generation_call"},
        ]
    )
    assert [(item["type"], item.get("name") or item.get("call_id")) for item in items[:4]] == [
        ("function_call", "local_shell"),
        ("function_call_output", "c"),
        ("function_call", "tool_search"),
        ("function_call_output", "tool_search"),
    ]
    assert [item["role"] for item in items[4:]] == ["assistant", "assistant"]
