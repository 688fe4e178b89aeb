"""The user's file in the places of a skill's commands and programs."""

from __future__ import annotations

import pytest

from skilldeck_daemon.agent.guidance.file_places import filled

AT = "/mnt/skills/x/scripts"
FILE = "/mnt/data/my table.csv"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"python3 {AT}/a.py data.csv", f"python3 {AT}/a.py '{FILE}'"),
        (f"python3 {AT}/a.py --in orders.CSV --out result.csv", f"python3 {AT}/a.py --in '{FILE}' --out result.csv"),
        (f"python3 {AT}/a.py -o table.csv", f"python3 {AT}/a.py -o table.csv"),
        (f"python3 {AT}/a.py > table.csv", f"python3 {AT}/a.py > table.csv"),
        (f"python3 {AT}/a.py old.csv new.csv", f"python3 {AT}/a.py '{FILE}' new.csv"),
        (f"python3 {AT}/a.py notes.txt", f"python3 {AT}/a.py notes.txt"),
        (f"python3 {AT}/a.py /mnt/skills/x/sample.csv", f"python3 {AT}/a.py /mnt/skills/x/sample.csv"),
        (f"python3 {AT}/a.py <name> data.csv", f"python3 {AT}/a.py <name> data.csv"),
        ("# as in data.csv", "# as in data.csv"),
    ],
)
def test_a_file_of_its_kind_that_is_not_there_stands_for_it_in_commands(line: str, shown: str) -> None:
    assert filled(f"Give data.csv.\n```bash\n{line}\n```\n", FILE) == f"Give data.csv.\n```bash\n{shown}\n```\n"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("t = pd.read_csv('data.csv', sep=';')", f"t = pd.read_csv('{FILE}', sep=';')"),
        ('with open("data.csv") as file:', f'with open("{FILE}") as file:'),
        ('with open("data.csv", "w") as file:', 'with open("data.csv", "w") as file:'),
        ('table.to_csv("data.csv")', 'table.to_csv("data.csv")'),
        ('book = load_workbook("data.xlsx")', 'book = load_workbook("data.xlsx")'),
    ],
)
def test_a_program_reads_it_and_writes_none_over_it(line: str, shown: str) -> None:
    assert filled(f"```python\n{line}\n```\n", FILE) == f"```python\n{shown}\n```\n"
    assert filled(f"```json\n{line}\n```\n", FILE) == f"```json\n{line}\n```\n"
