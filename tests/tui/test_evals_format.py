"""The form of tests: evals.json as it is published, YAML, and each written as the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from skilldeck_tui.cli.main import app
from skilldeck_tui.skill_tests.cases import Case, Check, EvalError, Verdict, overall
from skilldeck_tui.skill_tests.written import convert
from skilldeck_tui.skill_tests.written.expect import COMPLETED
from skilldeck_tui.skill_tests.written.reading import load_cases


@pytest.fixture
def skill(tmp_path: Path) -> Path:
    folder = tmp_path / "counter"
    for name in ("evals/files/b.csv", "samples/a.csv", "evals/check.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x\n")
    (folder / "SKILL.md").write_text("---\nname: counter\ndescription: Counts things.\n---\n")
    return folder


def read(skill: Path, content: Any) -> list[Case]:
    (skill / "evals/evals.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return load_cases(skill)


def kinds(case: Case) -> list[tuple[str, dict[str, Any]]]:
    return [(check.kind, check.spec) for check in case.checks]


def test_the_published_form_is_read(skill: Path) -> None:
    (case,) = read(
        skill,
        {
            "skill_name": "counter",
            "evals": [
                {
                    "id": 1,
                    "prompt": "Count a.csv.",
                    "expected_output": "The number of lines.",
                    "files": ["samples/a.csv", "b.csv"],
                    "expectations": ["The answer says one line", "wc was used"],
                }
            ],
        },
    )
    assert (case.name, case.prompt, case.expected) == ("1: Count a.csv.", "Count a.csv.", "The number of lines.")
    assert [path.name for path in case.files] == ["a.csv", "b.csv"]
    assert [check.text for check in case.checks] == ["The answer says one line", "wc was used"]
    assert all(check.judged for check in case.checks)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            {"assertions": [{"text": "Names it", "check": {"contains_any": ["a", "b"]}}]},
            [("answer", {"words": ["a", "b"]})],
        ),
        (
            {"assertions": [{"text": "t", "check": {"not_contains": ["x"]}}]},
            [("answer", {"words": ["x"], "absent": True})],
        ),
        (
            {"assertions": [{"text": "t", "check": {"matches_any": ["(?i)a+", "b"]}}]},
            [("answer", {"regex": "(?i)(?:a+)|(?:b)"})],
        ),
        (
            {"assertions": [{"text": "t", "check": {"contains_all": ["a.b", "c"]}}]},
            [("answer", {"regex": r"(?is)(?=.*a\.b)(?=.*c)"})],
        ),
        (
            {"assertions": [{"id": "A1", "text": "It is so", "passed": False, "evidence": ""}]},
            [("sentence", {"text": "It is so"})],
        ),
        ({"assertions": [{"type": "file_exists", "path": "out.txt"}]}, [("file", {"path": "out.txt"})]),
        ({"assertions": [{"type": "contains", "value": "7"}]}, [("answer", {"words": ["7"]})]),
        ({"assertions": [{"type": "exit-code", "expected": 0}]}, [("exit_codes", {"codes": [0]})]),
        ({"assertions": [{"type": "tool-called", "tool": "x"}]}, [("unknown", {"type": "tool-called", "tool": "x"})]),
        ({"expected_output": "Seven."}, [("sentence", {"text": "The result is what was expected: Seven."})]),
        ({"should_trigger": False}, [("triggered", {"wanted": False})]),
        ({"anti_expectations": ["It deletes"]}, [("sentence", {"text": "This did not happen: It deletes"})]),
        (
            {"must_include": ["a"], "must_not_include": ["b"]},
            [("answer", {"words": ["a"]}), ("answer", {"words": ["b"], "absent": True})],
        ),
        ({}, [("unknown", {})]),
        ({"must_have": [r"module\s+\w+", "Results"], "must_not_have": ["TODO", r"C:\users"]}, [
            ("answer", {"regex": r"module\s+\w+"}), ("answer", {"words": ["Results"]}),
            ("answer", {"words": ["TODO"], "absent": True}), ("answer", {"words": [r"C:\users"], "absent": True}),
        ]),
        ({"execution": {"assertions": ["It stops"]}}, [("sentence", {"text": "It stops"})]),
        ({"expected_outputs": ["a table"], "forbidden_outputs": ["looks better"]}, [
            ("sentence", {"text": "This did not happen: looks better"}),
        ]),
        ({"checks": [{"text": "page", "check": {"file_contains": [
            {"path": "p.html", "contains": "dvh"}, {"path": "q.html", "contains": "svh"},
        ]}}]}, [
            ("file", {"path": "p.html", "text": ["dvh"]}), ("file", {"path": "q.html", "text": ["svh"]}),
        ]),
    ],
)  # fmt: skip
def test_checks_of_the_kinds_found_in_the_wild_mean_something(
    skill: Path, entry: dict[str, Any], expected: list[Any]
) -> None:
    (case,) = read(skill, [{"prompt": "x", **entry}])
    assert kinds(case) == expected


@pytest.mark.parametrize("field", ["prompt", "query", "input", "task"])
@pytest.mark.parametrize("top", ["evals", "cases", "test_cases"])
def test_tests_are_found_under_the_names_that_collections_use(skill: Path, top: str, field: str) -> None:
    assert [case.prompt for case in read(skill, {top: [{field: "Count."}]})] == ["Count."]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "line 1, column 2 is not JSON"),
        ({"notes": []}, "has no field evals"),
        ({"evals": []}, "evals must be a list of tests"),
        ({"evals": ["x"]}, r"evals\[0\] must be an object"),
        ({"evals": [{"id": 1}]}, r"evals\[0\].prompt must be text"),
        ({"evals": [{"prompt": 3}]}, r"evals\[0\].prompt must be text"),
        ({"evals": [{"prompt": "x", "files": 3}]}, r"evals\[0\].files must be a list"),
        ({"evals": [{"prompt": "x", "assertions": [3]}]}, r"evals\[0\].assertions\[0\] must be a sentence"),
        ({"evals": [{"prompt": "x", "expect": {"comands": []}}]}, r"evals\[0\].expect has the unknown field 'comands'"),
        ({"evals": [{"prompt": "x", "timeout": "soon"}]}, r"evals\[0\].timeout must be a number"),
        (
            {"evals": [{"prompt": "x", "assertions": [{"text": "t", "check": {"matches": "("}}]}]},
            r"evals\[0\].assertions\[0\].check.matches is no regular expression",
        ),
    ],
)
def test_a_file_that_cannot_be_used_names_the_field(skill: Path, content: Any, says: str) -> None:
    with pytest.raises(EvalError, match=says):
        read(skill, content)


def test_a_test_that_cannot_be_run_is_read_with_the_reason(skill: Path) -> None:
    missing, empty = read(skill, [{"prompt": "x", "files": ["gone.csv", "../../etc/passwd"]}, {"prompt": ""}])
    assert missing.problem == "files[0]: 'gone.csv' is no file in the skill's folder"
    assert empty.problem == "its prompt is empty"


def test_tests_of_one_name_are_told_apart(skill: Path) -> None:
    cases = read(skill, [{"id": n, "name": "same", "prompt": "x"} for n in ("a", "b", "b")])
    assert [case.name for case in cases] == ["same (a)", "same (b)", "same (b) #2"]


EXPECT = r"""
- name: all of it
  prompt: Count.
  files: [samples/a.csv]
  timeout: 12
  expected: One line.
  expect:
    commands: ['wc -l']
    no_commands: ['rm']
    exit_codes: [0, 1]
    files:
      - out.txt
      - {path: r.json, json: {'$.a[0]': 7.5}, tolerance: 0.1}
      - {path: r.csv, csv: [{row: -1, column: amount, equals: 7}, {where: {n: 1}, column: 2, equals: x}]}
      - {path: same.csv, equals: samples/a.csv}
      - {path: no.log, exists: false}
      - {path: t.txt, contains: ['^a'], text: [b], no_text: [c]}
    answer: ['\d+', {text: one}, {any: ['yes', si]}, {number: 12.5, tolerance: 0.5}, {regex: TODO, absent: true}]
    tokens: {total: 100, output: 50}
    turns: 3
    seconds: 9.5
    triggered: true
    script: [{path: evals/check.py, timeout: 5}]
    judge: [It is polite.]
