"""What a failed command tried to reach and may not, and how somebody allows it: a line behind its errors.

With an allowlist the proxy knows what it refused. Without any network there is no proxy, and what programs print says
it: that a name could not be resolved, and perhaps which.
"""

from __future__ import annotations

import re

from skilldeck_daemon.containers.network.indexes import Indexes

MOST = 4
"""Hosts that are named."""
_LOOKED_AT = 20_000
"""Characters of an output, from its end."""
_CUT_OFF = re.compile(
    r"name resolution|Name or service not known|[Cc]ould not resolve host|unable to resolve host|EAI_AGAIN|ENOTFOUND|"
    r"NameResolutionError|dns error|network was disabled|Network is unreachable|ENETUNREACH|dial tcp: lookup|"
    r"No address associated with hostname"
)
_HOSTS = re.compile(
    r"(?:https?://|host='|resolve host: |resolve host address .|Failed to resolve '|EAI_AGAIN |ENOTFOUND |"
    r"dial tcp: lookup )([A-Za-z0-9][A-Za-z0-9.-]{0,252})"
)
_OF_PIP = re.compile(r": /\S+/|network was disabled")
_REFUSED = re.compile(r"\b403\b|Forbidden|[Tt]unnel")


class Reach:
    """Of one container.

    Args:
        limited: whether a policy holds its commands at all; without a sandbox none does.
        allowed: whether its commands reach anything.
    """

    def __init__(self, allowed: bool, indexes: Indexes = Indexes(), *, limited: bool = True) -> None:
        self.refused: set[str] = set()
        """Hosts that the proxy did not let through since the last `note`."""
        self._allowed = allowed
        self._limited = limited
        self._indexes = indexes

    def note(self, stderr: str, stdout: str = "", *, failed: bool = True) -> str:
        """The line, "" when the network was not what failed.

        Args:
            failed: by its exit code; what a command that went well prints is its own.
        """
        refused = sorted(self.refused)
        self.refused.clear()
        if not self._limited:
            return ""
        if self._allowed:
            return _line(refused) if refused and (failed or _REFUSED.search(stderr)) else ""
        text = (stdout[-_LOOKED_AT:] if failed else "") + "\n" + stderr[-_LOOKED_AT:]
        lines = [line for line in text.splitlines() if _CUT_OFF.search(line)]
        if not lines:
            return ""
        hosts = dict.fromkeys(host.rstrip(".").lower() for line in lines for host in _HOSTS.findall(line))
        of_index = self._indexes.hosts(python=True, node=False)
        if of_index[0] in hosts or (not hosts and any(_OF_PIP.search(line) for line in lines)):
            hosts = dict.fromkeys([*of_index, *hosts])
        return _line([host for host in hosts if "." in host])


def _line(hosts: list[str]) -> str:
    options = " ".join(f"--allow {host}" for host in hosts[:MOST]) or "--allow HOST"
    what = f"may not reach {', '.join(hosts[:MOST])}" if hosts else "reach no network"
    return f"commands here {what}; allow with {options} (in the TUI: Network), or by the request's network_policy"
