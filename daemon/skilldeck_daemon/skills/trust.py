"""The projects whose own skills may be offered: a cloned repository must not hand commands to the model by itself.

Kept as one JSON file, written whole (aside, then renamed) before a change counts. A file that cannot be read trusts
nothing. Trust is of a folder's real path, for that folder only.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from pathlib import Path

from skilldeck_shared import private
from skilldeck_shared.errors import BadRequest, NotFound
from skilldeck_shared.json_types import JsonObject

log = logging.getLogger(__name__)

Doc = JsonObject


class Trust:
    """The trusted projects in the file `path`. Every call blocks on the disk for a moment."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def list(self) -> list[Doc]:
        """{"path", "trusted_at" (unix seconds)}, sorted by path."""
        found = self._read()
        return [{"path": path, "trusted_at": found[path]} for path in sorted(found)]

    def trusts(self, project: Path) -> bool:
        return str(project.resolve()) in self._read()

    def add(self, project: str) -> Doc:
        """Trust an existing folder. Raises BadRequest."""
        path = _absolute(project)
        if not path.is_dir():
            raise BadRequest(f"{project!r} is not a folder.", "Give the project's folder.", param="project")
        found = self._read()
        found.setdefault(str(path.resolve()), int(time.time()))
        self._write(found)
        return {"path": str(path.resolve()), "trusted": True}

    def remove(self, project: str) -> Doc:
        """No longer trust it; it may be gone from disk. Raises NotFound."""
        path = str(_absolute(project).resolve())
        found = self._read()
        if found.pop(path, None) is None:
            raise NotFound(
                f"The project {path!r} is not trusted.", "List those that are: skilldeck trust", param="project"
            )
        self._write(found)
        return {"path": path, "trusted": False}

    def _read(self) -> dict[str, int]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(path): int(at) for path, at in found["projects"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s cannot be read, so no project is trusted: %s", self._path, error)
            return {}

    def _write(self, found: dict[str, int]) -> None:
        partial = self._path.with_name(f".{self._path.name}.{secrets.token_hex(6)}")
        try:
            private.file(partial)
            with partial.open("w", encoding="utf-8") as file:
                json.dump({"projects": found}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
        finally:
            partial.unlink(missing_ok=True)


def _absolute(project: str) -> Path:
    path = Path(project)
    if not project or "\0" in project or not path.is_absolute():
        raise BadRequest("A project is named by its absolute path.", param="project")
    return path
