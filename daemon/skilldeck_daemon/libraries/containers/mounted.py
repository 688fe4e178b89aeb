"""A skill inside a container, as a record keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from skilldeck_daemon.containers.spec import ContainerSpec, Mount, NetworkPolicy, Secret
from skilldeck_daemon.libraries.skill_environments import SkillEnvironments
from skilldeck_daemon.skills.needs import Needs
from skilldeck_daemon.store.records import KeptMount, KeptNeeds, StoredContainer


@dataclass(frozen=True)
class Mounted:
    """A skill inside a container: its name there, and what it is."""

    name: str
    description: str
    path: str
    skill_id: str
    version: str
    needs: KeptNeeds = field(default_factory=dict)
    """What it says it needs, as `Needs.kept`."""

    @classmethod
    def of(cls, kept: KeptMount) -> Mounted:
        return cls(**kept)

    def kept(self) -> KeptMount:
        """As a container's record keeps it."""
        return {
            "name": self.name,
            "description": self.description,
            "path": self.path,
            "skill_id": self.skill_id,
            "version": self.version,
            "needs": self.needs,
        }


Mounts = list[Mounted]


def numbered(mounts: Sequence[Mounted]) -> Mounts:
    """Each under a name of its own: the second `x` is `x-2`."""
    result: Mounts = []
    for mount in mounts:
        name, number = mount.name, 2
        while any(other.name == name for other in result):
            name, number = f"{mount.name}-{number}", number + 1
        result.append(replace(mount, name=name))
    return result


def spec_of(record: StoredContainer, packages: SkillEnvironments, secrets: tuple[Secret, ...]) -> ContainerSpec:
    """The container of a record, as it can be now."""
    needs = [(mount["name"], Needs.of(mount.get("needs"))) for mount in record["mounts"]]
    domains = tuple(record["network_policy"].get("allowed_domains", ()))
    return ContainerSpec(
        id=record["id"],
        mounts=tuple(Mount(mount["name"], Path(mount["path"])) for mount in record["mounts"]),
        memory_limit=record["memory_limit"],
        network=NetworkPolicy(domains, secrets=secrets),
        environments=packages.mounted(needs),
    )
