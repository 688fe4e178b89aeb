"""What is wrong with a skill folder: the message, the lines of SKILL.md around it, and the next step."""

from __future__ import annotations

from pathlib import Path

from textual.content import Content
from textual.widgets import Static

from skilldeck_tui.format import clean
from skilldeck_tui.watching.watcher import WatchState

AROUND = 2
_READ = 256 * 1024


class Problem(Static):
    DEFAULT_CSS = """
    Problem {
        display: none; height: auto; max-height: 16; padding: 0 1; border: round $error 50%;
        border-title-color: $error;
    }
    Problem.-open { display: block; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._watch: WatchState | None = None
        self._served = ""

    def on_resize(self) -> None:
        # Lines are cut to the width, which is known only once the box is shown.
        self.show(self._watch, self._served)

    def show(self, watch: WatchState | None, served: str = "") -> None:
        """Nothing when all is well. `served`: the version that the daemon has, also when the watch never saw it."""
        self._watch, self._served = watch, served
        broken = watch is not None and watch.state in ("error", "gone", "unreadable")
        warned = watch is not None and bool(watch.warnings) and not broken
        self.set_class(broken or warned, "-open")
        self.set_class(broken, "-error")
        if watch is None or not (broken or warned):
            return
        if warned:
            self.border_title = "Works, but"
            self.update(Content("\n".join(clean(text) for text in watch.warnings[:4])))
            return
        placed = watch.state == "error" and watch.line
        self.border_title = f"SKILL.md {watch.line}:{watch.column}" if placed else str(watch.folder)
        self.update(describe(watch, served, self.content_size.width or 60))


def describe(watch: WatchState, served: str, width: int = 60) -> Content:
    parts: list[str | tuple[str, str]] = []
    if watch.state == "gone":
        parts.append(("The folder is gone. It is watched on: put it back and it goes on from there.", ""))
    else:
        error = watch.error
        title = clean(error.title if error else "The folder cannot be used.")
        # The place stands in the border already.
        parts.append((title.removeprefix(f"SKILL.md line {watch.line}, column {watch.column}: "), "$error"))
        parts += excerpt(watch.folder / "SKILL.md", watch.line, watch.column, width - 7)
        if error and error.hint:
            parts.append((f"\n{clean(error.hint)}", "$muted"))
    if version := watch.version or served:
        parts.append((f"\nVersion {version} goes on serving.", "$muted"))
    if watch.line:
        parts.append(("\ne", "bold $accent"))
        parts.append((" opens your editor there", "$faint"))
    return Content.assemble(*parts)


def excerpt(path: Path, line: int | None, column: int | None, width: int = 60) -> list[tuple[str, str]]:
    """The lines around the place, with a caret; nothing when the file cannot be read. At most 256 KB are read."""
    if not line:
        return []
    try:
        with path.open("rb") as handle:
            text = handle.read(_READ).decode("utf-8", "replace")
    except OSError:
        return []
    rows = text.split("\n")
    width = max(16, width)
    # A long line is shown from where its fault can be seen.
    start = 0 if (column or 1) < width else (column or 1) - width + 8
    parts = []
    for number in range(max(1, line - AROUND), min(len(rows), line + AROUND) + 1):
        here = number == line
        shown = clean(rows[number - 1])
        shown = f"…{shown[start + 1 :]}" if start and len(shown) > start else shown[start:]
        shown = shown if len(shown) <= width else shown[: width - 1] + "…"
        parts.append((f"\n{number:>4} │ ", "$faint"))
        parts.append((shown, "bold" if here else "$muted"))
        if here and column:
            parts.append(("\n     │ ", "$faint"))
            parts.append((" " * (column - 1 - start) + "▲", "$error"))
    return parts
