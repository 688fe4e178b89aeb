"""The package indexes: which hosts they are, and how pip, uv and npm in a container are configured for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from skilldeck_daemon.containers.network.proxy import Proxy

PYPI = "https://pypi.org/simple"
NPM = "https://registry.npmjs.org"
_FILES = {"pypi.org": ("files.pythonhosted.org",)}
"""Where an index has what it lists, when that is another host."""
# pip says that the network failed only before it tries again; npm waits 70 s before it says so.
_CUT_OFF = {"PIP_RETRIES": "1", "UV_OFFLINE": "1", "NPM_CONFIG_FETCH_RETRIES": "0"}


@dataclass(frozen=True)
class Indexes:
    """Where packages come from: URLs, the operator's own perhaps."""

    python: str = PYPI
    node: str = NPM

    def hosts(self, *, python: bool, node: bool) -> tuple[str, ...]:
        """What has to be reached, as an allowlist names it."""
        found: dict[str, None] = {}
        for url in [*([self.python] if python else []), *([self.node] if node else [])]:
            parts = urlsplit(url)
            name = parts.hostname or ""
            port = f":{parts.port}" if parts.port not in (None, 80, 443) else ""
            found |= dict.fromkeys([f"{name}{port}", *_FILES.get(name, ())])
        return tuple(found)

    def chosen(self) -> dict[str, str]:
        """The variables that configure pip, uv and npm: none for an index that they take anyway."""
        said: dict[str, str] = {}
        if self.python != PYPI:
            said |= {"PIP_INDEX_URL": self.python, "UV_DEFAULT_INDEX": self.python}
            if urlsplit(self.python).scheme == "http":
                said["PIP_TRUSTED_HOST"] = urlsplit(self.python).netloc
        if self.node != NPM:
            said["NPM_CONFIG_REGISTRY"] = self.node
        return said

    def variables(self, allowed: Sequence[str]) -> dict[str, str]:
        """The same for commands in a container that reach these hosts, as far as they reach it.

        An index with a password in its address is left out: commands would read it.
        """
        if not allowed:
            return dict(_CUT_OFF)
        proxy = Proxy(allowed)
        shown = Indexes(
            *(url if _open(url, proxy) else usual for url, usual in ((self.python, PYPI), (self.node, NPM)))
        )
        return shown.chosen()


def _open(url: str, proxy: Proxy) -> bool:
    parts = urlsplit(url)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    return "@" not in parts.netloc and proxy.allows(parts.hostname or "", port)
