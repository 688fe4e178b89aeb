"""The `environment` of a shell: a container of its own (container_auto), one that exists, or the client's machine.

What POST /containers takes as well is read by `container_contents`. Nothing is looked up here: skills and files are
resolved when a run or a container is made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from skilldeck_daemon.containers.sandbox.bwrap import TAKEN
from skilldeck_daemon.containers.spec import Secret
from skilldeck_daemon.store.records import ShownPolicy
from skilldeck_daemon.wire.fields import Fields, kind, refuse
from skilldeck_shared.characters import clean
from skilldeck_shared.json_types import JsonObject

MEMORY_LIMITS = ("1g", "4g", "16g", "64g")
MAX_INLINE = 70_254_592
MAX_SKILLS = 200
Preloads = Literal["named", "none", "all"]
PRELOADS: tuple[Preloads, ...] = ("named", "none", "all")
MAX_SECRETS = 100
MAX_SECRET = 8192
"""Characters: what is longer fits into no header."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LEFT_OUT = "bGVmdCBvdXQ="
"""Base64 of "left out"."""


@dataclass(frozen=True)
class EnvironmentSpec:
    """A validated `environment`. `skills` are the request's own objects, each with the path it stood at.

    `skills_preload` is our own: which skills are opened for the model (`agent/guidance/preload.py`).
    """

    kind: Literal["container_auto", "container_reference", "local"] = "local"
    container_id: str = ""
    file_ids: tuple[str, ...] = ()
    memory_limit: str = "1g"
    allowed_domains: tuple[str, ...] = ()
    secrets: tuple[Secret, ...] = ()
    skills: tuple[tuple[str, JsonObject], ...] = ()
    skills_preload: Preloads | None = None
    echo: JsonObject | None = field(default=None, compare=False)


def parse_environment(fields: Fields) -> EnvironmentSpec:
    kind_ = fields.needed("type", choices=("container_auto", "container_reference", "local"))
    if kind_ == "container_reference":
        id = fields.needed("container_id", maximum=256)
        fields.refuse(
            "skills", "file_ids", "memory_limit", "network_policy", why="A container keeps what it was made with."
        )
        shown = {"type": kind_, "container_id": id}
        return EnvironmentSpec("container_reference", id, skills_preload=_preload(fields), echo=shown)
    if kind_ == "local":
        skills = tuple(_local_skill(entry) for entry in fields.objects("skills", maximum=MAX_SKILLS))
        own = {"skills": [skill for _, skill in skills]} if skills else {}
        return EnvironmentSpec("local", skills=skills, echo={"type": "local", **own})
    contents = container_contents(fields)
    policy = shown_policy(contents.allowed_domains)
    echo: JsonObject = {
        "type": "container_auto",
        "file_ids": list(contents.file_ids),
        "memory_limit": contents.memory_limit,
        "network_policy": policy,
        "skills": [_shown(skill) for _, skill in contents.skills],
    }
    return EnvironmentSpec(
        "container_auto",
        file_ids=contents.file_ids,
        memory_limit=contents.memory_limit,
        allowed_domains=contents.allowed_domains,
        secrets=contents.secrets,
        skills=contents.skills,
        skills_preload=_preload(fields),
        echo=echo,
    )


def _preload(fields: Fields) -> Preloads | None:
    given = fields.string("skills_preload", choices=PRELOADS)
    return next((mode for mode in PRELOADS if mode == given), None)


def container_contents(fields: Fields) -> EnvironmentSpec:
    """The fields that container_auto and POST /containers share."""
    skills = tuple(_skill(entry) for entry in fields.objects("skills", maximum=MAX_SKILLS))
    domains, secrets = _network(fields)
    return EnvironmentSpec(
        "container_auto",
        file_ids=tuple(fields.strings("file_ids", maximum=50)),
        memory_limit=fields.string("memory_limit", choices=MEMORY_LIMITS) or "1g",
        allowed_domains=domains,
        secrets=secrets,
        skills=skills,
    )


