"""Small wheels and source distributions, written by the tests: an index of packages that needs no network."""

from __future__ import annotations

import ensurepip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest


def wheel(folder: Path, name: str, version: str = "1.0", source: str = "", script: str = "") -> Path:
    """A wheel with the module `name`; `script` is a command that prints its version."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": source or f"version = '{version}'\ndef main():\n    print(version)\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if script:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script} = {name}:main\n"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in files.items():
            archive.writestr(inner, text)
        record = "".join(f"{inner},,\n" for inner in (*files, f"{info}/RECORD"))
        archive.writestr(f"{info}/RECORD", record)
    return path


def source_distribution(folder: Path, name: str, setup: str) -> Path:
    """A package whose setup.py is `setup`, as it would be run by whoever builds it."""
    path = folder / f"{name}-1.0.tar.gz"
    files = {"setup.py": setup, "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"}
    with tarfile.open(path, "w:gz") as archive:
        for inner, text in files.items():
            member = tarfile.TarInfo(f"{name}-1.0/{inner}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def offline_index(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Makes `folder` the only index of uv, with pip in it, as Python brings it along. Skips where it does not."""
    bundled = Path(ensurepip.__file__).parent / "_bundled"
    found = [*bundled.glob("pip-*.whl"), *Path("/usr/share/python-wheels").glob("pip-*.whl")]
    if not found:
        pytest.skip("this Python brings no wheel of pip along")
    os.symlink(found[0], folder / found[0].name)
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_COMPILE_BYTECODE", "0")  # pip alone has 490 files
