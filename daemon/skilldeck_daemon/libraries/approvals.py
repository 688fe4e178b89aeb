"""Approvals: whether the model's commands may run, and the people who are asked.

The policy of a run is the strictest of the operator's and the request's: auto < ask < deny. What is asked waits at
most five minutes, then counts as denied. Pending approvals live in memory (a restart denies them with the runs that
wait); rules that were to be remembered always are stored. A denial's message reaches the model as the output.

A rule is a command prefix. It holds for the very content of the skills that was approved: after another version of
one, or another skill of its name, it is asked about again. Which skills: all that are mounted, since a link, a module
or a path made of pieces leads to any of them; only those whose folder it names where the command spells out all that it
runs (`spelled.py`). Commands are read as the shell would read them, and where that is in doubt the answer is to ask.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from skilldeck_daemon.libraries.bus import Bus
from skilldeck_daemon.libraries.records import ApprovalObject
from skilldeck_daemon.libraries.spelled import spells_out
from skilldeck_daemon.store import Store
from skilldeck_daemon.store.ids import new_id
from skilldeck_daemon.store.records import Deleted, MountedSkill, NamedSkill, NewRule, Rule
from skilldeck_shared.errors import BadRequest, Conflict, NotFound

Permission = Literal["auto", "ask", "deny"]
PERMISSIONS: tuple[Permission, ...] = ("auto", "ask", "deny")
TIMEOUT_S = 300.0
DENIED = "Permission denied by the user."
ApprovalList = list[ApprovalObject]
RuleList = list[Rule]
LONG_TEXT = 64 * 1024
"""Characters of commands, once for each skill, from which reading them takes more than 5 ms and is done in a thread."""
LONGEST_PREFIX = 4096
SKILLS = "/mnt/skills/"
"""Where a container has its skills, each in a folder of its name."""

# A remembered prefix covers arguments, never a second command: anything the shell would act on is asked again.
_SHELL_SYNTAX = re.compile(r"[;&|<>$`\\\n\r(){}*?\[\]~!#]")
# A word that names no path but the one it spells.
_PLAIN_PATH = re.compile(r"[\w.,:=@%+/-]*")
_SCHEME = re.compile(r"(?<![\w+.-])[A-Za-z][A-Za-z0-9+.-]*://(?!/)")
_QUOTES = re.compile(r"[\"'\\]")
# By what a command can reach a folder that it does not name: steps back, also those that a pattern expands to,
# expansions, and any way from the root that does not go into one of these places.
_EXPANDED = re.compile(r"\.\.|\.[*?\[]|\{[^{}\s.,]*[.,]|[$`]")
_ELSEWHERE = re.compile(r"(?<![\w./-])/(?:mnt/data|tmp|usr|bin|etc|home|dev/null)(?![^\s/;&|<>)])[^\s;&|<>)]*")
# Whatever Python can reach, its text need not name.
_CODE = ("code_interpreter",)
_FROM_ROOT = re.compile(r"(?<![\w./-])/")


def strictest(*permissions: str | None) -> Permission:
    """The strictest of those given; `auto` when none is."""
    ranks = [PERMISSIONS.index(permission) for permission in permissions if permission in PERMISSIONS]
    return PERMISSIONS[max(ranks, default=0)]


def parse_permission(value: str | None) -> Permission | None:
    """A request's own wish; empty means none."""
    if not value:
        return None
    for permission in PERMISSIONS:
        if value == permission:
            return permission
    raise BadRequest(f"'permission' is {value[:64]!r}.", f"Use one of: {', '.join(PERMISSIONS)}.", param="permission")


def covered(command: str, prefixes: list[str], kind: str = "shell") -> bool:
    """Whether a remembered command, or for a shell one with more plain arguments after it, is this one.

    A prefix that ends in a slash covers what lies in that folder.
    """
    command = command.strip()
    if kind != "shell":
        return command in prefixes
    for prefix in prefixes:
        if command == prefix:
            return True
        if _begins(command, prefix) and not _SHELL_SYNTAX.search(command) and not _wind(command[len(prefix) :]):
            return True
    return False


def _begins(command: str, prefix: str) -> bool:
    if prefix.endswith("/"):
        inside = re.split(r"\s", command[len(prefix) :], maxsplit=1)[0]
        return command.startswith(prefix) and bool(_PLAIN_PATH.fullmatch(inside)) and not _winds("/" + inside)
    return command.startswith(prefix + " ")


