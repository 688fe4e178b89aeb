"""What a skill imports and no container has is a warning of it, until it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.containers.support import needs_bwrap
from skilldeck_daemon.containers import Containers, artifacts
from skilldeck_daemon.containers.packages import base_build
from skilldeck_daemon.containers.packages.bases import Bases
from skilldeck_daemon.containers.sandbox import bwrap
from skilldeck_daemon.libraries.bus import Bus
from skilldeck_daemon.libraries.skills import SkillLibrary
from skilldeck_daemon.skills.mounts import MountCache
from skilldeck_shared.skills.base_packages import bring
from skilldeck_shared.skills.python_imports import third_party_places
from support.bundles import manifest, part, zip_bytes
from support.library import open_store
from support.wheels import offline_index, wheel

FILES = {
    "scripts/report.py": "import json, openpyxl.styles\nfrom helpers import rows\nfrom .near import x\n",
    "scripts/helpers.py": "def rows():\n    from PIL import Image\n    import openpyxl\n",
    "scripts/optional.py": "try:\n    import pandas\nexcept ImportError:\n    pandas = None\n",
    "scripts/needed.py": "import sys\ntry:\n    import yaml\nexcept ImportError:\n    sys.exit('install it')\n",
    "scripts/typed.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy\n",
    "scripts/broken.py": "import requests\nprint 'of long ago'\n",
    "scripts/deep.py": "(" * 5000 + ")" * 5000,
    "scripts/doc.py": '"""Example:\n\nimport torch\n"""\n',
    "tests/test_report.py": "import pytest\n",
    "notes.txt": "import torch\n",
}


def test_imports_are_those_of_programs_that_need_them(tmp_path: Path) -> None:
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    places = third_party_places([(path, tmp_path / path) for path in FILES])
    assert {module: [path for path, _ in found] for module, found in places.items()} == {
        "PIL": ["scripts/helpers.py"],
        "openpyxl": ["scripts/helpers.py", "scripts/report.py"],
        "yaml": ["scripts/needed.py"],
    }


@needs_bwrap
async def test_a_warning_of_the_skill_goes_when_the_base_has_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wheels").mkdir()
    offline_index(monkeypatch, tmp_path / "wheels")
    data = tmp_path / "data"
    uid = bwrap.SANDBOX_UID if os.geteuid() == 0 else os.geteuid()
    containers = Containers(data / "containers", bases=Bases(data / "sandbox"), disk_floor_bytes=1)
    store = await open_store(data)
    try:
        await containers.start()
        mounts = MountCache(data / "mounts", store.blobs.require)
        skills = SkillLibrary(store, Bus(), mounts, containers=containers)
        program = b"import openpyxl_of_tests, docx_of_tests\n"
        files = {"SKILL.md": manifest(name="books"), "scripts/x.py": program, "y.py": program}
        done = await skills.upload([part(tmp_path / "in", zip_bytes(files, top="books"))], by_name=True)
        cure = (
            "(and 1 more) imports {0}: not in this sandbox;"
            " add it to requirements.txt or run skilldeckd sandbox build --with {0}"
        )
        expected = [f"scripts/x.py {cure.format(name)}" for name in ("docx_of_tests", "openpyxl_of_tests")]
        assert done.version["warnings"] == expected
        assert done.skill["warnings"] == expected

        wheel(tmp_path / "wheels", "openpyxl_of_tests")
        root = base_build.place_for(data, uid)
        base_build.build(root, bwrap.find_python(uid).executable, ["openpyxl_of_tests"])
        await containers.packages()  # as every new container and every upload does
        assert (await skills.get(done.skill["id"]))["warnings"] == expected[:1]
        assert (await skills.version(done.skill["id"], 1))["warnings"] == expected[:1]
    finally:
        await containers.close()
        await store.close()
        artifacts.delete_tree(base_build.place_for(data, uid))


def test_the_cure_is_the_plain_build_where_that_brings_the_package() -> None:
    assert bring("python-docx") == "run skilldeckd sandbox build"
    assert bring("markitdown") == "run skilldeckd sandbox build"
    assert bring("torch") == "run skilldeckd sandbox build --with torch"
