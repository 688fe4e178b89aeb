"""Uploading again sends what changed, over the real socket, and the version is whole all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from grpclib.testing import ChannelFor

from skilldeck_daemon.rpc.service import ControlService
from skilldeck_shared.errors import BadRequest
from skilldeck_shared.proto import control_pb2 as pb
from skilldeck_shared.skills.bundle import scan, zip_stream
from skilldeck_tui.client.client import Client
from skilldeck_tui.client.upload import read_folder, send_folder
from support.library import Library, open_library


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[Library]:
    async with open_library(tmp_path / "library") as library:
        yield library


@pytest.fixture
async def client(library: Library) -> AsyncIterator[Client]:
    services = cast(Any, SimpleNamespace(**vars(library)))
    async with ChannelFor([ControlService(services)]) as channel:
        yield Client(channel)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "big-skill"
    (folder / "data").mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: big-skill\ndescription: Holds much.\n---\n")
    for number in range(40):
        (folder / f"data/{number:02}.txt").write_text(f"{number}" * 2000)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    return folder


class Sent:
    """The headers of uploads, as they left the client."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.headers: list[Any] = []
        send = client.send_skill

        async def recorded(header: Any, chunks: Any) -> Any:
            self.headers.append(header)
            return await send(header, chunks)

        monkeypatch.setattr(client, "send_skill", recorded)


async def test_a_save_sends_the_changed_bytes_and_makes_a_whole_version(
    library: Library, client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(client, monkeypatch)
    first = await send_folder(client, read_folder(folder))
    assert len(sent.headers[0].files) == 0
    (folder / "data/07.txt").write_text("changed")
    (folder / "data/08.txt").unlink()
    (folder / "data/09.txt").rename(folder / "renamed.txt")
    (folder / "data/10.txt").chmod(0o755)
    (folder / "copy-a.txt").write_text("same")
    (folder / "copy-b.txt").write_text("same")
    scanned = read_folder(folder)
    second = await send_folder(client, scanned)
    assert sent.headers[1].size < 1000 < sent.headers[0].size
    assert second.version["digest"] == scanned.tree.digest
    assert (second.unchanged, second.version["version"], second.skill["id"]) == (False, "2", first.skill["id"])
    resolved = await library.skills.resolve(
        {"type": "skill_reference", "skill_id": first.skill["id"], "version": "latest"}
    )
    assert scan(resolved.path).entries == scanned.tree.entries
    third = await send_folder(client, scanned)
    assert third.unchanged


async def test_a_change_of_modes_alone_sends_no_file(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send_folder(client, read_folder(folder))
    sent = Sent(client, monkeypatch)
    (folder / "run.sh").chmod(0o644)
    changed = await send_folder(client, read_folder(folder))
    assert (changed.unchanged, sent.headers[0].size) == (False, 22)  # an empty zip


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_a_listing_that_does_not_hold_is_refused_and_leaves_nothing(
    library: Library, client: Client, folder: Path
) -> None:
    scanned = read_folder(folder)
    await send_folder(client, scanned)
    archive = zip_stream(folder, scanned.tree, frozenset())
    files = [pb.SkillFile(path=e.path, sha256=e.sha256, size=e.size, executable=e.executable) for e in archive.listing]
    empty = b"".join(archive)
    unknown = [*files[:-1], pb.SkillFile(path="big-skill/x", sha256="0" * 64, size=1)]
    outside = [*files, pb.SkillFile(path="big-skill/../../x", sha256=files[0].sha256, size=files[0].size)]
    place = [*files, pb.SkillFile(path="big-skill/x", sha256="../../../../etc/passwd", size=1)]
    size = [*files, pb.SkillFile(path="big-skill/x", sha256=files[0].sha256, size=files[0].size + 1)]
    headless = [file for file in files if "SKILL.md" not in file.path]
    for listing, digest in ((unknown, ""), (outside, ""), (place, ""), (size, ""), (headless, ""), (files, "0" * 64)):
        header = pb.UploadSkillHeader(by_name=True, size=len(empty), files=listing, digest=digest)
        with pytest.raises(BadRequest):
            await client.send_skill(header, once(empty))
    versions = await library.skills.versions((await library.skills.list()).data[0]["id"])
    assert len(versions.data) == 1


async def test_only_hashes_are_looked_up(client: Client) -> None:
    for wrong in ("../x", "A" * 64, ""):
        with pytest.raises(BadRequest):
            await client.missing_blobs([wrong])
    assert await client.missing_blobs(["0" * 64]) == ["0" * 64]
