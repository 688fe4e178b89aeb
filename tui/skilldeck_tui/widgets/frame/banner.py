"""One line below the tabs when the daemon is away, back, or not well."""

from __future__ import annotations

from textual.content import Content

from skilldeck_tui.state import DaemonState
from skilldeck_tui.text.format import one_line
from skilldeck_tui.widgets.text_block import TextBlock


class Banner(TextBlock):
    DEFAULT_CSS = """
    Banner { display: none; height: auto; max-height: 5; padding: 0 2; }
    Banner.-degraded { display: block; background: $warning 20%; color: $text-warning; }
    Banner.-stuck { display: block; background: $error 20%; color: $text-error; }
    Banner.-recovered { display: block; background: $success 20%; color: $text-success; }
    """

    def show(self, state: DaemonState) -> None:
        kind, text = message(state)
        for name in ("degraded", "stuck", "recovered"):
            self.set_class(kind == name, f"-{name}")
        if kind:
            self.write(Content(text))


def message(state: DaemonState) -> tuple[str, str]:
    error = state.link_error
    if state.link == "stuck":
        title = error.title if error else "The daemon does not answer."
        hint = error.hint if error and error.hint else "Start it with `skilldeckd serve`."
        again = "" if state.fatal else " Still trying; nothing here is lost."
        return "stuck", f"{title} {hint}{again}"
    if state.link == "degraded":
        return "degraded", "Lost the connection to the daemon. Reconnecting; nothing here is lost."
    if state.link == "recovered":
        return "recovered", "Connected again."
    if state.status.get("state") == "degraded":
        return "degraded", one_line(str(state.status.get("detail") or "The daemon runs, but not all of it works."))
    if state.status.get("state") == "stopping":
        return "degraded", "The daemon is stopping."
    return "", ""
