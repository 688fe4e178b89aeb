"""What commands a skill's instructions show, and what a small model's next turn is to be."""

from __future__ import annotations

import pytest

from skilldeck_daemon.agent.guidance.file_places import filled
from skilldeck_daemon.agent.guidance.skill_commands import (
    ANSWER,
    CANNOT,
    FILLED_IN,
    PROGRAMS,
    NextTurn,
    Ran,
    SkillCommands,
    wholly,
)
from skilldeck_daemon.agent.guidance.skill_commands import (
    CODE as GOES_ON,
)
from skilldeck_daemon.agent.guidance.skill_options import Option
from support.grammars import follows

AT = "/mnt/skills/x/scripts"


def block(*lines: str) -> str:
    return "\n".join(["```bash", *lines, "```", ""])


@pytest.mark.parametrize(
    ("instructions", "lines", "beginning"),
    [
        (block(f"python3 {AT}/a.py <file>"), (f"python3 {AT}/a.py <file>",), f"python3 {AT}/a.py"),
        (
            block("# once", "pip install x", f"$ bash {AT}/a.sh IN_FILE"),
            (f"bash {AT}/a.sh IN_FILE",),
            f"bash {AT}/a.sh",
        ),
        (
            block(f"python3 {AT}/a.py <file>") + block(f"python3 {AT}/b.py <file>"),
            (f"python3 {AT}/a.py <file>", f"python3 {AT}/b.py <file>"),
            f"python3 {AT}/",
        ),
        (
            block(f"python3 {AT}/a.py \\", "  --all <file>"),
            (f"python3 {AT}/a.py --all <file>",),
            f"python3 {AT}/a.py --all",
        ),
        (block(f'bash {AT}/a.sh "<name>" <n>'), (f'bash {AT}/a.sh "<name>" <n>',), f'bash {AT}/a.sh "'),
        (block("pdftotext <file> -"), ("pdftotext <file> -",), "pdftotext"),
        (f"Run `python3 {AT}/a.py INPUT`, see `{AT}/b.md`.", (f"python3 {AT}/a.py INPUT",), f"python3 {AT}/a.py"),
        (block("ls") + block("wc -l <file>"), ("ls", "wc -l <file>"), ""),
        ("Write headings.\n```python\nprint()\n```", (), ""),
    ],
)
def test_commands_and_what_they_begin_with(instructions: str, lines: tuple[str, ...], beginning: str) -> None:
    commands = SkillCommands.of(instructions)
    assert (commands.lines, commands.beginning()) == (lines, beginning)


def test_a_run_that_was_asked_for_begins_with_a_command_and_ends_with_an_answer() -> None:
    commands = SkillCommands.of(block(f"python3 {AT}/a.py <file>"))
    assert commands.next_turn([], ["a.csv"], asked=True) == NextTurn(f"python3 {AT}/a.py", ("python3",), held=FILLED_IN)
    assert commands.next_turn([], ["a.csv"], asked=False) == NextTurn()
    first = Ran(f"python3 {AT}/a.py a.csv", True)
    assert commands.next_turn([first], ["a.csv"], asked=True) == NextTurn(answer=ANSWER)
    assert commands.next_turn([first], ["a.csv", "b.csv"], asked=True) == NextTurn()  # one is left
    assert commands.next_turn([first, first], ["a.csv", "b.csv"], asked=True) == NextTurn(answer=ANSWER)
    failed = first._replace(well=False)
    assert commands.next_turn([failed], ["a.csv"], asked=True) == NextTurn()
    assert commands.next_turn([failed, failed], ["a.csv"], asked=True) == NextTurn(answer=ANSWER)


def test_failures_end_in_an_answer() -> None:
    three = [Ran(command, False) for command in ("a", "b", "c")]
    assert SkillCommands().next_turn(three[:2], [], asked=False) == NextTurn()
    assert SkillCommands().next_turn(three, [], asked=False) == NextTurn(answer=ANSWER)
    assert SkillCommands().next_turn([three[0], three[0]], [], asked=False) == NextTurn(answer=ANSWER)


