"""Questions of the evaluation: skills with real scripts, files, requests, and what a correct run does.

A question is drawn from a seed and a kind; the expected answer comes from running the expected commands (see
`evaluate.py`), never from a table.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from training import held_out as held
from training import phrases as ph
from training.functions import function_call
from training.scenario import by_name, by_need, file_name, make_skill, plain, skill_name
from training.skillmd import PLACEHOLDERS, quoted, skill_md
from training.words import Atoms

KINDS = ("name", "need", "steps", "failure", "function", "follow", "plain")
DEGRADED = ("eight", "long", "letters", "spelling", "unmarked")


@dataclass
class HeldSkill:
    """A skill folder: `files` maps paths below the folder to their text."""

    name: str
    description: str
    files: dict[str, str]
    commands: list[tuple[str, str | None]]
    requests: tuple[str, ...] = ()
    needs: Any = None  # the generated skill, for requests by description

    def lines(self, file: str | None) -> list[str]:
        filled = [cmd.replace(hole, f"/mnt/data/{file}") if hole else cmd for cmd, hole in self.commands]
        return [f"cd /mnt/skills/{self.name} && {cmd}" for cmd in filled]


@dataclass
class Ask:
    """One request: the skill to run and its file, or (without a skill) the literal answer or call expected."""

    text: str
    skill: HeldSkill | None = None
    file: str | None = None
    answer: str | None = None
    call: dict[str, Any] | None = None
    result: str | None = None


@dataclass
class Question:
    kind: str
    skills: list[HeldSkill]
    files: dict[str, str]
    asks: list[Ask]
    functions: list[dict[str, Any]] = field(default_factory=list)
    marking: bool = True


def _command(atoms: Atoms, key: str, language: str, hole: str) -> tuple[str, str]:
    """(command line, path of the script)."""
    rng = atoms.rng
    stem = key if rng.random() < 0.3 else "_".join(atoms.atom() for _ in range(rng.choice((1, 2))))
    path = f"scripts/{stem}.{language}"
    program = rng.choice(("sh", "bash")) if language == "sh" else "python3"
    flag = f"--{atoms.atom()} {atoms.number()}" if rng.random() < 0.2 else ""
    words = [program, path, hole, flag] if language == "sh" or rng.random() < 0.4 else [program, path, flag, hole]
    return " ".join(word for word in words if word), path


def _filler(atoms: Atoms, words: int) -> str:
    text: list[str] = []
    while sum(len(part.split()) for part in text) < words:
        text.append(" ".join(atoms.sentence() for _ in range(5)))
    return "\n\n".join(text)


def held_skill(atoms: Atoms, key: str, *, natural: bool, verbs: set[str], steps: int = 1, words: int = 0) -> HeldSkill:
    """A skill around the script `key`, with its own description (`natural`) or a generated one."""
    rng = atoms.rng
    language, body, _, about, requests = (held.SCRIPTS | held.FAILING)[key]
    generated = make_skill(atoms, verbs)
    name = skill_name(atoms)
    description = about if natural else generated.description
    hole = rng.choice(PLACEHOLDERS)
    line, path = _command(atoms, key, language, hole)
    files = {path: held.script_file(language, body)}
    commands: list[tuple[str, str | None]] = [(line, hole)]
    title = " ".join(part.capitalize() for part in name.split("-"))
    if steps == 2:
        check, check_path = _command(atoms, "check", "py", hole)
        files[check_path] = held.script_file("py", "print('checked %d' % len(open(F).read()))")
        commands.insert(0, (check, hole))
        text = rng.choice(held.TWO_STEP_LAYOUTS).format(
            n=name, d=description, q=quoted(description), t=title, c=check, e=line
        )
    elif rng.random() < 0.5:
        text = rng.choice(held.LAYOUTS).format(n=name, d=description, q=quoted(description), t=title, c=line)
    else:
        text = skill_md(atoms, name, description, [line])
    if words:
        text += "\n## Background\n\n" + _filler(atoms, words)
    return HeldSkill(name, description, {"SKILL.md": text, **files}, commands, requests if natural else (), generated)


def _need(atoms: Atoms, skill: HeldSkill, file: str) -> str:
    if skill.requests:
        return atoms.rng.choice(skill.requests).format(f=file)
    return by_need(atoms, skill.needs, file)


def _plain(rng: random.Random, kind: str) -> Question:
    if kind == "plain":
        made = plain(rng, "held")
        text, answer = made.messages[0]["content"], made.messages[1]["content"]
        verbs: set[str] = set()
        keys = rng.sample(sorted(held.SCRIPTS), len(made.skills))
        skills = [held_skill(Atoms(rng, "held"), key, natural=True, verbs=verbs) for key in keys]
        files = {name: held.file_content(rng, name.rsplit(".", 1)[1]) for name in made.files}
        return Question(made.kind, skills, files, [Ask(text, answer=answer)])
    made = function_call(rng, "held")
    call = made.messages[1]["tool_calls"][0]["function"]
    ask = Ask(
        made.messages[0]["content"], call=call, result=made.messages[2]["content"], answer=made.messages[3]["content"]
    )
    return Question("function", [], {}, [ask], made.functions)


def question(rng: random.Random, kind: str) -> Question:
    """A question of one of KINDS or DEGRADED."""
    if kind in ("plain", "function"):
        return _plain(rng, kind)
    atoms = Atoms(rng, "held")
    count = 8 if kind == "eight" else rng.choice((1, 2, 2, 3, 3, 4))
    keys = rng.sample(sorted(held.SCRIPTS), count)
    if kind == "failure":
        keys[0] = rng.choice(sorted(held.FAILING))
    natural = rng.random() < 0.5
    verbs: set[str] = set()
    target = held_skill(
        atoms,
        keys[0],
        natural=natural,
        verbs=verbs,
        steps=2 if kind == "steps" else 1,
        words=2000 if kind == "long" else 0,
    )
    skills = [target] + [held_skill(atoms, key, natural=natural, verbs=verbs) for key in keys[1:]]
    extension = (held.SCRIPTS | held.FAILING)[keys[0]][2]
    names = [
        f"{file_name(atoms).rsplit('.', 1)[0]}.{extension if i == 0 else 'txt'}" for i in range(rng.choice((1, 2, 3)))
    ]
    if kind == "follow":
        names = [names[0], f"{file_name(atoms).rsplit('.', 1)[0]}.{extension}"]
    if kind == "letters":
        names[0] = f"{atoms.atom()}_{rng.choice(('größe', 'çay', '日本語', 'данные', 'señal', 'Übung'))}.{extension}"
    files = {name: held.file_content(rng, name.rsplit(".", 1)[1]) for name in names}
    by = "need" if kind == "need" or (kind not in ("name", "spelling", "unmarked") and rng.random() < 0.35) else "name"
    said = target.name
    if kind == "spelling":
        said = rng.choice((said.upper(), f'"{said}"', f"'{said}'", f"`{said}`", said.replace("-", " ")))
    text = by_name(atoms, said, names[0]) if by == "name" else _need(atoms, target, names[0])
    asks = [Ask(text, target, names[0])]
    if kind == "follow":
        asks.append(Ask(rng.choice(ph.FOLLOW["held"]).format(f=names[1]), target, names[1]))
    rng.shuffle(skills)
    return Question(kind, skills, dict(rng.sample(sorted(files.items()), len(files))), asks, marking=kind != "unmarked")
