"""Every example skill is a valid bundle, does on its sample what it says, and fails clearly on anything else."""

from __future__ import annotations

import ast
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import skills_ref  # type: ignore[import-untyped]
import yaml

EXAMPLES = Path(__file__).parents[2] / "skills-examples"
BUNDLES = sorted(path.parent for path in EXAMPLES.glob("*/SKILL.md"))
COMMAND = re.compile(r"^python3 (scripts/\w+\.py) <file>$", re.M)

GOLDEN = {
    "csv-summary": """\
rows: 12
columns: 7
missing values: 3 (region 1, quantity 1, total 1)
duplicate rows: 1
order_id (id): 11 distinct, 1001 to 1011
date (date): 2025-03-03 to 2025-03-14
customer (text): 6 distinct, most often Brightwater School (3)
region (text): 4 distinct, most often North (4)
quantity (integer): sum 139, mean 12.64, min 2, max 40
unit_price (number): sum 222.3, mean 18.52, min 3.25, max 89.9
total (number): sum 1287.2, mean 117.02, min 37.8, max 204
""",
    "log-triage": """\
lines: 25
period: 2025-03-14 09:00:01 to 2025-03-14 09:40:13
errors: 6
warnings: 4
first error: line 7 at 2025-03-14 09:15:00
worst minute: 2025-03-14 09:15 (4 errors)
error x3: checkout.payment: gateway timeout after 3000 ms
error x2: checkout.cart: could not price item 'SKU-2290'
error x1: checkout.db: connection pool exhausted, 20 of 20 in use
warning x3: checkout.db: slow query took 1840 ms
other kinds of warning: 1
""",
    "json-inspect": """\
format: JSON, valid
root: object with 3 keys
depth: 5
fields: 11
exported_at: string
warehouse: string
shipments: array
shipments[].id: integer
shipments[].carrier: string
shipments[].weight_kg: number
shipments[].fragile: boolean, missing in 1
more fields: 4
""",
    "text-stats": """\
words: 126 (92 distinct)
sentences: 10
paragraphs: 3
lines: 5
characters: 714
words per sentence: 12.6
longest sentence: 26 words
reading time: 33 seconds
top words: harbour 4, barges 2, basin 2, cranes 2, grain 2
""",
    "invoice-check": """\
invoice: 2025-0147
date: 2025-03-21, due 2025-04-20
lines: 4
total: 976.00 GBP
result: 2 problems
line 3 (Fitting, on site): 9.5 x 42.00 is 399.00, not 389.00
total: the parts add up to 966.00, not 976.00
""",
    "markdown-toc": """\
- [Before you leave](#before-you-leave)
  - [Charge the batteries](#charge-the-batteries)
  - [Pack the case](#pack-the-case)
- [On site](#on-site)
  - [Set up the level](#set-up-the-level)
  - [Record & save readings](#record--save-readings)
- [Returning the kit](#returning-the-kit)
- [Questions](#questions)
""",
    "config-lint": """\
format: env
keys: 10
problems: 6
line 7: DATABASE_URL refers to DATABASE_NAME, which is not set here
line 8: SMTP_FROM has spaces around its =
line 9: SMTP_PASSWORD is empty
line 10: SESSION_KEY still holds a placeholder
line 11: BANNER has a space in its value but no quotes
line 12: PORT is set twice, first set on line 3
""",
    "subtitle-check": """\
format: SubRip
cues: 7
time: 0:00:01.200 to 0:00:19.500
reading speed: 15.7 characters a second
problems: 6
cue 3: overlaps cue 2 by 400 ms
cue 4: 44 characters a second, at most 20
cue 4: a line of 53 characters, at most 42
cue 5: a line of 60 characters, at most 42
cue 6: 25 characters a second, at most 20
cue 6: on screen for 0.4 s, expected 0.7 to 7
""",
}

HOSTILE: dict[str, bytes] = {
    "empty.txt": b"",
    "blank.txt": b" \n\t\n\n",
    "only-mark.txt": b"\xef\xbb\xbf",
    "nul.bin": b"\x00\x01\x02\x03" * 64,
    "random.bin": bytes((n * 167 + 31) % 256 for n in range(1, 4096)),
    "image.png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "paper.pdf": b"%PDF-1.7\nnot a text document\n",
    "damaged-utf16.txt": b"\xff\xfea\x00b\x00c",
    "deep.json": b"[" * 200_000,
    "broken.json": b'{"a": [1, 2,, 3]}',
    "markup.xml": b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
    "huge-line.txt": b"a,b;c " * 500_000,
    "huge-number.txt": b"9" * 200_000,
    "control.txt": b"key=\x1b[2J\x1b]0;title\x07 value\n",
    "accents.txt": "Mémo: où, naïve, 5 €\n".encode("cp1252"),
    "prose.txt": b"It rained all day. Nobody minded.\n",
}
REFUSED = {
    "empty.txt",
    "blank.txt",
    "only-mark.txt",
    "nul.bin",
    "random.bin",
    "image.png",
    "paper.pdf",
    "damaged-utf16.txt",
}


