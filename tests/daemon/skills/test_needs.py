"""What a skill says it needs: read from its files, names of the index alone, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from skilldeck_daemon.containers.packages.wants import Versions, Wanted, in_range, reason
from skilldeck_daemon.libraries.skill_environments import commands, placed
from skilldeck_daemon.skills.needs import Needs, read_folder, read_needs

FILES = {
    "requirements.txt": "# of the report\npandas>=2,<3  # tables\nopenpyxl\n\n-r scripts/more.txt\n",
    "scripts/more.txt": "requests[socks] \\\n    >=2.31\nOpenPyXL\n",
    "scripts/requirements.txt": "lxml; python_version >= '3.9'\n",
    "scripts/chart.py": '# /// script\n# version = "1"\n# dependencies = [\n#   "matplotlib",\n# ]\n# ///\n',
    "pyproject.toml": '[project]\nname = "x"\ndependencies = ["rich>=13"]\n',
    "package.json": '{\n  "name": "x",\n  "devDependencies": {"jest": "^29"},\n  "dependencies": {\n'
    '    "docx": "^9.5.0",\n    "@scope/part": "1.x"\n  }\n}\n',
    "assets/app/package.json": '{"dependencies": {"react": "^19"}}',
    "tests/requirements.txt": "pytest\n",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def test_every_way_to_say_it_is_read_with_its_place(tmp_path: Path) -> None:
    needs = read_folder(write(tmp_path, FILES))
    assert [(need.text, need.place) for need in needs.python] == [
        ("rich>=13", "pyproject.toml:3"),
        ("pandas<3,>=2", "requirements.txt:2"),
        ("openpyxl", "requirements.txt:3"),
        ("requests[socks]>=2.31", "scripts/more.txt:1"),
        ("OpenPyXL", "scripts/more.txt:3"),
        ("matplotlib", "scripts/chart.py:4"),
        ('lxml; python_version >= "3.9"', "scripts/requirements.txt:1"),
    ]
    assert [(need.text, need.place) for need in needs.node] == [
        ("docx@^9.5.0", "package.json:5"),
        ("@scope/part@1.x", "package.json:6"),
    ]
    assert needs.refused == ()
    assert Needs.of(needs.kept()) == needs
    assert not Needs.of(None)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("requirements.txt", "--index-url https://elsewhere.example/simple\n"),
        ("requirements.txt", "-i https://elsewhere.example/simple\n"),
        ("requirements.txt", "--extra-index-url=https://elsewhere.example/simple\n"),
        ("requirements.txt", "--find-links /etc\n"),
        ("requirements.txt", "-e .\n"),
        ("requirements.txt", "-c constraints.txt\n"),
        ("requirements.txt", "-r ../../etc/passwd\n"),
        ("requirements.txt", "-r https://elsewhere.example/requirements.txt\n"),
        ("requirements.txt", "./evil\n"),
        ("requirements.txt", "/root/evil-1.0.tar.gz\n"),
        ("requirements.txt", "file:///root/evil\n"),
        ("requirements.txt", "evil @ https://elsewhere.example/evil.whl\n"),
        ("requirements.txt", "git+https://elsewhere.example/evil\n"),
        ("requirements.txt", "pandas --config-settings x=y\n"),
        ("requirements.txt", "pandas; echo x > /tmp/y\n"),
        ("requirements.txt", "$(touch /tmp/x)\n"),
        ("pyproject.toml", '[project]\ndependencies = ["evil @ file:///root/evil"]\n'),
        ("pyproject.toml", "[project\n"),
        ("x.py", '# /// script\n# dependencies = ["../evil"]\n# ///\n'),
        ("package.json", '{"dependencies": {"evil": "file:../evil"}}'),
        ("package.json", '{"dependencies": {"evil": "git+ssh://elsewhere.example/evil"}}'),
        ("package.json", '{"dependencies": {"evil": "https://elsewhere.example/evil.tgz"}}'),
        ("package.json", '{"dependencies": {"../evil": "1"}}'),
        ("package.json", '{"dependencies": {"evil": "elsewhere/evil"}}'),
        ("package.json", '{"dependencies": {"evil": "npm:other@1"}}'),
        ("package.json", '{"dependencies": {"evil": {"x": 1}}}'),
        ("package.json", "[1]"),
    ],
)
def test_what_leads_elsewhere_is_left_out_and_named(tmp_path: Path, path: str, text: str) -> None:
    needs = read_folder(write(tmp_path, {path: text}))
    assert not needs
    assert len(needs.refused) == 1
    line = 2 if "dependencies = " in text else 1
    assert needs.refused[0].startswith(f"{path}:{line}: ")


@pytest.mark.parametrize(
    ("path", "text", "line", "name"),
    [
        ("x.py", '# /// script\n# dependencies = ["evil"]\n# [[tool.uv.index]]\n# url = "x"\n# ///\n', 3, "index"),
        ("x.py", '# /// script\n# dependencies = ["evil"]\n# [tool.uv]\n# index-url = "https://x.example"\n# ///\n', 4,
         "index-url"),
        ("x.py", '# /// script\n# dependencies = ["evil"]\n# [tool.uv.sources]\n# evil = {path = "/root"}\n# ///\n', 3,
         "sources"),
        ("pyproject.toml", '[project]\ndependencies = ["evil"]\n[tool.uv]\nfind-links = ["/root"]\n', 4, "find-links"),
        ("pyproject.toml", '[project]\ndependencies = ["evil"]\n[tool.uv.sources]\nevil = {git = "x"}\n', 3, "sources"),
    ],
)  # fmt: skip
def test_what_uv_would_take_from_elsewhere_comes_from_the_index(
    tmp_path: Path, path: str, text: str, line: int, name: str
) -> None:
    needs = read_folder(write(tmp_path, {path: text}))
    assert [need.text for need in needs.python] == ["evil"]
    assert [said.partition(" is left out")[0] for said in needs.refused] == [f"{path}:{line}: 'tool.uv.{name}'"]


def test_hashes_stay_with_their_requirement(tmp_path: Path) -> None:
    sha = "sha256:" + "a" * 64
    needs = read_folder(write(tmp_path, {"requirements.txt": f"x==1 \\\n  --hash={sha} \\\n  --hash={sha}\ny\n"}))
    assert [need.text for need in needs.python] == [f"x==1 --hash={sha} --hash={sha}", "y"]
    assert needs.refused == ()


def test_files_that_are_no_text_or_too_many_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "a.py").write_text("# /// script\n# never closed\n")
    assert read_needs([("requirements.txt", tmp_path / "requirements.txt"), ("a.py", tmp_path / "a.py")]) == Needs()
    (tmp_path / "requirements.txt").write_text("\n".join(f"package{number}" for number in range(300)))
    many = read_needs([("requirements.txt", tmp_path / "requirements.txt")])
    assert not many
    assert "300 packages are required; at most 200" in many.refused[0]
    (tmp_path / "requirements.txt").write_text("x\n-r requirements.txt\n")  # itself
    assert len(read_folder(tmp_path).python) == 1


def test_what_a_base_has_needs_no_environment() -> None:
    base = Versions({"pandas": "2.2.3", "openpyxl": "3.1.5"}, {"docx": "9.5.1"})
    for python, left in (
        (("pandas>=2", "OpenPyXL"), ()),
        (("pandas>=2; python_version < '3'", "tzdata; python_version < '3'"), ()),
        (("pandas>=3", "openpyxl"), ("pandas>=3", "openpyxl")),
        (("pandas[excel]",), ("pandas[excel]",)),
        (("pandas", "rich"), ("pandas", "rich")),
    ):
        assert base.without(Wanted(python, ("docx@^9",))) == Wanted(left)
    assert base.without(Wanted(("pandas",), ("docx@^8", "marked@1"))) == Wanted((), ("docx@^8", "marked@1"))


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ("9.5.1", "^9.5.0", True), ("9.5.1", "^9", True), ("10.0.0", "^9", False), ("9.4.0", "^9.5.0", False),
        ("0.2.5", "^0.2.3", True), ("0.3.0", "^0.2.3", False), ("0.0.4", "^0.0.3", False), ("1.2.9", "~1.2.3", True),
        ("1.3.0", "~1.2.3", False), ("1.2.3", "1.2.3", True), ("1.2.4", "1.2.3", False), ("1.2.4", "1.2", True),
        ("2.0.0", ">=1.5", True), ("1.0.0", "*", True), ("1.0.0", "latest", True), ("1.0.0", "1.x || 2.x", False),
        ("1.0.0-beta", "^1.0.0", False), ("", "^1", False),
    ],
)  # fmt: skip
def test_ranges_of_npm(version: str, wanted: str, expected: bool) -> None:
    assert in_range(version, wanted) is expected


def test_a_failure_is_told_with_the_line_that_asked_for_it(tmp_path: Path) -> None:
    needs = read_folder(
        write(
            tmp_path,
            {"requirements.txt": "pandas\nno_such.thing>=2\n", "package.json": '{"dependencies":{"gone":"1"}}'},
        )
    )
    said = reason(
        [
            "Using CPython 3.11.2",
            "  × No solution found when resolving dependencies:",
            "  ╰─▶ Because no-such-thing was not found in the package registry and you require",
            "      no-such-thing>=2, we can conclude that your requirements are unsatisfiable.",
        ]
    )  # fmt: skip
    assert said.startswith("No solution found when resolving dependencies: Because no-such-thing was not found")
    assert placed(said, needs).startswith("requirements.txt:2: No solution found")
    npm = reason(["npm error code E404", "npm error 404 Not Found - GET http://x/gone - Not found"])
    assert placed(npm, needs).startswith("package.json:1: ")
    assert placed("the disk is full", needs) == "requirements.txt: the disk is full"
    asked = commands(Wanted(("pandas>=2",), ("docx@^9",)), ["report"], ["pypi.org"])
    assert asked == [
        "uv pip install 'pandas>=2'",
        "npm install 'docx@^9'  # for report; from pypi.org, apart from this machine",
    ]


def test_what_is_imported_and_installed_by_the_skills_words_is_needed(tmp_path: Path) -> None:
    needs = read_folder(
        write(
            tmp_path,
            {
                "SKILL.md": "Charts.\n\n```bash\nuv pip install 'draw[all]' -q\n"
                'pip install draw>=2 "scikit-learn[all]" beside\n```\n'
                "Or `pip3 install -r other.txt ./evil git+https://x/y told`. Then npm install -g plot-kit @a/b@^1.2\n",
                "scripts/x.py": "import draw, sklearn, json, scipy.stats, config, pandas\n"
                "import told\nimport declared\ntry:\n    import fitz\n"
                "except ImportError:\n    raise SystemExit('run: pip install pymupdf')\n",
                "scripts/y.mjs": "import kit from 'plot-kit'\nimport b from '@a/b'\nimport fs from 'fs'\n",
                "requirements.txt": "declared==1\n",
                "tests/z.py": "import beside\n",
            },
        )
    )
    assert {need.text: need.place for need in needs.python} == {
        "declared==1": "requirements.txt:1",
        "draw>=2": "SKILL.md:5",
        "scikit-learn[all]": "SKILL.md:5",
        "told": "SKILL.md:7",
        "pymupdf": "scripts/x.py:7",
        "scipy": "scripts/x.py:1",  # well known; config may be anybody's, and pandas the base has
    }
    assert {need.text: need.place for need in needs.node} == {"plot-kit@*": "SKILL.md:7", "@a/b@^1.2": "SKILL.md:7"}
    assert needs.refused == ()
