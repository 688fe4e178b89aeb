"""The bundled model passes the tests of every template of `skilldeck new`: nothing here is played."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from skilldeck_tui.new_skill.make import TEMPLATES, make
from support.daemon import running
from support.wait import until


async def test_the_bundled_model_passes_the_tests_of_every_template(tmp_path: Path) -> None:
    folders = [make("field-notes", tmp_path / template, template=template) for template in TEMPLATES]
    async with running(load=False, model="tiny", model_name="") as daemon:
        await until(lambda: daemon.daemon.services.models.status().state == "ready", 120)
        socket = str(daemon.daemon.services.settings.socket)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "skilldeck_tui", "--socket", socket, "--no-start", "test", "--json",
            *map(str, folders), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        said, problems = await process.communicate()
    assert process.returncode == 0, (said.decode(), problems.decode())
    assert len(said.splitlines()) >= 2 * len(TEMPLATES)