def script_of(bundle: Path) -> Path:
    """The script that the bundle's one command names."""
    (command,) = COMMAND.findall((bundle / "SKILL.md").read_text())
    return bundle / str(command)


def sample_of(bundle: Path) -> Path:
    """The bundle's one sample."""
    (sample,) = (bundle / "samples").iterdir()
    return sample


def frontmatter(bundle: Path) -> dict[str, Any]:
    """The frontmatter, as YAML reads it."""
    data = yaml.safe_load((bundle / "SKILL.md").read_text().split("---\n")[1])
    assert isinstance(data, dict)
    return data


def call(
    script: Path | str, *arguments: Path | str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a script as its command does, in a bare environment and without site-packages (-S)."""
    return subprocess.run(
        [sys.executable, "-S", str(script), *map(str, arguments)],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def assert_refused(result: subprocess.CompletedProcess[str]) -> None:
    """Exit status 2, nothing on standard output, one clear line on standard error."""
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert re.fullmatch(r"error: [^\n]{8,300}\n", result.stderr), result.stderr


each_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)


def test_every_example_has_an_expected_output_and_a_line_in_the_readme() -> None:
    assert [bundle.name for bundle in BUNDLES] == sorted(GOLDEN)
    readme = (EXAMPLES / "README.md").read_text()
    for bundle in BUNDLES:
        assert f"| [{bundle.name}]({bundle.name}/SKILL.md) |" in readme
        assert f"`{sample_of(bundle).name}`" in readme


@each_bundle
def test_the_reference_validator_accepts_the_bundle(bundle: Path) -> None:
    assert skills_ref.validate(bundle) == []
    assert skills_ref.read_properties(bundle).name == bundle.name


@each_bundle
def test_the_frontmatter_follows_the_specification(bundle: Path) -> None:
    data = frontmatter(bundle)
    assert data["name"] == bundle.name
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", data["name"])
    assert "Use it" in data["description"]
    assert len(data["description"]) <= 200
    assert data["license"] == "MIT"
    assert all(isinstance(value, str) for value in data["metadata"].values())


@each_bundle
def test_the_instructions_hold_exactly_one_command_with_one_placeholder(bundle: Path) -> None:
    text = (bundle / "SKILL.md").read_text()
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    assert [language for language, _ in fences] == ["bash"]
    assert COMMAND.fullmatch(fences[0][1].strip())
    assert text.count("python3 ") == 1
    assert text.count("<file>") == 1
    assert len(text) < 2000


@each_bundle
def test_scripts_are_executable_standard_library_python_3_9(bundle: Path) -> None:
    script = script_of(bundle)
    assert script.stat().st_mode & stat.S_IXUSR
    assert script.read_text().startswith("#!/usr/bin/env python3\n")
    own = {path.stem for path in (bundle / "scripts").glob("*.py")}
    for path in (bundle / "scripts").glob("*.py"):
        tree = ast.parse(path.read_text(), feature_version=(3, 9))
        assert "from __future__ import annotations" in path.read_text()
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in sys.stdlib_module_names | own


def test_the_shared_reader_is_the_same_in_every_bundle() -> None:
    assert len({(bundle / "scripts" / "textfile.py").read_bytes() for bundle in BUNDLES}) == 1


@each_bundle
def test_the_sample_gives_the_expected_output(bundle: Path, tmp_path: Path) -> None:
    result = call(script_of(bundle), sample_of(bundle), cwd=tmp_path, LC_ALL="C")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == GOLDEN[bundle.name]
    assert len(result.stdout.splitlines()) <= 12


@each_bundle
def test_options_named_in_the_instructions_exist_and_json_is_json(bundle: Path) -> None:
    script = script_of(bundle)
    helped = call(script, "--help")
    assert helped.returncode == 0
    named = re.findall(r"^- `(--[a-z-]+)", (bundle / "SKILL.md").read_text(), re.M)
    assert named
    for option in named:
        assert option in helped.stdout
    if "--json" in named:
        result = call(script, sample_of(bundle), "--json")
        assert result.returncode == 0
        assert isinstance(yaml.safe_load(result.stdout), dict)
    if "--full" in named:
        result = call(script, sample_of(bundle), "--full")
        assert result.returncode == 0
        assert len(result.stdout.splitlines()) >= len(GOLDEN[bundle.name].splitlines()) - 1
    if "--strict" in named:
        assert call(script, sample_of(bundle), "--strict").returncode == 1


@each_bundle
def test_a_read_only_copy_works_from_its_own_folder_and_stays_as_it_was(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "skills" / bundle.name)
    before = sorted(path.relative_to(copy) for path in copy.rglob("*"))
    folders = [copy, *(path for path in copy.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        sample = sample_of(copy).relative_to(copy)
        result = call(script_of(copy).relative_to(copy), sample, cwd=copy)
        assert result.stdout == GOLDEN[bundle.name]
        assert sorted(path.relative_to(copy) for path in copy.rglob("*")) == before
    finally:
        for folder in folders:
            folder.chmod(0o755)


@each_bundle
def test_a_run_writes_nothing_into_a_writable_bundle(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / bundle.name, ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(copy.rglob("*"))
    assert call(script_of(copy), sample_of(copy)).returncode == 0
    assert sorted(copy.rglob("*")) == before


@each_bundle
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_clearly_or_reported_on(bundle: Path, name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(HOSTILE[name])
    result = call(script_of(bundle), file, cwd=tmp_path)
    if name in REFUSED or result.returncode:
        assert_refused(result)
        return
    assert result.stderr == ""
    assert result.stdout.strip()
    assert len(result.stdout.splitlines()) <= 12
    assert max(map(len, result.stdout.splitlines())) <= 200
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout


@each_bundle
def test_a_missing_file_a_directory_and_a_device_are_refused(bundle: Path, tmp_path: Path) -> None:
    for path, message in (("gone.txt", "does not exist"), (".", "is a directory"), ("/dev/zero", "not a regular file")):
        result = call(script_of(bundle), path, cwd=tmp_path)
        assert_refused(result)
        assert message in result.stderr


@each_bundle
def test_without_a_file_the_usage_is_shown(bundle: Path) -> None:
    result = call(script_of(bundle))
    assert result.returncode == 2
    assert result.stderr.startswith("usage: ")
    assert "required: file" in result.stderr.splitlines()[-1]


@each_bundle
def test_an_awkward_file_name_is_no_trouble(bundle: Path, tmp_path: Path) -> None:
    sample = sample_of(bundle)
    file = tmp_path / f"a b'$(x)\n\u00e9{sample.suffix}"
    shutil.copy(sample, file)
    result = call(script_of(bundle), file, LC_ALL="C")
    assert (result.returncode, result.stdout) == (0, GOLDEN[bundle.name])
    file.write_bytes(b"")
    assert_refused(call(script_of(bundle), file, LC_ALL="C"))


@each_bundle
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "crlf"])
def test_encodings_and_line_ends_change_nothing(bundle: Path, encoding: str, tmp_path: Path) -> None:
    sample = sample_of(bundle)
    file = tmp_path / sample.name
    text = sample.read_text(encoding="utf-8")
    file.write_bytes(text.replace("\n", "\r\n").encode() if encoding == "crlf" else text.encode(encoding))
    result = call(script_of(bundle), file)
    assert (result.returncode, result.stdout, result.stderr) == (0, GOLDEN[bundle.name], "")


@each_bundle
def test_the_evals_agree_with_the_command_and_its_output(bundle: Path) -> None:
    cases = yaml.safe_load((bundle / "evals" / "basic.yaml").read_text())
    assert len(cases) == 2
    sample = sample_of(bundle)
    command = f"cd /mnt/skills/{bundle.name} && python3 scripts/{script_of(bundle).name} /mnt/data/{sample.name}"
    for case in cases:
        assert set(case) == {"name", "prompt", "files", "expect"}
        assert case["files"] == [f"samples/{sample.name}"]
        assert sample.name in case["prompt"]
        expect = case["expect"]
        assert set(expect) <= {"commands", "exit_codes", "files", "answer"}
        assert expect["exit_codes"] == [0]
        for pattern in expect["commands"]:
            assert re.search(pattern, command)
        for pattern in expect["answer"]:
            assert re.search(pattern, GOLDEN[bundle.name])


@each_bundle
def test_a_closed_pipe_leaves_no_traceback(bundle: Path) -> None:
    line = f"{sys.executable} {script_of(bundle)} {sample_of(bundle)} | true"
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in result.stderr
