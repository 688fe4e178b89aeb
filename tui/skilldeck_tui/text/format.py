"""How values are shown: ages, sizes, durations, one line of a text. Pure functions."""

from __future__ import annotations

from skilldeck_shared.terminal import clean as clean  # for those who take it from here

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


def one_line(text: str, limit: int = 200) -> str:
    """The first line that holds something, cut to `limit` characters."""
    for line in clean(text[: 10 * limit]).splitlines():
        if line.strip():
            line = " ".join(line.split())
            return line if len(line) <= limit else line[: limit - 1] + "…"
    return ""


def size(count: float) -> str:
    """Bytes for people: `812 B`, `14.2 KB`, `3.1 GB`."""
    if count < 1000:
        return f"{int(count)} B"
    for unit in ("KB", "MB", "GB", "TB"):
        count /= 1000
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if count >= 100 else f"{count:.1f} {unit}"
    raise AssertionError("unreachable")


def count(number: float) -> str:
    """`950`, `1.2k`, `34k`, `1.2M`."""
    if number < 1000:
        return f"{number:.0f}"
    if number < 1_000_000:
        return f"{number / 1000:.1f}k" if number < 10_000 else f"{number / 1000:.0f}k"
    return f"{number / 1_000_000:.1f}M"


def duration(seconds: float) -> str:
    """`45 ms`, `3.2s`, `2m 05s`, `1h 03m`."""
    seconds = max(0.0, seconds)
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    if seconds < 3600:
        return f"{int(seconds // 60)}m {int(seconds % 60):02}s"
    return f"{int(seconds // 3600)}h {int(seconds % 3600 // 60):02}m"


def age(then: float | None, now: float) -> str:
    """How long ago, in at most three characters: `now`, `5s`, `12m`, `3h`, `9d`."""
    if not then:
        return ""
    seconds = max(0, int(now - then))
    if seconds < 2:
        return "now"
    for limit, unit in ((60, 1), (3600, 60), (86400, 3600)):
        if seconds < limit:
            return f"{seconds // unit}{ {1: 's', 60: 'm', 3600: 'h'}[unit] }"
    return f"{seconds // 86400}d"


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
