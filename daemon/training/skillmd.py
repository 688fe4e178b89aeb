"""SKILL.md files and the commands in them, in the many shapes that skill authors give them."""

from __future__ import annotations

import string
from collections.abc import Sequence

from training.phrases import VERBS
from training.words import Atoms

PLACEHOLDERS = [
    "<file>",
    "<file>",
    "FILE",
    "{file}",
    "INPUT",
    "<input>",
    "{input}",
    "<path>",
    "<filename>",
    "$FILE",
    "<input_file>",
    "{path}",
    "<FILE>",
    "<input-file>",
    "INPUT_FILE",
]
_FLAGS = [
    "top",
    "limit",
    "mode",
    "format",
    "lang",
    "depth",
    "width",
    "sep",
    "size",
    "level",
    "unit",
    "max",
    "min",
    "skip",
    "style",
]


def command(
    atoms: Atoms, name: str, needs: Sequence[str], *, hole: str | None, wants_file: bool
) -> tuple[str, str | None]:
    """(command line as SKILL.md shows it, its placeholder); `hole` fixes the placeholder of a second step."""
    rng = atoms.rng
    program, suffix = rng.choice(
        (("python3", "py"),) * 5 + (("python", "py"), ("sh", "sh"), ("bash", "sh"), ("bash", "sh"), ("node", "js"))
    )
    x = rng.random()
    if x < 0.2:
        stem = f"{rng.choice(VERBS)}_{atoms.word()}"
    elif x < 0.45:
        word = rng.choice([*needs, *name.split("-")]).lower()
        stem = rng.choice(
            (word, f"{word}_{atoms.atom()}", f"{rng.choice(VERBS)}_{word}", f"to_{word}", name.replace("-", "_"))
        )
    else:
        stem = "_".join(atoms.atom() for _ in range(rng.choice((1, 2, 2))))
    words = [program, f"{rng.choice(('scripts/',) * 9 + ('',))}{stem}.{suffix}"]
    flags: list[str] = []
    if rng.random() < 0.4:
        for _ in range(rng.choice((1, 1, 2))):
            y = rng.random()
            if y < 0.6:
                flags.append(f"--{rng.choice(_FLAGS)} {atoms.number() if rng.random() < 0.5 else atoms.atom()}")
            else:
                flags.append(f"--{atoms.atom()}" if y < 0.8 else f"-{rng.choice(string.ascii_lowercase)}")
    if not wants_file:
        return " ".join([*words, *flags]), None
    hole = hole or (rng.choice(PLACEHOLDERS) if rng.random() < 0.94 else f"<{atoms.word()}>")
    first = rng.random() < 0.45
    return " ".join([*words, *([hole, *flags] if first else [*flags, hole])]), hole


def quoted(description: str) -> str:
    """The description as a YAML value."""
    return f'"{description}"' if ": " in description else description


def _title(name: str) -> str:
    return " ".join(part.capitalize() for part in name.split("-"))


def _prose(atoms: Atoms, counts: tuple[int, ...]) -> list[str]:
    text = " ".join(atoms.sentence() for _ in range(atoms.rng.choice(counts)))
    return [text] if text else []


def _fence(atoms: Atoms, line: str) -> str:
    return f"```{atoms.rng.choice(('bash', 'bash', 'bash', 'sh', '', 'shell', 'console', 'text'))}\n{line}\n```"


def _one_step(atoms: Atoms, line: str) -> list[str]:
    rng = atoms.rng
    if rng.random() < 0.6:
        lead = [
            "Run this command:",
            "Run:",
            "Command:",
            "Execute the script:",
            "To use it, run",
            "Run the following command and report what it prints.",
            "Call the script like this:",
            "Usage:",
            "Run this from the folder of the skill:",
            "Start it here:",
        ]
        return [*([rng.choice(lead)] if rng.random() < 0.7 else []), _fence(atoms, line)]
    form = rng.choice(
        [
            "Run `{}` and report the output.",
            "Run `{}`.",
            "To use it, run `{}` and show the result.",
            "Execute `{}` in this folder.",
            "1. Run `{}`\n2. Report the output",
            "Call `{}` and tell the user what it printed.",
            "The command is `{}`",
            "Use `{}`, then answer with its output.",
            "1. Find the file.\n2. Run `{}`.\n3. Show what it prints.",
        ]
    )
    return [form.replace("{}", line)]


