"""Skills and versions as the store keeps them and as the wire shows them.

Beyond the published fields, both objects carry `source`, `watched`, `digest` and `warnings`; a Skill shows those of its
latest version, since that is the one its author works on.
"""

from __future__ import annotations

from typing import Any

from skilldeck_daemon.skills.reader import Bundle
from skilldeck_shared.base_packages import bring
from skilldeck_shared.bundle import Entry
from skilldeck_shared.python_imports import third_party, warnings_of


def new_version(bundle: Bundle, origin: str, source: str, watched: bool) -> dict[str, Any]:
    """The row of a version. Blocks: it reads the Python files for what they import."""
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
            "imports": third_party([(file.entry.path, file.staged) for file in bundle.files]),
        },
    }


def entries(row: dict[str, Any]) -> list[Entry]:
    return [Entry(f["path"], f["bytes"], f["sha256"], f["executable"]) for f in row["files"]]


def _warnings(row: dict[str, Any], importable: frozenset[str] | None) -> list[str]:
    """What SKILL.md was found to have, and what the sandbox lacks by now. Versions of before know of no imports."""
    doc = row["doc"]
    lacking = [] if importable is None else warnings_of(doc.get("imports", {}), importable, bring)
    return [*doc["warnings"], *lacking]


def skill_object(row: dict[str, Any], importable: frozenset[str] | None) -> dict[str, Any]:
    """A Skill. `importable`: the modules that containers have, when they are known."""
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
        "warnings": _warnings(latest, importable),
    }


def version_object(row: dict[str, Any], importable: frozenset[str] | None) -> dict[str, Any]:
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
        "warnings": _warnings(row, importable),
    }
