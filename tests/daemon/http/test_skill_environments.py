"""What skills need, in a whole daemon: asked about once, built once, there for every later run, and told of."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from daemon.containers.support import needs_bwrap
from skilldeck_daemon.containers import artifacts
from support.bundles import manifest, zip_bytes
from support.daemon import Running, running
from support.index import Index, index
from support.scripted_model import Turn, shell
from support.wait import until
from support.wheels import wheel

pytestmark = needs_bwrap
RUNS = "python3 /mnt/skills/report/scripts/x.py"
FILES = {
    "SKILL.md": manifest("report"),
    "scripts/x.py": b"import charts\nprint('charts', charts.version)\n",
    "requirements.txt": b"# drawn with\ncharts>=1\n",
}


@contextlib.asynccontextmanager
async def daemon_of(tmp_path: Path, *turns: Turn, **settings: Any) -> AsyncIterator[tuple[Running, Index]]:
    with index(tmp_path / "wheels") as served:
        wheel(served.folder, "charts")
        urls = {"package_index": served.python, "npm_registry": served.npm}
        async with running(*turns, data_dir=tmp_path / "data", **urls, **settings) as daemon:
            place = daemon.daemon.services.environments.packages._builder._place()
            base = daemon.daemon.services.environments.containers.base
            try:
                yield daemon, served
            finally:
                artifacts.delete_tree(place.parent)
        artifacts.delete_tree(base)


async def upload(daemon: Running, files: dict[str, bytes] = FILES) -> dict[str, Any]:
    answer = await daemon.http.post("/skills", files={"files": ("s.zip", zip_bytes(files, top="report"))})
    assert answer.status_code == 200, answer.text
    skill: dict[str, Any] = answer.json()
    return skill


def tool(skill: dict[str, Any]) -> dict[str, Any]:
    reference = {"type": "skill_reference", "skill_id": skill["id"]}
    return {"type": "shell", "environment": {"type": "container_auto", "skills": [reference]}}


def outputs(response: dict[str, Any]) -> str:
    return "".join(
        entry["stdout"] + entry["stderr"]
        for item in response["output"]
        if item["type"] == "shell_call_output"
        for entry in item["output"]
    )


async def status(daemon: Running, skill: dict[str, Any]) -> str:
    return str((await daemon.http.get(f"/skills/{skill['id']}")).json()["environment"]["status"])


async def test_it_is_asked_about_once_and_then_there_for_every_run(tmp_path: Path) -> None:
    turns = [turn for _ in range(3) for turn in (Turn(shell(RUNS)), Turn("done"))]
    async with daemon_of(tmp_path, *turns) as (daemon, served):
        skill = await upload(daemon)
        assert skill["environment"] == {"status": "wanted", "python": ["charts>=1"], "node": [], "detail": ""}
        assert skill["warnings"] == []  # charts will come with it
        # Nobody is there to answer: the run goes on without, and the question stays.
        first = await daemon.respond(tools=[tool(skill)])
        assert "No module named 'charts'" in outputs(first)
        assert await status(daemon, skill) == "asked"
        (pending,) = (await daemon.http.get("/approvals")).json()["data"]
        assert (pending["kind"], pending["run_id"]) == ("environment", first["id"])
        assert pending["commands"] == [
            f"uv pip install 'charts>=1'  # for report; from 127.0.0.1:{served.server_port}, apart from this machine"
        ]
        assert served.asked == []
        await daemon.respond(tools=[tool(skill)])
        assert len((await daemon.http.get("/approvals")).json()["data"]) == 1  # one question for one content
        await daemon.http.post(f"/approvals/{pending['id']}", json={"decision": "approve"})
        await _until_status(daemon, skill, "ready")
        assert outputs(await daemon.respond(tools=[tool(skill)])) == "charts 1.0\n"
        answer = (await daemon.http.get(f"/skills/{skill['id']}/versions/1/environment")).json()
        assert (answer["status"], answer["packages"], answer["refused"]) == ("ready", 1, [])
        assert "charts==1.0" in answer["log"]
        assert answer["bytes"] > 0
        again = await upload(daemon)  # another skill of the same needs
        assert again["environment"]["status"] == "ready"
        assert (await daemon.http.get("/approvals")).json()["data"] == []


async def _until_status(daemon: Running, skill: dict[str, Any], wanted: str) -> None:
    states = daemon.daemon.services.environments.packages

    def there() -> bool:
        return all(work.task is None for work in states._work.values())

    await until(there)
    assert await status(daemon, skill) == wanted


@pytest.mark.parametrize(("decision", "said"), [("approve", "charts 1.0\n"), ("deny", "No module named 'charts'")])
async def test_a_run_waits_for_whoever_is_there_to_answer(tmp_path: Path, decision: str, said: str) -> None:
    async with daemon_of(tmp_path, Turn(shell(RUNS)), Turn("done")) as (daemon, _):
        services = daemon.daemon.services
        skill = await upload(daemon)
        async with services.bus.subscribe() as changes:
            run = await daemon.respond(background=True, tools=[tool(skill)])
            async for change in changes:
                if change.topic == "approval" and change.object is not None:
                    await services.approvals.decide(change.id, decision)
                    break
            seen = [change.object async for change in _of_skill(changes, skill["id"]) if change.object is not None]
        ended = "ready" if decision == "approve" else "denied"
        assert seen[-1]["environment"]["status"] == ended
        # Whoever watches is told what is built, for whom, and what the building says.
        told = [one for one in seen if one["object"] == "environment"][-1]
        assert (told["status"], told["skills"], told["runs"]) == (ended, ["report"], [run["id"]])
        assert told["python"] == ["charts>=1"]
        assert (told["lines"], " + charts==1.0" in told["log"]) == (len(told["log"]), decision == "approve")
        await until(lambda: services.runs.live(run["id"]) is None)
        response = (await daemon.http.get(f"/responses/{run['id']}")).json()
        assert said in outputs(response)
        if decision == "deny":
            warnings = (await daemon.http.get(f"/skills/{skill['id']}")).json()["warnings"]
            assert warnings[0].startswith("requirements.txt:2: the package it needs is not installed: Permission")
            assert "scripts/x.py imports charts: not in this sandbox" in warnings[1]


async def _of_skill(changes: Any, skill_id: str) -> AsyncIterator[Any]:
    """With its environment's, until it says how that ended."""
    async for change in changes:
        mine = change.topic == "skill" and change.id == skill_id
        if mine or change.topic == "environment":
            yield change
        if mine and change.object["environment"]["status"] in ("ready", "denied", "failed"):
            return


