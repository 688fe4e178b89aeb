"""Messages as a model is given them: the shapes of Chat Completions, which every template and server knows."""

from __future__ import annotations

from typing import NotRequired, Required, TypedDict

from skilldeck_shared.json_types import JsonObject


class ImageUrl(TypedDict):
    url: str  # a data: URL


class MessagePart(TypedDict, total=False):
    """Text, or an image (`image_url`)."""

    type: Required[str]
    text: str
    image_url: ImageUrl


class FunctionPart(TypedDict):
    name: str
    arguments: str


class CustomPart(TypedDict):
    name: str
    input: str


class MessageCall(TypedDict):
    """An entry of `tool_calls`; `type` says which of the two it has."""

    id: str
    type: str
    function: NotRequired[FunctionPart]
    custom: NotRequired[CustomPart]


Content = str | list[MessagePart]


Message = JsonObject
"""One message: role, content (`Content` or null), the assistant's `reasoning_content` and `tool_calls` (`MessageCall`),
a tool's `tool_call_id`."""
