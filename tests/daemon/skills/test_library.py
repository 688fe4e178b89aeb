"""The skill library: uploads by name, references and inline skills as folders, pruning."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.libraries.skill_results import Uploaded
from skilldeck_daemon.wire.caller import CLIENT, TESTS
from skilldeck_shared.errors import BadRequest, NotFound, SkilldeckError, TooLarge
from skilldeck_shared.skills.bundle import LIMITS, BundleError, scan, zip_stream
from skilldeck_shared.skills.manifest import ManifestError
from support.bundles import manifest, part, skill_files, skill_zip, write_skill, zip_bytes
from support.library import Library, open_library


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[Library]:
    async with open_library(tmp_path / "data") as library:
        yield library


async def upload(library: Library, tmp_path: Path, data: bytes, **options: Any) -> Uploaded:
    return await library.skills.upload([part(tmp_path / "in", data)], **options)


async def create(library: Library, tmp_path: Path, data: bytes) -> dict[str, Any]:
    return (await upload(library, tmp_path, data)).skill


def inline(data: bytes, **more: Any) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "application/zip", "data": base64.b64encode(data).decode()}
    description = "Sums the columns of a CSV file."
    return {"type": "inline", "name": "csv-tools", "description": description, "source": source, **more}


# Uploading


async def test_a_folder_is_uploaded_by_name_and_again_only_when_it_changed(library: Library, tmp_path: Path) -> None:
    folder = write_skill(tmp_path / "csv-tools")

    async def save() -> Uploaded:
        tree = scan(folder)
        data = b"".join(zip_stream(folder, tree))
        options = {"digest": tree.digest, "source": str(folder), "watched": True, "make_default": True}
        return await upload(library, tmp_path, data, by_name=True, **options)

    first = await save()
    assert not first.unchanged
    assert (first.skill["default_version"], first.version["version"]) == ("1", "1")
    again = await save()
    assert again.unchanged
    assert again.version == first.version
    (folder / "SKILL.md").write_bytes(manifest(description="Better."))
    second = await save()
    assert not second.unchanged
    assert second.skill["id"] == first.skill["id"]
    assert (second.skill["default_version"], second.skill["description"]) == ("2", "Better.")
    assert second.version["source"] == str(folder)


async def test_an_unchanged_upload_may_still_move_the_default(library: Library, tmp_path: Path) -> None:
    await upload(library, tmp_path, skill_zip(), by_name=True)
    await upload(library, tmp_path, skill_zip(x=b"1"), by_name=True)
    moved = await upload(library, tmp_path, skill_zip(x=b"1"), by_name=True, make_default=True)
    assert (moved.unchanged, moved.skill["default_version"]) == (True, "2")


async def test_what_is_installed_anew_without_a_change_comes_from_there_now(library: Library, tmp_path: Path) -> None:
    await upload(library, tmp_path, skill_zip(), by_name=True, source="git+https://a.example/r@1")
    moved = await upload(
        library, tmp_path, skill_zip(), by_name=True, source="git+https://b.example/r@1", origin="install"
    )
    uploaded = await upload(library, tmp_path, skill_zip(), by_name=True, source="/home/me/csv-tools")
    assert (moved.unchanged, uploaded.unchanged) == (True, True)
    assert moved.version["source"] == uploaded.skill["source"] == "git+https://b.example/r@1"


@pytest.mark.parametrize("about", ["x" * 1068, "Use when: it counts"])
async def test_from_a_disk_it_is_accepted_with_a_warning_and_over_http_refused(
    library: Library, tmp_path: Path, about: str
) -> None:
    data = zip_bytes(skill_files() | {"SKILL.md": manifest(description=about)})
    found = await upload(library, tmp_path, data, origin="install")
    assert found.version["description"] == about
    assert len(found.version["warnings"]) == 1
    with pytest.raises(ManifestError):
        await library.skills.create([part(tmp_path / "in", data)])
    if "when" in about:  # who watches a folder writes it: the mistake is shown
        with pytest.raises(ManifestError):
            await upload(library, tmp_path, data, watched=True)
    else:
        assert (await upload(library, tmp_path, data, watched=True)).version["warnings"]


async def test_two_saves_at_once_make_one_skill(library: Library, tmp_path: Path) -> None:
    uploads = [upload(library, tmp_path / str(n), skill_zip(n=b"%d" % n), by_name=True) for n in range(5)]
    done = await asyncio.gather(*uploads)
    assert len({result.skill["id"] for result in done}) == 1
    assert sorted(result.version["version"] for result in done) == ["1", "2", "3", "4", "5"]


async def test_an_upload_that_is_not_what_was_scanned_is_refused(library: Library, tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        await upload(library, tmp_path, skill_zip(), digest="0" * 64)
    assert caught.value.code == "changed_while_reading"
    assert (await library.skills.list()).data == []


async def test_changes_are_published(library: Library, tmp_path: Path) -> None:
    async with library.bus.subscribe() as changes:
        skill = await create(library, tmp_path, skill_zip())
        assert (await anext(changes)).object == skill
        await upload(library, tmp_path, skill_zip(x=b"1"), skill_id=skill["id"])
        changed = await anext(changes)
        assert (changed.action, (changed.object or {})["latest_version"]) == ("put", "2")
        await library.skills.delete(skill["id"])
        assert (await anext(changes)).action == "delete"


async def test_files_of_a_version_can_be_listed_and_read(library: Library, tmp_path: Path) -> None:
    skill = await create(library, tmp_path, skill_zip())
    tree = await library.skills.tree(skill["id"], "latest")
    assert [entry["path"] for entry in tree] == ["SKILL.md", "references/notes.txt", "scripts/run.sh"]
    path = await library.skills.read_file(skill["id"], "1", "references/notes.txt")
    assert path.read_bytes() == b"notes\n"
    with pytest.raises(NotFound, match="no file"):
        await library.skills.read_file(skill["id"], "1", "../../etc/passwd")


# Resolving


async def test_a_reference_names_a_version_in_every_way_clients_do(library: Library, tmp_path: Path) -> None:
    skill = await create(library, tmp_path, skill_zip())
    for name in ("second", "third"):
        await upload(library, tmp_path, skill_zip(name), skill_id=skill["id"])
    await library.skills.set_default(skill["id"], "2")
    for version, name in (
        ({}, "second"),
        ({"version": None}, "second"),
        ({"version": "latest"}, "third"),
        ({"version": 1}, "csv-tools"),
        ({"version": "1"}, "csv-tools"),
    ):
        found = await library.skills.resolve({"type": "skill_reference", "skill_id": skill["id"], **version})
        assert found.name == name
        assert found.skill_id == skill["id"]
        assert (found.path / "SKILL.md").read_bytes() == manifest(name)
    assert found.manifest_path == "SKILL.md"


@pytest.mark.parametrize(
    ("reference", "param"),
    [
        ({"type": "nonsense"}, "tools[0].environment.skills[1].type"),
        ("text", "tools[0].environment.skills[1].type"),
        ({"type": "skill_reference"}, "tools[0].environment.skills[1].skill_id"),
        ({"type": "skill_reference", "skill_id": "skill_nope"}, "tools[0].environment.skills[1].skill_id"),
        ({"type": "skill_reference", "skill_id": "\ud800"}, "tools[0].environment.skills[1].skill_id"),
        ({"type": "skill_reference", "skill_id": "s" * 65}, "tools[0].environment.skills[1].skill_id"),
        ({"type": "skill_reference", "skill_id": "ID", "version": 7}, "tools[0].environment.skills[1].version"),
        ({"type": "skill_reference", "skill_id": "ID", "version": True}, "tools[0].environment.skills[1].version"),
        ({"type": "skill_reference", "skill_id": "ID", "version": 1.0}, "tools[0].environment.skills[1].version"),
        ({"type": "skill_reference", "skill_id": "ID", "version": {}}, "tools[0].environment.skills[1].version"),
    ],
)
async def test_a_bad_reference_names_its_field(library: Library, tmp_path: Path, reference: Any, param: str) -> None:
    skill = await create(library, tmp_path, skill_zip())
    if isinstance(reference, dict) and reference.get("skill_id") == "ID":
        reference = {**reference, "skill_id": skill["id"]}
    with pytest.raises(SkilldeckError) as caught:
        await library.skills.resolve(reference, "tools[0].environment.skills[1]")
    assert 400 <= caught.value.status < 500
    assert caught.value.param == param


async def test_an_inline_skill_is_mounted_and_nothing_else_remains(library: Library) -> None:
    found = await library.skills.resolve(inline(skill_zip()))
    assert (found.name, found.version, found.skill_id) == ("csv-tools", "", "")
    assert {str(p.relative_to(found.path)) for p in found.path.rglob("*") if p.is_file()} == set(skill_files())
    assert (found.path / "scripts/run.sh").stat().st_mode & 0o111
    assert (await library.skills.list()).data == []
    assert [p.name for p in library.store.blobs.root.iterdir()] == ["tmp"]
    assert not list(library.store.blobs.temporary.iterdir())
    assert (await library.skills.resolve(inline(skill_zip()))).path == found.path


@pytest.mark.parametrize(
    ("reference", "param"),
    [
        (inline(skill_zip(), name="other"), "s.name"),
        (inline(skill_zip(), description="Something else."), "s.description"),
        (inline(skill_zip(), name=None), "s.name"),
        (inline(skill_zip(), source=None), "s.source"),
        (inline(skill_zip(), source={"type": "url"}), "s.source.type"),
        (inline(skill_zip(), source={"type": "base64", "media_type": "text/plain"}), "s.source.media_type"),
        (inline(b""), "s.source.data"),
        (inline(b"no zip"), "s.source.data"),
        (inline(skill_zip()[:-20]), "s.source.data"),
        (inline(zip_bytes({"SKILL.md": b"no frontmatter"})), "s.source.data"),
    ],
)
async def test_a_bad_inline_skill_names_its_field(library: Library, reference: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await library.skills.resolve(reference, "s")
    assert caught.value.param == param
    assert not list(library.store.blobs.temporary.iterdir())


async def test_base64_that_is_none_and_too_much_of_it(library: Library) -> None:
    source = {"type": "base64", "media_type": "application/zip", "data": "UEsDBA=*"}
    with pytest.raises(BadRequest, match="not base64"):
        await library.skills.resolve(inline(b"", source=source))
    source["data"] = "A" * (LIMITS.inline_characters + 1)
    with pytest.raises(TooLarge):
        await library.skills.resolve(inline(b"", source=source))


# Pruning


async def test_pruning_keeps_what_somebody_relies_on(library: Library, tmp_path: Path) -> None:
    first = await upload(library, tmp_path, skill_zip(), by_name=True)
    skill_id = first.skill["id"]
    for n in range(2, 10):
        await upload(library, tmp_path, skill_zip(n=b"%d" % n), by_name=True, watched=n != 3, make_default=n == 4)
    await library.skills.set_default(skill_id, 5)
    await library.skills.set_default(skill_id, 4)
    await library.skills.resolve({"type": "skill_reference", "skill_id": skill_id, "version": 6})
    assert await library.skills.prune(skill_id, 2) == 2
    left = [version["version"] for version in (await library.skills.versions(skill_id, 20, "asc")).data]
    # 1 and 3 were not watched, 4 is the default, 5 was it, 6 was named, 8 and 9 are the newest two.
    assert left == ["1", "3", "4", "5", "6", "8", "9"]
    assert await library.skills.prune(skill_id, 2) == 0


async def test_a_test_of_the_newest_version_does_not_keep_it(library: Library, tmp_path: Path) -> None:
    CLIENT.set(TESTS)
    for n in range(1, 5):
        done = await upload(library, tmp_path, skill_zip(n=b"%d" % n), by_name=True, watched=True, make_default=n == 4)
        reference = {"type": "skill_reference", "skill_id": done.skill["id"], "version": done.version["version"]}
        await library.skills.resolve(reference)
    # Version 2 is an older one by now: a matrix that compares with it goes on to find it.
    await library.skills.resolve({**reference, "version": "2"})
    assert await library.skills.prune(done.skill["id"], 1) == 2
    left = [version["version"] for version in (await library.skills.versions(done.skill["id"], 20, "asc")).data]
    assert left == ["2", "4"]


async def test_watching_prunes_by_itself(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library.skills._watched_versions = 3
    for n in range(8):
        done = await upload(library, tmp_path, skill_zip(n=b"%d" % n), by_name=True, watched=True, make_default=True)
    left = await library.skills.versions(done.skill["id"], 20, "asc")
    assert [version["version"] for version in left.data] == ["6", "7", "8"]


@pytest.mark.parametrize("version", ["", "0", "v1"])
async def test_a_change_needs_a_version_by_name(library: Library, tmp_path: Path, version: str) -> None:
    skill = await create(library, tmp_path, skill_zip())
    for change in (library.skills.set_default, library.skills.delete_version):
        with pytest.raises(NotFound):
            await change(skill["id"], version)
    assert await library.skills.get(skill["id"]) == skill
