"""Skills on disk, for the requests that ask for them.

A request asks by naming one in what its user says (`/name` or `$name`, also earlier in the conversation), or, with
`skills = "auto"`, by being made at all. Skills of the home are the user's own; those of a project count once the
project is trusted. They are mounted read-only from where they lie: nothing is uploaded, and an edit shows at once.
A scan is a second old at most. Nothing is lost here but that cache.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal

from skilldeck_daemon.libraries.records import DiskSkillObject
from skilldeck_daemon.skills.scan import DiskSkill, Found, discover, project_of, roots
from skilldeck_daemon.skills.trust import Trust
from skilldeck_daemon.store.run_records import Item
from skilldeck_shared.errors import BadRequest, NotFound

Mode = Literal["named", "auto", "off"]

FRESH_SECONDS = 1.0
# Not inside a word, a path or a variable: `/usr/bin` and `a/b` name no skill, `run /report, please` does.
MENTION = re.compile(r"(?<![\w/$.~:-])[/$](\w[\w-]*)(?![\w/-])")


class DiskSkills:
    """What the daemon offers of the skills on disk.

    Args:
        project: the project of requests that bring none (HTTP); None: those have none.
        claude: whether `.claude/skills` counts too.
        home: the user's home.
    """

    def __init__(
        self,
        trust: Trust,
        *,
        mode: Mode = "named",
        project: Path | None = None,
        claude: bool = False,
        home: Path | None = None,
    ) -> None:
        self.trust = trust
        self.mode = mode
        self._project = project
        self._claude = claude
        self._home = home or Path.home()
        self._scans: dict[Path | None, tuple[float, Found]] = {}

    def project(self, folder: str = "") -> Path | None:
        """The project of a working directory as a client names it; without one, the daemon's own."""
        if not folder:
            return self._project
        if not Path(folder).is_absolute() or "\0" in folder:
            raise BadRequest("A project is named by its absolute path.", param="project")
        return project_of(Path(folder))

    async def find(self, project: Path | None = None) -> Found:
        """Every skill on disk, trusted or not."""
        known = self._scans.get(project)
        if known is None or time.monotonic() - known[0] > FRESH_SECONDS:
            found = await asyncio.to_thread(discover, roots(project, self._home, self._claude))
            self._scans = {project: (time.monotonic(), found)}
            return found
        return known[1]

    async def wanted(
        self, items: Iterable[Item], project: Path | None = None, names: Sequence[str] = ()
    ) -> list[DiskSkill]:
        """The skills a request with these items is given, by name.

        Args:
            items: history and input; what their user messages mention counts.
            names: skills that are asked for whatever the text says.
        Raises:
            NotFound: one of `names` is not on disk, or in a project that is not trusted.
        """
        if self.mode == "off" and not names:
            return []
        asked = set(names) | mentions(items)
        if not asked and self.mode != "auto":
            return []
        found = await self.find(project)
        trusted = project is not None and await asyncio.to_thread(self.trust.trusts, project)
        offered = _winners(found.skills, trusted)
        for name in names:
            if name not in offered:
                raise _not_offered(name, found.skills, project)
        return [offered[name] for name in sorted(offered) if self.mode == "auto" or name in asked]

    async def list(self, folder: str = "") -> list[DiskSkillObject]:
        """Every skill on disk as an object: {id, object: "skill.disk", source: "disk", name, description, path, scope,
        project, trusted, offered, warnings}. `offered` is false for what an untrusted project or another skill of
        the name hides."""
        project = self.project(folder)
        found = await self.find(project)
        trusted = project is not None and await asyncio.to_thread(self.trust.trusts, project)
        offered = _winners(found.skills, trusted).values()
        return [_object(skill, project, trusted, skill in offered) for skill in found.skills]

    async def warnings(self, folder: str = "") -> Sequence[str]:
        """What the scan of a project and the home has to say."""
        return (await self.find(self.project(folder))).warnings


def mentions(items: Iterable[Item]) -> set[str]:
    """The names after `/` or `$` in the text of user messages."""
    names: set[str] = set()
    for item in items:
        if item.get("type", "message") != "message" or item.get("role") != "user":
            continue
        content = item.get("content")
        texts = [content] if isinstance(content, str) else [part.get("text", "") for part in content or ()]
        for text in texts:
            names |= set(MENTION.findall(text))
    return names


def _winners(skills: Collection[DiskSkill], trusted: bool) -> dict[str, DiskSkill]:
    """By name, those that count: an untrusted project hides nothing of the user's."""
    winners: dict[str, DiskSkill] = {}
    for skill in sorted(skills, key=lambda skill: skill.shadowed):
        if trusted or skill.scope == "user":
            winners.setdefault(skill.name, skill)
    return winners


def _not_offered(name: str, skills: Collection[DiskSkill], project: Path | None) -> NotFound:
    if any(skill.name == name for skill in skills):
        hint = f"Trust the project first: skilldeck trust {project}"
        return NotFound(f"The skill {name!r} is in a project that is not trusted.", hint, param="disk_skills")
    return NotFound(f"There is no skill {name!r} on disk.", "List them: skilldeck skills --disk", param="disk_skills")


def _object(skill: DiskSkill, project: Path | None, trusted: bool, offered: bool) -> DiskSkillObject:
    mine = skill.scope == "project"
    return {
        "id": f"disk:{skill.path}",
        "object": "skill.disk",
        "source": "disk",
        "name": skill.name,
        "description": skill.description,
        "path": str(skill.path),
        "scope": skill.scope,
        "project": str(project) if mine else None,
        "trusted": trusted or not mine,
        "offered": offered,
        "warnings": list(skill.warnings),
    }
