"""Skills and versions as the store keeps them and as the wire shows them.

Beyond the published fields, both objects carry `source`, `watched`, `digest`, `warnings` and `environment`; a Skill
shows those of its latest version, since that is the one its author works on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skilldeck_daemon.libraries.records import EnvironmentState, SkillObject, VersionObject
from skilldeck_daemon.libraries.skill_environments import SkillEnvironments
from skilldeck_daemon.skills.needs import Needs, read_needs
from skilldeck_daemon.skills.reader import Bundle
from skilldeck_daemon.store import Store
from skilldeck_daemon.store.records import Findings, NewVersion, SkillRow, VersionRow
from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.skills.base_packages import bring
from skilldeck_shared.skills.bundle import Entry
from skilldeck_shared.skills.node_imports import node_packages, node_warnings
from skilldeck_shared.skills.python_imports import third_party_places, warnings_of

log = logging.getLogger(__name__)

LATE_BYTES = 1024 * 1024
"""A larger file says nothing of what a skill needs."""


def new_version(bundle: Bundle, origin: str, source: str, watched: bool) -> NewVersion:
    """The row of a version. Blocks: it reads what its files import and need."""
    placed = [(file.entry.path, file.staged) for file in bundle.files]
    return {
        "name": bundle.manifest.name,
        "description": bundle.manifest.description,
        "digest": bundle.digest,
        "origin": origin,
        "source": source,
        "watched": watched,
        "files": [
            {"path": e.path, "bytes": e.size, "sha256": e.sha256, "executable": e.executable}
            for e in (file.entry for file in bundle.files)
        ],
        "doc": {
            "manifest_path": bundle.manifest_path,
            "warnings": [str(problem) for problem in bundle.manifest.warnings],
            **read(placed),
        },
    }


def read(placed: Sequence[tuple[str, Path]]) -> Findings:
    """What a version's `doc` says of what its files (path in it, place on disk) import and need. Blocks."""
    places, node = third_party_places(placed), node_packages(placed)
    imports = {module: [path for path, _ in found] for module, found in places.items()}
    return {"imports": imports, "node": node, "needs": read_needs(placed, places, node).kept()}


async def read_late(store: Store, row: VersionRow) -> VersionRow:
    """The row of a version that was stored before its files were read for that, with what they say, now kept."""
    small = [file for file in row["files"] if file["bytes"] <= LATE_BYTES]
    try:
        placed = [(file["path"], await store.blobs.fetch(file["sha256"])) for file in small]
        said = await asyncio.to_thread(read, placed)
    except (OSError, SkilldeckError) as error:  # a content is lost: fsck reports it
        log.warning(
            "version %s of skill %s cannot be read for what it needs: %s", row["version"], row["skill_id"], error
        )
        said = {"needs": Needs().kept()}
    row = {**row, "doc": {**row["doc"], **said}}
    await store.skills.describe(row)
    return row


def entries(row: VersionRow) -> list[Entry]:
    return [Entry(f["path"], f["bytes"], f["sha256"], f["executable"]) for f in row["files"]]


@dataclass(frozen=True)
class Sandbox:
    """What skills find in containers.

    Args:
        importable: the modules of every container; None where that is not known.
        environments: those of skills; None where there are none.
    """

    importable: frozenset[str] | None = None
    environments: SkillEnvironments | None = None

    def warnings(self, row: VersionRow) -> list[str]:
        """What SKILL.md was found to have, and what is lacking by now. Versions of before know of no imports."""
        doc, needs = row["doc"], needs_of(row)
        said = list(doc["warnings"])
        imports = doc.get("imports", {})
        if self.environments is not None:
            said += self.environments.warnings(needs)
            brought = self.environments.importable(needs)
            imports = {module: paths for module, paths in imports.items() if not brought(module)}
        if self.importable is not None:
            said += warnings_of(imports, self.importable, _cure)
            if self.environments is not None:
                said += node_warnings(doc.get("node", {}), self.environments.requirable(needs))
        return said

    def environment(self, row: VersionRow) -> EnvironmentState | None:
        return self.environments.state(needs_of(row)) if self.environments is not None else None


def _cure(package: str) -> str:
    return f"add it to requirements.txt or {bring(package)}"


def needs_of(row: NewVersion | VersionRow) -> Needs:
    return Needs.of(row["doc"].get("needs"))


def skill_object(row: SkillRow, sandbox: Sandbox) -> SkillObject:
    """A Skill."""
    default, latest = row["default"], row["latest"]
    return {
        "id": row["id"],
        "object": "skill",
        "created_at": row["created_at"],
        "name": default["name"],
        "description": default["description"],
        "default_version": str(row["default_version"]),
        "latest_version": str(row["latest_version"]),
        "source": latest["source"],
        "watched": latest["watched"],
        "digest": latest["digest"],
        "warnings": sandbox.warnings(latest),
        "environment": sandbox.environment(latest),
    }


def version_object(row: VersionRow, sandbox: Sandbox) -> VersionObject:
    return {
        "id": row["id"],
        "object": "skill.version",
        "skill_id": row["skill_id"],
        "version": str(row["version"]),
        "created_at": row["created_at"],
        "name": row["name"],
        "description": row["description"],
        "source": row["source"],
        "watched": row["watched"],
        "digest": row["digest"],
        "warnings": sandbox.warnings(row),
        "environment": sandbox.environment(row),
    }
