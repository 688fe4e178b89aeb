"""What the base set-up holds: the bundled model runs, and nothing asks for torch, transformers or safetensors."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

from skilldeck_daemon.bench import local
from skilldeck_daemon.engine import engines
from skilldeck_shared.errors import SkilldeckError

SKILL = Path(__file__).resolve().parents[2] / "skills-examples/csv-summary"
WEIGHTS = Path(__file__).resolve().parents[2] / "daemon/training/weights"
HEAVY = ("torch", "transformers", "safetensors", "exllamav2", "exllamav3")
# Every interpreter imports it first: for those that follow, the packages are not installed.
SITE = """
import importlib.machinery, os, sys
found = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    if name not in {heavy!r}:
        return found(name, path, target)
    with open({log!r}, "a") as log:
        print(name, file=log)
importlib.machinery.PathFinder.find_spec = find_spec
"""
LOAD = """
import asyncio, sys
from skilldeck_daemon.engine.hub import ModelHub
from skilldeck_shared.errors import SkilldeckError
try:
    asyncio.run(ModelHub().load(sys.argv[1]))
except SkilldeckError as error:
    print(error.title, error.hint)
"""


@pytest.fixture
def asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs started from here find none of HEAVY; the names they looked for are written to this file."""
    log = tmp_path / "asked.txt"
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(SITE.format(heavy=HEAVY, log=str(log)))
    earlier = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), *earlier]))
    return log


async def test_the_bundled_model_uses_a_skill_on_a_file(tmp_path: Path, asked_for: Path) -> None:
    async with local.process(tmp_path, "tiny") as served:
        await served.healthy()
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="local", max_retries=0) as client:
            files = [(f"csv-summary/{p.relative_to(SKILL)}", p.read_bytes()) for p in SKILL.rglob("*.*") if p.is_file()]
            skill = await client.skills.create(files=files)
            orders = await client.files.create(file=SKILL / "samples/orders.csv", purpose="user_data")
            reference = {"type": "skill_reference", "skill_id": skill.id}
            tool: Any = {"type": "shell", "environment": {"type": "container_auto", "skills": [reference]}}
            content: Any = [
                {"type": "input_text", "text": "Use the csv-summary skill on orders.csv"},
                {"type": "input_file", "file_id": orders.id},
            ]
            response = await client.responses.create(
                model="default", input=[{"role": "user", "content": content}], tools=[tool], temperature=0
            )
    assert "rows: 12" in response.output_text
    names = asked_for.read_text().split() if asked_for.exists() else []
    assert set(names) <= {"exllamav2", "exllamav3"}, "only whether a GPU's engine is there may be asked"


async def test_a_folder_of_safetensors_names_the_gguf_to_take(asked_for: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LOAD, str(WEIGHTS), stdout=asyncio.subprocess.PIPE
    )
    said = (await child.communicate())[0].decode()
    assert "holds safetensors, which only a CUDA card with the exllamav2 or exllamav3 engine computes" in said
    assert "skilldeckd models pull ORG/NAME-GGUF:Q4_K_M" in said


@pytest.mark.parametrize(("name", "extra"), [("llamacpp", "daemon"), ("exllamav2", "gpu"), ("exllamav3", "gpu")])
def test_an_engine_that_lacks_its_packages_names_the_extra(
    name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SkilldeckError) as caught:
        engines.kind(name).check()
    assert f"pip install 'skilldeck[{extra}]'" in caught.value.hint
