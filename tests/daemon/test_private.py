"""Other users of the machine read nothing of what the daemon keeps, and the sandbox reads what it needs.

The data directory lies where anybody may look, as with `--data-dir /srv/skilldeck`; the umask is the usual 022.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.containers.support import needs_bwrap
from skilldeck_daemon.containers.sandbox.bwrap import SANDBOX_UID
from skilldeck_daemon.store.upkeep import backup
from skilldeck_shared import paths
from support.bundles import manifest, zip_bytes
from support.daemon import Running, running
from support.scripted_model import Turn, shell

STRANGER = 61_234


@pytest.fixture
def data() -> Iterator[Path]:
    before = os.umask(0o022)
    place = Path(tempfile.mkdtemp(prefix="skilldeck-open-"))
    place.chmod(0o755)
    yield place / "data"
    os.umask(before)
    shutil.rmtree(place, ignore_errors=True)


async def work(daemon: Running) -> None:
    """A skill and a file in a container, which reads both."""
    bundle = zip_bytes({"SKILL.md": manifest("greeter", "Greets."), "greet.sh": "echo hello $1"}, top="greeter")
    skill = (await daemon.http.post("/skills", files={"files": ("greeter.zip", bundle)})).json()["id"]
    upload = {"files": {"file": ("who.txt", b"Ada")}, "data": {"purpose": "user_data"}}
    file = (await daemon.http.post("/files", **upload)).json()["id"]  # type: ignore[arg-type]
    reference = {"type": "skill_reference", "skill_id": skill}
    environment = {"type": "container_auto", "skills": [reference], "file_ids": [file]}
    response = await daemon.respond("Greet.", tools=[{"type": "shell", "environment": environment}])
    (told,) = [item for item in response["output"] if item["type"] == "shell_call_output"]
    assert told["output"][0]["stdout"] == "hello Ada\n", told


CALL = shell("sh /mnt/skills/greeter/greet.sh $(cat who.txt)")


def open_to_others(root: Path) -> bool:
    """Whether anybody but its owner and the sandbox's user may do anything with it."""
    info = root.stat()
    # Its group may pass, and no more.
    return bool(stat.S_IMODE(info.st_mode) & (0o067 if info.st_gid == SANDBOX_UID else 0o077))


def as_a_stranger(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, user=STRANGER, group=STRANGER, extra_groups=[], capture_output=True, text=True, cwd="/"
    )


@needs_bwrap
async def test_nobody_else_reads_what_the_daemon_keeps(data: Path) -> None:
    async with running(Turn(CALL), Turn("Done."), data_dir=data) as daemon:
        await work(daemon)
        kept = sorted(place.name for place in data.iterdir())
        assert {"blobs", "containers", "skilldeck.db", "skills", "seal.key", "daemon.lock"} <= set(kept)
        for place in (data, *data.iterdir()):
            assert not open_to_others(place), place
        if os.geteuid() == 0:
            containers = daemon.daemon.services.environments.containers
            assert containers.base == data / "containers", "the data directory is on the way of its user"
            listed = as_a_stranger("find", str(data))
            assert listed.stdout.split() == [str(data)]
            for name in kept:
                assert as_a_stranger("test", "-r", str(data / name)).returncode == 1, name
        backup.make(data, data.parent / "kept" / "backup.tar")
    assert not open_to_others(data.parent / "kept" / "backup.tar")


@needs_bwrap
async def test_what_an_earlier_version_left_open_is_closed_at_the_start(data: Path) -> None:
    async with running(Turn(CALL), Turn("Done."), data_dir=data) as daemon:
        await work(daemon)
    for place in (data, *data.iterdir()):
        place.chmod(0o755 if place.is_dir() else 0o644)
    for place in (paths.config_file().parent, paths.state_dir()):
        place.mkdir(parents=True, mode=0o755)
    paths.config_file().write_text('remote_api_key = "secret"\n')
    (paths.state_dir() / "daemon.log").write_text("")
    async with running(Turn(CALL), Turn("Done."), data_dir=data) as daemon:
        await work(daemon)
        for place in (data, *data.iterdir(), paths.config_file().parent, paths.config_file(), paths.state_dir()):
            assert not open_to_others(place), place
