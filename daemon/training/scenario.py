"""Scenarios: skills, files, requests and what the shell answers, as conversations in the daemon's message form.

A scenario is drawn from a `random.Random` and a split ("train" or "held"); nothing else decides what it holds. Held-out
scenarios share no words, templates, file stems or script names with training ones (see words.py and phrases.py).
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import Any

from training import phrases as ph
from training.outputs import failure, stdout
from training.render import Message, shell_call, tool_result
from training.skillmd import command, skill_md
from training.words import Atoms

EXTENSIONS = ["txt", "txt", "csv", "csv", "json", "md", "log", "dat", "tsv"]


@dataclass
class Skill:
    """A skill as the catalogue shows it, with the words a request may use for it and what it runs."""

    name: str
    description: str
    verb: str
    needs: list[str]
    commands: list[tuple[str, str | None]] = field(default_factory=list)  # command line, its placeholder
    text: str = ""

    def lines(self, file: str | None) -> list[str]:
        """The shell commands the model has to run for `file`, in order."""
        filled = [cmd.replace(hole, f"/mnt/data/{file}") if hole else cmd for cmd, hole in self.commands]
        return [f"cd /mnt/skills/{self.name} && {cmd}" for cmd in filled]


@dataclass
class Conversation:
    """One training example or one question of the evaluation; `messages` come without the system message."""

    kind: str
    skills: list[Skill]
    files: list[str]
    functions: list[dict[str, Any]]
    messages: list[Message]
    marking: bool = True

    @property
    def catalogue(self) -> list[tuple[str, str]]:
        return [(skill.name, skill.description) for skill in self.skills]


def file_name(atoms: Atoms) -> str:
    """A file name such as `maple_notes.csv`; sometimes with a number, a capital or letters beyond ASCII."""
    rng = atoms.rng
    parts = [atoms.atom() for _ in range(rng.choice((1, 1, 2, 2)))]
    if rng.random() < 0.3:
        parts.append(atoms.number())
    stem = rng.choice("__--.").join(parts)
    x = rng.random()
    if x < 0.08:
        stem = stem.capitalize()
    elif x < 0.11:
        place = rng.randrange(len(stem))
        stem = stem[:place] + rng.choice("éüñøçßàöå日本語данные") + stem[place:]
    return f"{stem}.{rng.choice(EXTENSIONS)}"


def skill_name(atoms: Atoms) -> str:
    return "-".join(atoms.atom() for _ in range(atoms.rng.choice((1, 2, 2, 2, 3))))


def third_person(verb: str) -> str:
    return verb + ("es" if verb.endswith(("sh", "ch", "x", "s")) else "s")


def make_skill(atoms: Atoms, verbs: set[str], *, steps: int = 1, placeholder: bool | None = None) -> Skill:
    """A skill with its SKILL.md; `steps` commands; with or without a file unless left to chance."""
    rng = atoms.rng
    verb = rng.choice([v for v in ph.VERBS if v not in verbs])
    verbs.add(verb)
    form = rng.choice(ph.DESCRIBE[atoms.split])
    count = 1 + max((int(d) for d in re.findall(r"\{(\d)\}", form)), default=0)
    needs = [atoms.word() if rng.random() < 0.85 else atoms.made_up() for _ in range(count)]
    if rng.random() < 0.15:
        needs[0] += "s"
    about = form.format(*needs, V=verb.capitalize(), v=verb, vs=third_person(verb), Vs=third_person(verb).capitalize())
    x = rng.random()
    if x < 0.15:
        about = about.rstrip(".") + "."
    elif x < 0.25:
        about = about[0].lower() + about[1:]
    name = skill_name(atoms)
    if rng.random() < 0.35:
        word = rng.choice(needs).lower()
        name = rng.choice((word, f"{word}-{atoms.atom()}", f"{verb}-{word}", f"{atoms.atom()}-{word}"))
    skill = Skill(name, about, verb, needs)
    wants_file = rng.random() < 0.88 if placeholder is None else placeholder
    hole = None
    for _ in range(steps):
        line, hole = command(atoms, skill.name, needs, hole=hole, wants_file=wants_file)
        skill.commands.append((line, hole))
    skill.text = skill_md(atoms, name, about, [line for line, _ in skill.commands])
    return skill


def flourish(rng: random.Random, text: str) -> str:
    """Greetings, thanks and loose punctuation around a request."""
    x = rng.random()
    if x < 0.12:
        return rng.choice(ph.BEFORE) + text
    if x < 0.24:
        return text + rng.choice(ph.AFTER)
    if x < 0.4:
        return text.rstrip(".?") + rng.choice(("", ".", "!", "?"))
    return text


def by_name(atoms: Atoms, name: str, said: str | None) -> str:
    rng = atoms.rng
    verb = rng.choice(ph.VERBS_RUN)
    form = rng.choice((ph.BY_NAME if said else ph.BY_NAME_ALONE)[atoms.split])
    return flourish(rng, form.format(s=name, f=said, v=verb, V=rng.choice((verb, verb.capitalize()))))


def by_need(atoms: Atoms, skill: Skill, said: str) -> str:
    """A request that shares one or two content words with the description."""
    rng = atoms.rng
    picked = rng.sample(skill.needs, min(len(skill.needs), rng.choice((1, 1, 2))))
    x = (" " if rng.random() < 0.6 else rng.choice((" and ", " of ", " or "))).join(picked)
    verb = skill.verb if rng.random() < 0.75 else rng.choice(["show", "find", "get", "check", "give", "see", "read"])
    text = rng.choice(ph.BY_NEED[atoms.split]).format(x=x, v=verb, V=verb.capitalize(), f=said)
    return flourish(rng, text[0].lower() + text[1:] if rng.random() < 0.2 else text)


def say_name(rng: random.Random, name: str) -> str:
    """The name as people write it: mostly exact, sometimes spaced, quoted or in capitals."""
    x = rng.random()
    if x < 0.08:
        return name.replace("-", " ")
    if x < 0.14:
        return rng.choice(('"{}"', "'{}'", "`{}`")).format(name)
    return name.upper() if x < 0.16 else name


def say_file(rng: random.Random, file: str, alone: bool) -> str:
    x = rng.random()
    if alone and x < 0.12:
        return rng.choice(ph.THE_FILE)
    if x < 0.04 or x > 0.97:
        return f"/mnt/data/{file}"
    return f'"{file}"' if x > 0.94 else file


def request(atoms: Atoms, skill: Skill, file: str | None, alone: bool, name_share: float) -> tuple[str, str]:
    """(text, "name" or "need") of a request for `skill` on `file`."""
    rng = atoms.rng
    if file is None:
        return by_name(atoms, say_name(rng, skill.name), None), "name"
    said = say_file(rng, file, alone)
    if rng.random() < name_share:
        return by_name(atoms, say_name(rng, skill.name), said), "name"
    return by_need(atoms, skill, said), "need"


def catalogue(
    atoms: Atoms, count: int | None = None, files: int | None = None, steps: int = 1
) -> tuple[list[Skill], list[str]]:
    """Skills (the first one is the target, before shuffling) and request files."""
    rng = atoms.rng
    count = count or (rng.randint(6, 8) if rng.random() < 0.18 else rng.choice((1, 2, 2, 3, 3, 4, 5)))
    n_files = rng.choice((0, 1, 1, 1, 2, 2, 3)) if files is None else files
    verbs: set[str] = set()
    skills = [make_skill(atoms, verbs, steps=steps, placeholder=None if n_files else rng.random() < 0.5)]
    skills += [make_skill(atoms, verbs) for _ in range(count - 1)]
    named = [file_name(atoms) for _ in range(n_files)]
    if n_files > 1 and rng.random() < 0.3:  # files that begin alike
        stem, extension = named[0].rsplit(".", 1)
        named[1] = f"{stem}{rng.choice('-_')}{atoms.number()}.{extension}"
    return skills, named


def run_turns(atoms: Atoms, skill: Skill, file: str | None) -> list[Message]:
    """Everything after the user's request: read, run (each step), answer."""
    rng = atoms.rng
    turns = [shell_call(f"cat /mnt/skills/{skill.name}/SKILL.md"), tool_result(skill.text)]
    if file is None and any(hole for _, hole in skill.commands):
        return [*turns, {"role": "assistant", "content": ph.NO_FILE}]
    lines = skill.lines(file)
    for number, line in enumerate(lines, 1):
        turns.append(shell_call(line))
        if rng.random() < (0.2 if len(lines) == 1 else 0.07):
            text, answer = failure(atoms, skill.name, file)
            return [*turns, tool_result(text), {"role": "assistant", "content": answer}]
        shown = stdout(atoms, short=number < len(lines))
        noise = f"\nstderr:\n{atoms.word()}: {atoms.sentence()}" if rng.random() < 0.04 else ""
        turns.append(tool_result(shown + noise))
    return [*turns, {"role": "assistant", "content": f"Result:\n{shown}"}]


