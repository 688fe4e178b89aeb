"""Which skills a message means, and how their instructions are put before the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.agent.guidance.preload import BARE, LONGEST, RUN_IT, WRITE_IT, Mode, Preload
from skilldeck_daemon.agent.guidance.skill_paths import REFERENCE, SkillPaths
from skilldeck_daemon.tools.context import Surroundings

ABOUT = {
    "csv-summary": "Summarizes a table: rows, columns and sums.",
    "log-triage": "Counts the errors and warnings of a log.",
    "minutes": "Writes the minutes of a meeting.",
}
RUN = "\n# Title\n\n```bash\npython3 scripts/run.py <file>\n```\n"
FILE = '\n\n<file name="checkout.log" path="/mnt/data/checkout.log">\n12:00 error\n</file>'


@pytest.fixture
def skills(tmp_path: Path) -> SkillPaths:
    for name in ABOUT:
        (tmp_path / name / "scripts").mkdir(parents=True)
        (tmp_path / name / "scripts/run.py").touch()
        body = "Write headings." if name == "minutes" else RUN
        (tmp_path / name / "SKILL.md").write_text(f"---\nname: {name}\ndescription: x\n---\n{body}")
    return SkillPaths((name, str(tmp_path / name)) for name in ABOUT)


def around(*names: str, shell: str = "hosted") -> Surroundings:
    return Surroundings(shell, tuple((name, ABOUT[name]) for name in names or ABOUT))


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Use csv-summary on it", ["csv-summary"]),
        ("/csv-summary orders.csv", ["csv-summary"]),
        ("run $log-triage, then Csv-Summary", ["csv-summary", "log-triage"]),
        ("my-csv-summary and csv-summary-2 are others", []),
        ("How many errors are in the log?" + FILE, ["log-triage"]),
        ("How many errors are in the log?", []),  # nothing to work on
        ("Hello!" + FILE, []),
        ("Write the minutes of the meeting", ["minutes"]),  # something to be made
        ("Write about a meeting", []),  # of which one word is like a skill's is not enough
        ("rows and errors" + FILE, []),  # as much of one as of the other
        ("Say hello" + FILE.replace("error", "csv-summary"), []),  # a name in a file is no request
    ],
)
def test_a_skill_is_meant_by_its_name_or_where_a_file_comes_by_its_words(
    skills: SkillPaths, text: str, meant: list[str]
) -> None:
    assert Preload(skills).meant(text, around()) == meant
    assert Preload(skills).chosen([user(text)], around()) == tuple(meant)


def test_the_only_skill_is_meant_and_modes_say_none_or_all(skills: SkillPaths) -> None:
    assert Preload(skills).meant("Hello!", around("minutes")) == ["minutes"]
    for mode, names in (("none", []), ("all", list(ABOUT))):
        chosen: Mode = mode  # type: ignore[assignment]
        assert Preload(skills, chosen).meant("use minutes", around()) == names
    assert Preload(skills).meant("use minutes", around("minutes", shell="local")) == []


def test_instructions_stand_once_before_the_words_that_meant_them(skills: SkillPaths) -> None:
    messages = [
        {"role": "system", "content": "csv-summary"},
        user("Hello!"),
        {"role": "assistant", "content": "Use csv-summary?"},
        user("Yes, csv-summary."),
        user("csv-summary again, and minutes"),
    ]
    opened = Preload(skills).opened(messages, around())
    block = (
        '<skill name="csv-summary" path="/mnt/skills/csv-summary/SKILL.md">\n# Title\n\n```bash\n'
        "python3 /mnt/skills/csv-summary/scripts/run.py <file>\n```\n</skill>"
    )
    assert opened[:3] == messages[:3]
    assert opened[3]["content"] == f"{block}\n\nYes, csv-summary."
    assert opened[4]["content"].startswith('<skill name="minutes"')
    assert "python3" not in opened[4]["content"]
    # What follows changes nothing of what was there: the beginning need not be computed again.
    assert Preload(skills).opened(messages[:4], around()) == opened[:4]


def test_what_does_not_fit_is_named_by_its_path(skills: SkillPaths) -> None:
    small = Preload(skills, budget=12).opened([user("csv-summary")], around())
    assert small[0]["content"] == (
        '<skill name="csv-summary" path="/mnt/skills/csv-summary/SKILL.md">\n# Title\n\n'
        "(the rest is in /mnt/skills/csv-summary/SKILL.md)\n</skill>\n\ncsv-summary"
    )
    assert Preload.of(skills, "named", 2048).budget == 1536
    assert Preload.of(skills, "named", 1_000_000).budget == LONGEST
    assert Preload.of(skills, "named", 1_000_000, bare=True).budget == BARE


@pytest.mark.parametrize(
    ("text", "names", "must"),
    [
        ("Use log-triage on this" + FILE, (), True),
        ("How many errors are in the log?" + FILE, (), True),
        ("What went wrong?" + FILE, ("log-triage",), True),  # the file's name says it
        ("Thanks, good bye." + FILE.replace("checkout.log", "a.txt"), ("csv-summary",), False),
        ("Use log-triage", (), True),
        ("/log-triage", (), True),
        ("How do I use log-triage?", (), False),
        ("log-triage is nice", (), False),
        ("Write the minutes" + FILE, ("minutes",), False),  # has no commands
        ("Compare csv-summary with log-triage" + FILE, (), False),
    ],
)
def test_a_run_is_asked_for_by_name_or_where_a_file_and_a_fitting_skill_with_commands_are_there(
    skills: SkillPaths, text: str, names: tuple[str, ...], must: bool
) -> None:
    asked = Preload(skills).asked([user(text)], around(*names))
    name = (names or ("log-triage",))[0]
    assert (asked and asked.lines) == ((f"python3 /mnt/skills/{name}/scripts/run.py <file>",) if must else None)
    assert Preload(skills, "none").asked([user(text)], around(*names)) is None


def test_a_small_model_sees_files_of_a_run_by_their_places_and_others_before_the_request(skills: SkillPaths) -> None:
    two = FILE + '\n\n<file name="b.txt" path="/mnt/data/b.txt">\n</file>\n\nx\n</file>'
    (message,) = Preload(skills, bare=True).opened([user("Use log-triage." + two)], around())
    assert message["content"].endswith(
        "</skill>\n\nUse log-triage.\n" + RUN_IT.format(on=" on /mnt/data/checkout.log, /mnt/data/b.txt")
    )
    asked = user("Use log-triage." + FILE)
    for bare, file in ((True, "/mnt/data/checkout.log"), (False, "<file>")):  # the only one stands in the command
        (message,) = Preload(skills, bare=bare).opened([asked], around())
        assert f"scripts/run.py {file}\n```" in message["content"]
        commands = Preload(skills, bare=bare).asked([asked], around())
        assert commands is not None
        assert commands.lines[0].endswith(f"run.py {file}")
    for text in ("Write the minutes.", "Hello!"):
        (message,) = Preload(skills, bare=True).opened([user(text + FILE)], around())
        assert message["content"].endswith(f"{FILE.lstrip()}\n\n{text}")
    (message,) = Preload(skills).opened([user("Use log-triage." + FILE)], around())
    assert message["content"].endswith("Use log-triage." + FILE)


def test_a_small_model_reads_the_texts_that_a_skill_without_commands_names(tmp_path: Path) -> None:
    folder = tmp_path / "rates"
    (folder / "references").mkdir(parents=True)
    (folder / "references/zones.md").write_text("zone B: 12.90\n")
    (folder / "references/large.md").write_text("x" * (REFERENCE + 1))
    (folder / "SKILL.md").write_text(
        "---\nname: rates\ndescription: x\n---\nRead [it](references/zones.md), references/large.md."
    )
    skills = SkillPaths([("rates", str(folder))])
    there = Surroundings("hosted", (("rates", "What it costs"),))
    for bare in (True, False):
        (message,) = Preload(skills, bare=bare).opened([user("What is zone B?")], there)
        said = (
            '</skill>\n\n<file path="/mnt/skills/rates/references/zones.md">\nzone B: 12.90\n</file>\n\nWhat is zone B?'
        )
        assert message["content"].endswith(said) is bare
        assert "xxx" not in message["content"]
    (folder / "SKILL.md").write_text("---\nname: rates\ndescription: x\n---\n```bash\ncat references/zones.md\n```")
    (message,) = Preload(SkillPaths([("rates", str(folder))]), bare=True).opened([user("Use rates.")], there)
    assert "12.90" not in message["content"]  # it is told to print it


def one(folder: Path, name: str, body: str, *files: str) -> tuple[SkillPaths, Surroundings]:
    """A skill that is mounted alone."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(f"This is {file}.\n")
    (folder / "SKILL.md").write_text(f"---\nname: {name}\ndescription: x\n---\n{body}\n")
    return SkillPaths([(name, str(folder))]), Surroundings("hosted", ((name, "Knows of tables and letters"),))


