"""The secrets of containers: values in memory alone, which a restart of the daemon loses.

A container keeps its placeholders while it lives, also when a later request brings other values.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from skilldeck_daemon.containers.spec import Secret


class Secrets:
    """By container id."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Secret, ...]] = {}

    def keep(self, id: str, given: Sequence[Secret]) -> None:
        """These are the container's from now on. A variable has one placeholder, whatever domains it is for."""
        known = {secret.name: secret.placeholder for secret in self.of(id)}
        for secret in given:
            known.setdefault(secret.name, f"skilldeck-secret-{secrets.token_hex(16)}")
        self._kept[id] = tuple(replace(secret, placeholder=known[secret.name]) for secret in given)

    def of(self, id: str) -> tuple[Secret, ...]:
        return self._kept.get(id, ())

    def forget(self, id: str) -> None:
        self._kept.pop(id, None)


def names_of(given: Sequence[Secret]) -> list[list[str]]:
    """What a record keeps of them: [domain, name] each."""
    return sorted([secret.domain, secret.name] for secret in given)
