"""Tools of type `namespace`: function and custom tools grouped under one name, as Codex groups those of an MCP server.

Models know functions by one name, so a member is `NAMESPACE__NAME` to them. On the wire a call has both names apart,
`name` and `namespace`, and so it comes back in a history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from skilldeck_shared.json_types import JsonObject

JOINT = "__"


@dataclass(frozen=True)
class Namespace:
    name: str
    description: str


def flat_name(name: str, namespace: Namespace | None) -> str:
    """The member's name to the model."""
    return name if namespace is None else joined(namespace.name, name)


def joined(namespace: str, name: str) -> str:
    """The two names as one. A namespace may end with the joint already, as in `mcp__files__`."""
    return namespace.removesuffix(JOINT) + JOINT + name


class Member(TypedDict):
    """The names of a call's function, as its item has them apart."""

    name: str
    namespace: NotRequired[str]


def full_name(item: Member) -> str:
    """What the model knows the function of a call item by."""
    return joined(item["namespace"], item["name"]) if item.get("namespace") else item["name"]


def means(choice: Mapping[str, Any], name: str, namespace: Namespace | None) -> bool:
    """Whether a tool_choice entry means the tool: by its own name, with its namespace or without, or by both joined."""
    if choice.get("name") == flat_name(name, namespace):
        return True
    if choice.get("name") != name:
        return False
    return choice.get("namespace") in (None, "" if namespace is None else namespace.name)


def grouped(echoed: list[tuple[Namespace | None, JsonObject]]) -> list[JsonObject]:
    """The tools of a request as it gave them: members of one namespace together, where its first stands."""
    shown: list[JsonObject] = []
    groups: dict[str, list[JsonObject]] = {}
    for namespace, tool in echoed:
        if namespace is None:
            shown.append(tool)
        elif namespace.name in groups:
            groups[namespace.name].append(tool)
        else:
            groups[namespace.name] = [tool]
            about = {"name": namespace.name, "description": namespace.description}
            shown.append({"type": "namespace", **about, "tools": groups[namespace.name]})
    return shown
