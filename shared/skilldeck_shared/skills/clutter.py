"""Folders that programs fill and nobody writes: packages of an index, environments, caches, version control.

They are no part of a skill and no product of a run. Known by name, wherever they lie.
"""

from __future__ import annotations

VERSION_CONTROL = frozenset({".git", ".hg", ".svn", ".jj"})
PACKAGES = frozenset(
    {"node_modules", "bower_components", "site-packages", "dist-packages", ".venv", "venv", ".tox", ".nox"}
)
CACHES = frozenset(
    {"__pycache__", "__MACOSX", ".cache", ".npm", ".ipynb_checkpoints", ".eggs"}
    | {".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".parcel-cache", ".turbo"}
)
FOLDERS = VERSION_CONTROL | PACKAGES | CACHES
# What a package's metadata lies in, beside the package.
METADATA_ENDINGS = (".dist-info", ".egg-info")


def clutter(folder: str) -> bool:
    """Whether a folder of this name holds what programs fetched or made for themselves."""
    return folder in FOLDERS or folder.endswith(METADATA_ENDINGS)
