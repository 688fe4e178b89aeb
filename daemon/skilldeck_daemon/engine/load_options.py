"""Options of a load that are the daemon's own: taken out before the engine sees the rest, which it checks itself."""

from __future__ import annotations

from typing import Any

from skilldeck_shared.errors import BadRequest


def take_flag(options: dict[str, Any], name: str, default: bool) -> bool:
    """Take a yes or no out of the options."""
    value = options.pop(name, default)
    if not isinstance(value, bool):
        raise BadRequest(f"Option {name} is {value!r}, neither true nor false.", param=name)
    return value


def take_tool_text(options: dict[str, Any]) -> bool:
    """Take out of the options whether calls in the text are read: auto (yes) or off."""
    value = options.pop("tool_text", "auto")
    if value not in ("auto", "off"):
        raise BadRequest(f"Option tool_text is {value!r}, neither auto nor off.", param="tool_text")
    return bool(value == "auto")


def take_call_style(options: dict[str, Any]) -> str:
    """Take out of the options how the model calls the shell."""
    value = options.pop("call_style", "auto")
    if value not in ("auto", "json", "bash"):
        raise BadRequest(f"Option call_style is {value!r}, none of auto, json and bash.", param="call_style")
    return str(value)
