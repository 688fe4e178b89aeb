"""The versions of one skill, newest first."""

from __future__ import annotations

from textual.content import Content
from textual.widgets.option_list import Option

from skilldeck_tui.format import age
from skilldeck_tui.state import Object
from skilldeck_tui.widgets.options import Options


class VersionList(Options):
    DEFAULT_CSS = """
    VersionList {
        height: auto; max-height: 8; border: none; background: transparent; padding: 0 0 0 1;
        scrollbar-size-vertical: 1;
    }
    VersionList:focus { border: none; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)
        self.versions: list[Object] = []
        self._skill = ""

    def show(self, skill_id: str, versions: list[Object], default: str, now: float) -> None:
        """The selected version stays selected, but who looks at the newest goes on to a newer one."""
        old = self.current if skill_id == self._skill and self.highlighted else None
        selected = str(old["version"]) if old else ""
        self._skill, self.versions = skill_id, versions
        self.clear_options()
        for version in versions:
            number = str(version["version"])
            parts: list[str | tuple[str, str]] = [(f"v{number:<4}", "bold")]
            parts.append((f"{age(version.get('created_at'), now):>4}  ", "$faint"))
            if number == default:
                parts.append(("default ", "$success"))
            if version is versions[0]:
                parts.append(("latest ", "$accent"))
            if version.get("watched"):
                parts.append(("watched", "$faint"))
            self.add_option(Option(Content.assemble(*parts), id=number))
        numbers = [str(version["version"]) for version in versions]
        if numbers:
            self.highlighted = numbers.index(selected) if selected in numbers else 0

    @property
    def current(self) -> Object | None:
        index = self.highlighted
        return self.versions[index] if index is not None and index < len(self.versions) else None
