"""SKILL.md: what is accepted, where errors point, agreement with the format's reference validator."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from skills_ref.parser import parse_frontmatter, read_properties
from skills_ref.validator import validate

from skilldeck_shared.skills.manifest import ManifestError, decode_manifest, parse_manifest

FULL = """---
name: pdf-tools
description: >
  Reads PDF files.
  Use it for invoices.
license: MIT
compatibility: "Python 3.11"
allowed-tools: Bash(python:*) Read
metadata:
  author: someone
  version: 1.0
---

# PDF tools

Text with --- in it.
"""


def write(tmp_path: Path, text: str, name: str = "pdf-tools") -> Path:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    (folder / "SKILL.md").write_text(text, encoding="utf-8")
    return folder


def test_all_fields_are_read_as_the_reference_reads_them(tmp_path: Path) -> None:
    folder = write(tmp_path, FULL)
    assert validate(folder) == []
    reference = read_properties(folder)
    manifest = parse_manifest(FULL, "pdf-tools")
    assert (manifest.name, manifest.description) == (reference.name, reference.description)
    assert (manifest.license, manifest.compatibility) == (reference.license, reference.compatibility)
    assert manifest.allowed_tools == reference.allowed_tools
    assert manifest.metadata == reference.metadata == {"author": "someone", "version": "1.0"}
    assert manifest.body == parse_frontmatter(FULL)[1]
    assert manifest.warnings == ()


@pytest.mark.parametrize(
    "change", [lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n"), lambda t: t.rstrip("\n")]
)
def test_bom_and_line_endings_make_no_difference(change) -> None:  # type: ignore[no-untyped-def]
    assert parse_manifest(change(FULL)) == parse_manifest(FULL)


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("", 1, 1, "must start"),
        ("# Title\n", 1, 1, "must start"),
        ("\n---\nname: a\n---\n", 1, 1, "must start"),
        ("---\nname: a\n", 1, 1, "not closed"),
        ("---\n---\n", 2, 1, "empty"),
        ("---\njust text\n---\n", 2, 1, "mapping"),
        ("---\n- a\n---\n", 2, 1, "mapping"),
        ("---\nname: a\ndescription: use: it\n---\n", 3, 17, "not YAML"),
        ("---\nname: a\n\tdescription: b\n---\n", 3, 1, "not YAML"),
        ("---\nname: a\ndescription: 'open\n---\n", 3, 14, "not closed"),
        ("---\nname: a\ndescription: @b\n---\n", 3, 14, "not YAML"),
        ("---\nname: a\ndescription: b\x07\n---\n", 3, 15, "U+0007"),
        ("---\nname: a\n---\n", 1, 1, "'description' is missing"),
        ("---\ndescription: b\n---\n", 1, 1, "'name' is missing"),
        ("---\nname:\ndescription: b\n---\n", 2, 6, "name is empty"),
        ("---\nname: a\ndescription: '  '\n---\n", 3, 14, "description is empty"),
        ("---\nname: [a]\ndescription: b\n---\n", 2, 7, "not a list"),
        ("---\nname: a\ndescription:\n  x: y\n---\n", 4, 3, "not a mapping"),
        ("---\nname: a\ndescription: b\ncompatibility: [c]\n---\n", 4, 16, "compatibility must be text"),
        ("---\nname: a\nname: b\ndescription: c\n---\n", 3, 1, "given twice"),
        ("---\nname: &n a\ndescription: *n\n---\n", 2, 7, "anchors"),
        ("---\nname: !!python/name:os.system a\ndescription: b\n---\n", 2, 7, "tags"),
        ("---\nname: My-Skill\ndescription: b\n---\n", 2, 7, "lowercase"),
        ("---\nname: my_skill\ndescription: b\n---\n", 2, 7, "lowercase letters, digits and hyphens"),
        ("---\nname: -a\ndescription: b\n---\n", 2, 7, "start or end"),
        ("---\nname: a--b\ndescription: b\n---\n", 2, 7, "two hyphens"),
        (f"---\nname: {'a' * 65}\ndescription: b\n---\n", 2, 7, "65 characters"),
        (f"---\nname: a\ndescription: {'b' * 1025}\n---\n", 3, 14, "1,025 characters"),
        (f"---\nname: a\ndescription: b\ncompatibility: {'c' * 501}\n---\n", 4, 16, "501 characters"),
        ('---\nname: a\ndescription: "b\\ud800"\n---\n', 3, 14, "surrogate"),
        ('---\nname: a\ndescription: "b\\0"\n---\n', 3, 14, "NUL"),
        pytest.param(f"---\nname: {'[' * 5000}\n---\n", 2, 38, "nested too deeply", id="deep"),
        pytest.param(f"---\nx: {'y' * 40000}\n---\n", 2, 1, "32,768", id="long"),
    ],
)
def test_errors_point_into_the_file(text: str, line: int, column: int, said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text)
    error = caught.value
    assert (error.line, error.column) == (line, column), error
    assert said in error.message
    assert f"line {line}, column {column}" in error.message
    assert error.body()["error"]["param"] == "files"
    # With a BOM and CRLF the places stay the same.
    if "\x07" not in text:
        with pytest.raises(ManifestError) as folded:
            parse_manifest("\ufeff" + text.replace("\n", "\r\n"))
        assert (folded.value.line, folded.value.column) == (line, column)


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest("---\nname: My Skill\ncompatibility: [x]\n---\n")
    assert [(p.line, p.message.split()[0]) for p in caught.value.problems] == [
        (1, "the"),
        (2, "name"),
        (2, "name"),
        (3, "compatibility"),
    ]


def test_a_bad_name_comes_with_a_good_one() -> None:
    with pytest.raises(ManifestError, match="my-skill-2"):
        parse_manifest("---\nname: My  Skill_2!\ndescription: b\n---\n")


def test_leniencies_are_warnings_with_places() -> None:
    text = "---\nname: a\ndescription: b\nmodel: x\nallowed-tools: [Bash, Read]\nmetadata:\n  deep: [1, {a: b}]\n---\n"
    manifest = parse_manifest(text, "folder")
    assert manifest.allowed_tools == "Bash Read"
    assert manifest.metadata == {"deep": '["1", {"a": "b"}]'}
    assert [(w.line, w.column) for w in manifest.warnings] == [(2, 7), (4, 1), (5, 16), (7, 9)]


def test_bytes_that_are_not_utf8_are_placed() -> None:
    with pytest.raises(ManifestError) as caught:
        decode_manifest(b"---\nname: caf\xe9\n---\n")
    assert (caught.value.line, caught.value.column) == (2, 10)


NAMES = st.from_regex(r"[a-z0-9]{1,6}(-[a-z0-9]{1,6}){0,3}", fullmatch=True) | st.text(
    st.characters(categories=("Ll", "Nd", "Lu", "Pd", "Lo")), min_size=1, max_size=70
)
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co")), min_size=1, max_size=1100)


@settings(max_examples=150, deadline=None)
@given(name=NAMES, description=TEXTS, compatibility=st.none() | TEXTS, license=st.none() | TEXTS)
def test_what_the_reference_accepts_is_accepted_alike(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    description: str,
    compatibility: str | None,
    license: str | None,
) -> None:
    fields = {"name": name, "description": description}
    if compatibility is not None:
        fields["compatibility"] = compatibility
    if license is not None:
        fields["license"] = license
    text = f"---\n{yaml.safe_dump(fields, allow_unicode=True, width=10_000)}---\nbody\n"
    folder = tmp_path_factory.mktemp("skill") / unicodedata.normalize("NFKC", name.strip()).replace("/", "_")
    if len(folder.name.encode()) > 200:
        return
    folder.mkdir(exist_ok=True)
    (folder / "SKILL.md").write_text(text, encoding="utf-8")
    # The reference cuts at the first "---" wherever it stands; such texts are no fair comparison.
    valid = "---" not in text[3:].split("\n---\n")[0] and validate(folder) == []
    try:
        manifest = parse_manifest(text, folder.name)
    except ManifestError:
        assert not valid
        return
    if valid:
        reference = read_properties(folder)
        assert manifest.name == unicodedata.normalize("NFKC", reference.name)
        assert manifest.description == reference.description
        assert (manifest.compatibility or None) == (reference.compatibility or None)
        assert (manifest.license or None) == (reference.license or None)


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=200)
    | st.lists(
        st.sampled_from(
            ["---", "name: a", "description: b", "- x", "  y: [", "&a", "'", '"', "{}", "\t", "?", "|", ": "]
        )
    )
    .map("\n".join)
    .map(lambda text: f"---\n{text}\n---\n")
)
def test_any_text_is_a_manifest_or_a_placed_error(text: str) -> None:
    problem = None
    try:
        manifest = parse_manifest(text)
    except ManifestError as error:
        problem = error
    if problem is None:
        assert manifest.name
        assert manifest.description
    else:
        assert 1 <= problem.line <= text.count("\n") + 2
        assert problem.column >= 1


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("Use when: x", "Use when: x"),
        ("[beta] x", "[beta] x"),
        ('"Quoted" beginnings: all', '"Quoted" beginnings: all'),
        ("'Single' and \"double\"", "'Single' and \"double\""),
        ("\tafter a tab", "after a tab"),
        ("@mention #tag", "@mention #tag"),
        ("`code` first", "`code` first"),
        ("*starred* text", "*starred* text"),
        ("&anchored text", "&anchored text"),
        ("!tagged text", "!tagged text"),
        ("over: two\n  lines: here", "over: two lines: here"),
    ],
)
def test_what_is_no_yaml_is_read_as_text_with_a_warning_where_other_clients_do(value: str, meant: str) -> None:
    text = f"---\nname: sums\ndescription: {value}\nmetadata:\n  by: a: b\n\tversion: '1'\n---\nBody"
    with pytest.raises(ManifestError):
        parse_manifest(text, "sums")
    found = parse_manifest(text, "sums", lenient=True)
    assert (found.description, found.body) == (meant, "Body")
    assert found.metadata == {"by": "a: b", "version": "1"}
    last = 4 + value.count("\n")
    assert [(problem.line, problem.column) for problem in found.warnings] == [(3, 1), (last, 1)]
    assert all(problem.hint for problem in found.warnings)


@pytest.mark.parametrize("value", ['"open', "[x", "{a: ", "'tis: open", '"over\n  two lines'])
def test_a_quote_or_bracket_that_is_left_open_is_a_mistake_for_everybody(value: str) -> None:
    text = f"---\nname: sums\ndescription: {value}\n---\n"
    problems = []
    for lenient in (False, True):
        with pytest.raises(ManifestError) as caught:
            parse_manifest(text, "sums", lenient=lenient)
        problems.append(caught.value.problems)
    assert problems[0] == problems[1]


def test_what_is_readable_keeps_its_meaning_beside_what_is_mended() -> None:
    text = (
        "---\n# a comment\nname: sums\ndescription: Use when: x\nlicense: >\n  folded: yes\n  text\n"
        "allowed-tools: [Read, Bash]\n---\n"
    )
    found = parse_manifest(text, "sums", lenient=True)
    assert (found.license, found.allowed_tools) == ("folded: yes text\n", "Read Bash")


def test_a_long_description_is_kept_whole_with_a_warning_where_length_does_not_count() -> None:
    text = f"---\nname: sums\ndescription: {'x' * 1068}\ncompatibility: {'y' * 501}\n---\n"
    with pytest.raises(ManifestError, match="1,068 characters; at most 1,024"):
        parse_manifest(text, "sums")
    for found in (parse_manifest(text, "sums", lenient=True), parse_manifest(text, "sums", any_length=True)):
        assert (len(found.description), len(found.compatibility or "")) == (1068, 501)
        assert [problem.line for problem in found.warnings] == [3, 4]
    with pytest.raises(ManifestError):
        parse_manifest("---\nname: sums\ndescription: Use when: x\n---\n", "sums", any_length=True)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["name: a", "description: b: c", "\tx", "- x", "  y: [", "&a", "'", '"', "{}", ": "]))
    .map("\n".join)
    .map(lambda text: f"---\n{text}\n---\n")
)
def test_lenient_reading_gives_a_manifest_or_a_placed_error(text: str) -> None:
    problem = None
    try:
        found = parse_manifest(text, "a", lenient=True)
    except ManifestError as error:
        problem = error
    if problem is None:
        assert found.name
        assert found.description
    else:
        assert 1 <= problem.line <= text.count("\n") + 2