def loop(rng: random.Random, split: str, *, name_share: float = 0.6, steps: int | None = None) -> Conversation:
    """The whole loop for one request."""
    atoms = Atoms(rng, split)
    steps = steps or rng.choice((1, 1, 2))
    skills, files = catalogue(atoms, steps=steps)
    target = skills[0]
    file = rng.choice(files) if files else None
    rng.shuffle(skills)
    text, kind = request(atoms, target, file, len(files) == 1, name_share)
    turns: list[Message] = [{"role": "user", "content": text}, *run_turns(atoms, target, file)]
    marking = kind != "name" or rng.random() < 0.8
    return Conversation(kind if steps == 1 else "steps", skills, files, [], turns, marking)


def follow_up(rng: random.Random, split: str) -> Conversation:
    """Two requests in one conversation: the same skill on another file, or another skill."""
    atoms = Atoms(rng, split)
    skills, files = catalogue(atoms, rng.choice((1, 2, 3)), 2)
    first = skills[0]
    text, _ = request(atoms, first, files[0], False, 0.7)
    turns: list[Message] = [{"role": "user", "content": text}, *run_turns(atoms, first, files[0])]
    if len(skills) == 1 or rng.random() < 0.6:
        second = first
        ask = rng.choice(ph.FOLLOW[split]).format(f=files[1])
    else:
        second = skills[1]
        ask, _ = request(atoms, second, files[1], False, 0.7)
    turns += [{"role": "user", "content": ask}, *run_turns(atoms, second, files[1])]
    order = rng.sample(range(len(skills)), len(skills))
    return Conversation("follow", [skills[i] for i in order], rng.sample(files, 2), [], turns)


