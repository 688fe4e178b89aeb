"""What stays behind when a folder that somebody works in is uploaded, beside what Git itself says of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from skilldeck_shared.skills.bundle import scan

PATHS = [
    "SKILL.md", "a.log", "keep.log", "sub/b.log", "build/x", "sub/build/y", "docs/build", "docs/a/deep/z.md",
    "docs/z.md", "top.txt", "sub/top.txt", "a1.dat", "ab.dat", "#hash", "!bang", "space ", "x[1].md",
    "deep/ignored/by/nested.csv", "deep/kept.csv", "foo/bar/baz.py", "foo/other.py", "star/a/b/c/end.txt",
]  # fmt: skip
RULES = """# a comment
*.log
!keep.log
build/
/top.txt
a[0-9].dat
\\#hash
\\!bang
docs/**/z.md
foo/bar
x\\[1\\].md
star/**/end.txt
[z-a]
"""


def write(root: Path, paths: list[str]) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


def taken(root: Path) -> set[str]:
    return {entry.path for entry in scan(root, ignoring=True).entries}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_patterns_mean_what_they_mean_to_git(tmp_path: Path) -> None:
    write(tmp_path, PATHS)
    (tmp_path / ".gitignore").write_text(RULES)
    (tmp_path / "deep/.gitignore").write_text("*.csv\n!kept.csv\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-per-directory=.gitignore"]
    listed = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert taken(tmp_path) == set(listed.strip("\0").split("\0"))
    assert len(taken(tmp_path)) < len(PATHS)


def test_packages_caches_and_secrets_stay_behind_unless_they_are_named(tmp_path: Path) -> None:
    kept = ["SKILL.md", "scripts/run.py", ".env.example", "vendor/site-packages/lib.py", "environment.yml"]
    left = [
        ".venv/pyvenv.cfg", "venv/lib/x.py", "node_modules/a/index.js", "scripts/node_modules/b.js", ".git/HEAD",
        "scripts/__pycache__/run.cpython-311.pyc", ".pytest_cache/x", ".cache/x", ".npm/x", ".env",
        "scripts/.env.local",
    ]  # fmt: skip
    write(tmp_path, kept + left)
    assert taken(tmp_path) == set(kept)
    assert scan(tmp_path, ignoring=True).secrets == (".env", "scripts/.env.local")
    # As it lies, for what is mounted and for what was fetched.
    assert {"node_modules/a/index.js", ".env"} <= {entry.path for entry in scan(tmp_path).entries}
    (tmp_path / ".gitignore").write_text(".env\n")
    (tmp_path / ".skillignore").write_text("!.env\n!/node_modules\n/environment.yml\n")
    more = {".env", "scripts/.env.local", "node_modules/a/index.js", ".gitignore", ".skillignore"}
    assert taken(tmp_path) == (set(kept) - {"environment.yml"}) | more - {"scripts/.env.local"}
    assert scan(tmp_path, ignoring=True).secrets == ("scripts/.env.local",)