TABLE = '\n\n<file name="a.csv" path="/mnt/data/a.csv" type="text/csv">\nx,y\n1,2\n3,4\n5,6\n7,8\n9,10\n11,12\n</file>'


def test_for_a_program_a_small_model_sees_how_the_file_begins(tmp_path: Path) -> None:
    code = "## Add up\n\n```python\nimport {}\nopen('table.csv').read()\n```"
    skills, there = one(tmp_path, "tables", code.format("csv"), "adding/__init__.py")
    message = user("Add up the table." + TABLE)
    (opened,) = Preload(skills, bare=True).opened([message], there)
    assert "open('/mnt/data/a.csv')" in opened["content"]
    assert opened["content"].endswith(
        '<file name="a.csv" path="/mnt/data/a.csv" type="text/csv">\nx,y\n1,2\n3,4\n5,6\n7,8\n9,10\n…\n</file>\n\n'
        f"Add up the table.\n{WRITE_IT.format(on=' on /mnt/data/a.csv')}"
    )
    commands = Preload(skills, bare=True).asked([message], there)
    assert commands is not None
    opened = "open('/mnt/data/a.csv').read()"
    assert commands.program == f"python3 - <<'EOF'\nimport csv\n{opened}\n# Add up the table. Print the result.\n"
    skills, there = one(tmp_path, "tables", code.format("adding"))  # which lies in the skill
    commands = Preload(skills, bare=True).asked([message], there)
    assert commands is not None
    assert commands.program.startswith("PYTHONPATH=/mnt/skills/tables python3 ")


