"""Where hosted calls run, looked up and decided without making anything."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from skilldeck_daemon.agent.planning.placement import Placer, hosted_auto, preload_of
from skilldeck_daemon.attachments.gather import Sources, gather
from skilldeck_daemon.core import Core
from skilldeck_daemon.libraries.containers.mounted import Mounted
from skilldeck_daemon.settings import Settings
from skilldeck_daemon.tools import parse_tools
from skilldeck_daemon.tools.context import Placement
from skilldeck_daemon.wire.fields import Fields
from skilldeck_daemon.wire.items import parse_input
from skilldeck_shared.errors import SkilldeckError

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def core(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Core]:
    home = tmp_path_factory.mktemp("placement")
    settings = Settings(model="", sandbox="none", data_dir=home / "data", socket=home / "daemon.sock")
    async with Core(settings, tracing=lambda: None) as core:
        yield core


def _zip(name: str) -> dict[str, Any]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"{name}/SKILL.md", f"---\nname: {name}\ndescription: Counts.\n---\nRun it.\n")
    data = base64.b64encode(packed.getvalue()).decode()
    source = {"type": "base64", "media_type": "application/zip", "data": data}
    return {"type": "inline", "name": name, "description": "Counts.", "source": source}


def _auto(**more: Any) -> dict[str, Any]:
    return {"type": "shell", "environment": {"type": "container_auto", **more}}


async def _place(
    core: Core, tools: list[dict[str, Any]], items: Any = "hello", mounts: tuple[Mounted, ...] = ()
) -> Placement:
    services = core.services
    parsed, history = parse_tools(Fields({"tools": tools})), parse_input(items)
    sources = Sources(services.store, services.files, core._documents)
    attachments = await gather(history, sources, 0, {item["id"]: "input[0]" for item in history})
    return await Placer("resp_1", services.environments, sources, attachments, mounts).place(parsed, history)


def _file(text: str, name: str) -> dict[str, Any]:
    data = base64.b64encode(text.encode()).decode()
    return {"type": "input_file", "filename": name, "file_data": f"data:text/plain;base64,{data}"}


async def test_without_tools_that_run_something_nothing_is_placed(core: Core) -> None:
    assert await _place(core, []) == Placement()
    assert await _place(core, [{"type": "function", "name": "f", "parameters": {}}]) == Placement()


async def test_a_local_shell_has_the_clients_skills_and_no_container(core: Core) -> None:
    skill = {"name": "counter", "description": "Counts.", "path": "/home/me/counter"}
    placed = await _place(core, [{"type": "shell", "environment": {"type": "local", "skills": [skill]}}])
    assert (placed.around.shell, placed.around.skills) == ("local", (("counter", "Counts. (/home/me/counter)"),))
    assert (placed.container_id, placed.record) == ("", None)


async def test_a_new_container_is_a_record_with_its_skills_and_files_and_nothing_is_made(core: Core) -> None:
    content = [_file("1,2", "a.csv"), _file("3,4", "a.csv")]
    items = [{"role": "user", "content": content}]
    tools = [_auto(skills=[_zip("counter")]), {"type": "code_interpreter", "container": {"type": "auto"}}]
    placed = await _place(core, tools, items)
    assert placed.record is not None
    assert placed.container_id == placed.record["id"]
    assert [mount.name for mount in placed.mounted] == ["counter"]
    assert placed.around.shell == "hosted"
    assert placed.around.python
    assert placed.around.files == ("a.csv", "a-2.csv")
    assert placed.around.hosts == ()
    assert [file.path for file in placed.files] == ["/mnt/data/a.csv", "/mnt/data/a-2.csv"]
    assert not core.services.environments.containers.exists(placed.container_id)


async def test_a_conversation_keeps_its_container_while_it_has_what_is_asked_for(core: Core) -> None:
    first = await _place(core, [_auto()])
    assert first.record is not None
    await core.services.environments.open_new(first.record)
    used = {
        "type": "shell_call",
        "call_id": "c",
        "action": {"commands": ["ls"]},
        "environment": {"type": "container_reference", "container_id": first.container_id},
    }
    again = await _place(core, [_auto()], [used])
    assert (again.container_id, again.record) == (first.container_id, None)
    assert (await _place(core, [_auto(memory_limit="4g")], [used])).container_id != first.container_id
    assert (await _place(core, [_auto(skills=[_zip("other")])], [used])).container_id != first.container_id
    await core.services.environments.delete(first.container_id)
    assert (await _place(core, [_auto()], [used])).record is not None


async def test_a_mounted_folder_stands_beside_the_requests_own_skills_under_a_name_of_its_own(
    core: Core, tmp_path: Path
) -> None:
    mount = Mounted("counter", "Counts, too.", str(tmp_path), "", "")
    placed = await _place(core, [_auto(skills=[_zip("counter")])], mounts=(mount,))
    assert [mount.name for mount in placed.mounted] == ["counter", "counter-2"]
    assert [name for name, _ in placed.around.skills] == ["counter", "counter-2"]


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        (
            {"type": "shell", "environment": {"type": "container_reference", "container_id": "cntr_none"}},
            "tools[0].environment.container_id",
        ),
        ({"type": "code_interpreter", "container": "cntr_none"}, "tools[0].container"),
        (_auto(file_ids=["file-none"]), "tools[0].environment.file_ids[0]"),
        (_auto(memory_limit="64g"), "tools[0].environment.memory_limit"),
        (
            _auto(skills=[{"type": "skill_reference", "skill_id": "skill_none"}]),
            "tools[0].environment.skills[0].skill_id",
        ),
    ],
)
async def test_what_is_not_there_is_refused_by_its_field(core: Core, tool: dict[str, Any], param: str) -> None:
    with pytest.raises(SkilldeckError) as raised:
        await _place(core, [tool])
    assert raised.value.param == param


async def test_only_a_container_of_its_own_takes_further_skills() -> None:
    auto = parse_tools(Fields({"tools": [_auto(skills_preload="all")]}))
    local = parse_tools(Fields({"tools": [{"type": "shell"}]}))
    assert (hosted_auto(auto), preload_of(auto)) == (True, "all")
    assert (hosted_auto(local), preload_of(local)) == (False, None)
    assert (hosted_auto([]), preload_of([])) == (False, None)
