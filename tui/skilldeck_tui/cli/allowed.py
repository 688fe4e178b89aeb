"""Hosts that the commands of a run may reach: `--allow`, and `[skill.NAME] allow` in config.toml.

The table is not called skills: that key is the daemon's setting of how skills on disk are offered.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from skilldeck_shared import paths
from skilldeck_shared.errors import BadRequest
from skilldeck_tui.client.types import Object

Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", help="A host commands may reach; *.example.org for its subdomains. Repeatable."),
]


def network(allow: Sequence[str], skills: Sequence[str]) -> Object:
    """The environment's network_policy: the hosts given here and those of the skills' tables; none: no network.

    Raises: BadRequest naming the field of config.toml that is wrong.
    """
    hosts = list(dict.fromkeys([*allow, *(host for name in skills for host in _of_skill(name))]))
    return {"network_policy": {"type": "allowlist", "allowed_domains": hosts}} if hosts else {}


def _of_skill(name: str) -> list[str]:
    path = paths.config_file()
    try:
        tables: Any = tomllib.loads(path.read_text("utf-8")).get("skill", {})
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadRequest(f"{path} cannot be read: {error}.", "Mend the file or remove it.") from error
    table = tables.get(name, {}) if isinstance(tables, dict) else {}
    field = f"skill.{name}.allow"
    hosts = table.get("allow", []) if isinstance(table, dict) else None
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        hint = f'Write: [skill.{name}] and below it allow = ["pypi.org"]'
        raise BadRequest(f"{field} in {path} must be a list of hosts.", hint, param=field)
    return hosts