def test_numbered_steps_are_gone_through_in_their_order() -> None:
    sort, write = f"python3 {AT}/z_sort.py <file> /mnt/data/s.json", f"python3 {AT}/a_write.py /mnt/data/s.json"
    commands = SkillCommands.of(f"1. Sort:\n\n{block(sort)}\n2. Write:\n\n{block(write)}")
    begun = commands.next_turn([], ["c.txt"], asked=True)
    assert begun.begin == f"python3 {AT}/z_sort.py"
    first = Ran(f"python3 {AT}/z_sort.py c.txt /mnt/data/s.json", True)
    assert commands.next_turn([first], ["c.txt"], asked=True).begin == write
    assert commands.next_turn([first._replace(well=False)], ["c.txt"], asked=True) == NextTurn()
    assert commands.next_turn([first, Ran(write, True)], ["c.txt"], asked=True) == NextTurn(answer=ANSWER)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"python3 {AT}/a.py <file>", f"python3 {AT}/a.py /mnt/data/a.csv"),
        (f"python3 {AT}/a.py <input.json> <output.csv>", f"python3 {AT}/a.py <input.json> <output.csv>"),
        (f"python3 {AT}/a.py --in FILE > OUT", f"python3 {AT}/a.py --in /mnt/data/a.csv > OUT"),
        (f"python3 {AT}/a.py <output file> {{input_file}}", f"python3 {AT}/a.py <output file> {{input_file}}"),
        (f"python3 {AT}/a.py <number> <unit>", f"python3 {AT}/a.py <number> <unit>"),
        (f"python3 {AT}/profile.py", f"python3 {AT}/profile.py"),
    ],
)
def test_the_only_file_stands_where_a_command_wants_one(line: str, shown: str) -> None:
    assert filled(f"Give it a <file>.\n{block(line)}", "/mnt/data/a.csv") == f"Give it a <file>.\n{block(shown)}"
    assert filled(block("cat <file>"), "/mnt/data/a b.csv") == block("cat '/mnt/data/a b.csv'")


def test_options_that_are_asked_for_stand_behind_a_whole_command_and_wait_for_their_value() -> None:
    shown = block(f"python3 {AT}/a.py a.csv")
    full, output = Option("--full", "", "all"), Option("--output", "PATH", "where to")
    begun = SkillCommands.of(shown, [full]).next_turn([], ["a.csv"], asked=True)
    assert begun.begin == f"python3 {AT}/a.py a.csv --full"
    assert follows(begun.held, "\n```")
    begun = SkillCommands.of(shown, [full, output]).next_turn([], ["a.csv"], asked=True)
    assert begun.begin == f"python3 {AT}/a.py a.csv --full --output"
    assert follows(begun.held, " new.csv\n```")
    assert not follows(begun.held, "\n```")
    assert not follows(begun.held, " <path>\n```")
    open_place = SkillCommands.of(block(f"python3 {AT}/a.py <file>"), [full])
    assert open_place.next_turn([], ["a.csv"], asked=True).begin == f"python3 {AT}/a.py"


def test_a_command_that_failed_is_begun_again_where_the_error_says_how() -> None:
    commands = SkillCommands.of(block(f"python3 {AT}/a.py <file>"))
    failed = Ran(f"python3 {AT}/a.py a.csv", False, "run again with --rate\n")
    assert commands.next_turn([failed], ["a.csv"], asked=True).begin == f"python3 {AT}/a.py a.csv --rate"
    assert commands.next_turn([failed._replace(command="ls a.csv")], ["a.csv"], asked=True) == NextTurn()


