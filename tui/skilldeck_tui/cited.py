"""The files that a response says it made: citations of a container's files in its messages. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

Object = dict[str, Any]
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True)
class Made:
    """`path` is where it lies in the container, or only its name where nothing says more."""

    container_id: str
    file_id: str
    path: str

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name or self.path

    @property
    def folder(self) -> str:
        return str(PurePosixPath(self.path).parent)

    @property
    def place(self) -> tuple[str, str]:
        return self.container_id, self.file_id

    @property
    def is_picture(self) -> bool:
        return PurePosixPath(self.path).suffix.lower() in PICTURES


def cited(response: Object) -> list[Object]:
    """The citations of container files in a response, each file once."""
    found: dict[str, Object] = {}
    for item in response.get("output") or []:
        for part in (item.get("content") or []) if item.get("type") == "message" else []:
            for note in part.get("annotations") or []:
                if note.get("type") == "container_file_citation":
                    found.setdefault(str(note["file_id"]), note)
    return list(found.values())


def made_by(response: Object) -> list[Made]:
    return [
        Made(str(note["container_id"]), str(note["file_id"]), str(note.get("filename") or note["file_id"]))
        for note in cited(response)
    ]