"""


def test_either_form_written_as_the_other_says_the_same(skill: Path) -> None:
    yaml_file, json_file = skill / "evals/basic.yaml", skill / "evals/evals.json"
    yaml_file.write_text(EXPECT)
    (before,) = load_cases(skill)
    json_file.write_text(convert.as_json([before], skill))
    yaml_file.unlink()
    (published,) = load_cases(skill)
    json_file.unlink()
    yaml_file.write_text(convert.as_yaml([published], skill))
    (after,) = load_cases(skill)
    assert after == before
    assert sorted(map(str, published.checks)) == sorted(map(str, before.checks))
    assert convert.lost([published]) == []


def test_a_command_converts_and_says_what_is_left_out(skill: Path) -> None:
    read(skill, [{"prompt": "Count.", "assertions": ["It is short", {"type": "tool-called", "name": "shell"}]}])
    done = CliRunner().invoke(app, ["evals", "convert", str(skill / "evals/evals.json")])
    assert done.exit_code == 0
    assert yaml.safe_load(done.stdout) == [
        {"name": "1: Count.", "prompt": "Count.", "expect": {"judge": ["It is short"]}}
    ]  # fmt: skip
    assert "left out, nobody knows this kind: 1: Count.: shell" in done.stderr
    (skill / "evals/basic.yaml").write_text(done.stdout)
    done = CliRunner().invoke(app, ["evals", "convert", str(skill / "evals/basic.yaml"), "-o", str(skill / "x.json")])
    made = json.loads((skill / "x.json").read_text())
    assert (made["skill_name"], made["evals"][0]["expectations"]) == ("counter", ["It is short"])
    assert CliRunner().invoke(app, ["evals", "convert", str(skill / "none.json")]).exit_code == 4


@pytest.mark.parametrize(
    ("expect", "says"),
    [
        ("{answer: [{text: a, regex: b}]}", r"answer\[0\] must have one of text, regex, any and number"),
        ("{answer: [{number: x}]}", r"answer\[0\].number must be a number"),
        ("{files: [{path: a, csv: [{row: 0, column: a, equals: 1}]}]}", r"csv\[0\].row must be a number"),
        ("{files: [{path: a, csv: [{column: a, equals: 1}]}]}", r"csv\[0\] must have one of row and where"),
        ("{files: [{path: a, csv: [{row: 1, column: a}]}]}", r"csv\[0\].equals is missing"),
        ("{files: [{path: a, json: {'a[': 1}}]}", r"files\[0\].json: 'a\[' is no path"),
        ("{files: [{path: a, equals: no.csv}]}", "'no.csv' is no file in the skill's folder"),
        ("{files: [{path: a, exists: false, text: b}]}", r"files\[0\] cannot be absent and have content"),
        ("{script: ../x.py}", r"script\[0\].path: '../x.py' is no file"),
        ("{tokens: {all: 3}}", "unknown field 'all'"),
        ("{turns: 0}", "turns must be a number above 0"),
        ("{triggered: maybe}", "triggered must be true or false"),
    ],
)
def test_a_check_that_is_not_one_is_refused_by_its_field(skill: Path, expect: str, says: str) -> None:
    (skill / "evals/basic.yaml").write_text(f"- {{prompt: x, expect: {expect}}}\n")
    with pytest.raises(EvalError, match=says):
        load_cases(skill)


def test_nothing_passes_by_default() -> None:
    firm, said, odd = Check("answer", {}, "a"), Check("sentence", {}, "s"), Check("unknown", {}, "u")
    done = Verdict(COMPLETED, "passed")

    def status(*verdicts: Verdict) -> str:
        return overall([done, *verdicts])

    assert status(Verdict(said, "not_judged")) == "not_judged"
    assert status(Verdict(odd, "not_judged")) == "not_judged"
    assert status(Verdict(firm, "passed"), Verdict(odd, "not_judged")) == "not_judged"
    assert status(Verdict(firm, "passed"), Verdict(said, "not_judged")) == "passed"
    assert status(Verdict(firm, "passed"), Verdict(said, "failed")) == "passed"  # told apart
    assert status(Verdict(said, "passed"), Verdict(said, "failed")) == "failed"
    assert status(Verdict(said, "passed"), Verdict(said, "not_judged")) == "not_judged"
    assert status(Verdict(firm, "failed"), Verdict(said, "passed")) == "failed"
    assert overall([Verdict(COMPLETED, "failed"), Verdict(firm, "passed")]) == "failed"
    assert overall([]) == "not_judged"
