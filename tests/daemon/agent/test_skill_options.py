"""Which of the options that a skill lists a request asks for."""

from __future__ import annotations

import pytest

from skilldeck_daemon.agent.guidance.skill_options import listed, wanted

ABOUT = "row-count Counts the rows of a table."
LIST = """# Rows

- `--full`: every row, with medians
- `-j, --json`: all facts as JSON
| `--depth N` | levels that are shown |
- `--output PATH` - also saves the document to PATH
- `--strict`
"""


def test_options_stand_in_lists_and_tables() -> None:
    assert [(option.name, option.value) for option in listed(LIST)] == [
        ("--full", ""),
        ("--json", ""),
        ("--depth", "N"),
        ("--output", "PATH"),
    ]


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("Count the rows of a.csv", []),
        ("Count the rows, and the medians too", ["--full"]),
        ("Count them and save the document as /mnt/data/new.md", ["--output"]),
        ("Save the document", []),  # nowhere to
        ("Save the document a.csv", []),  # which is the one that came
        ("Three levels, please", []),
        ("3 levels, please", ["--depth"]),
        ("the medians as json", ["--full", "--json"]),
        ("medians with 3 levels, the document in b.md", ["--full"]),  # two values: the model's to say
    ],
)
def test_an_option_is_asked_for_by_a_word_of_its_own(said: str, names: list[str]) -> None:
    assert [option.name for option in wanted(LIST, said, ABOUT, ["a.csv"])] == names
