"""The rows of the skills table: skills of the daemon joined with watched folders. Pure but for `skill_folders`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from textual.content import Content

from skilldeck_shared.terminal import clean
from skilldeck_tui.skill_tests.background import Suite
from skilldeck_tui.skills.packages import standing
from skilldeck_tui.state import DaemonState, Object
from skilldeck_tui.watching.watcher import WatchState

_STYLES = {"": "$muted", "live": "$accent", "warning": "$warning", "error": "$error"}


@dataclass(frozen=True)
class SkillRow:
    """`skill` is None for a watched folder that has no version yet and for a skill that only lies on `disk`; `watch`
    for a skill nobody watches here, `suite` until its tests are asked for. `faults`: what lint finds beyond advice."""

    key: str
    skill: Object | None = None
    watch: WatchState | None = None
    suite: Suite | None = None
    faults: int = 0
    disk: Object | None = None

    @property
    def name(self) -> str:
        if self.disk is not None:
            return clean(str(self.disk.get("name") or ""))
        if self.skill is not None:
            return clean(str(self.skill.get("name") or ""))
        return self.watch.folder.name if self.watch else ""

    @property
    def folder(self) -> Path | None:
        """The skill's folder on this machine, if it is here."""
        if self.watch is not None:
            return self.watch.folder
        if self.disk is not None:
            return Path(str(self.disk["path"]))
        source = Path(str((self.skill or {}).get("source") or ""))
        return source if source.is_absolute() and os.path.isdir(source) else None

    def cells(self) -> tuple[Content | str, ...]:
        skill = self.skill or {}
        default, latest = str(skill.get("default_version") or ""), str(skill.get("latest_version") or "")
        ahead = bool(latest) and latest != default
        broken = self.watch is not None and self.watch.state in ("error", "gone", "unreadable")
        return (
            self.name,
            # The default, which requests get that name none, and the latest when it is another.
            Content.assemble(f"v{default}", (f" → v{latest}" if ahead else "", "$accent"))
            if default
            else Content.styled("–", "$faint"),
            Content.assemble(
                disk_chip(self.disk) if self.disk else chip(self.watch, short=bool(self.suite)),
                (f" !{self.faults}", "$warning") if self.faults and not broken else "",
                mark(self.suite),
            ),
            Content.styled(self._source(), "$faint"),
        )

    def _source(self) -> str:
        source = str(self.watch.folder if self.watch else (self.skill or {}).get("source") or "")
        source = str(self.disk["path"]) if self.disk else source
        home = str(Path.home())
        short = f"~{source[len(home) :]}" if source.startswith(home + "/") else source
        return clean(short) or "uploaded"


def chip(watch: WatchState | None, *, short: bool = False) -> Content:
    """The state of a watched folder; `short` where something that matters more stands beside it."""
    if watch is None:
        return Content.styled("–", "$faint")
    match watch.state:
        case "current":
            style = "$warning" if watch.warnings else "$success"
            words = "●" if short else "● watching"
            return Content.assemble((words, "$muted"), (" !" if watch.warnings else "" if short else " ✓", style))
        case "starting" | "settling":
            return Content.styled(f"◌ {watch.state}", "$accent")
        case "uploading":
            done = f"{watch.done / 1000:,.0f}/{watch.total / 1000:,.0f} KB" if watch.total else "uploading"
            return Content.styled(f"↑ {done}", "$accent")
        case "error":
            return Content.styled(f"✗ line {watch.line}" if watch.line else "✗ error", "$error")
        case "offline":
            return Content.styled("◌ daemon away", "$warning")
        case "gone":
            return Content.styled("✗ folder gone", "$error")
        case "unreadable":
            return Content.styled("✗ unreadable", "$error")
    raise AssertionError(watch.state)


def disk_chip(skill: Object) -> Content:
    """Whether prompts that name a skill on disk are given it, short."""
    if not skill.get("trusted"):
        return Content.styled("✗ not trusted", "$warning")
    return Content.styled("○ on disk" if skill.get("offered") else "○ hidden", "$muted")


def about_disk(skill: Object) -> Content:
    """What a skill on disk is for, and how it gets into a request."""
    name, description = clean(str(skill["name"])), " ".join(clean(str(skill.get("description") or "")).split())
    if not skill.get("trusted"):
        how = f"Not offered before you trust the project {clean(str(skill.get('project')))}: r"
    elif not skill.get("offered"):
        how = "Hidden by another of its name."
    else:
        how = f"Lies on disk. Prompts that say /{name} are given it."
    warnings = "".join(f"\n{clean(str(text))}" for text in skill.get("warnings") or ())
    return Content.assemble((name, "bold $foreground"), f"  {description}\n", (how + warnings, "$warning"))


def about_packages(skill: Object) -> Content:
    """How a skill stands with its packages, and what is to be done; empty when there is nothing to say."""
    return Content("\n").join(Content.styled(text, _STYLES[kind]) for text, kind in standing(skill))


def mark(suite: Suite | None) -> Content:
    """How a skill's tests stand, short."""
    if suite is None:
        return Content("")
    if suite.running:
        return Content.styled(f" ◌ {len(suite.results)}/{len(suite.cases) or '…'} tests", "$accent")
    if suite.error is not None or suite.failed:
        says = f" ✗ {suite.passed}/{len(suite.cases)} tests" if suite.cases else " ✗ tests"
        return Content.assemble((says, "$error"), change(suite))
    return Content.assemble((f" ✓ {suite.passed}/{len(suite.cases)} tests", "$success"), change(suite))


def change(suite: Suite) -> Content:
    """Against the version before: tests that pass now, and that do not any more."""
    gained = (f" +{suite.gained}", "$success") if suite.gained else ""
    return Content.assemble(gained, (f" −{suite.lost}", "$error") if suite.lost else "")


def rows(
    state: DaemonState, suites: Mapping[Path, Suite], faults: Mapping[Path, int] = MappingProxyType({})
) -> list[SkillRow]:
    """Sorted by name; then folders without a version, then what lies on disk and is not watched."""
    found, used = [], set()
    for skill in state.skills:
        watch = state.skill_watch(skill)
        if watch is not None:
            used.add(watch.folder)
        found.append(SkillRow(skill["id"], skill, watch))
    rest = sorted((watch for path, watch in state.watches.items() if path not in used), key=lambda w: str(w.folder))
    found += [SkillRow(f"watch:{watch.folder}", None, watch) for watch in rest]
    lying = (skill for skill in state.disk if Path(str(skill["path"])) not in state.watches)
    found += [SkillRow(str(skill["id"]), disk=skill) for skill in lying]
    return [
        replace(row, suite=suites.get(row.folder), faults=faults.get(row.folder, 0)) if row.folder else row
        for row in found
    ]


def skill_folders(folder: Path) -> list[Path]:
    """The folder itself, or those directly below it that hold a SKILL.md when it has none."""
    if (folder / "SKILL.md").exists():
        return [folder]
    return sorted(path.parent for path in folder.glob("*/SKILL.md")) or [folder]