def no_fit(atoms: Atoms) -> str:
    """A request about things that no description mentions."""
    return atoms.rng.choice(ph.NO_FIT[atoms.split]).format(x=atoms.atom(), y=atoms.atom())


def greeting(rng: random.Random, split: str) -> str:
    """A greeting; in training with the capitals and the ending as people leave them."""
    text = rng.choice(ph.GREETINGS[split])
    if split == "train" and rng.random() < 0.4:
        varied = text.rstrip("!?.") + rng.choice(("", "!", "?", ".", "!!"))
        varied = rng.choice((varied, varied.lower(), varied.capitalize()))
        return text if varied in ph.GREETINGS["held"] else varied
    return text


def plain(rng: random.Random, split: str) -> Conversation:
    """A greeting, or a request that no skill serves."""
    atoms = Atoms(rng, split)
    skills, files = catalogue(atoms, rng.choice((1, 2, 3)))
    if rng.random() < 0.45:
        text, answer, kind = greeting(rng, split), ph.GREETING, "greet"
        if rng.random() < 0.5:
            skills = []
        if rng.random() < 0.6:
            files = []
    else:
        text, answer, kind = no_fit(atoms), ph.NO_SKILL, "none"
        if rng.random() < 0.15:
            skills, files = [], []
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return Conversation(kind, skills, files, [], turns)
