"""Which files of a container are what its run was for.

Left out: hidden files, caches, and what packages brought (`node_modules`, environments, what pip put into a folder,
the parts of an unpacked office document). The rest is ranked: what the answer mentions, then by depth, then the newest
first. So a report beside a thousand fetched files is cited. What is left out is still in the container's list.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from skilldeck_daemon.containers import WORKDIR
from skilldeck_daemon.store.records import StoredContainerFile
from skilldeck_daemon.tools.citations import mention
from skilldeck_shared.skills.clutter import METADATA_ENDINGS, clutter

# An Open Packaging document (docx, xlsx, pptx) has this at its top; unpacked to be edited it is some 30 files.
OFFICE_MARK = "[Content_Types].xml"
OFFICE_FOLDERS = frozenset({"_rels", "docProps", "customXml", "word", "xl", "ppt"})
ENVIRONMENT_MARK = "pyvenv.cfg"


def hidden(path: str) -> bool:
    """Whether a file, or a folder on the way to it, is one that people do not look for."""
    return any(part.startswith(".") or part == "__pycache__" for part in path.split("/"))


def products(
    made: Sequence[StoredContainerFile], present: Sequence[StoredContainerFile], text: str = ""
) -> list[StoredContainerFile]:
    """Of the files a run made or changed, its products, the best first.

    Args:
        made: container.file records of what is new or changed.
        present: those of all files of the container: what is beside a file says where it came from.
        text: the answer; what it mentions is a product wherever it lies.
    """
    brought = _brought([file["path"] for file in present])
    ranked = []
    for file in made:
        path = file["path"]
        mentioned = mention(text, path) is not None
        whole = mentioned and mention(text, path, name_alone=False) is not None
        if (whole or not _left_out(path, brought)) and not hidden(path):
            ranked.append((not mentioned, path.count("/"), -file["mtime_ns"], path, file))
    return [file for *_, file in sorted(ranked, key=lambda entry: entry[:4])]


def _brought(paths: Collection[str]) -> frozenset[str]:
    """The folders whose whole content was unpacked from packages."""
    found = set()
    for path in paths:
        folder, _, name = path.rpartition("/")
        if name == ENVIRONMENT_MARK:
            found.add(folder)
        elif name == OFFICE_MARK:
            found |= {f"{WORKDIR}/{part}" for part in OFFICE_FOLDERS} if folder == WORKDIR else {folder}
        elif folder.endswith(METADATA_ENDINGS):
            above, _, metadata = folder.rpartition("/")
            # pip install --target: into a folder of its own, or beside the run's own files.
            own = metadata.rpartition(".")[0].partition("-")[0]
            found |= {f"{WORKDIR}/{own}", f"{WORKDIR}/{own.lower()}"} if above == WORKDIR else {above}
    return frozenset(found - {WORKDIR})


def _left_out(path: str, brought: frozenset[str]) -> bool:
    parts = path.split("/")
    if parts[-1] == OFFICE_MARK or any(clutter(part) for part in parts[:-1]):
        return True
    return any("/".join(parts[:depth]) in brought for depth in range(len(parts) - 1, 2, -1))
