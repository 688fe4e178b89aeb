"""What a small model's next command is after one that failed: what the error leaves standing, and another word."""

from __future__ import annotations

import pytest

from skilldeck_daemon.agent.guidance.retries import retry
from support.grammars import follows

RUN = "/mnt/skills/x/scripts/run.py"
UNITS = "Units: `mm cm in`."
PARSER = "usage: run.py [-h] [--kind {a,b}] --light LIGHT file\nrun.py: error: argument --light: invalid choice: "


@pytest.mark.parametrize(
    ("rest", "error", "instructions", "begin", "may", "may_not"),
    [
        # an option is asked for, by the script's own words or by its parser
        (" a.txt", "Bram has no rate: run again with --rate", "Pass `--rate 55`.", " a.txt --rate", " 55\n", "\n"),
        (" a.txt", "overwrite it with --force", "Use `--force` then.", " a.txt --force", "\n```", ""),
        (" a", "say --order dmy or --order mdy", "`--order dmy`", " a --order", " dmy", ""),
        (" a", PARSER.partition("argument")[0] + "required: --light", "", " a --light", " sun", "\n"),
        # too few arguments, and one that falls into several
        (" a.txt", "usage: run.py FILE COUNT", "", " a.txt", " 5\n```", "\n```"),
        (" Fair 2025.PDF", 'usage: run.py "NAME"', "", ' "', 'Fair 2025.PDF"\n```', "\n"),
        (" Fair (Final)", "bash: syntax error near unexpected token `('", "", ' "', 'Fair (Final)"\n', 'Fair" x\n'),
        # an argument that is not known
        (" A4 inches", "inches is no unit", UNITS, " A4", " in\n```", " inches\n```"),
        (" 26 inches cm", "inches is no unit", UNITS, " 26", " in cm\n```", " mm cm\n```"),
        (" 26 miles cm", "miles is no unit", "`m mi ft cm`", " 26", " mi cm\n```", " m cm\n```"),
        (" 26 pounds cm", "pounds is no unit", UNITS, " 26", " mm cm\n```", " cm cm\n```"),
        (" kilometres", "kilometres is no unit", "`k km kg m`", "", " km\n```", " kg\n```"),
        (" a --light dim", PARSER + "'dim' (choose from 'shade', 'sun')", "", " a --light", " sun", " dim"),
        (" blue ffffff", "blue: six digits are wanted", "", "", " 0000ff ffffff\n", " blue 0000ff\n"),
    ],
)
def test_the_next_command_begins_with_what_the_error_leaves(
    rest: str, error: str, instructions: str, begin: str, may: str, may_not: str
) -> None:
    found = retry(f"python3 {RUN}{rest}", RUN, error, instructions)
    assert found is not None
    assert found.begin == f"python3 {RUN}{begin}"
    assert follows(found.held, may)
    assert may_not in ("", may) or not follows(found.held, may_not)


@pytest.mark.parametrize(
    ("rest", "error", "begin"),
    [
        (" 4 4", "FileNotFoundError: [Errno 2] No such file or directory: '4'", " /mnt/data/a.txt 4"),
        (" Old mill", "usage: run.py FILE", " /mnt/data/a.txt"),
    ],
)
def test_the_only_file_stands_where_something_else_did(rest: str, error: str, begin: str) -> None:
    found = retry(f"python3 {RUN}{rest}", RUN, error, "", "/mnt/data/a.txt")
    assert found is not None
    assert found.begin == f"python3 {RUN}{begin}"
    assert follows(found.held, "\n```")


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (f"python3 {RUN} a.txt", "Traceback (most recent call last):\nKeyError: 'x'"),
        (f"python3 {RUN} a.txt", "cannot open a.csv"),
        (f"python3 {RUN} a.txt | sort --rate", "run again with --rate"),
        (f"cd x\npython3 {RUN} a.txt", "run again with --rate"),
        ("ls a.txt", "run again with --rate"),
        (f"python3 {RUN} a.txt", "give --rate or --unit"),  # which of them is the model's to say
        (f"python3 {RUN} a.txt", "usage: run.py [-h] [--rate RATE] FILE\nrun.py: error: the file is empty"),
    ],
)
def test_where_the_error_does_not_say_the_turn_is_the_models(command: str, error: str) -> None:
    assert retry(command, RUN, error, "") is None
