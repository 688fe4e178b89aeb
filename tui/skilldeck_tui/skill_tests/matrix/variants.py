"""What a matrix has columns of: versions of a skill, and none, each as the skills a run mounts.

A version is named by its number, `latest` (the folder as it is), `default`, another folder, or a git revision of the
folder. Folders and revisions travel inline with each request, so the skill's versions in the library stay as they are.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from skilldeck_shared.errors import BadRequest, NotFound
from skilldeck_shared.paths import expanded
from skilldeck_shared.skills.bundle import LIMITS, zip_stream
from skilldeck_tui.client.client import Client
from skilldeck_tui.client.types import Object, UploadedSkill
from skilldeck_tui.client.upload import read_folder, upload_folder

WITHOUT = "without"
LATEST = "latest"
GIT_SECONDS = 60


@dataclass(frozen=True)
class Variant:
    """One version, or the baseline. `skills` are the entries of a run's environment, `digests` what they hold: the
    skill's own first, those it stands among after it. `version` is its number where it has one."""

    label: str
    skills: tuple[Object, ...]
    digests: tuple[str, ...]
    version: str = ""
    baseline: bool = False

    @property
    def digest(self) -> str:
        """Of the skill itself; empty without it."""
        return "" if self.baseline else self.digests[0]

    def as_json(self) -> Object:
        return {"label": self.label, "version": self.version, "digest": self.digest, "baseline": self.baseline}


@dataclass(frozen=True)
class Among:
    """Other skills that are mounted beside the one under test."""

    names: tuple[str, ...] = ()
    skills: tuple[Object, ...] = ()
    digests: tuple[str, ...] = ()


class Versions:
    """Resolves the names of versions of one skill; uploads its folder when the present state is asked for."""

    def __init__(self, client: Client, folder: Path, among: Among | None = None) -> None:
        self._client = client
        self.folder = folder
        self.among = among or Among()
        self._uploaded: UploadedSkill | None = None
        self._name: str | None = None
        self._known: list[Object] | None = None

    async def uploaded(self) -> UploadedSkill:
        """The folder as a version of the library. Raises the upload's errors."""
        if self._uploaded is None:
            self._uploaded = await upload_folder(self._client, self.folder)
        return self._uploaded

    async def name(self) -> str:
        """The skill's name, as its SKILL.md says."""
        if self._name is None:
            self._name = (await asyncio.to_thread(read_folder, self.folder, lenient=True)).manifest.name
        return self._name

    async def skill(self) -> Object:
        """The skill in the library; the folder is uploaded when there is none of its name."""
        if self._uploaded is None:
            name, after = await self.name(), ""
            while True:
                page = await self._client.skills(limit=1000, after=after)
                for skill in page.data:
                    if skill["name"] == name:
                        return skill
                if not page.has_more:
                    break
                after = str(page.data[-1]["id"])
        return (await self.uploaded()).skill

    async def versions(self) -> list[Object]:
        """All versions of the skill in the library, newest first."""
        if self._known is None:
            self._known = (await self._client.skill_versions((await self.skill())["id"], limit=1000)).data
        return self._known

    async def baseline(self) -> Variant:
        return Variant(WITHOUT, self.among.skills, self.among.digests, baseline=True)

    async def resolve(self, name: str) -> Variant:
        """The variant a name means. Raises NotFound or BadRequest with what there is."""
        if name == LATEST:
            uploaded = await self.uploaded()
            # Its number from here on: a save meanwhile would be another version in the middle of the matrix.
            number = str(uploaded.version["version"])
            return self._library(name, uploaded.skill, number, str(uploaded.version.get("digest", "")))
        if name == "default":
            name = str((await self.skill())["default_version"])
        if name.isdigit():
            return await self._numbered(name)
        for place in (expanded(name), self.folder / name):
            if os.path.isfile(place / "SKILL.md"):
                return await self._inline(name, place)
        return await self._revision(name)

    async def _numbered(self, number: str) -> Variant:
        for version in await self.versions():
            if str(version["version"]) == number:
                return self._library(number, await self.skill(), number, str(version.get("digest", "")))
        there = ", ".join(str(version["version"]) for version in (await self.versions())[:20])
        raise NotFound(f"{self.folder.name} has no version {number}.", f"There are: {there}.", param="versions")

    def _library(self, label: str, skill: Object, number: str, digest: str) -> Variant:
        entry = {"type": "skill_reference", "skill_id": skill["id"], "version": number}
        return self._variant(label, entry, digest, number)

    def _variant(self, label: str, skill: Object, digest: str, number: str) -> Variant:
        return Variant(label, (skill, *self.among.skills), (digest, *self.among.digests), number)

    async def _inline(self, label: str, folder: Path) -> Variant:
        def packed() -> tuple[Object, str]:
            scanned = read_folder(folder, lenient=True)
            data = base64.b64encode(b"".join(zip_stream(folder, scanned.tree))).decode()
            source = {"type": "base64", "media_type": "application/zip", "data": data}
            manifest = scanned.manifest
            skill = {"type": "inline", "name": manifest.name, "description": manifest.description, "source": source}
            return skill, scanned.tree.digest

        skill, digest = await asyncio.to_thread(packed)
        same = next((v for v in await self.versions() if v.get("digest") == digest), None)
        return self._variant(label, skill, digest, str(same["version"]) if same else "")

    async def _revision(self, name: str) -> Variant:
        with tempfile.TemporaryDirectory(prefix="skilldeck-revision-") as temporary:
            place = Path(temporary) / self.folder.resolve().name
            await asyncio.to_thread(_checked_out, self.folder.resolve(), name, place)
            return await self._inline(name, place)


