"""Every setting as a flag of a command, with the name, the type and the words that `settings.py` gives it.

Without a flag are tables (`aliases`, `mcp_servers`), which only config.toml can spell well.
"""

from __future__ import annotations

import functools
import inspect
import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from skilldeck_daemon.settings import Settings
from skilldeck_shared.errors import SkilldeckError

TABLES = ("aliases", "mcp_servers")
JSON = "engine_options"
"""The one table that is a flag too, as a JSON object: what it may hold depends on the engine."""


def takes_settings(command: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
    """The command with a flag for each setting. It is given those that were set, for `load_settings`."""

    @functools.wraps(command)
    def run(**flags: Any) -> None:
        given = {name: value for name, value in flags.items() if value is not None and value not in ([], ())}
        if JSON in given:
            given[JSON] = read_object(given[JSON], _flag(JSON))
        command(given)

    wanted = {name: field for name, field in Settings.model_fields.items() if name not in TABLES}
    hints = {name: Annotated[_kind(name, field) | None, _option(name, field)] for name, field in wanted.items()}
    keyword = inspect.Parameter.KEYWORD_ONLY
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, keyword, default=None, annotation=hint) for name, hint in hints.items()]
    )
    run.__annotations__ = {**hints, "return": None}
    return run


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _option(name: str, field: FieldInfo) -> Any:
    names = [f"{_flag(name)}/--no-{name.replace('_', '-')}"] if field.annotation is bool else []
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    words = [field.description, f"One of {', '.join(choices)}." if choices else ""]
    return typer.Option(*names, help=" ".join(word for word in words if word))


def _kind(name: str, field: FieldInfo) -> Any:
    """The type of a flag; what a value may be is for the settings to say."""
    kind = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is list:
        return list[str]
    return kind if kind in (bool, int, float, Path) else str


def read_object(text: str, flag: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SkilldeckError(f"{flag} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise SkilldeckError(f"{flag} must be a JSON object.")
    return value
