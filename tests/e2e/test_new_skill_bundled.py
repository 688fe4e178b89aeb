"""The bundled model passes the tests of every template of `skilldeck new`, and one more that is made of a run of these:
nothing here is played."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import yaml

from skilldeck_tui.new_skill.make import TEMPLATES, make
from support.daemon import Running, running
from support.wait import until


async def skilldeck(daemon: Running, *args: str) -> list[dict[str, object]]:
    """The lines that a command prints as JSON; it must end with 0."""
    socket = str(daemon.daemon.services.settings.socket)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "skilldeck_tui", "--socket", socket, "--no-start", *args, "--json",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    said, problems = await process.communicate()
    assert process.returncode == 0, (said.decode(), problems.decode())
    return [json.loads(line) for line in said.splitlines()]


async def test_the_bundled_model_passes_the_tests_of_every_template_and_of_a_run(tmp_path: Path) -> None:
    folders = [make("field-notes", tmp_path / template, template=template) for template in TEMPLATES]
    async with running(load=False, model="tiny", model_name="") as daemon:
        await until(lambda: daemon.daemon.services.models.status().state == "ready", 120)
        lines = await skilldeck(daemon, "test", *map(str, folders))
        tried = [line for line in lines if line.get("object") == "evaluation.trial"]
        assert len(tried) == 2 * len(TEMPLATES)
        folder = folders[list(TEMPLATES).index("data")]
        run = next(line["run_id"] for line in tried if "totals.py" in json.dumps(line["commands"]))
        (added,) = await skilldeck(
            daemon, "evals", "add", str(run), "--folder", str(folder), "--name", "as then", "--yes"
        )
        assert added["files"] == ["harvest.csv"]
        (entry,) = yaml.safe_load((folder / "evals/recorded.yaml").read_text())
        assert entry["files"] == ["samples/harvest.csv"]
        assert entry["expect"]["triggered"] is True
        assert entry["expect"]["answer"] == ["rows: 3", "crates: 42", r"hours: 13\.5"]
        assert [path.name for path in (folder / "samples").iterdir()] == ["harvest.csv"]
        await skilldeck(daemon, "test", str(folder), "--only", "as then")
