"""The catalogue of skills keeps within its budget, and the guide says what the sandbox is."""

from __future__ import annotations

import logging

import pytest

from skilldeck_daemon.agent.guidance.catalogue import LEAST, catalogue, longest
from skilldeck_daemon.agent.prompt import system_message
from skilldeck_daemon.containers.packages.bases import programs
from skilldeck_daemon.tools.context import Surroundings


def test_few_skills_stand_with_their_whole_descriptions() -> None:
    around = Surroundings("hosted", (("a", "First\n  line."), ("b", "x" * 3000)), ("f.csv",))
    assert catalogue(around) == f"\n\nSkills:\n- a: First line.\n- b: {'x' * 3000}\nFiles:\n- f.csv"


def test_four_hundred_skills_keep_their_names_and_share_the_room(caplog: pytest.LogCaptureFixture) -> None:
    skills = tuple((f"skill-{number}", "word " * 200) for number in range(399))
    with caplog.at_level(logging.WARNING):
        text = catalogue(Surroundings("hosted", (("short", "Tiny."), *skills)), context=8192)
    lines = text.split("\n")[3:]
    assert lines[0] == "- short: Tiny."
    assert [line.split(":")[0] for line in lines[1:]] == [f"- {name}" for name, _ in skills]
    assert sum(len(line.partition(": ")[2]) for line in lines) <= LEAST
    assert all(line.endswith("…") for line in lines[1:])
    assert "skill-398" in caplog.text
    assert "short" not in caplog.text
    # A large context has more room.
    assert len(catalogue(Surroundings("hosted", skills), context=1_000_000)) > 2 * len(text)


@pytest.mark.parametrize(
    ("lengths", "room", "limit"), [([5, 5], 10, 5), ([2, 100, 100], 12, 20), ([10, 1000, 1000], 1010, 500), ([], 9, 0)]
)
def test_only_the_longest_are_shortened(lengths: list[int], room: int, limit: int) -> None:
    assert longest(["x" * length for length in lengths], room) == limit


@pytest.mark.parametrize(
    ("hosts", "said"),
    [((), "It has no network."), (("pypi.org", "a.org"), "reaches only pypi.org, a.org."), (None, "")],
)
def test_the_guide_says_what_the_network_reaches(hosts: tuple[str, ...] | None, said: str) -> None:
    (message,) = system_message([], Surroundings("hosted", hosts=hosts))
    assert said in message["content"]
    assert ("network" in message["content"]) is bool(said)


@pytest.mark.parametrize(
    ("importable", "python"),
    [({"numpy", "yaml", "ours"}, "python3 (with yaml, numpy)"), (set(), "python3 (without packages)")],
)
def test_the_guide_says_what_runs_scripts(importable: set[str], python: str) -> None:
    found = programs(importable)
    assert found[0] == python
    (message,) = system_message([], Surroundings("hosted", programs=("python3 (with yaml)", "node")))
    assert "Beside bash there is python3 (with yaml), node." in message["content"]
    assert "Beside bash" not in str(system_message([], Surroundings("hosted")))
