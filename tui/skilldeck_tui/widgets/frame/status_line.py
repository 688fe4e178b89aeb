"""The line above the footer, once a second: what the engine does now."""

from __future__ import annotations

from textual.content import Content

from skilldeck_tui.state import ON_CARD, DaemonState
from skilldeck_tui.text.format import count, plural, size
from skilldeck_tui.widgets.text_block import TextBlock


class StatusLine(TextBlock):
    DEFAULT_CSS = "StatusLine { height: 1; padding: 0 1; color: $muted; background: $surface; }"

    def show(self, state: DaemonState) -> None:
        self.write(status(state, max(20, self.size.width - 2)))


def status(state: DaemonState, width: int) -> Content:
    """As many parts as fit, the most telling first."""
    parts = [part for part in _parts(state) if part[0]]
    kept: list[tuple[str, str]] = []
    used = 0
    for text, style in parts:
        need = len(text) + (3 if kept else 0)
        if used + need > width:
            continue
        used += need
        kept.append((text, style))
    pieces: list[str | tuple[str, str]] = []
    for text, style in kept:
        pieces += [(" · ", "$faint")] if pieces else []
        pieces.append((text, style))
    return Content.assemble(*pieces)


def _parts(state: DaemonState) -> list[tuple[str, str]]:
    if not state.loaded:
        return [("waiting for the daemon", "$faint")]
    if not state.connected:
        # Rates and queues of a daemon that may be dead would be read as those of now.
        return [(" · ".join(str(m.get("name") or "") for m in state.engines), "$muted"), ("as last heard", "$faint")]
    engines = state.engines
    if not engines:
        return [("no model loaded", "$warning"), *_rest(state)]
    model = max(engines, key=lambda m: (int(m.get("active") or 0), m.get("state") == "ready"))
    name, engine = str(model.get("name") or ""), str(model.get("engine") or "")
    active, queued = (sum(int(m.get(key) or 0) for m in engines) for key in ("active", "queued"))
    rate = sum(float(m.get("tokens_per_s") or 0) for m in engines)
    prefill = sum(float(m.get("prefill_per_s") or 0) for m in engines)
    cache = max(float(m.get("cache_used") or 0) for m in engines)
    used, total = float(model.get("device_memory_used") or 0), float(model.get("device_memory_total") or 0)
    condition = str(model.get("state") or "ready")
    memory = "VRAM" if engine in ON_CARD else "memory"
    return [
        (name, "bold $foreground"),
        (engine, ""),
        (condition if condition != "ready" else "", "$warning"),
        (f"{count(rate)} tok/s", "$accent" if active else ""),
        (f"{active} active" if active else "", ""),
        (f"{queued} queued" if queued else "", "$warning"),
        (f"cache {cache:.0%}", ""),
        (f"prefill {count(prefill)}/s" if prefill else "", ""),
        (f"{memory} {size(used)} of {size(total)}" if total else "", ""),
        *_rest(state),
    ]


def _rest(state: DaemonState) -> list[tuple[str, str]]:
    running = int(state.status.get("containers_running") or 0)
    permission = str(state.status.get("permission") or "auto")
    return [
        (plural(running, "container") if running else "", ""),
        ({"ask": "asks first", "deny": "runs no commands"}.get(permission, ""), "$warning"),
        ("no sandbox" if state.status.get("sandbox") in ("", "none") else "", "$error"),
    ]