def _winds(path: str) -> bool:
    """Whether the path does not spell where it leads: a step back, or one that goes nowhere on its way."""
    parts = path.split("/")
    return ".." in parts or any(part in ("", ".") for part in parts[1:-1]) or parts[1:][-1:] == ["."]


def _wind(arguments: str) -> bool:
    """Whether one of the arguments does; the shell drops quotes, so they are no part of a path."""
    words = _SCHEME.sub("", _QUOTES.sub("", arguments)).split()
    return any(_winds(part) for word in words for part in word.split("="))


def named_skills(command: str, skills: Mapping[str, MountedSkill], kind: str = "shell") -> dict[str, MountedSkill]:
    """The mounted skills whose content decides what the command does: those whose folder it names where it spells out
    all that it runs, else all. `kind`: shell, code_interpreter, or what runs nothing in a container."""
    if kind in _CODE:
        return dict(skills)
    text = _SCHEME.sub("", _QUOTES.sub("", command))
    named = {}
    for name, skill in sorted(skills.items(), key=lambda pair: -len(pair[0])):
        folder = re.compile(re.escape(SKILLS + name) + r"(?![\w.-])")
        if folder.search(text):
            named[name] = skill
            text = folder.sub("skill", text)
    if kind == "shell" and (
        _EXPANDED.search(text)
        or _FROM_ROOT.search(_ELSEWHERE.sub(" ", text))
        or not spells_out(command, [SKILLS + name for name in named])
    ):
        return dict(skills)
    return named


@dataclass
class _Pending:
    object: ApprovalObject
    skills: Mapping[str, MountedSkill]
    answer: asyncio.Future[str | None]