def test_what_a_document_says_is_answered_from_its_text(tmp_path: Path) -> None:
    skills, there = one(tmp_path, "tables", "```bash\npython3 scripts/unpack.py letter.pdf\n```", "scripts/unpack.py")
    letter = TABLE.replace("a.csv", "a.pdf").replace("text/csv", "application/pdf")
    for text, asked in (
        ("What do the letters say?" + letter, False),
        ("What do the letters say?" + letter.replace(">", ' truncated="true">', 1), True),
        ("What do the letters say?" + TABLE, True),
        ("How do I unpack it, letter by letter?" + letter, True),
        ("Use tables on the letter." + letter, True),
    ):
        assert (Preload(skills, bare=True).asked([user(text)], there) is not None) is asked, text


def test_of_several_forms_a_small_model_reads_the_one_that_is_meant(tmp_path: Path) -> None:
    body = "Choose: `forms/thanks.md`, `forms/reminder.md`."
    skills, there = one(tmp_path, "letters", body, "forms/thanks.md", "forms/reminder.md")
    names = ("thanks", "reminder")
    for said, shown in (("Write a reminder", ["reminder"]), ("Write something", ["thanks", "reminder"])):
        (message,) = Preload(skills, bare=True).opened([user(said)], there)
        assert [name for name in names if f"This is forms/{name}.md." in message["content"]] == shown
    skills, there = one(tmp_path, "letters", "Choose one in the folder `forms/`.")
    for said, shown in (("Write a reminder", ["reminder"]), ("Write something", [])):
        (message,) = Preload(skills, bare=True).opened([user(said)], there)
        assert [name for name in names if f"This is forms/{name}.md." in message["content"]] == shown


def test_a_small_model_is_told_what_the_texts_do_not_have(tmp_path: Path) -> None:
    skills, there = one(tmp_path, "letters", "The terms are in `terms/all.md`.", "terms/all.md")
    (tmp_path / "terms/all.md").write_text("- bollard: a post on the quay\n")
    for said, told in (
        (
            "Use letters: what is a spinnaker?",
            "\n\n(Not listed in these texts: spinnaker. Answer that it is not listed.)\n\nUse letters",
        ),
        ("Use letters: what does a bollard cost?", ""),
        ("Which letters are there?", ""),
        ("Write to the spinnaker", ""),
    ):
        (message,) = Preload(skills, bare=True).opened([user(said)], there)
        assert ("(Not listed" in message["content"]) is bool(told)
        assert told in message["content"]