async def test_with_consent_beforehand_it_is_built_at_the_upload(tmp_path: Path) -> None:
    async with daemon_of(tmp_path, Turn(shell(RUNS)), Turn("done"), skill_environments="on") as (daemon, served):
        skill = await upload(daemon)
        assert skill["environment"]["status"] == "building"
        # A run that comes meanwhile waits for that one build.
        assert outputs(await daemon.respond(tools=[tool(skill)])) == "charts 1.0\n"
        assert [path.strip("/") for path in served.asked].count("simple/charts") == 1


async def test_a_build_that_fails_names_the_line_and_is_not_tried_at_every_run(tmp_path: Path) -> None:
    files = {**FILES, "requirements.txt": b"charts\n\nnowhere-to-be-found==2\n--index-url http://x.example\n"}
    turns = [Turn(shell("echo ran")), Turn("done"), Turn(shell("echo ran")), Turn("done")]
    async with daemon_of(tmp_path, *turns, skill_environments="on") as (daemon, served):
        skill = await upload(daemon, files)
        await _until_status(daemon, skill, "failed")
        refused, failed, lacking = (await daemon.http.get(f"/skills/{skill['id']}")).json()["warnings"]
        assert refused.startswith("requirements.txt:4: '--index-url http://x.example' is left out")
        assert failed.startswith("requirements.txt:3: No solution found")
        assert "imports charts" in lacking
        asked = len(served.asked)
        for _ in range(2):
            assert outputs(await daemon.respond(tools=[tool(skill)])) == "ran\n"
        assert len(served.asked) == asked


async def test_turned_off_nothing_is_asked_and_nothing_built(tmp_path: Path) -> None:
    async with daemon_of(tmp_path, Turn(shell("echo ran")), Turn("done"), skill_environments="off") as (daemon, served):
        skill = await upload(daemon)
        assert skill["environment"]["status"] == "off"
        assert skill["warnings"][0].startswith("requirements.txt:2: the package it needs is not installed")
        assert outputs(await daemon.respond(tools=[tool(skill)])) == "ran\n"
        assert (served.asked, (await daemon.http.get("/approvals")).json()["data"]) == ([], [])


async def test_an_open_container_gets_it_when_it_is_built(tmp_path: Path) -> None:
    turns = [Turn(shell("echo kept > note; " + RUNS)), Turn("x"), Turn(shell("cat note; " + RUNS)), Turn("y")]
    async with daemon_of(tmp_path, *turns) as (daemon, _):
        skill = await upload(daemon)
        first = await daemon.respond(tools=[tool(skill)])
        (pending,) = (await daemon.http.get("/approvals")).json()["data"]
        await daemon.http.post(f"/approvals/{pending['id']}", json={"decision": "approve"})
        await _until_status(daemon, skill, "ready")
        second = await daemon.respond(tools=[tool(skill)], previous_response_id=first["id"])
        assert outputs(second) == "kept\ncharts 1.0\n"


async def test_what_no_version_needs_any_more_is_collected(tmp_path: Path) -> None:
    async with daemon_of(tmp_path, skill_environments="on") as (daemon, _):
        services = daemon.daemon.services
        packages = services.environments.packages
        skill = await upload(daemon)
        await _until_status(daemon, skill, "ready")
        assert await packages.collect(await services.store.skills.needs(), 0) == 0
        await daemon.http.delete(f"/skills/{skill['id']}")
        assert await packages.collect(await services.store.skills.needs(), 0) == 1


async def test_what_versions_of_earlier_releases_need_is_read_by_and_by(tmp_path: Path) -> None:
    turns = [Turn(shell(RUNS)), Turn("done")]
    async with daemon_of(tmp_path, *turns, skill_environments="on") as (daemon, _):
        services = daemon.daemon.services
        # As they were stored before anybody read what they need.
        old = []
        for name in ("report", "other"):
            files = {**FILES, "SKILL.md": manifest(name)} | ({"more.txt": name.encode()})
            answer = await daemon.http.post("/skills", files={"files": ("s.zip", zip_bytes(files, top=name))})
            skill = answer.json()
            row = await services.store.skills.version(skill["id"], 1)
            assert row is not None
            kept = {key: value for key, value in row["doc"].items() if key not in ("needs", "imports", "node")}
            await services.store.skills.describe({**row, "doc": kept})
            old.append(skill)
        shown = (await daemon.http.get(f"/skills/{old[0]['id']}")).json()
        assert (shown["environment"], shown["warnings"]) == (None, [])
        # A run that needs it at once does not wait for the others to be read.
        assert outputs(await daemon.respond(tools=[tool(old[0])])) == "charts 1.0\n"
        assert [row["skill_id"] for row in await services.store.skills.unread()] == [old[1]["id"]]
        await services.skills.catch_up()
        assert await status(daemon, old[1]) == "ready"
        assert await services.store.skills.unread() == []
