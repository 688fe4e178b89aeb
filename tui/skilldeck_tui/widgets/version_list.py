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
        self._skill = self._default = ""

    def show(self, skill_id: str, versions: list[Object], default: str, now: float) -> None:
        """The selected version stays selected, but who looks at the newest goes on to a newer one."""
        old = self.current if skill_id == self._skill and self.highlighted else None
        selected = str(old["version"]) if old else ""
        self._skill, self.versions, self._default = skill_id, versions, default
        self.clear_options()
        for version in versions:
            self.add_option(Option(self._line(version, now), id=str(version["version"])))
        numbers = [str(version["version"]) for version in versions]
        if numbers:
            self.highlighted = numbers.index(selected) if selected in numbers else 0

    def grow_older(self, now: float) -> None:
        """Ages go on."""
        for index, version in enumerate(self.versions):
            line = self._line(version, now)
            if line != self.get_option_at_index(index).prompt:
                self.replace_option_prompt_at_index(index, line)

    def _line(self, version: Object, now: float) -> Content:
        number = str(version["version"])
        parts: list[str | tuple[str, str]] = [(f"v{number:<4}", "bold")]
        parts.append((f"{age(version.get('created_at'), now):>4}  ", "$faint"))
        if number == self._default:
            parts.append(("default ", "$success"))
        if version is self.versions[0]:
            parts.append(("latest ", "$accent"))
        if version.get("watched"):
            parts.append(("watched", "$faint"))
        return Content.assemble(*parts)

    @property
    def current(self) -> Object | None:
        index = self.highlighted
        return self.versions[index] if index is not None and index < len(self.versions) else None
