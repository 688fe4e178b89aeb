"""Training examples: the mix of whole loops and drills, and their tokens with weights.

A drill is a short conversation that trains one decision: which skill, which command, the copy of an output. Drills take
most of the tokens at first and few at the end, because one decision in a long loop is a faint signal.
"""

from __future__ import annotations

import random

from tokenizers import Tokenizer

from training.functions import drill_function, function_call
from training.outputs import failure, stdout
from training.phrases import NO_SKILL
from training.render import Message, Segment, render, shell_call, tool_result
from training.scenario import (
    Conversation,
    by_name,
    by_need,
    catalogue,
    file_name,
    follow_up,
    loop,
    make_skill,
    no_fit,
    plain,
    request,
    say_name,
)
from training.words import Atoms

# The first token of a turn decides between a call and an answer; after these others stands a choice. Both weigh more.
FIRST = 6
CHOICES = {"/mnt/skills/": 4, "/mnt/data/": 3, "/": 2, "&": 2}


def segments(conversation: Conversation) -> list[Segment]:
    return render(
        conversation.catalogue,
        conversation.files,
        conversation.functions,
        conversation.messages,
        marking=conversation.marking,
    )


def drill_choice(rng: random.Random) -> list[Segment]:
    """One catalogue and several requests, each answered by reading the right SKILL.md, or by saying that none fits."""
    atoms = Atoms(rng, "train")
    skills, files = catalogue(atoms, rng.choice((2, 3, 3, 4, 5, 8)), rng.choice((0, 1, 2)))
    rng.shuffle(skills)
    turns: list[Message] = []
    for _ in range(rng.choice((1, 2, 3, 4))):
        if rng.random() < 0.25:
            turns += [{"role": "user", "content": no_fit(atoms)}, {"role": "assistant", "content": NO_SKILL}]
            continue
        skill = rng.choice(skills)
        file = rng.choice(files) if files and rng.random() < 0.8 else file_name(atoms)
        text, _ = request(atoms, skill, file, len(files) == 1, 0.35)
        turns += [{"role": "user", "content": text}, shell_call(f"cat /mnt/skills/{skill.name}/SKILL.md")]
    return segments(Conversation("drill", skills, files, [], turns, rng.random() < 0.7))


def drill_dense(rng: random.Random, simple: float) -> list[Segment]:
    """One catalogue and many lines `request => /mnt/skills/NAME`: the most choices for the fewest tokens."""
    atoms = Atoms(rng, "train")
    skills, files = catalogue(atoms, rng.choice((2, 3, 3, 4, 5)), rng.choice((0, 1, 2)))
    rng.shuffle(skills)
    parts = render([(s.name, s.description) for s in skills], files, [], [])
    parts.append(("<|im_start|>user\n", 0))
    for _ in range(rng.choice((6, 8, 10, 12))):
        skill = rng.choice(skills)
        file = rng.choice(files) if files and rng.random() < 0.5 else rng.choice(("it", "this", "the file"))
        x = rng.random()
        if x < simple * 0.3:
            words = skill.description.rstrip(".").split(" ")
            at = rng.randrange(len(words))
            text = " ".join(words[max(0, at - 2) : at + 3])
        elif x < simple:
            text = " ".join(rng.sample(skill.needs, min(len(skill.needs), rng.choice((1, 2)))))
        elif rng.random() < 0.3:
            text = by_name(atoms, say_name(rng, skill.name), file)
        else:
            text = by_need(atoms, skill, file)
        parts += [(f"{text} => /mnt/skills/", 0), (skill.name, 1), ("\n", 0)]
    return parts


def drill_answer(rng: random.Random) -> list[Segment]:
    """Results and failures, answered."""
    atoms = Atoms(rng, "train")
    turns: list[Message] = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        if rng.random() < 0.25:
            text, answer = failure(atoms, atoms.atom(), file_name(atoms))
        else:
            text = stdout(atoms)
            answer = f"Result:\n{text}"
        turns += [tool_result(text), {"role": "assistant", "content": answer}]
    return segments(Conversation("drill", [], [], [], turns))


def drill_command(rng: random.Random) -> list[Segment]:
    """A SKILL.md that was read, then its command or both of them; often the short result is answered as well."""
    atoms = Atoms(rng, "train")
    steps = rng.choice((1, 2))
    skill = make_skill(atoms, set(), steps=steps, placeholder=True if rng.random() < 0.9 else None)
    files = [file_name(atoms) for _ in range(rng.choice((1, 1, 2, 3)))]
    turns: list[Message] = [
        {"role": "user", "content": by_name(atoms, skill.name, files[-1])},
        {**shell_call(f"cat /mnt/skills/{skill.name}/SKILL.md"), "learn": False},
        tool_result(skill.text),
    ]
    shown = ""
    for line in skill.lines(files[-1]):
        turns += [tool_result(shown)] if shown else []
        turns.append(shell_call(line))
        shown = stdout(atoms, short=True)
    if rng.random() < 0.6:  # after one result the run is over, after another it is not: the same short text before both
        turns += [tool_result(shown), {"role": "assistant", "content": f"Result:\n{shown}"}]
    rng.shuffle(files)
    return segments(Conversation("drill", [], files, [], turns))


_PHASES = (0.15, 0.4, 0.65, 0.85, 1.01)
_SHARES = {  # dense, choice, answer, command, function; what is left is whole conversations
    0: (0.24, 0.14, 0.08, 0.18, 0.06),
    1: (0.14, 0.12, 0.06, 0.14, 0.16),
    2: (0.08, 0.10, 0.12, 0.10, 0.12),
    3: (0.03, 0.07, 0.10, 0.14, 0.16),
    4: (0.02, 0.06, 0.08, 0.14, 0.18),
}


def sample(rng: random.Random, progress: float) -> list[Segment]:
    """One example for a run that is `progress` (0 to 1) through its schedule."""
    phase = next(i for i, end in enumerate(_PHASES) if progress < end)
    dense, choice, answer, line, function = _SHARES[phase]
    x = rng.random()
    if x < dense:
        return drill_dense(rng, 0.5 if phase == 0 else 0.25)
    if x < dense + choice:
        return drill_choice(rng)
    if x < dense + choice + answer:
        return drill_answer(rng)
    if x < dense + choice + answer + line:
        return drill_command(rng)
    if x < dense + choice + answer + line + function:
        return segments(drill_function(rng))
    x = rng.random()
    if x < 0.13:
        return segments(plain(rng, "train"))
    if x < 0.29:
        return segments(function_call(rng, "train"))
    if x < 0.38 and phase > 0:
        return segments(follow_up(rng, "train"))
    return segments(loop(rng, "train", name_share=0.5))


def encode(tokenizer: Tokenizer, parts: list[Segment]) -> tuple[list[int], list[int]]:
    """Token ids and their weights; the first of a turn and those after a choice marker weigh more."""
    raised = {tokenizer.token_to_id(token): weight for token, weight in CHOICES.items()}
    opening = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False).ids[-1:]
    ids: list[int] = []
    weights: list[int] = []
    for text, weight in parts:
        piece = tokenizer.encode(text, add_special_tokens=False).ids
        for place, token in enumerate(piece):
            first = FIRST if place == 0 and ids[-1:] == opening else 1
            weights.append(weight * max(first, raised.get(ids[-1], 1)) if weight and ids else weight)
            ids.append(token)
    return ids, weights