@pytest.mark.parametrize(
    ("answer", "to_a_question", "to_a_wish"),
    [
        ("  4 the", False, False),
        ("4 the\n3 river", False, False),
        ("- 4 the\n- 3 river\n", False, False),
        ("4 the\n  3 river\n  2 lantern", True, True),
        ("- 4 the\n- 3 river\n- 2 lantern\n\nThat is all.", True, True),
        ("the, river and lantern", True, False),
        ("2 lantern", True, False),
    ],
)
def test_an_answer_does_not_stop_in_an_output_and_begins_with_it_where_nothing_was_asked(
    answer: str, to_a_question: bool, to_a_wish: bool
) -> None:
    printed = "  4 the\n  3 river\n  2 lantern\n"
    assert follows(wholly(printed, True), answer) is to_a_question
    assert follows(wholly(printed, False), answer) is to_a_wish


def test_of_one_short_line_an_answer_begins_with_it_and_long_outputs_are_answered_as_it_comes() -> None:
    assert follows(wholly("1944\n", True), "1944")
    assert follows(wholly("4.5 (fails)\n", True), "4.5 (fails), so choose a darker one.")
    assert not follows(wholly("1944\n", True), "MMCDXLIV")
    for long in ("", "a\n" * 40, f"{'a' * 2000}\nb", "a" * 200):
        assert wholly(long, True) == wholly(long, False) == ""


@pytest.mark.parametrize(
    ("line", "beginning"),
    [
        ("a.py <bill> <guests>", "a.py /mnt/data/b.txt"),
        ("a.py <input.json> <output.csv>", "a.py /mnt/data/b.txt"),
        ('a.py "<phrase>" <file>', 'a.py "'),
        ("a.py <old> <new>", "a.py"),
        ("a.py <number> <unit>", "a.py"),
        ("a.py --in <log> --days <n>", "a.py --in /mnt/data/b.txt"),
    ],
)
def test_the_only_file_begins_a_command_of_several_places(line: str, beginning: str) -> None:
    commands = SkillCommands.of(block(f"python3 {AT}/{line}"), file="/mnt/data/b.txt")
    assert commands.beginning() == f"python3 {AT}/{beginning}"


TOOLS = f"""## Tools

### 1. Count (`{AT}/count.py`)
How often each word is there.

{block(f"python3 {AT}/count.py words.txt", f"python3 {AT}/count.py words.txt --top 5")}
### 2. Compare (`{AT}/compare.py`)
Two texts, side by side.

{block(f"python3 {AT}/compare.py words.txt other.txt", f"python3 {AT}/compare.py --size 10 --rate 0.5")}
"""


@pytest.mark.parametrize(
    ("said", "file", "beginning"),
    [
        ("How often is each word in there?", "", f"python3 {AT}/count.py words.txt"),
        ("Compare them, side by side.", "", f"python3 {AT}/compare.py"),
        ("Compare a size of 12 with a rate of 0.7.", "", f"python3 {AT}/compare.py --size"),
        ("Look at it.", "", f"python3 {AT}/"),
        ("Count the words", "words.txt", f"python3 {AT}/count.py words.txt"),
    ],
)
def test_of_several_tools_the_one_begins_that_the_request_is_like(said: str, file: str, beginning: str) -> None:
    commands = SkillCommands.of(TOOLS, file=file, said=said)
    assert not commands.steps  # a list of tools is no order to follow
    assert commands.beginning() == beginning


def test_of_several_tools_one_is_enough() -> None:
    commands = SkillCommands.of(TOOLS, said="Look at it.")
    assert commands.next_turn([Ran(f"python3 {AT}/count.py a.txt", True)], ["a.txt"], asked=True).answer == ANSWER
    assert commands.next_turn([Ran("ls", True)], ["a.txt"], asked=True) == NextTurn()


CODE = """# Pictures

## Turn a picture

```python
from pictures import turn
turn("a.png")
```

## Cut a picture

```js
require("pictures").cut("a.png");
```
"""


BEGUN = f"{PROGRAMS['python']}from pictures import turn\n"


def test_where_code_is_shown_a_program_is_begun_with_its_imports() -> None:
    commands = SkillCommands.of(CODE, said="Turn it around.")
    assert commands.next_turn([], [], asked=True) == NextTurn(BEGUN, held=GOES_ON)
    assert follows(GOES_ON, '\nturn("a.png")\n```')
    assert not follows(GOES_ON, "\n```")
    assert commands.next_turn([], [], asked=False) == NextTurn()
    assert SkillCommands.of(CODE, said="Cut it.").next_turn([], [], asked=True) == NextTurn(
        PROGRAMS["node"], held=GOES_ON
    )