class Approvals:
    """Asks, waits, remembers. `permission` is the operator's policy."""

    def __init__(self, store: Store, bus: Bus, permission: str = "auto", timeout_s: float = TIMEOUT_S) -> None:
        self.permission = strictest(permission)
        self._store = store
        self._bus = bus
        self._timeout_s = timeout_s
        self._pending: dict[str, _Pending] = {}
        self._sessions: dict[str, list[NewRule]] = {}

    async def check(
        self,
        kind: str,
        commands: list[str],
        *,
        permission: str | None,
        run_id: str,
        call_id: str,
        session: str,
        skills: Mapping[str, MountedSkill] | None = None,
    ) -> str | None:
        """None when the commands may run, else what the model reads. Waits for a person when it must ask.

        Args:
            skills: the mounted skills by their name there: {skill_id, version, path}, where `path` names the content.
        """
        skills = skills or {}
        policy = strictest(self.permission, permission)
        if policy == "auto":
            return None
        if policy == "deny":
            return "Permission denied: commands may not be run here. Answer without running any."
        rules: list[NewRule] = [*self._sessions.get(session, []), *await self._store.rules.list()]

        def read() -> tuple[bool, dict[str, MountedSkill]]:
            known = all(self._covers(rules, kind, command, skills) for command in commands)
            return known, {} if known else named_skills("\n".join(commands), skills, kind)

        long = sum(map(len, commands)) * (1 + len(skills)) > LONG_TEXT
        known, named = await asyncio.to_thread(read) if long else read()
        if known:
            return None
        return await self._ask(kind, commands, run_id, call_id, session, skills, named)

    @staticmethod
    def _covers(rules: Sequence[NewRule], kind: str, command: str, skills: Mapping[str, MountedSkill]) -> bool:
        named = named_skills(command, skills, kind)
        for rule in rules:
            if rule.get("kind") != kind or not covered(command, [rule["prefix"]], kind):
                continue
            approved = {skill["name"]: skill["path"] for skill in rule.get("skills", ())}
            # A prefix may stop before the folder ("python"): what it did not name it does not vouch for.
            if all(approved.get(name) == skill["path"] for name, skill in named.items()):
                return True
        return False

    async def _ask(
        self,
        kind: str,
        commands: list[str],
        run_id: str,
        call_id: str,
        session: str,
        skills: Mapping[str, MountedSkill],
        named: Mapping[str, MountedSkill],
    ) -> str | None:
        now = time.time()
        pending = _Pending(
            {
                "id": new_id("appr"),
                "object": "approval",
                "status": "pending",
                "kind": kind,
                "run_id": run_id,
                "call_id": call_id,
                "session": session,
                "commands": list(commands),
                "skills": _listed(named),
                "created_at": int(now),
                "expires_at": int(now + self._timeout_s),
            },
            skills,
            asyncio.get_running_loop().create_future(),
        )
        id = pending.object["id"]
        self._pending[id] = pending
        self._bus.publish("approval", "put", id, pending.object.copy())
        try:
            return await asyncio.wait_for(pending.answer, self._timeout_s)
        except TimeoutError:
            return f"Permission denied: nobody answered within {self._timeout_s / 60:g} minutes."
        finally:
            del self._pending[id]
            self._bus.publish("approval", "delete", id, None)

    def list(self) -> ApprovalList:
        """The pending approvals, oldest first."""
        return [pending.object.copy() for pending in self._pending.values()]

    async def decide(
        self,
        id: str,
        decision: str,
        *,
        remember_for_session: bool = False,
        remember_always: bool = False,
        message: str = "",
        prefix: str = "",
    ) -> ApprovalObject:
        """Answer a pending approval with "approve" or "deny"; returns it with its new status.

        Remembering (only what was approved): these commands, also with more plain arguments, are not asked again in
        this session, or ever. `prefix` is remembered instead of them; every command must begin with it, and it may
        end in a slash to mean a folder. `message` goes to the model with a denial.
        """
        if decision not in ("approve", "deny"):
            raise BadRequest(f"'decision' is {decision[:64]!r}.", "Use 'approve' or 'deny'.", param="decision")
        pending = self._pending.get(id)
        if pending is None:
            raise NotFound(f"No pending approval {id!r}.", "It was answered, expired, or its run ended.")
        if pending.answer.done():
            raise Conflict(f"Approval {id!r} has been answered already.")
        approved = decision == "approve"
        commands = [command.strip() for command in pending.object["commands"]]
        rules = [_rule(pending, command, prefix.strip()) for command in commands]
        if approved and remember_for_session:
            self._sessions.setdefault(pending.object["session"], []).extend(rules)
        if approved and remember_always:
            known = [(rule["prefix"], rule.get("skills")) for rule in await self._store.rules.list()]
            for rule in rules:
                if (rule["prefix"], rule["skills"]) not in known:
                    known.append((rule["prefix"], rule["skills"]))
                    await self._store.rules.add(rule)
        if not pending.answer.done():
            refusal = f"Permission denied by the user: {message.strip()}" if message.strip() else DENIED
            pending.answer.set_result(None if approved else refusal)
        return {**pending.object, "status": "approved" if approved else "denied"}

    async def rules(self) -> RuleList:
        """Stored rules, oldest first: {id, object, kind, prefix, skills, created_at}."""
        return await self._store.rules.list()

    async def change(self, id: str, prefix: object) -> Rule:
        """Give a stored rule another prefix, of any command; what it vouches for of skills stays as it was approved."""
        rule = next((rule for rule in await self._store.rules.list() if rule["id"] == id), None)
        if rule is None:
            raise NotFound(f"No rule {id!r}.")
        if rule["kind"] != "shell":
            raise BadRequest(f"The rule {id!r} is about one {rule['kind']} call.", "Revoke it instead.", param="prefix")
        wanted = prefix.strip() if isinstance(prefix, str) else ""
        if not wanted or len(wanted) > LONGEST_PREFIX or (wanted != rule["prefix"] and _SHELL_SYNTAX.search(wanted)):
            hint = "Give the first words of a command, or a folder with its slash; nothing the shell acts on."
            raise BadRequest(f"'prefix' is {str(prefix)[:100]!r}.", hint, param="prefix")
        changed: Rule = {**rule, "prefix": wanted}
        await self._store.rules.put(changed)
        return changed

    async def revoke(self, id: str) -> Deleted:
        """Forget a stored rule."""
        if not await self._store.rules.delete(id):
            raise NotFound(f"No rule {id!r}.")
        return {"id": id, "object": "rule.deleted", "deleted": True}


def _listed(named: Mapping[str, MountedSkill]) -> list[NamedSkill]:
    return [{"name": name, **skill} for name, skill in sorted(named.items())]


def _rule(pending: _Pending, command: str, prefix: str) -> NewRule:
    """What remembering the command means."""
    if prefix and pending.object["kind"] != "shell":
        raise BadRequest("'prefix' is for shell commands only.", "Leave it out.", param="prefix")
    if prefix and (_SHELL_SYNTAX.search(prefix) or not (command == prefix or _begins(command, prefix))):
        hint = "Give whole words from its beginning, or a folder with its slash; nothing the shell acts on."
        raise BadRequest(f"'prefix' is no beginning of {command[:100]!r}.", hint, param="prefix")
    skills = _listed(named_skills(command, pending.skills, pending.object["kind"]))
    return {"object": "rule", "kind": pending.object["kind"], "prefix": prefix or command, "skills": skills}
