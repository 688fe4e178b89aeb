"""The versions of one skill, newest first."""

from __future__ import annotations

from collections.abc import Mapping

from textual.content import Content
from textual.widgets.option_list import Option

from skilldeck_tui.state import Object
from skilldeck_tui.text.format import age
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
        self._rates: Mapping[str, tuple[int, int]] = {}

    def show(self, skill_id: str, versions: list[Object], default: str, now: float, kept: int = 0) -> None:
        """The selected version stays selected, but who looks at the newest goes on to a newer one.

        Args:
            kept: so many watched versions stay; said at the end, once there are as many.
        """
        old = self.current if skill_id == self._skill and self.highlighted else None
        selected = str(old["version"]) if old else ""
        if skill_id != self._skill:
            self._rates = {}
        self._skill, self.versions, self._default = skill_id, versions, default
        self.clear_options()
        for version in versions:
            self.add_option(Option(self._line(version, now), id=str(version["version"])))
        if 0 < kept <= sum(bool(version.get("watched")) for version in versions):
            rule = f"the newest {kept} watched ones stay; default, promoted and used ones, too"
            self.add_option(Option(Content.styled(rule, "$faint"), disabled=True))
        numbers = [str(version["version"]) for version in versions]
        if numbers:
            self.highlighted = numbers.index(selected) if selected in numbers else 0

    def show_rates(self, skill_id: str, rates: Mapping[str, tuple[int, int]], now: float) -> None:
        """How the versions did in tests: (passed, tried) by digest."""
        if skill_id == self._skill:
            self._rates = rates
            self.grow_older(now)

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
        parts += self._rate(version)
        if number == self._default:
            parts.append(("default ", "$success"))
        if version is self.versions[0]:
            parts.append(("latest ", "$accent"))
        if version.get("watched"):
            parts.append(("watched", "$faint"))
        return Content.assemble(*parts)

    def _rate(self, version: Object) -> list[tuple[str, str]]:
        """The pass rate, and how it differs from that of the version tested before."""
        passed, tried = self._rates.get(str(version.get("digest") or ""), (0, 0))
        if not tried:
            return []
        style = "$success" if passed == tried else "$error" if not passed else "$warning"
        parts = [(f"{100 * passed / tried:.0f} % of {tried} ", style)]
        older = self.versions[self.versions.index(version) + 1 :]
        last = next((found for v in older if (found := self._rates.get(str(v.get("digest") or "")))), None)
        if last is not None:
            points = round(100 * passed / tried - 100 * last[0] / last[1])
            sign = "▲" if points > 0 else "▼" if points < 0 else "="
            parts.append(
                (f"{sign}{abs(points) or ''} ", "$success" if points > 0 else "$error" if points < 0 else "$faint")
            )
        return parts

    @property
    def current(self) -> Object | None:
        index = self.highlighted
        return self.versions[index] if index is not None and index < len(self.versions) else None
