"""`kill -9` while packages of a skill are being built: nothing half made is left, and the next use builds them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from daemon.containers.support import needs_bwrap, processes
from skilldeck_daemon.containers import artifacts
from skilldeck_daemon.containers.homes import base_for
from support.bundles import manifest, zip_bytes
from support.index import index
from support.killable import ready, served
from support.scripted_model import ScriptedModel, Turn, shell
from support.wait import until
from support.wheels import wheel

FILES = {
    "SKILL.md": manifest("report"),
    "scripts/x.py": b"import charts\nprint('charts', charts.version)\n",
    "requirements.txt": b"charts>=1\n",
}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for kind in ("containers", "sandbox"):
        artifacts.delete_tree(base_for(tmp_path / "data" / kind, kind))


@needs_bwrap
@pytest.mark.timeout(300)
async def test_a_build_that_was_killed_leaves_nothing_and_is_made_at_the_next_use(home: Path) -> None:
    runs = Turn(shell("python3 /mnt/skills/report/scripts/x.py"))
    with index(home / "wheels") as packages, ScriptedModel(runs, Turn("done")) as model:
        wheel(packages.folder, "charts")
        flags = ["--skill-environments", "on", "--package-index", packages.python]
        packages.silent.set()
        async with served(home, model, *flags) as (process, url):
            await ready(url)
            async with httpx.AsyncClient(base_url=url, timeout=60) as http:
                sent = {"files": ("s.zip", zip_bytes(FILES, top="report"))}
                skill = (await http.post("/skills", files=sent)).json()
            await until(lambda: packages.asked)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        containers = base_for(home / "data" / "containers")
        environments = base_for(home / "data" / "sandbox", "sandbox") / "environments"
        assert list(containers.glob("environment-*"))  # as the kill left it
        packages.silent.clear()
        async with served(home, model, *flags) as (_, url):
            await ready(url)
            assert not list(containers.glob("environment-*"))
            assert list(environments.iterdir()) == []
            async with httpx.AsyncClient(base_url=url, timeout=120) as http:
                reference = {"type": "skill_reference", "skill_id": skill["id"]}
                tool = {"type": "shell", "environment": {"type": "container_auto", "skills": [reference]}}
                body = {"model": "default", "input": "go", "tools": [tool]}
                response = (await http.post("/responses", json=body)).json()
                (output,) = [item for item in response["output"] if item["type"] == "shell_call_output"]
                assert output["output"][0]["stdout"] == "charts 1.0\n"
                shown = (await http.get(f"/skills/{skill['id']}")).json()["environment"]
            assert shown["status"] == "ready"
            (place,) = environments.glob("[!.]*[!n]")
            assert {item.name for item in environments.iterdir()} == {place.name, f"{place.name}.json"}
    await until(lambda: not processes(str(containers)))
