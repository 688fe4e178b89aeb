"""How much of what a command prints is kept, and how much of that leaves while the command runs.

Both sides need the rule: the daemon cuts by it, and a client that shows live output must say when there will be no more
until the command ends. Deltas, joined, are the final text, so what may still be cut cannot be sent before the end.
"""

from __future__ import annotations

DEFAULT_MAX_OUTPUT = 65_536
"""Characters of stdout and stderr together, per command, when the call names none."""
MAX_OUTPUT = 10_000_000
"""The largest `max_output_length`; more is cut to this, so that a call's memory stays bounded."""
SMALLEST_TAIL = 200
"""Below this limit there is a head only: an omission marker would leave nothing to read."""


def effective(max_output_length: int | None) -> int:
    """The limit of a call that asked for this one."""
    return DEFAULT_MAX_OUTPUT if max_output_length is None else min(max_output_length, MAX_OUTPUT)


def live_part(limit: int) -> int:
    """Characters that leave as they come; the rest of `limit` is for the end, which is known when the command ends."""
    return limit if limit < SMALLEST_TAIL else limit // 2