def test_code_without_imports_has_those_of_the_first() -> None:
    shown = "```js\nconst {\n  a,\n} = require('b');\n```\n\n## Turn\n```js\na.turn();\n```\n"
    begun = f"{PROGRAMS['node']}const {{\n  a,\n}} = require('b');\n"
    assert SkillCommands.of(shown, said="turn it").program == begun


@pytest.mark.parametrize(
    ("code", "begun"),
    [
        ('book = load("/mnt/data/a.csv")\nprint(book)\n', 'book = load("/mnt/data/a.csv")\n'),
        (
            'x = 1\nwith open("/mnt/data/a.csv") as file:\n    rows = list(file)\n\nprint(rows)\n',
            'with open("/mnt/data/a.csv") as file:\n    rows = list(file)\n',
        ),
        ('def f():\n    open("/mnt/data/a.csv")\n', ""),
        ("rows = []\n", ""),
    ],
)
def test_a_program_begins_with_opening_the_file_as_it_is_shown(code: str, begun: str) -> None:
    shown = f"## Turn\n```python\nimport csv\n\n{code}```\n"
    commands = SkillCommands.of(shown, file="/mnt/data/a.csv", said="turn it")
    assert commands.program == f"{PROGRAMS['python']}import csv\n{begun}"


def test_a_program_that_failed_is_written_anew_and_not_as_it_was() -> None:
    commands = SkillCommands.of(CODE, said="Turn it around.")
    wrong = Ran(f'{BEGUN}turn("b.png")\nprint(1)\nEOF', False, "NameError")
    again = commands.next_turn([wrong], [], asked=True)
    assert again.begin == BEGUN
    assert follows(again.held, 'turn("a.png")\n')
    assert follows(again.held, 'turn("b.png")\nprint(2)\nEOF\n')
    assert not follows(again.held, 'turn("b.png")\nprint(1)\nEOF\n')
    assert not follows(again.held, '\nturn("b.png")\nprint(1)\nEOF\n```\n')
    assert commands.next_turn([wrong, wrong], [], asked=True) == NextTurn(answer=ANSWER)


def test_a_program_that_ran_is_answered_with_once_it_printed_something() -> None:
    commands = SkillCommands.of(CODE, said="Turn it around.")
    silent, loud = Ran(f"{BEGUN}turn(1)", True), Ran(f"{BEGUN}turn(2)", True, "done\n")
    assert commands.next_turn([silent], [], asked=True).begin == BEGUN  # nothing to answer a question with
    for ran in ([loud], [silent, loud], [silent, silent._replace(command="python3 a.py")]):
        assert commands.next_turn(ran, [], asked=True).answer == ANSWER
    wish = SkillCommands.of(CODE, said="Turn it around.", question=False)
    assert wish.next_turn([silent], [], asked=True).answer == ANSWER


def test_no_program_is_begun_where_the_code_has_nothing_to_do_with_the_request() -> None:
    assert SkillCommands.of(CODE, said="Hello!").program == ""
    own = block(f"python3 {AT}/turn.py <file>")
    assert SkillCommands.of(f"# Turn around\n{own}\n{CODE}", said="Turn it around.").program == ""


def test_a_package_that_is_not_there_is_told_and_not_tried_again() -> None:
    lacking = Ran(f"python3 {AT}/a.py", False, "ModuleNotFoundError: No module named 'pypdf'")
    assert SkillCommands.of(block(f"python3 {AT}/a.py")).next_turn([lacking], [], asked=True) == NextTurn(answer=CANNOT)
    program = SkillCommands.of(CODE, said="Turn it around.")
    assert program.next_turn([lacking], [], asked=True).begin == PROGRAMS["python"]  # with another library
    assert program.next_turn([lacking, lacking._replace(command="b")], [], asked=True) == NextTurn(answer=CANNOT)
