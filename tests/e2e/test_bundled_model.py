"""The bundled model uses an example skill on a file, on every way in: nothing here is played.

The model must read SKILL.md, run the skill's script on the right file and tell what it printed. The first line of the
script's output has to be in the answer; a small model may trip over later ones.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import anthropic
import pytest
import pytest_asyncio

from support.daemon import SHELL, Running, running
from support.wait import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SKILL = Path(__file__).parents[2] / "skills-examples/csv-summary"
ORDERS = SKILL / "samples/orders.csv"
DOCS = SKILL.parents[1] / "docs/in-process.md"
ASK = "Use the csv-summary skill on orders.csv"
FIRST_LINE = "rows: 12"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bundled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A daemon with the bundled model, in a home whose own skills are those of SKILL's folder."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(SKILL, home / ".agents/skills/csv-summary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        async with running(load=False, model="tiny", model_name="") as daemon:
            await until(lambda: daemon.daemon.services.models.status().state == "ready", 120)
            yield daemon


def check(outputs: Iterable[tuple[str, int]], answer: str) -> None:
    """`outputs`: (stdout, exit code) of each call."""
    assert (True, 0) in [(stdout.startswith(FIRST_LINE), code) for stdout, code in outputs]
    assert FIRST_LINE in answer


def check_response(response: Any) -> None:
    entries = [entry for item in response.output if item.type == "shell_call_output" for entry in item.output]
    check([(entry.stdout, getattr(entry.outcome, "exit_code", -1)) for entry in entries], response.output_text)


async def test_openais_sdk_streams_a_run_with_an_uploaded_skill(bundled: Running) -> None:
    api = bundled.client
    skill = await api.skills.create(
        files=[(f"csv-summary/{p.relative_to(SKILL)}", p.read_bytes()) for p in SKILL.rglob("*.*") if p.is_file()]
    )
    file = await api.files.create(file=ORDERS, purpose="user_data")
    reference = {"type": "skill_reference", "skill_id": skill.id}
    tool: Any = {"type": "shell", "environment": {"type": "container_auto", "skills": [reference]}}
    content: Any = [{"type": "input_text", "text": ASK}, {"type": "input_file", "file_id": file.id}]
    async with api.responses.stream(
        model="default", input=[{"role": "user", "content": content}], tools=[tool], temperature=0
    ) as stream:
        async for _ in stream:
            pass
        check_response(await stream.get_final_response())


async def test_a_skill_of_the_home_is_used_when_the_prompt_names_it(bundled: Running) -> None:
    file = await bundled.client.files.create(file=ORDERS, purpose="user_data")
    content: Any = [{"type": "input_text", "text": "/csv-summary orders.csv"}]
    content.append({"type": "input_file", "file_id": file.id})
    response = await bundled.client.responses.create(
        model="default",
        input=[{"role": "user", "content": content}],
        tools=[SHELL],  # type: ignore[list-item]
        temperature=0,
    )
    check_response(response)


async def test_anthropics_sdk_uses_a_skill_of_its_own(bundled: Running) -> None:
    base = bundled.url.removesuffix("/v1")
    async with anthropic.AsyncAnthropic(
        base_url=base, api_key="none", max_retries=0, _strict_response_validation=True
    ) as api:
        files: Any = [
            (f"csv-summary/{p.relative_to(SKILL)}", p.read_bytes()) for p in SKILL.rglob("*.*") if p.is_file()
        ]
        skill = await api.beta.skills.create(files=files)
        file = await api.beta.files.upload(file=ORDERS)
        content: Any = [{"type": "text", "text": ASK}, {"type": "container_upload", "file_id": file.id}]
        message = await api.messages.create(
            model="default",
            max_tokens=2000,
            messages=[{"role": "user", "content": content}],
            tools=[{"type": "code_execution_20250825", "name": "code_execution"}],
            extra_body={
                "container": {"skills": [{"type": "custom", "skill_id": skill.id, "version": "latest"}]},
                "temperature": 0,
            },
        )
    results = [block.content for block in message.content if block.type == "bash_code_execution_tool_result"]
    outputs = [(r.stdout, r.return_code) for r in results if r.type == "bash_code_execution_result"]
    check(outputs, "".join(block.text for block in message.content if block.type == "text"))


async def test_the_documented_runner_program_runs(tmp_path: Path) -> None:
    (tmp_path / "skills-examples").symlink_to(SKILL.parent)
    program = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[0]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, problems = await process.communicate()
    assert (process.returncode, FIRST_LINE in output.decode()) == (0, True), (output, problems)


async def test_among_eight_skills_the_bundled_model_answers_or_says_what_it_needs(bundled: Running) -> None:
    skills = []
    for folder in sorted(SKILL.parent.iterdir()):
        if (folder / "SKILL.md").is_file():
            files = [
                (f"{folder.name}/{p.relative_to(folder)}", p.read_bytes()) for p in folder.rglob("*.*") if p.is_file()
            ]
            made = await bundled.client.skills.create(files=[file for file in files if "__pycache__" not in file[0]])
            skills.append({"type": "skill_reference", "skill_id": made.id})
    assert len(skills) == 8
    tool: Any = {"type": "shell", "environment": {"type": "container_auto", "skills": skills}}
    file = await bundled.client.files.create(file=ORDERS, purpose="user_data")
    content: Any = [{"type": "input_text", "text": "Summarize orders.csv"}]
    content.append({"type": "input_file", "file_id": file.id})
    check_response(
        await bundled.client.responses.create(
            model="default", input=[{"role": "user", "content": content}], tools=[tool], temperature=0
        )
    )
    response = await bundled.client.responses.create(model="default", input=ASK, tools=[tool], temperature=0)
    last: Any = response.output[-1]
    assert last.content[0].text == "That skill needs a file. Attach one and ask again."
