"""Sampling options beside temperature and top_p, as request bodies of every surface name them."""

from __future__ import annotations

from skilldeck_daemon.wire.fields import Fields, kind, refuse
from skilldeck_shared.json_types import JsonObject


def logit_bias(fields: Fields) -> dict[int, float]:
    """Token ids to biases from -100 to 100."""
    holder = fields.object("logit_bias")
    if holder is None:
        return {}
    biases: dict[int, float] = {}
    for key in holder.value:
        if not (key.isascii() and key.isdigit() and len(key) < 10):
            refuse(holder.path, f"'{holder.path}' has the key {key[:64]!r}.", 'Keys are token ids, like "50256".')
        bias = holder.number(key, minimum=-100, maximum=100)
        if bias is None:
            refuse(holder.name(key), f"'{holder.name(key)}' must be a number, not null.", code="invalid_type")
        biases[int(key)] = float(bias)
    return biases


def dry(fields: Fields) -> JsonObject:
    """The options of the DRY penalty that are given, by the names of `Sampling`; a multiplier of 0 turns it off."""
    found = {
        "dry_multiplier": fields.number("dry_multiplier", minimum=0, maximum=100),
        "dry_base": fields.number("dry_base", minimum=1, maximum=8),
        "dry_allowed_length": fields.integer("dry_allowed_length", minimum=1, maximum=1000),
    }
    return {name: value for name, value in found.items() if value is not None}


def template_options(fields: Fields) -> JsonObject:
    """`chat_template_kwargs`: variables for the model's chat template, as other servers of open models take them."""
    holder = fields.object("chat_template_kwargs")
    if holder is None:
        return {}
    for name in holder.value:
        if name in RESERVED or not name.isidentifier():
            refuse(holder.name(name[:64]), f"'{holder.name(name[:64])}' is not for requests to set.")
    return holder.value


RESERVED = ("messages", "tools", "documents", "add_generation_prompt", "continue_final_message")
"""What the request itself says to a template."""


MANY = 64
"""Stop strings of one request. OpenAI takes four; to other servers Continue sends all it has, a dozen or more."""


def one_or_many(fields: Fields, field: str) -> tuple[str, ...]:
    """A string, or a list of at most MANY strings; none may be empty."""
    value = fields.value.get(field)
    if value is None:
        return ()
    if not isinstance(value, str | list):
        refuse(fields.name(field), f"'{field}' must be a string or an array of strings, not {kind(value)}.")
    texts = [fields.string(field) or ""] if isinstance(value, str) else fields.strings(field, maximum=MANY)
    for text in texts:
        if not text:
            refuse(fields.name(field), f"'{fields.name(field)}' holds an empty string.", "Leave it out.")
    return tuple(texts)
