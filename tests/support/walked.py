"""Which modules one request passes: `cd tests && python -m support.walked`, with the bundled model.

One streamed `POST /v1/responses` with a skill and a shell call, after the same one has been asked once, so that nothing
is imported or started any more. Every call of a function of the daemon is seen (`sys.setprofile`), in its event loop
and in its threads; the engine's own process is not. The modules are put in the order in which the request first comes
to them: a stay is a row of them in one room, a return a stay in a room that was left before. A room is the first folder
below the package.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import skilldeck_daemon
from support.daemon import SHELL, running
from support.wait import until

DAEMON = str(Path(skilldeck_daemon.__file__).parent) + os.sep
SKILL = Path(__file__).parents[2] / "skills-examples/csv-summary"


async def walked() -> list[str]:
    """The modules, by their paths below the package, in the order in which the request came to them."""
    seen: dict[str, None] = {}
    looking = False

    def look(frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_code.co_filename
        if looking and event == "call" and name.startswith(DAEMON):
            seen.setdefault(name.removeprefix(DAEMON))

    threading.setprofile(look)  # of threads that begin from now on
    sys.setprofile(look)
    async with running(load=False, model="tiny", model_name="") as daemon:
        await until(lambda: daemon.daemon.services.models.status().state == "ready", 120)
        files = [(f"csv-summary/{p.relative_to(SKILL)}", p.read_bytes()) for p in SKILL.rglob("*.*") if p.is_file()]
        skill = await daemon.client.skills.create(files=files)
        orders = (SKILL / "samples/orders.csv").read_bytes()
        file = await daemon.client.files.create(file=("orders.csv", orders), purpose="user_data")
        place = {"type": "container_auto", "skills": [{"type": "skill_reference", "skill_id": skill.id}]}
        parts = [
            {"type": "input_text", "text": "Use the csv-summary skill on orders.csv"},
            {"type": "input_file", "file_id": file.id},
        ]
        request: Any = {
            "input": [{"role": "user", "content": parts}],
            "tools": [{**SHELL, "environment": place}],
        }
        await daemon.stream(**request)
        looking = True
        events = await daemon.stream(**request)
        looking = False
        types = [item["type"] for item in events[-1]["response"]["output"]]
        assert {"shell_call", "shell_call_output", "message"} <= set(types), types
    sys.setprofile(None)
    threading.setprofile(None)
    return list(seen)


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = home
        modules = asyncio.run(walked())
    rooms = [room for room, _ in groupby(name.split(os.sep)[0] for name in modules)]
    print("\n".join(modules))
    print(
        f"{len(modules)} modules, {len(set(rooms))} rooms, {len(rooms)} stays, {len(rooms) - len(set(rooms))} returns"
    )


if __name__ == "__main__":
    main()
