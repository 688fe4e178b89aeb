"""The network of a run's commands: hosts, and variables of this machine whose values are put into requests to them.

Both come from the person (`--allow`, `--env`, the composer) and from `[skill.NAME] allow, env` in config.toml. A value
goes to the daemon with the request, which puts it in for its hosts; the commands hold a placeholder.
The table is not called skills: that key is the daemon's setting of how skills on disk are offered.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from typing import Any

from skilldeck_shared import paths
from skilldeck_shared.errors import BadRequest

Object = dict[str, Any]
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def network(allow: Sequence[str], skills: Sequence[str], env: Sequence[str] = ()) -> Object:
    """The environment's network_policy, {} for none.

    Args:
        allow, env: hosts, and names of variables for all of them, those of skills included.
        skills: names whose tables count; a skill's variables are for its own hosts.

    Raises: BadRequest naming the option or the field of config.toml that is wrong.
    """
    tables = {name: (_of_skill(name, "allow"), _of_skill(name, "env")) for name in skills}
    hosts = list(dict.fromkeys([*allow, *(host for own, _ in tables.values() for host in own)]))
    secrets: dict[tuple[str, str], Object] = {}
    for variable in env:
        if not hosts:
            hint = "Its value is put into requests to hosts that are allowed: name them with --allow."
            raise BadRequest(f"--env {variable} is for no host.", hint, param="env")
        for host in hosts:
            secrets[host, variable] = _secret(host, variable, "--env")
    for name, (own, variables) in tables.items():
        field = f"skill.{name}.env"
        if variables and not own:
            raise BadRequest(f"{field} is for no host.", f'Add allow = ["HOST"] below [skill.{name}].', param=field)
        for variable in variables:
            for host in own:
                secrets.setdefault((host, variable), _secret(host, variable, field))
    if not hosts:
        return {}
    policy: Object = {"type": "allowlist", "allowed_domains": hosts}
    if secrets:
        policy["domain_secrets"] = list(secrets.values())
    return {"network_policy": policy}


def _secret(host: str, variable: str, said: str) -> Object:
    if not VARIABLE.fullmatch(variable):
        hint = "Give the name of a variable; its value is taken from where skilldeck runs."
        raise BadRequest(f"{said}: {variable.partition('=')[0]!r} is no name of a variable.", hint, param="env")
    value = os.environ.get(variable, "")
    if not value:
        hint = f"Set it where skilldeck runs: export {variable}=…"
        raise BadRequest(f"{said}: the variable {variable} is not set.", hint, param="env")
    return {"domain": host, "name": variable, "value": value}


def _of_skill(name: str, key: str) -> list[str]:
    path = paths.config_file()
    try:
        tables: Any = tomllib.loads(path.read_text("utf-8")).get("skill", {})
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadRequest(f"{path} cannot be read: {error}.", "Mend the file or remove it.") from error
    table = tables.get(name, {}) if isinstance(tables, dict) else {}
    field = f"skill.{name}.{key}"
    listed = table.get(key, []) if isinstance(table, dict) else None
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        what, example = ("hosts", "pypi.org") if key == "allow" else ("names of variables", "API_KEY")
        hint = f'Write: [skill.{name}] and below it {key} = ["{example}"]'
        raise BadRequest(f"{field} in {path} must be a list of {what}.", hint, param=field)
    return listed


def read_words(text: str) -> tuple[list[str], list[str]]:
    """Hosts and, after a $ each, variables, as a person writes them in one line."""
    words = [word for word in re.split(r"[\s,]+", text) if word]
    return [word for word in words if word[0] != "$"], [word[1:] for word in words if word[0] == "$"]
