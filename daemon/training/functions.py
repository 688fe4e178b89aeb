"""Scenarios with declared functions: the arguments are copied from the request."""

from __future__ import annotations

import json
import random
from typing import Any

from training import function_phrases as fp
from training import phrases as ph
from training.outputs import stdout
from training.render import Message, tool_result
from training.scenario import Conversation, catalogue, flourish
from training.words import Atoms


def _text_value(atoms: Atoms) -> tuple[str, str]:
    """(as the user writes it, the argument): a capitalised word, a code, a quoted phrase."""
    rng = atoms.rng
    x = rng.random()
    if x < 0.5:
        word = atoms.atom().capitalize()
        return word, word
    if x < 0.6:
        code = f"{atoms.atom()[:3].upper()}-{rng.randint(10, 9999)}"
        return code, code
    if x < 0.7:
        address = f"{atoms.atom()}@{atoms.atom()}.{rng.choice(('com', 'org', 'net'))}"
        return address, address
    if x < 0.85:
        word = atoms.atom()
        return word, word
    phrase = " ".join(atoms.atom() for _ in range(rng.randint(1, 3)))
    return f'"{phrase}"', phrase


def _key(atoms: Atoms) -> str:
    """An argument's name. In training some are made up: copied letter by letter, which a real word teaches less."""
    return atoms.made_up() if atoms.split == "train" and atoms.rng.random() < 0.2 else atoms.word()


def make_function(atoms: Atoms, verbs: set[str], count: int) -> tuple[dict[str, Any], str, str]:
    """(declaration, verb, noun) of a function with `count` arguments."""
    rng = atoms.rng
    verb = rng.choice([v for v in (*ph.VERBS, "get", "send", "set", "lookup") if v not in verbs])
    verbs.add(verb)
    noun = atoms.word()
    properties = {_key(atoms): {"type": "integer" if rng.random() < 0.3 else "string"} for _ in range(count)}
    name = f"{verb}_{noun}" if rng.random() < 0.8 else f"{verb}{noun.capitalize()}"
    about = rng.choice(
        (
            f"{verb.capitalize()} the {noun}",
            f"{verb.capitalize()} a {noun} by {next(iter(properties))}",
            f"{noun} {verb}er",
        )
    )
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if rng.random() < 0.7:
        schema["required"] = list(properties)
        if rng.random() < 0.2:
            properties[atoms.word()] = {"type": "string"}
    return {"name": name, "description": about, "parameters": schema}, verb, noun


Made = tuple[dict[str, Any], str, str]


def _declared(atoms: Atoms) -> list[Made]:
    rng = atoms.rng
    verbs: set[str] = set()
    return [make_function(atoms, verbs, rng.choice((1, 1, 2, 2, 3))) for _ in range(rng.choice((1, 1, 2, 3)))]


def ask_and_call(atoms: Atoms, made: Made) -> list[Message]:
    """A request for the function `made`, and its call."""
    rng = atoms.rng
    target, verb, noun = made
    schema = target["parameters"]
    names = schema.get("required") or list(schema["properties"])
    said: list[str] = []
    arguments: dict[str, Any] = {}
    for name in names:
        if schema["properties"][name]["type"] == "integer":
            arguments[name] = rng.choice((rng.randint(0, 9), rng.randint(10, 999), rng.randint(1000, 9999)))
            written = str(arguments[name])
        else:
            written, arguments[name] = _text_value(atoms)
        said.append(f"{name}{rng.choice((' ', ' ', '=', ': ', ' is '))}{written}" if len(names) > 1 else written)
    if len(names) == 1:
        text = rng.choice(fp.ASK_ONE[atoms.split])
    else:
        listed = rng.choice((" and ", ", ", " and ", "; ")).join(said)
        text = rng.choice(fp.ASK_MANY[atoms.split]).replace("{args}", listed)
    values = {"n": noun, "v": verb, "V": verb.capitalize(), "F": target["name"], "a": said[0]}
    text = text.format(**values) if "{" in text else text
    call = {"name": target["name"], "arguments": json.dumps(arguments, ensure_ascii=False)}
    return [
        {"role": "user", "content": flourish(rng, text)},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "type": "function", "function": call}]},
    ]


def drill_function(rng: random.Random) -> Conversation:
    """Some functions and several requests, each answered by its call."""
    atoms = Atoms(rng, "train")
    made = _declared(atoms)
    turns = [turn for _ in range(rng.choice((2, 3, 4, 5))) for turn in ask_and_call(atoms, rng.choice(made))]
    return Conversation("drill", [], [], [declared for declared, _, _ in made], turns)


def function_call(rng: random.Random, split: str) -> Conversation:
    """A request for a declared function, its call, its result and the answer."""
    atoms = Atoms(rng, split)
    made = _declared(atoms)
    turns = ask_and_call(atoms, made[0])
    shown = json.dumps({atoms.word(): atoms.atom()}) if rng.random() < 0.5 else stdout(atoms, short=True)
    turns += [tool_result(shown), {"role": "assistant", "content": f"Result:\n{shown}"}]
    skills, files = catalogue(atoms, rng.choice((1, 2)), 0) if rng.random() < 0.3 else ([], [])
    functions = [declared for declared, _, _ in made]
    rng.shuffle(functions)
    return Conversation("function", skills, files, functions, turns)