async def among_of(client: Client, folder: Path, skill: str) -> Among:
    """The skills in a folder of skills, but for the one of this name; each is uploaded. Raises BadRequest when there
    are none."""
    places = sorted(path.parent for path in folder.glob("*/SKILL.md") if path.parent.name != skill)
    if not places:
        raise BadRequest(f"{folder} holds no skills.", "Name a folder of skill folders.", param="among")
    found = [await upload_folder(client, place) for place in places]
    return Among(
        tuple(str(entry.skill["name"]) for entry in found),
        tuple(
            {"type": "skill_reference", "skill_id": e.skill["id"], "version": str(e.version["version"])} for e in found
        ),
        tuple(str(entry.version.get("digest", "")) for entry in found),
    )


async def installed(client: Client, skill: str) -> Among:
    """All skills of the daemon but the one of this name, the newest of each name."""
    every = {str(one["name"]): one for one in reversed((await client.skills(limit=1000)).data)}
    others = [one for name, one in sorted(every.items()) if name != skill][: LIMITS.skills_per_environment - 1]
    return Among(
        tuple(str(one["name"]) for one in others),
        tuple(
            {"type": "skill_reference", "skill_id": one["id"], "version": str(one["latest_version"])} for one in others
        ),
        tuple(str(one.get("digest", "")) for one in others),
    )


def _checked_out(folder: Path, revision: str, target: Path) -> None:
    """The folder as it was at a git revision. Raises BadRequest with what git says."""
    try:
        if revision.startswith("-"):
            raise subprocess.CalledProcessError(1, "git", stderr=b"a revision does not begin with -")
        prefix = _git(folder, "rev-parse", "--show-prefix").decode().strip()
        # From the top: inside a folder `archive` looks for that folder within the tree it is given.
        top = Path(_git(folder, "rev-parse", "--show-toplevel").decode().rstrip("\n"))
        archive = _git(top, "archive", "--format=tar", f"{revision}^{{commit}}:{prefix}")
    except FileNotFoundError:
        raise BadRequest(
            f"{revision!r} is no version and no folder, and git is not installed.", param="versions"
        ) from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        raise BadRequest(
            f"{revision!r} is no version number, no skill folder and no git revision of {folder.name}"
            f"{': ' + said[-1] if said else ''}.",
            "Versions are numbers, latest, default, folders and git revisions.",
            param="versions",
        ) from None
    target.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(target, filter="data")


def _git(folder: Path, *arguments: str) -> bytes:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        check=True,
        timeout=GIT_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout


def parse_names(text: str) -> list[str]:
    """`a,b, c` as names; each once, in their order."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
