"""A SKILL.md that a command prints reaches the model with its paths written out; what is stored stays as it was."""

from __future__ import annotations

import base64
import importlib.resources
from typing import Any

import pytest

from skilldeck_daemon.engine.chat.template import ChatTemplate
from support.bundles import manifest, skill_zip
from support.daemon import SHELL, Running, running
from support.scripted_model import Call, Turn, shell

PYTHON: dict[str, Any] = {"type": "code_interpreter", "container": {"type": "auto"}}
PRINTED = "\n# greeter\n\nRun `scripts/run.sh`.\n"
TOLD = "\n# greeter\n\nRun `/mnt/skills/greeter/scripts/run.sh`."


def with_skill() -> dict[str, Any]:
    data = base64.b64encode(skill_zip("greeter")).decode()
    source = {"type": "base64", "media_type": "application/zip", "data": data}
    skill = {"type": "inline", "name": "greeter", "description": "Sums the columns of a CSV file.", "source": source}
    return {**SHELL, "environment": {"type": "container_auto", "skills": [skill]}}


def results(daemon: Running, request: int) -> list[str]:
    return [entry["content"] for entry in daemon.model.requests[request]["messages"] if entry["role"] == "tool"]


async def test_the_paths_of_instructions_are_written_out_for_the_model_only() -> None:
    read = shell("cat /mnt/skills/greeter/SKILL.md", "tail -4 /mnt/skills/greeter/SKILL.md; ls /mnt/skills/greeter")
    turns = [Turn(read), Turn(shell("/mnt/skills/greeter/scripts/run.sh")), Turn("Greeted."), Turn("Again.")]
    async with running(*turns) as daemon:
        response = (await daemon.stream(tools=[with_skill()]))[-1]["response"]
        first, second = next(item for item in response["output"] if item["type"] == "shell_call_output")["output"]
        assert first["stdout"] == manifest("greeter").decode()
        assert second["stdout"] == PRINTED + "SKILL.md\nreferences\nscripts\n"
        kept = (await daemon.http.get(f"/responses/{response['id']}")).json()
        assert kept["output"] == response["output"]
        (told,) = results(daemon, 1)
        assert told.split("\n\n$ tail")[0].endswith(TOLD)
        assert told.endswith(TOLD + "\nSKILL.md\nreferences\nscripts")
        # The next request tells the model the same, so that its beginning need not be computed again.
        await daemon.respond("again", previous_response_id=response["id"], tools=[with_skill()])
        assert results(daemon, 3) == [told, "done"]


async def test_instructions_that_python_prints_are_written_out_too() -> None:
    read = Call("python", {"code": "print(open('/mnt/skills/greeter/SKILL.md').read(), end='')"})
    async with running(Turn(read), Turn("Read.")) as daemon:
        response = await daemon.respond(tools=[with_skill(), PYTHON], include=["code_interpreter_call.outputs"])
        assert response["output"][0]["outputs"] == [{"type": "logs", "logs": manifest("greeter").decode()}]
        assert results(daemon, 1)[0].rstrip().endswith(TOLD)


@pytest.mark.parametrize(("source", "places"), [("{{ messages }}", False), ("{{ '/mnt/skills/' ~ name }}", True)])
def test_a_template_that_writes_where_skills_lie_is_known_by_it(source: str, places: bool) -> None:
    assert ChatTemplate(source).places_skills is places


def test_the_bundled_models_template_writes_the_paths_itself() -> None:
    folder = importlib.resources.files("skilldeck_daemon.engine") / "tiny"
    assert ChatTemplate((folder / "chat_template.jinja").read_text(encoding="utf-8")).places_skills