def idle_minutes(fields: Fields) -> int | None:
    """`expires_after` of POST /containers; None without one."""
    expires = fields.object("expires_after")
    if expires is None:
        return None
    expires.needed("anchor", choices=("last_active_at",))
    return expires.integer("minutes", required=True, minimum=1, maximum=60 * 24 * 30)


def shown_policy(domains: Sequence[str]) -> ShownPolicy:
    """A network_policy as objects show it: never with secrets."""
    return {"type": "allowlist", "allowed_domains": list(domains)} if domains else {"type": "disabled"}


def _network(fields: Fields) -> tuple[tuple[str, ...], tuple[Secret, ...]]:
    policy = fields.object("network_policy")
    if policy is None or policy.needed("type", choices=("disabled", "allowlist")) == "disabled":
        return (), ()
    domains = tuple(policy.strings("allowed_domains", required=True, minimum=1, maximum=1000))
    secrets: dict[tuple[str, str], Secret] = {}
    for entry in policy.objects("domain_secrets", maximum=MAX_SECRETS):
        secret = _secret(entry)
        if secrets.setdefault((secret.domain, secret.name), secret) is not secret:
            refuse(entry.name("name"), f"'{entry.name('name')}' is given twice for its domain.", code="invalid_value")
    return domains, tuple(secrets.values())


def _secret(fields: Fields) -> Secret:
    name = fields.needed("name", maximum=128)
    if not _VARIABLE.fullmatch(name) or name in TAKEN:
        hint = "Use letters, digits and _; commands find it as a variable of that name, so none that the sandbox sets."
        refuse(fields.name("name"), f"'{fields.name('name')}' is {name[:64]!r}.", hint, "invalid_value")
    value = fields.needed("value", maximum=MAX_SECRET)
    if not (value.isascii() and value.isprintable()):  # what it is must not be shown, not even in part
        hint = "It is put into the headers of requests."
        refuse(fields.name("value"), f"'{fields.name('value')}' must be printable ASCII.", hint, "invalid_value")
    return Secret(fields.needed("domain", maximum=256), name, value)


def _skill(fields: Fields) -> tuple[str, JsonObject]:
    if fields.needed("type", choices=("skill_reference", "inline")) == "inline":
        source = fields.object("source", required=True)
        assert source is not None
        source.needed("type", choices=("base64",))
        source.needed("media_type", choices=("application/zip",))
        data = source.needed("data", maximum=MAX_INLINE)
        name, description = fields.needed("name", maximum=256), fields.needed("description", maximum=4096)
        origin = {"type": "base64", "media_type": "application/zip", "data": data}
        return fields.path, {"type": "inline", "name": name, "description": description, "source": origin}
    version = fields.value.get("version")
    # The guides send a JSON integer although the schema says string.
    if isinstance(version, int) and not isinstance(version, bool):
        version = str(version)
    elif version is not None and not isinstance(version, str):
        refuse(
            fields.name("version"), f"'{fields.name('version')}' must be a version or 'latest', not {kind(version)}."
        )
    reference = {"type": "skill_reference", "skill_id": fields.needed("skill_id", maximum=64)}
    return fields.path, {**reference, **({"version": clean(version)} if version is not None else {})}


def _local_skill(fields: Fields) -> tuple[str, JsonObject]:
    if fields.value.get("type") is not None:
        hint = "Give name, description and path, or use the environment container_auto."
        refuse(fields.path, f"'{fields.path}' is no skill of a local environment.", hint, "invalid_value")
    return fields.path, {name: fields.needed(name, maximum=4096) for name in ("name", "description", "path")}


def _shown(skill: JsonObject) -> JsonObject:
    """An inline bundle may have 70 MB: a Response shows its name, not its bytes (the schema wants some)."""
    if skill["type"] == "inline":
        return {**skill, "source": {**skill["source"], "data": LEFT_OUT}}
    return skill
