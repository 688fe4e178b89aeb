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
from typing import Any

import pytest

from support.daemon import running
from support.scripted_model import Call, Endless, Fail, Reasoning, Text, Turn, shell

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


async def node(script: str, env: dict[str, str]) -> Any:
    """What the script prints."""
    process = await asyncio.create_subprocess_exec(
        "node", str(HERE / script), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, problems = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, problems.decode()
    return json.loads(out)


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
        seen = await node("use.mjs", env)
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


PLACE = {"city": "Graz"}
CALLS = (Call("weather", PLACE, chunk=3), Call("note", "free text", chunk=2))
SAID: dict[str, list[Turn]] = {
    "mixed": [
        Turn(Reasoning("let me see", chunk=3), Text("looking", chunk=2), Call("python", {"code": "print(6 * 7)"})),
        Turn(shell("echo out; echo err >&2; echo x > made.txt")),
        Turn(Reasoning("both now"), Text("made.txt is there", chunk=4), *CALLS),
    ],
    "shaped": [Turn(Text(json.dumps(PLACE), chunk=4))],
    "short": [Turn("cut o", finish="length")],
    "endless": [Turn("on ", Endless())],
    "chat": [Turn(Text("hello", chunk=2), CALLS[0])],
}


async def test_the_node_sdks_helpers_take_every_kind_of_item(sdk_home: Path) -> None:
    left = {said: list(turns) for said, turns in SAID.items()}

    def turn(body: dict[str, Any]) -> Turn | Fail:
        """By what the user said: a run that is cancelled at once may never ask."""
        said = next(message["content"] for message in body["messages"] if message["role"] == "user")
        return left[said].pop(0)

    async with running(*[turn] * 20, strict=False) as daemon:
        seen = await node("helpers.mjs", os.environ | {"BASE_URL": daemon.url, "SDK_HOME": str(sdk_home)})
    kinds = [item["type"] for item in seen["mixed"]["final"]["output"]]
    assert kinds == [
        "reasoning",
        "message",
        "code_interpreter_call",
        "shell_call",
        "shell_call_output",
        "reasoning",
        "message",
        "function_call",
        "custom_tool_call",
    ]
    types = set(seen["mixed"]["types"])
    assert types >= {
        "response.reasoning_text.delta",
        "response.output_text.delta",
        "response.code_interpreter_call_code.delta",
        "response.code_interpreter_call.completed",
        "response.shell_call_command.delta",
        "response.shell_call_output_content.delta",
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
    }
    call = seen["mixed"]["final"]["output"][7]
    assert call.pop("parsed_arguments") == PLACE  # the helper's own; it knows the tools only where it asked
    assert seen["resumed"]["final"]["output"][7].pop("parsed_arguments") is None
    assert seen["resumed"]["final"]["output"] == seen["mixed"]["final"]["output"]
    assert set(seen["resumed"]["types"]) == types
    assert seen["shaped"]["final"]["output_parsed"] == PLACE
    assert seen["short"]["final"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert seen["cancelled"] == "cancelled"
    message = seen["completion"]["choices"][0]["message"]
    assert (message["content"], json.loads(message["tool_calls"][0]["function"]["arguments"])) == ("hello", PLACE)
    assert seen["usage"]["total_tokens"] > 0
