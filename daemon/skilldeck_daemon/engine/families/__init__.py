"""Model families: how each writes reasoning and tool calls, as data beside this file.

One JSON file per family. `detect` holds the strings that a family's chat template contains; families are tried by
their `rank`, lowest first. `calls` says how the parser reads a call (`body` chooses the reader, `parsing/bodies.py`),
`write` how the grammar makes the model write one. `variants` replace parts when their own `detect` strings are in the
template too. `text_calls` says that models of the family write calls as plain JSON too (`parsing/text_calls.py`), with
an empty `write.trigger` in no other form. A template of no known family is `generic`: what it shows of tools is in a
form nobody here reads, so tools and calls are written as plain text. `stray` are marks of the template that a model
writes in its answer though they are no part of one, `ends` those with which it goes on into the next message
(`parsing/strays.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

GENERIC = "generic"
AUTO = "auto"
"""Stands for the family that a chat template belongs to."""


@dataclass(frozen=True)
class Family:
    """One way of writing. `calls` and `write` are the JSON objects of the data file."""

    name: str
    title: str
    detect: tuple[str, ...]
    model_types: tuple[str, ...]
    end_tokens: tuple[str, ...]
    calls: Mapping[str, Any]
    write: Mapping[str, Any]
    think_open: str = ""
    think_close: str = ""
    ignore: tuple[str, ...] = ()
    stray: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    short_ids: bool = False
    describe_tools: bool = False
    text_calls: bool = False
    variants: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    @property
    def markers(self) -> tuple[str, ...]:
        """Strings that structure the output; special tokens among them must reach the parser as text."""
        calls = self.calls
        fixed = [self.think_open, self.think_close, calls["open"], calls["close"], calls.get("prefix", "")]
        fixed += [*self.ignore, *calls.get("name_end", ())]
        if calls["body"] == "channels":
            fixed += ["<|start|>", "<|message|>", "<|end|>", "<|constrain|>"]
        return tuple(marker for marker in fixed if marker)


def read(raw: Mapping[str, Any]) -> Family:
    reasoning = raw.get("reasoning") or {}
    return Family(
        name=raw["name"],
        title=raw["title"],
        detect=tuple(raw["detect"]),
        model_types=tuple(raw["model_types"]),
        end_tokens=tuple(raw["end_tokens"]),
        calls=raw["calls"],
        write=raw["write"],
        think_open=reasoning.get("open", ""),
        think_close=reasoning.get("close", ""),
        ignore=tuple(raw.get("ignore", ())),
        stray=tuple(raw.get("stray", ())),
        ends=tuple(raw.get("ends", ())),
        short_ids=bool(raw.get("short_ids")),
        describe_tools=bool(raw.get("describe_tools")),
        text_calls=bool(raw.get("text_calls")),
        variants=tuple(raw.get("variants", ())),
    )


@cache
def known() -> tuple[str, ...]:
    """The names of the families, in the order in which a template is compared with them."""
    found = [entry.name.removesuffix(".json") for entry in files(__package__).iterdir() if entry.name.endswith(".json")]
    return tuple(sorted((name for name in found if name != GENERIC), key=lambda name: (_raw(name)["rank"], name)))


@cache
def _raw(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((files(__package__) / f"{name}.json").read_text(encoding="utf-8"))
    return found


def family(name: str, template: str = "") -> Family:
    """The family of that name, in the variant the template asks for. Raises KeyError."""
    if name not in (*known(), GENERIC):
        raise KeyError(name)
    raw = _raw(name)
    for variant in raw.get("variants", ()):
        if all(mark in template for mark in variant["detect"]):
            raw = {**raw, **{key: value for key, value in variant.items() if key != "detect"}}
    return read(raw)


def detect(template: str, model_type: str = "") -> Family:
    """The family a chat template belongs to; the model's type decides where the template says nothing."""
    for name in known():
        if all(mark in template for mark in _raw(name)["detect"]):
            return family(name, template)
    for name in known():
        if model_type in _raw(name)["model_types"] and "tools" in template:
            return family(name, template)
    return family(GENERIC, template)


@cache
def _openers() -> tuple[str, ...]:
    opened = {str(_raw(name)["calls"].get("open") or "") for name in (*known(), GENERIC)}
    return tuple(sorted(opened - {""}))


def begins_with_call(text: str) -> bool:
    """Whether a text that was to be words begins as some family writes a call, or is a call as JSON."""
    text = text.strip()
    if text.startswith(_openers()):
        return True
    try:
        value = json.loads(text) if text.startswith("{") else None
    except ValueError:
        return False
    return isinstance(value, dict) and not {"name", "function", "tool"}.isdisjoint(value) and len(value) <= 3
