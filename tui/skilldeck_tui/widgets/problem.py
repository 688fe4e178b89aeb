"""What is wrong with a skill folder: the message, the lines around it, and the next step.

What keeps a version from being made comes alone; else what lint finds, the gravest first, or what was warned of.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual.content import Content
from textual.widgets import Static

from skilldeck_shared.terminal import clean
from skilldeck_tui.skills.lints import grave
from skilldeck_tui.watching.watcher import WatchState

if TYPE_CHECKING:
    from skilldeck_shared.lint.rules import Finding

AROUND = 2
MORE = 4
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
        self._findings: Sequence[Finding] = ()
        self._folder: Path | None = None

    def on_resize(self) -> None:
        # Lines are cut to the width, which is known only once the box is shown.
        self.show(self._watch, self._served, self._folder, self._findings)

    def show(
        self,
        watch: WatchState | None,
        served: str = "",
        folder: Path | None = None,
        findings: Sequence[Finding] = (),
    ) -> None:
        """Nothing when all is well.

        Args:
            served: the version that the daemon has, also when the watch never saw it.
            folder: the skill's, with what lint finds there.
        """
        self._watch, self._served, self._folder, self._findings = watch, served, folder, findings
        broken = watch is not None and watch.state in ("error", "gone", "unreadable")
        warnings = watch.warnings if watch is not None and not broken else ()
        serious = [] if broken else grave(findings)
        self.set_class(broken or bool(warnings) or bool(serious), "-open")
        self.set_class(broken, "-error")
        self.border_subtitle = f"l shows {'it' if len(findings) == 1 else f'all {len(findings)}'}" if serious else ""
        if serious and folder is not None:
            self.border_title = "Works, but"
            self.update(faults(serious, folder, self.content_size.width or 60))
            return
        if warnings:
            self.border_title = "Works, but"
            self.update(Content("\n".join(clean(text) for text in warnings[:4])))
            return
        if watch is None or not broken:
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


def faults(found: Sequence[Finding], folder: Path, width: int) -> Content:
    """The first finding at its line, the others by their names."""
    first = found[0]
    parts: list[str | tuple[str, str]] = [(f"{clean(first.place)} ", "$muted"), (clean(first.message), "$warning")]
    parts += excerpt(folder / first.path, first.line or None, first.column, width - 7, around=1)
    parts.append((f"\n{clean(first.cure)}", "$muted"))
    for other in found[1:MORE]:
        parts += [(f"\n{clean(other.place)} ", "$faint"), (other.rule, "$muted")]
    return Content.assemble(*parts)


def excerpt(
    path: Path, line: int | None, column: int | None, width: int = 60, *, around: int = AROUND
) -> list[tuple[str, str]]:
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
    for number in range(max(1, line - around), min(len(rows), line + around) + 1):
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
