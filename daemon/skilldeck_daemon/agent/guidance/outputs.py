"""What the model reads of a command's output: instructions with full paths, one line of help, and no more than fits.

Only the model reads it so: the stored output stays what the process wrote. The help is for what small models stop at,
and says only what is known to be true:

- a command that is a skill's name: that skill's instructions;
- a text that was run as a program (`python SKILL.md`): that it holds instructions, and what to run instead;
- a package that is not in the sandbox: what brings it, which the user can do and the model cannot;
- a file that is not there, or a command that is not found: where a file of that name lies, in a skill or in /mnt/data;
- a command that failed just so before: that it did.

An output longer than `SHARE` of the context keeps its beginning and its end.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from skilldeck_daemon.agent.guidance.skill_commands import PROGRAMS, SkillCommands
from skilldeck_daemon.agent.guidance.skill_paths import FOLDER, SkillPaths
from skilldeck_daemon.containers import WORKDIR
from skilldeck_daemon.wire.item_kinds import CommandOutput, Outcome
from skilldeck_shared.skills.base_packages import BUILD, NODE, NPM_MARK, bring, distribution

SHARE = 0.25
CHARS_PER_TOKEN = 3
LEAST = 2000  # characters of an output that are shown in any case
PLACES = 3  # named at most
NOT_FOUND = re.compile(r"(?:^|: )([^\s:]+): (?:command )?not found$", re.MULTILINE)
NO_FILE = re.compile(r"^.*(?:No such file or directory|can't open file|cannot open|cannot access).*$", re.MULTILINE)
TEXT_RUN = re.compile(
    rf"(?:^|[\s;&|])(?:python3?|node|bash|sh|source|\.)[ \t]+(?P<path>(?:{FOLDER}/|\./)?[\w./-]+\.(?:md|txt|rst))\b"
)
MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'|No module named ([\w.]+)$", re.MULTILINE)
NODE_MODULE = re.compile(r"Cannot find (?:module|package) '([^'./][^']*)'")
FRAME = re.compile(
    r'^(?P<head>  File "(?P<path>[^"]+)", line (?P<line>\d+)(?:, in [^\n]*)?)\n(?:    [^\n]*\n)*', re.MULTILINE
)
PROGRAM = re.compile(r"\b(?:python3?|node)\s+-\s*<<")
SILENT = "The program printed nothing. What is to be known of it has to be printed."
WORD = re.compile(r"[^\s'\"`:;,()]+")
AGAIN = "The same command failed in the same way before. Change it, or answer with what you have."


def own_frames(stderr: str, command: str) -> str:
    """A traceback of Python without the lines of libraries, which say nothing that a small model can mend; those of a
    program that stands in the command with what they are."""

    def frame(match: re.Match[str]) -> str:
        path = match["path"]
        if path == "<stdin>":
            lines = command.partition("\n")[2].split("\n")
            number = int(match["line"])
            source = lines[number - 1].strip() if 0 < number <= len(lines) else ""
            return f"{match['head']}\n    {source}\n" if source else match[0]
        return match[0] if path.startswith("/mnt/") else ""

    shown = FRAME.sub(frame, stderr)
    return shown if FRAME.search(shown) else stderr


class CommandOutputs:
    """The outputs of one conversation, in order.

    Args:
        skills: the mounted ones; None: the model reads outputs as they are, as it was trained to.
        files: names of the attached files.
        context: of the model, in tokens; 0: not known.
    """

    def __init__(self, skills: SkillPaths | None, files: Collection[str] = (), context: int = 0) -> None:
        self._helps = skills is not None
        self._skills = skills or SkillPaths()
        self._files = {name.lower(): name for name in files}
        self._room = max(LEAST, int(context * SHARE * CHARS_PER_TOKEN)) if context and self._helps else 0
        self._failed: tuple[str, Outcome] | None = None

    def shown(self, entry: CommandOutput, command: str) -> CommandOutput:
        """An entry of a shell call's output as the model reads it."""
        hints = [*self._help(entry["stderr"], command), *self._again(entry, command)] if self._helps else []
        if self._helps and PROGRAM.search(command) and not entry["stdout"] and not entry["stderr"]:
            hints.append(SILENT)
        stderr = self._cut(own_frames(entry["stderr"], command) if self._helps else entry["stderr"])
        if hints:
            stderr = "\n".join([*([stderr.rstrip("\n")] if stderr else []), *(f"(hint: {hint})" for hint in hints)])
        return {**entry, "stdout": self._cut(self._skills.written_out(entry["stdout"], command)), "stderr": stderr}

    def _cut(self, text: str) -> str:
        if not self._room or len(text) <= self._room:
            return text
        head, tail = self._room * 2 // 3, self._room // 3
        left_out = len(text) - head - tail
        note = f"\n[{left_out} characters left out; write the output to a file and read it in parts]\n"
        return text[:head] + note + text[-tail:]

    def _again(self, entry: CommandOutput, command: str) -> list[str]:
        if entry["outcome"].get("exit_code") == 0:
            self._failed = None
            return []
        failed, self._failed = self._failed, (command.strip(), entry["outcome"])
        return [AGAIN] if failed == self._failed else []

    def _help(self, stderr: str, command: str) -> list[str]:
        if hint := self._text_run(stderr, command) or self._missing(stderr):
            return [hint]
        for name in NOT_FOUND.findall(stderr):
            text = self._skills.instructions(name.rpartition("/")[2]) if name in command else ""
            if text:
                return [f"{name} is a skill, not a command. Do what its instructions say:\n{text}\n"]
            if hint := self._where(name, command):
                return [hint]
        for line in NO_FILE.findall(stderr):
            for word in WORD.findall(line):
                if ("." in word or "/" in word) and (hint := self._where(word, command)):
                    return [hint]
        return []

    def _text_run(self, stderr: str, command: str) -> str:
        """What to do instead of running a skill's text as a program."""
        match = TEXT_RUN.search(command) if stderr else None
        if match is None:
            return ""
        name = match["path"].removeprefix(f"{FOLDER}/").partition("/")[0]
        text = self._skills.instructions(name)
        if not text or not match["path"].startswith(FOLDER):
            return ""
        commands = SkillCommands.of(text)
        shown = [*(f"{begin.strip()} …" for begin in PROGRAMS.values() if begin == commands.program), *commands.lines]
        instead = f" Run for example: {shown[0]}" if shown else " Do what it says, or answer."
        return f"{match['path']} holds instructions, it is no program.{instead}"

    def _missing(self, stderr: str) -> str:
        """What brings a package that is not in the sandbox."""
        for found in MODULE.findall(stderr):
            module = next(filter(None, found)).partition(".")[0]
            package = distribution(module)
            return f"The Python package {package} is not in this sandbox. To bring it, the user has to {bring(package)}"
        for package in NODE_MODULE.findall(stderr):
            more = "" if package in NODE else f" --with {NPM_MARK}{package}"
            return f"The Node package {package} is not in this sandbox. To bring it, the user has to run {BUILD}{more}"
        return ""

    def _where(self, path: str, command: str) -> str:
        """Where a file that was not found lies, if that is known."""
        name = path.rstrip("/.").rpartition("/")[2]
        places = self._skills.places(path.removeprefix(f"{WORKDIR}/").removeprefix("./"), command)
        if not places and name.lower() in self._files:
            places = [f"{WORKDIR}/{self._files[name.lower()]}"]
        places = [place for place in places if place != path][:PLACES]
        return f"{path} is not there; there is {' and '.join(places)}" if places else ""
