"""Fields of the `mcp` tool: which tools are offered, which calls are asked about, which headers are sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skilldeck_daemon.wire.fields import Fields, refuse
from skilldeck_shared.json_types import JsonObject

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_OURS = {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "upgrade", "te"}


@dataclass(frozen=True)
class Filter:
    """Some of a server's tools: by name, by whether they say that they only read. None: any."""

    names: frozenset[str] | None = None
    read_only: bool | None = None

    @classmethod
    def parse(cls, fields: Fields) -> Filter:
        names = fields.strings("tool_names") if fields.value.get("tool_names") is not None else None
        given = fields.value.get("read_only")
        return cls(None if names is None else frozenset(names), None if given is None else fields.boolean("read_only"))

    def matches(self, tool: Mapping[str, Any]) -> bool:
        if self.names is not None and tool["name"] not in self.names:
            return False
        hint = (tool.get("annotations") or {}).get("readOnlyHint") is True
        return self.read_only is None or self.read_only == hint


def read_headers(fields: Fields) -> dict[str, str]:
    given = fields.object("headers")
    headers: dict[str, str] = {}
    for name in given.value if given is not None else ():
        assert given is not None
        value = given.string(name, required=True, maximum=8192) or ""
        if not _HEADER.fullmatch(name) or name.lower() in _OURS or name.lower().startswith("mcp-"):
            refuse(given.name(name), f"The header {name[:100]!r} cannot be set.", code="invalid_value")
        if not value.isprintable() or not value.isascii():
            refuse(given.name(name), f"'{given.name(name)}' must be printable ASCII.", code="invalid_value")
        headers[name] = value
    token = fields.string("authorization", maximum=8192)
    if token:
        name = fields.name("authorization")
        if any(other.lower() == "authorization" for other in headers):
            refuse(name, f"'{name}' and an Authorization header were both given.", "Use one of them.")
        if not token.isprintable() or not token.isascii():
            refuse(name, f"'{name}' must be printable ASCII.", code="invalid_value")
        headers["Authorization"] = f"Bearer {token}"
    return headers


def read_allowed(fields: Fields) -> tuple[Filter, Any]:
    if fields.value.get("allowed_tools") is None:
        return Filter(), None
    if isinstance(fields.value["allowed_tools"], list):
        return Filter(frozenset(fields.strings("allowed_tools"))), fields.value["allowed_tools"]
    inner = fields.object("allowed_tools")
    assert inner is not None
    return Filter.parse(inner), _shown(inner)


def read_approval(fields: Fields) -> tuple[Filter | None, Filter | None, Any]:
    """(tools that always need it, tools that never do, as it is echoed); what no filter names needs it."""
    if not isinstance(fields.value.get("require_approval"), dict):
        policy = fields.string("require_approval", choices=("always", "never")) or "always"
        return None, (Filter() if policy == "never" else None), policy
    inner = fields.object("require_approval")
    assert inner is not None
    always, never = inner.object("always"), inner.object("never")
    shown = {name: _shown(given) for name, given in (("always", always), ("never", never)) if given is not None}
    return (
        Filter.parse(always) if always is not None else None,
        Filter.parse(never) if never is not None else None,
        shown,
    )


def _shown(given: Fields) -> JsonObject:
    """A filter as the request gave it."""
    return {name: given.value[name] for name in ("tool_names", "read_only") if given.value.get(name) is not None}
