"""Client libraries of others at their defaults: an answer whole and streamed, calls one and two at once, a schema, an
image; by each API that a library speaks.

A script of `libraries/` is run by an interpreter that has its library: this one, one of a virtual environment in the
folder that SKILLDECK_TEST_CLIENTS names, or Node with that folder's packages. docs/clients.md lists what was tried.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.player import ADA, DOT, GREETING, ONE, TWO, play
from support.programs import CLIENTS, FOLDER, NOWHERE, serving
from support.scripted_model import ScriptedModel

SCRIPTS = Path(__file__).with_name("libraries")
EXPECTED: dict[str, Any] = {
    **dict.fromkeys(("text", "stream", "responses", "responses stream", "title"), GREETING),
    **dict.fromkeys(("one", "agent", "agent stream"), ONE),
    **dict.fromkeys(("both", "streamed sums"), TWO),
    **dict.fromkeys(("person", "by a tool", "by a schema", "by a strict tool", "in pieces"), ADA),
    "image": DOT,
    "call": [{"a": 40, "b": 2}],
}


@dataclass(frozen=True)
class Library:
    """script: in `libraries/`; package: what must be there; way: the script's argument, one of the library's APIs."""

    script: str
    package: str
    way: str = ""

    @property
    def command(self) -> list[str]:
        """What runs the script; the test is skipped where nothing can."""
        folder = Path(CLIENTS) if CLIENTS else None
        if self.script.endswith(".mjs"):
            node = shutil.which("node", path=os.pathsep.join([f"{CLIENTS}/node_modules/.bin", os.environ["PATH"]]))
            if node is None or folder is None or not (folder / "node_modules" / self.package).exists():
                pytest.skip(f"{self.package} is not installed: npm install --prefix DIR {self.package}, {FOLDER}=DIR")
            return [node]
        pythons = [Path(sys.executable), *(sorted(folder.glob("*/bin/python")) if folder else ())]
        for python in pythons:
            if any(python.parent.parent.glob(f"lib/python3*/site-packages/{self.package}")):
                return [str(python)]
        pytest.skip(f"{self.package} is not installed: a virtual environment DIR/NAME with it, then {FOLDER}=DIR")


LIBRARIES = [
    *(Library("langchain_models.py", "langchain_openai", way) for way in ("chat", "responses")),
    Library("langchain_models.py", "langchain_anthropic", "anthropic"),
    *(Library("pydantic_ai_agent.py", "pydantic_ai", way) for way in ("chat", "responses", "anthropic")),
    *(Library("litellm_client.py", "litellm", way) for way in ("openai", "anthropic")),
    *(Library("openai_agents_run.py", "agents", way) for way in ("responses", "chat")),
    Library("instructor_client.py", "instructor"),
    Library("llm_models.py", "llm"),
    Library("smolagents_run.py", "smolagents"),
    Library("dspy_predict.py", "dspy"),
    Library("llama_index_like.py", "llama_index"),
    Library("autogen_agent.py", "autogen_ext"),
    Library("haystack_chat.py", "haystack"),
    Library("semantic_kernel_chat.py", "semantic_kernel"),
    Library("crewai_crew.py", "crewai"),
    *(Library("goose_provider.py", "goose", way) for way in ("openai", "anthropic")),
    *(Library("ai_sdk.mjs", "ai", way) for way in ("responses", "chat", "compatible", "anthropic")),
    *(Library("official_node.mjs", "openai", way) for way in ("chat", "responses")),
    Library("official_node.mjs", "@anthropic-ai/sdk", "anthropic"),
    Library("librechat_agents.mjs", "@librechat/agents"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a daemon whose model answers them all."""
    with ScriptedModel(strict=False, context=262_144) as model:
        model._always = play
        home = tmp_path_factory.mktemp("libraries")
        with serving(home, "--engine", "remote", "--remote-url", model.url, "--remote-images") as (_, url):
            yield url


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda one: f"{one.script.partition('.')[0]}-{one.way}".strip("-"))
def test_what_a_library_asks_is_answered(library: Library, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    command = library.command  # skips before a daemon is started
    script = SCRIPTS / library.script
    if library.script.endswith(".mjs"):  # Node looks for packages beside the script
        (tmp_path / "node_modules").symlink_to(Path(CLIENTS) / "node_modules")
        script = Path(shutil.copy(script, tmp_path))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "BASE": request.getfixturevalue("url"),
        "HTTP_PROXY": NOWHERE,
        "HTTPS_PROXY": NOWHERE,
        "NO_PROXY": "127.0.0.1,localhost",
        # Some look for these whatever key they are given.
        "OPENAI_API_KEY": "local",
        "ANTHROPIC_API_KEY": "local",
    }
    done = subprocess.run(
        [*command, str(script), *([library.way] if library.way else [])],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found, done.stdout
    assert found == {key: EXPECTED[key] for key in found}
