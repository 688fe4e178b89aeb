"""A data directory of every schema there was opens with this version, and answers as it did."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.store import migrations, open_parts
from skilldeck_daemon.store.upkeep import backup
from skilldeck_daemon.store.upkeep.fsck import check
from support.daemon import running
from support.make_store import STORES, make
from support.scripted_model import Turn

ARCHIVES = sorted(STORES.glob("v*.tar.xz"))


def unpack(archive: Path, target: Path) -> dict[str, Any]:
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="tar")
    answers: dict[str, Any] = json.loads((target / "answers.json").read_text())
    (target / "answers.json").unlink()
    return answers


def holds(now: Any, then: Any) -> bool:
    """Whether all that was said is still said; a later version may say more."""
    if isinstance(then, dict):
        return isinstance(now, dict) and all(key in now and holds(now[key], then[key]) for key in then)
    if isinstance(then, list):
        return isinstance(now, list) and len(now) == len(then) and all(map(holds, now, then))
    return bool(now == then)


def test_there_is_one_of_every_schema_before_this_one() -> None:
    assert {archive.name for archive in ARCHIVES} >= {
        f"v{schema}.tar.xz" for schema in migrations.known() - {migrations.head()}
    }


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name.split(".")[0])
async def test_an_older_data_directory_opens_and_answers_as_it_did(archive: Path, tmp_path: Path) -> None:
    answers = unpack(archive, tmp_path)
    # What looks at it before the daemon does can read it, too.
    before = await check(*open_parts(tmp_path))
    assert (before.problems, before.schema) == ([], archive.name[1:5])
    backup.make(tmp_path, tmp_path / "before.tar")
    backup.restore(tmp_path / "before.tar", tmp_path / "second")
    for data in (tmp_path, tmp_path / "second"):
        async with running(Turn("Still here."), data_dir=data) as daemon:
            for path, answer in answers.items():
                now = (await daemon.http.get(path)).json()
                assert holds(now, answer), f"{path}: {now} is not {answer}"
            for file in answers["/files"]["data"]:
                assert len((await daemon.client.files.content(file["id"])).content) == file["bytes"]
            previous = next(path for path in answers if path.startswith("/responses/")).split("/")[2]
            assert (await daemon.respond("go on", previous_response_id=previous))["status"] == "completed"
        after = await check(*open_parts(data))
        assert (after.problems, after.schema) == ([], migrations.head())


async def test_the_command_that_makes_them_works(tmp_path: Path) -> None:
    archive = await make(tmp_path / "stores")
    assert archive.name == f"v{migrations.head()}.tar.xz"
    assert unpack(archive, tmp_path / "data").keys() >= {"/skills", "/files"}
    assert (await check(*open_parts(tmp_path / "data"))).problems == []