def _two_steps(atoms: Atoms, one: str, two: str) -> list[str]:
    rng = atoms.rng
    x = rng.random()
    if x < 0.35:
        first = rng.choice(("1. Run `{}`", "1. First run `{}`", "1. Check with `{}`.", "1. `{}`"))
        second = rng.choice(("2. Then run `{}`", "2. Run `{}`", "2. Next, run `{}`.", "2. `{}`"))
        last = rng.choice(("", "\n3. Report the output", "\n3. Answer with what the last command printed."))
        return [first.replace("{}", one) + "\n" + second.replace("{}", two) + last]
    if x < 0.7:
        heads = rng.choice((("## Step 1", "## Step 2"), ("Step 1:", "Step 2:"), ("## First", "## Second")))
        return [heads[0], _fence(atoms, one), heads[1], _fence(atoms, two)]
    first, second = rng.choice(
        (
            ("First run:", "Then run:"),
            ("First check the input:", "Then make the report:"),
            ("Begin with", "After that, run"),
        )
    )
    if rng.random() < 0.5:
        return [first, _fence(atoms, one), second, _fence(atoms, two)]
    return [f"{first.rstrip(':')} `{one}`. {second.rstrip(':')} `{two}`."]


def skill_md(atoms: Atoms, name: str, about: str, commands: Sequence[str], *, prose: bool | None = None) -> str:
    """The text of a SKILL.md with one or two commands; `prose=False` leaves out the filler."""
    rng = atoms.rng
    long = rng.random() < 0.6 if prose is None else prose
    front = [f"name: {name}", f"description: {quoted(about)}"]
    if rng.random() < 0.3:
        front.append(
            rng.choice(
                ("license: MIT", 'metadata:\n  author: me\n  version: "1.0"', "license: Apache-2.0", "version: 2")
            )
        )
        if rng.random() < 0.3:
            front.append(f"compatibility: Needs {atoms.word()} {atoms.number()} or later, nothing else.")
    parts = ["---\n" + "\n".join(front) + "\n---"]
    if rng.random() < 0.9:
        parts.append("# " + (_title(name) if rng.random() < 0.7 else rng.choice(("Usage", "Instructions", "Overview"))))
    if long:
        parts += _prose(atoms, (0, 1, 1, 2))
    if rng.random() < 0.2:
        parts.append(rng.choice(("## Usage", "## How to run", "## Steps", "## Command", "## Instructions")))
    parts += _one_step(atoms, commands[0]) if len(commands) == 1 else _two_steps(atoms, commands[0], commands[1])
    if long:
        parts += _prose(atoms, (0, 0, 1, 2))
        x = rng.random()
        if x < 0.2:
            bullets = "\n".join(
                f"- `{'--' if rng.random() < 0.8 else ''}{atoms.atom()}{rng.choice(('', '', ' N', ' NAME'))}`: "
                + (f"{atoms.word()} {atoms.atom()}" if rng.random() < 0.6 else atoms.sentence())
                for _ in range(rng.choice((1, 2, 3, 4)))
            )
            parts += [rng.choice(("## Options", "Options:")), bullets]
        elif x < 0.35:
            parts.append(f"## {rng.choice(('Notes', 'Limits', 'Errors'))}\n\n- {atoms.sentence()}")
    return ("\n" if rng.random() < 0.3 else "\n\n").join(parts[:2]) + "".join("\n\n" + part for part in parts[2:])
