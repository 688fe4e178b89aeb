"""GET /metrics: what runs counted, and how things stand, as Prometheus reads them."""

from __future__ import annotations

import asyncio

from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from support.bundles import skill_zip
from support.daemon import SHELL, Running, running
from support.scripted_model import Call, Fail, Turn, shell, usage
from support.wait import until

Numbers = dict[tuple[str, ...], float]


async def scrape(daemon: Running) -> Numbers:
    """By name and label values, in the order of the labels' names; buckets are left out."""
    text = (await daemon.http.get(daemon.url.removesuffix("/v1") + "/metrics")).text
    found: Numbers = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.documentation or not family.name.startswith("skilldeck_"), family.name
        for sample in family.samples:
            if not sample.name.endswith("_bucket"):
                labels = [sample.labels[label] for label in sorted(sample.labels)]
                found[(sample.name.removeprefix("skilldeck_"), *labels)] = sample.value
    return found


async def test_runs_tokens_calls_commands_and_skills_are_counted() -> None:
    calls = [
        Turn(shell("true", "exit 3"), usage=usage(100, 20, cached=60, reasoning=5)),
        Turn(Call("python", {"code": "1/"}), shell("sleep 60", timeout_ms=50), usage=usage(150, 10)),
        Turn(Call("shell", "{"), Call("python", {"x": 1})),
        Turn("done"),
    ]
    python = {"type": "code_interpreter", "container": {"type": "auto"}}
    async with running(*calls, Turn(shell("ls")), Turn("no"), Fail(400, "bad")) as daemon:
        skill = await daemon.client.skills.create(files=[("g.zip", skill_zip("greeter"), "application/zip")])
        await daemon.client.files.create(file=("a.txt", b"12345"), purpose="user_data")
        tool = {
            "type": "shell",
            "environment": {
                "type": "container_auto",
                "skills": [{"type": "skill_reference", "skill_id": skill.id}],
            },
        }
        before = await scrape(daemon)
        assert not [key for key in before if key[0] == "runs_total"]
        await daemon.respond(tools=[tool, python])
        headers = {"x-skilldeck-permission": "deny"}
        body = {"model": "default", "input": "go", "tools": [SHELL]}
        await daemon.http.post("/responses", json=body, headers=headers)
        await daemon.http.post("/responses", json={"model": "default", "input": "go", "store": False})
        found = await scrape(daemon)
    expected = {
        ("runs_total", "scripted", "completed"): 2,
        ("runs_total", "scripted", "failed"): 1,
        ("run_duration_seconds_count", "scripted"): 3,
        ("run_rounds_sum", "scripted"): 6,
        ("tokens_total", "scripted", "cached"): 60,
        ("tokens_total", "scripted", "reasoning"): 5,
        ("tool_calls_total", "completed", "shell"): 1,
        ("tool_calls_total", "timeout", "shell"): 1,
        ("tool_calls_total", "invalid", "shell"): 1,
        ("tool_calls_total", "denied", "shell"): 1,
        ("tool_calls_total", "completed", "code_interpreter"): 1,
        ("tool_calls_total", "invalid", "code_interpreter"): 1,
        ("tool_call_duration_seconds_count", "shell"): 4,
        ("commands_total", "ok"): 1,
        ("commands_total", "error"): 1,
        ("commands_total", "timeout"): 1,
        ("skill_runs_total", "greeter"): 1,
        ("container_starts_total",): 1,
        ("container_restarts_total",): 0,
        ("runs_active",): 0,
        ("responses_stored",): 2,
        ("skills",): 1,
        ("skill_versions",): 1,
        ("files",): 1,
        ("files_bytes",): 5,
        ("ready",): 1,
        ("engine_active", "scripted"): 0,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert found["tokens_total", "scripted", "input"] >= 250
    assert ("approval_wait_seconds_count", "shell") not in found
    assert found["tool_call_duration_seconds_sum", "shell"] >= 0.05


async def test_waiting_for_a_person_is_told_apart_from_the_call() -> None:
    async with running(Turn(shell("true")), Turn("ok"), permission="ask") as daemon:
        asking = asyncio.create_task(daemon.respond(tools=[SHELL]))
        await until(daemon.daemon.services.approvals.list)
        found = await scrape(daemon)
        assert (found["approvals_pending",], found["runs_active",]) == (1, 1)
        (pending,) = daemon.daemon.services.approvals.list()
        await daemon.daemon.services.approvals.decide(pending["id"], "approve")
        await asking
        found = await scrape(daemon)
        assert found["approval_wait_seconds_count", "shell"] == 1
        assert found["tool_calls_total", "completed", "shell"] == 1


async def test_openmetrics_is_told_to_those_who_accept_it() -> None:
    async with running(Turn("x")) as daemon:
        await daemon.respond()
        url = daemon.url.removesuffix("/v1") + "/metrics"
        plain = await daemon.http.get(url)
        assert plain.headers["content-type"].startswith("text/plain; version=")
        answer = await daemon.http.get(url, headers={"accept": "application/openmetrics-text; version=1.0.0"})
        assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1")
        names = {family.name for family in openmetrics_parser.text_string_to_metric_families(answer.text)}
        assert {"skilldeck_runs", "skilldeck_build_info", "process_resident_memory_bytes"} <= names
