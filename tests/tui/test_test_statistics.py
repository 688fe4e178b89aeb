"""What is said of pass rates, against published values."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from skilldeck_tui.skill_tests.reports.html import page
from skilldeck_tui.skill_tests.reports.summary import summarise
from skilldeck_tui.skill_tests.reports.text import findings, markdown, terminal
from skilldeck_tui.skill_tests.statistics import Cell, Matrix, difference, effective, wilson


def trial(status: str, *, test: str = "t", variant: str = "latest", number: int = 0, **more: Any) -> dict[str, Any]:
    reasons = {"failed": "it did not hold"}
    check = {"kind": "answer", "text": "holds", "status": status, "reason": reasons.get(status, ""), "evidence": ""}
    return {
        "source": "basic.yaml", "test": test, "model": "m", "variant": variant, "version": "", "digest": "",
        "baseline": variant == "without", "number": number, "seed": number, "status": status, "checks": [check],
        "seconds": 2.0, "model_seconds": 1.0, "input_tokens": 10, "cached_tokens": 0, "output_tokens": 2, "turns": 1,
        "triggered": None, "reused": False, "run_id": f"run-{variant}-{number}", "commands": [], "files": [],
        "answer": "", **more,
    }  # fmt: skip


def cell(passed: int, failed: int, **more: Any) -> Cell:
    return Cell([trial("passed", **more)] * passed + [trial("failed", **more)] * failed)


@pytest.mark.parametrize(
    ("passed", "tried", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilsons_interval_is_the_published_one(passed: int, tried: int, low: float, high: float) -> None:
    assert wilson(passed, tried) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [((56, 14), (48, 32), 0.0524, 0.3339), ((9, 1), (3, 7), 0.1705, 0.8090), ((0, 10), (0, 10), -0.2775, 0.2775)],
)
def test_the_difference_of_two_rates_is_newcombes(one: Any, other: Any, low: float, high: float) -> None:
    found = difference(cell(*one), cell(*other))
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@pytest.mark.parametrize(
    ("tests", "worth"),
    [
        ([(3, 6)], 6.0),  # one test by itself
        ([(1, 1), (0, 1), (1, 1)], 3.0),  # one try each
        ([(4, 4), (0, 4)], 2.0),  # all tries of a test alike: as many as tests
        ([(5, 5), (5, 5)], 2.0),  # nothing varies, so nothing can be said of it
        ([(2, 4), (2, 4)], 8.0),  # no likeness at all
        ([(4, 4), (1, 4), (3, 4)], 12 / (1 + 3 * 5 / 13)),
    ],
)
def test_tries_of_one_test_count_for_less_than_as_many_tests(tests: Any, worth: float) -> None:
    assert effective(tests) == pytest.approx(worth)


def test_what_was_not_decided_counts_neither_way() -> None:
    found = Cell([trial("passed"), trial("not_judged"), trial("error")])
    assert (found.passed, found.tried, found.rate, found.flaky) == (1, 1, 1.0, False)
    assert difference(found, Cell([trial("error")])) is None
    assert Cell([trial("not_judged")]).rate is None


@pytest.mark.parametrize(
    ("before", "now", "certain"),
    [((1, 0), (0, 1), True), ((3, 0), (0, 3), True), ((3, 0), (2, 1), False), ((20, 0), (8, 12), True)],
)
def test_a_drop_is_certain_where_always_became_never_or_the_interval_says_so(
    before: Any, now: Any, certain: bool
) -> None:
    trials = cell(*before, variant="2").trials + cell(*now, variant="latest", number=7).trials
    (found,) = Matrix(trials).regressions("latest", "2")
    assert (found.certain, found.run_id) == (certain, "run-latest-7")
    assert Matrix(trials).regressions("2", "latest") == []


def evaluation(**more: Any) -> dict[str, Any]:
    labels = [("latest", False), ("without", True)]
    variants = [{"label": label, "version": "", "digest": "", "baseline": baseline} for label, baseline in labels]
    return {
        "skill": "counter", "models": ["m"], "runs": 2, "seed": 4, "among": [], "judge": "", "created_at": 0,
        "variants": variants, **more,
    }  # fmt: skip


def test_reports_say_lift_flakiness_and_what_was_not_judged() -> None:
    trials = [
        *(trial("passed", test="a|b", number=n) for n in range(2)),
        trial("passed", test="c"), trial("failed", test="c", number=1),
        *(trial("failed", test=name, variant="without", number=n) for name in ("a|b", "c") for n in range(2)),
    ]  # fmt: skip
    trials[0]["checks"].append({"kind": "sentence", "text": "s", "status": "not_judged", "reason": "", "evidence": ""})
    report = summarise(evaluation(), trials)
    assert findings(report) == [
        "lift of version latest: +75 points (-5 to +95); zero is within the interval",
        "flaky: c (m, latest)",
        "sentences, version latest: 1 not judged; --judge MODEL judges them",
    ]
    table = terminal(report)
    assert table[0].split() == ["version", "latest", "without"]
    assert table[2].split() == ["c", "1/2", "flaky", "0/2"]
    assert "| a\\|b | 2/2 | 0/2 |" in markdown(report)
    assert "**75 %** (30–95 %)" in markdown(report)


HOSTILE = "</title><script>alert(1)</script>"


def test_the_page_shows_figures_beside_names_and_nothing_in_it_acts() -> None:
    hostile = {"test": HOSTILE, "model": HOSTILE, "answer": HOSTILE, "files": [HOSTILE], "run_id": HOSTILE}
    commands = [{"command": HOSTILE, "exit_code": 0}]
    trials = [
        trial("passed", **hostile, commands=commands), trial("failed", **hostile, number=1),
        trial("failed", **hostile, variant="without"),
    ]  # fmt: skip
    trials[0]["checks"][0] |= {"text": HOSTILE, "reason": HOSTILE, "evidence": HOSTILE}
    about = evaluation(skill=HOSTILE, models=[HOSTILE], among=[HOSTILE], judge=HOSTILE)
    about["variants"][0]["version"] = "3"
    text = page(summarise(about, trials, against="without"), trials)
    read = ElementTree.fromstring(re.search("<svg.*?</svg>", text)[0])  # type: ignore[index]
    shown = ["".join(part.itertext()) for part in read.iter("text")]
    assert shown[5:] == ["version 3 (latest)version 3 (latest)", "50 %  (1/2)", "withoutwithout", "0 %  (0/1)"]
    assert elements(text) == ["html", "head", "meta", "meta", "meta", "title", "style", "body"]
    assert "http" not in text.replace("http-equiv", "")


def elements(text: str) -> list[str]:
    """The elements up to the body, as a browser would find them; raises for one that may act."""
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in ("script", "iframe", "object", "img", "a", "form")
            assert not any(name.startswith("on") for name, _ in attrs)
            found.append(tag)

    Reader().feed(text)
    return found[: found.index("body") + 1]
