"""Secrets of a request's domains, in a whole daemon: their values are in no answer, no event, no log and no file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from daemon.containers.support import needs_bwrap
from skilldeck_daemon.containers.spec import Secret
from skilldeck_daemon.libraries.containers.secrets import Secrets
from support.daemon import running
from support.scripted_model import Turn, shell

VALUE = "the-value-that-nobody-sees"


def policy(value: str = VALUE, name: str = "API_KEY", **more: Any) -> dict[str, Any]:
    secret = {"domain": "api.example.org", "name": name, "value": value, **more}
    return {"type": "allowlist", "allowed_domains": ["api.example.org"], "domain_secrets": [secret]}


def tool(given: dict[str, Any]) -> dict[str, Any]:
    return {"type": "shell", "environment": {"type": "container_auto", "network_policy": given}}


def written(response: dict[str, Any]) -> str:
    return "".join(
        entry["stdout"] + entry["stderr"]
        for item in response["output"]
        if item["type"] == "shell_call_output"
        for entry in item["output"]
    )


@needs_bwrap
async def test_a_value_is_nowhere_but_in_the_proxy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    turns = [turn for _ in range(3) for turn in (Turn(shell("echo $API_KEY")), Turn("done"))]
    async with running(*turns, data_dir=tmp_path / "data", log_level="debug") as daemon:
        events = await daemon.stream(tools=[tool(policy())])
        first = events[-1]["response"]
        held = written(first)
        assert held.startswith("skilldeck-secret-")
        shown = first["tools"][0]["environment"]["network_policy"]
        assert shown == {"type": "allowlist", "allowed_domains": ["api.example.org"]}
        # The conversation keeps its container, also when the value is another by now, and not without the secret.
        second = await daemon.respond(tools=[tool(policy("another-value-of-it"))], previous_response_id=first["id"])
        assert written(second) == held
        plain = {"type": "allowlist", "allowed_domains": ["api.example.org"]}
        third = await daemon.respond(tools=[tool(plain)], previous_response_id=second["id"])
        assert written(third) == "\n"
        body = {"name": "box", "network_policy": policy()}
        box = (await daemon.http.post("/containers", json=body)).json()
        assert box["network_policy"] == plain
        listed = (await daemon.http.get("/containers")).text
        wrong = await daemon.http.post("/containers", json={"name": "x", "network_policy": policy(VALUE + "\n")})
        assert wrong.status_code == 400
        assert VALUE not in str(events) + str(second) + listed + wrong.text + str(daemon.model.requests)
    assert VALUE not in caplog.text
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert any(path.name == "skilldeck.db" for path in files)
    for path in files:
        assert VALUE.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("secret", "field"),
    [
        ({"name": "not a variable"}, "name"),
        ({"name": "PATH"}, "name"),
        ({"name": "LD_PRELOAD"}, "name"),
        ({"name": ""}, "name"),
        ({"value": ""}, "value"),
        ({"value": "two\r\nlines"}, "value"),
        ({"value": "ümlaut"}, "value"),
        ({"value": "x" * 9000}, "value"),
        ({"value": 7}, "value"),
        ({"domain": "elsewhere.example"}, "domain"),
        ({"domain": None}, "domain"),
    ],
)
@needs_bwrap
async def test_what_cannot_be_a_secret_is_refused_by_name(secret: dict[str, Any], field: str) -> None:
    async with running() as daemon:
        for path, prefix, body in (
            ("/containers", "", {"name": "x", "network_policy": policy() | {"domain_secrets": [one(secret)]}}),
            ("/responses", "tools[0].environment.", None),
        ):
            given = policy() | {"domain_secrets": [one(secret)]}
            sent = body or {"model": "default", "input": "go", "tools": [tool(given)]}
            answer = await daemon.http.post(path, json=sent)
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["param"] == f"{prefix}network_policy.domain_secrets[0].{field}"
            assert VALUE not in answer.text
        twice = policy() | {"domain_secrets": [one({}), one({})]}
        answer = await daemon.http.post("/containers", json={"name": "x", "network_policy": twice})
        assert answer.json()["error"]["param"] == "network_policy.domain_secrets[1].name"


def one(fields: dict[str, Any]) -> dict[str, Any]:
    return {"domain": "api.example.org", "name": "API_KEY", "value": VALUE} | fields


def test_a_variable_has_one_placeholder_and_keeps_it() -> None:
    kept = Secrets()
    kept.keep(
        "c", [Secret("a.example", "KEY", "one"), Secret("b.example", "KEY", "two"), Secret("a.example", "ID", "x")]
    )
    first = kept.of("c")
    assert first[0].placeholder == first[1].placeholder != first[2].placeholder
    kept.keep("c", [Secret("a.example", "KEY", "three")])
    assert [(secret.value, secret.placeholder) for secret in kept.of("c")] == [("three", first[0].placeholder)]
    kept.forget("c")
    assert kept.of("c") == ()
