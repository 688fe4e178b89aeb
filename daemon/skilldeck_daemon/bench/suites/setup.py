"""What the set-up takes on the disk: the packages that `skilldeck[daemon]` installs, whatever else lies beside them.

Files are counted in whole blocks, as the disk keeps them; compiled Python, which comes with use, is not.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from skilldeck_daemon.bench.measure import Measure

SUITE = "Set-up"
NEVER_LOADED = {"magika", "onnxruntime", "flatbuffers"}
"""What `.ci/setup` removes again."""
BLOCK = 4096
MIB = 2**20


async def measure(model: str, rounds: int) -> list[Measure]:
    """MiB of all packages, the largest in the note."""
    sizes = {name: size / MIB for name, size in installed("skilldeck", {"daemon"}).items()}
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:10]
    note = f"{len(sizes)} packages; " + ", ".join(f"{name} {size:.0f}" for name, size in largest)
    return [Measure(SUITE, "packages on the disk", "MiB", (sum(sizes.values()),), goal="≤ 500 MB", note=note)]


def installed(name: str, extras: set[str]) -> dict[str, int]:
    """Bytes of a distribution and of all it requires here, by name."""
    from packaging.requirements import Requirement

    found: dict[str, int] = {}
    left: list[tuple[str, frozenset[str]]] = [(name, frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while left:
        one = left.pop()
        if one in seen:
            continue
        seen.add(one)
        key = re.sub(r"[-_.]+", "-", one[0]).lower()
        try:
            distribution = metadata.distribution(one[0])
        except metadata.PackageNotFoundError:
            continue
        if key not in found and key not in NEVER_LOADED:
            found[key] = sum(_blocks(Path(str(file.locate()))) for file in distribution.files or () if _counts(file))
        for line in distribution.requires or ():
            required = Requirement(line)
            wanted = required.marker is None or any(
                required.marker.evaluate({"extra": extra}) for extra in (one[1] or {""})
            )
            if wanted:
                left.append((required.name, frozenset(required.extras)))
    return found


def _counts(file: metadata.PackagePath) -> bool:
    return file.suffix != ".pyc"


def _blocks(path: Path) -> int:
    try:
        return (path.stat().st_size + BLOCK - 1) // BLOCK * BLOCK
    except OSError:
        return 0
