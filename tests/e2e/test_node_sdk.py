"""The official Node SDK as a client: its stream helper throws on any event it does not know or that is out of order."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from support.daemon import running
from support.scripted_model import Turn, shell

HERE = Path(__file__).parent / "node"


@pytest.fixture(scope="session")
def sdk_home() -> Path:
    """A folder with the SDK installed; kept between runs of the suite."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node and npm are not installed")
    home = Path(__file__).resolve().parents[2] / ".make/node"
    if not (home / "node_modules/openai").is_dir():
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "package.json", home)
        command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"]
        installed = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=180)
        if installed.returncode:
            pytest.skip(f"the Node SDK could not be installed: {installed.stderr[-300:]}")
    return home


async def test_the_node_sdk_streams_a_skill_run_to_its_end(sdk_home: Path, tmp_path: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("greeter/SKILL.md", "---\nname: greeter\ndescription: Greets.\n---\nsh greet.sh NAME\n")
        archive.writestr("greeter/greet.sh", 'echo "hello $1"')
    bundle = tmp_path / "greeter.zip"
    bundle.write_bytes(data.getvalue())
    call = shell("sh /mnt/skills/greeter/greet.sh $(cat who.txt)", "echo done")
    async with running(Turn("Let me see.", call), Turn("It says hello Ada.")) as daemon:
        env = os.environ | {"BASE_URL": daemon.url, "SDK_HOME": str(sdk_home), "SKILL_ZIP": str(bundle)}
        process = await asyncio.create_subprocess_exec(
            "node", str(HERE / "use.mjs"), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, problems = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, problems.decode()
    seen = json.loads(out)
    assert [item["type"] for item in seen["final"]["output"]] == [
        "message",
        "shell_call",
        "shell_call_output",
        "message",
    ]
    printed = [
        entry["stdout"]
        for item in seen["final"]["output"]
        if item["type"] == "shell_call_output"
        for entry in item["output"]
    ]
    assert printed == ["hello Ada\n", "done\n"]
    assert seen["types"][0] == "response.created"
    assert seen["types"][-1] == "response.completed"
    assert seen["replayed"] == seen["types"][3:]
    for item in seen["final"]["output"]:
        for part in item.get("content", []):
            del part["parsed"]  # the helper's own addition
    assert seen["again"]["output"] == seen["final"]["output"]
    assert seen["names"] == ["greeter"]
    assert seen["refusal"] == {"status": 404, "param": "model"}
