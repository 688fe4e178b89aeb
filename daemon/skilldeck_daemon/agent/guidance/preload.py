"""A skill that the user means is opened for the model: its instructions stand in front of the user's own words.

Large models open the SKILL.md that fits by themselves; of small ones none did in ten requests that named the skill.
Which skills are meant (`skills_preload`):

- `named`: those whose name the text has, as it is or as `$name` or `/name`; the only one that is mounted; and where
  a file comes with the text, or it wants something made ("Make a chart"), the one whose name and description have more
  words in common with it than any other's;
- `all`: every one that is mounted;
- `none`: none.

The paths in the instructions are written out. They take at most `SHARE` of the model's context; what does not fit is
named by its path. Each skill is put once into a conversation, where it was first meant, so that a history renders the
same every time.

A message that brings a file to one such skill with commands, or asks to use it by its name, asks for a run. A small
model (`bare`) then begins inside its block of commands (`skill_commands.py`). It reads of the file only where it lies:
with an invoice's text before it, a model of 0.5 G parameters filled the block with the invoice's last lines. And it
reads last that it is to run the command: that alone took the same model from 4 to 13 right commands of 17. Where a
skill has no commands it reads the texts that the instructions name along with them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from skilldeck_daemon.agent.guidance.file_places import filled
from skilldeck_daemon.agent.guidance.likeness import stems
from skilldeck_daemon.agent.guidance.outlines import headings
from skilldeck_daemon.agent.guidance.sections import shortened
from skilldeck_daemon.agent.guidance.shown_code import likeness
from skilldeck_daemon.agent.guidance.skill_commands import SkillCommands
from skilldeck_daemon.agent.guidance.skill_options import wanted
from skilldeck_daemon.agent.guidance.skill_paths import FOLDER, SkillPaths
from skilldeck_daemon.engine.messages import Message
from skilldeck_daemon.tools.context import Surroundings

Mode = Literal["named", "none", "all"]

SHARE = 0.25
CHARS_PER_TOKEN = 3  # of instructions with code in them, on the careful side
LONGEST = 32_000  # characters, however large the context is
BARE = 3_500
"""Characters of instructions before a small model, which finds less in more and reads some 100 tokens a second."""
UNKNOWN = 4096  # tokens of a context whose size is not known
FILE_MARK = "\n\n<file "
"""Begins what `Attachment.block` puts behind the user's words."""
_FILE = re.compile(r'\n\n<file name="([^"]*)"(?: path="([^"]*)")?')
_TEXTS = re.compile(r"(\n\n<file [^>\n]*[^/]>)\n(.*?)\n</file>", re.DOTALL)
TASK = 300  # characters of a request in a program's first comment
HEAD, HEAD_CHARS = 6, 400
"""Lines and characters of a file that is before a model which writes a program for it."""
_TEXT_OF = re.compile(
    r'\n\n<file name="[^"]*"[^>\n]*type="application/(?:pdf|epub|[^"]*(?:word|presentation|\.text))[^>\n]*">\n'
)
_USE = r"\b(?:use|using|run|running|apply|call|execute|try)\b[^.?!\n]*?(?<![\w.-])"
_MAKING = re.compile(
    r"\s*(?:(?:please|now|can you|could you)\b[, ]*)*"
    r"(?:make|create|write|generate|draw|build|convert|calculate|compute|produce|plot|draft)\b",
    re.IGNORECASE,
)
MADE = 2
"""Words that a skill has in common with a wish for something that brings no file."""
_QUESTION = re.compile(r"\s*(?:how|what|why|when|where|which|should|does|is|do)\b", re.IGNORECASE)
NOT_THERE = "(Not listed in these texts: {words}. Answer that it is not listed.)"
RUN_IT = "Run the skill's command{on} now."
WRITE_IT = "Write the program for it{on} and run it now."
"""One sentence: "The file is …" behind the request was given back as the answer."""


@dataclass(frozen=True)
class Preload:
    """How the instructions of a run's skills are put before its model; `budget` in characters. `bare`: files that
    a skill's commands are to read are shown without their text."""

    skills: SkillPaths
    mode: Mode = "named"
    budget: int = LONGEST
    bare: bool = False

    @classmethod
    def of(cls, skills: SkillPaths, mode: Mode, context: int, bare: bool = False) -> Preload:
        most = BARE if bare else LONGEST
        return cls(skills, mode, min(most, int((context or UNKNOWN) * SHARE * CHARS_PER_TOKEN)), bare)

    def opened(self, messages: Sequence[Message], around: Surroundings) -> list[Message]:
        """The conversation with the instructions of what it means put in."""
        out, room, done = list(messages), self.budget, set[str]()
        for place, message in enumerate(out):
            if message["role"] != "user" or not isinstance(message["content"], str):
                continue
            blocks = []
            run = self._run(message["content"], around) if self.bare else None
            for name in self.meant(message["content"], around, first=not done):
                text = self._text(name, message["content"], run is not None) if name not in done else ""
                if text:
                    done.add(name)
                    blocks.append(self._block(name, text, _said(message["content"]), room, run))
                    room = max(0, room - len(text))
                    about = next(about for other, about in around.skills if other == name)
                    blocks += self._read_along(name, about, _said(message["content"]))
            shown = message["content"]
            if self.bare:
                shown = _run_of(shown, bool(run.program)) if run else _request_last(shown)
            out[place] = {**message, "content": "\n\n".join([*blocks, shown])}
        return out

    def meant(self, content: str, around: Surroundings, *, first: bool = True) -> list[str]:
        """The skills that a user's message means; `first`: none was meant before."""
        names = [name for name, _ in around.skills]
        if self.mode == "none" or around.shell != "hosted":
            return []
        if self.mode == "all":
            return names if first else []
        said = content.partition(FILE_MARK)[0]
        named = [name for name in names if _says(said, name)]
        if named:
            return named
        if first and len(names) == 1:
            return names
        fitting = _fitting(content, around) if first else ""
        return [fitting] if fitting else []

    def chosen(self, messages: Sequence[Message], around: Surroundings) -> tuple[str, ...]:
        """The mounted skills that the user's words mean, by name or by likeness: not those that are opened because
        they are all there is."""
        found: list[str] = []
        for message in messages:
            if message["role"] != "user" or not isinstance(message["content"], str):
                continue
            said, fitting = message["content"].partition(FILE_MARK)[0], _fitting(message["content"], around)
            for name in self.meant(message["content"], around, first=not found):
                if name not in found and (name == fitting or _says(said, name)):
                    found.append(name)
        return tuple(found)

    def asked(self, messages: Sequence[Message], around: Surroundings) -> SkillCommands | None:
        """The commands of the skill that the last message asks to be run; None when it asks for none."""
        last = messages[-1] if messages else {"role": ""}
        if last["role"] != "user" or not isinstance(last.get("content"), str):
            return None
        return self._run(last["content"], around)

    def _text(self, name: str, content: str, fill: bool) -> str:
        """The instructions; `fill`: with the message's file in their commands, where it brings one."""
        text, paths = self.skills.instructions(name), _paths(content)
        return filled(text, paths[0]) if fill and len(paths) == 1 else text

    def _block(self, name: str, text: str, said: str, room: int, run: SkillCommands | None) -> str:
        path = f"{FOLDER}/{name}/SKILL.md"
        program = run is not None and bool(run.program)
        shown = shortened(text, said, room, path, run.meant if run else (), titles=not self.bare, only=program)
        return f'<skill name="{name}" path="{path}">\n{shown}\n</skill>'

    def _read_along(self, name: str, about: str, said: str) -> list[str]:
        """What a small model would have to open itself, where there is nothing to run: of several texts, as of forms to
        choose among, the one that the request is most like. What they do not hold it is told: it makes it up."""
        commands = SkillCommands.of(self.skills.instructions(name))
        if not self.bare or commands.lines or commands.program:
            return []
        found = self.skills.references(name)
        every = list(dict.fromkeys([*found, *self.skills.shelves(name)]))
        words = [stems(re.sub(r"[-_/.]", " ", path)) | stems(text) for path, text in every]
        likes = likeness(words, stems(said))
        best = max(likes, default=0.0)
        wanted = [one for one, like in zip(every, likes, strict=True) if like == best]
        blocks, room = [], min(BARE, self.budget)
        for path, text in wanted if len(wanted) == 1 else found:
            if room > 0:
                shown = shortened(text, said, room, path, titles=False)
                blocks.append(f'<file path="{path}">\n{shown}\n</file>')
                room -= len(shown)
        lacking = _lacking(said, [f"{name} {about} {self.skills.instructions(name)}"], words) if blocks else []
        return [*blocks, NOT_THERE.format(words=", ".join(lacking))] if lacking else blocks

    def outline(self, messages: Sequence[Message], around: Surroundings) -> tuple[str, ...]:
        """The headings of the answer that the last message asks a skill for which has nothing to run."""
        last = messages[-1] if messages else {"role": ""}
        if last["role"] != "user" or not isinstance(last.get("content"), str):
            return ()
        name, _ = self._wanted(last["content"], around)
        text = self.skills.instructions(name) if name else ""
        return headings(text) if not SkillCommands.of(text).lines and "/scripts/" not in text else ()

    def _run(self, content: str, around: Surroundings) -> SkillCommands | None:
        """The commands of the skill whose work a message asks for; None when it has none."""
        name, described = self._wanted(content, around)
        if not name:
            return None
        text = self._text(name, content, self.bare)
        said = content.partition(FILE_MARK)[0]
        paths, asks = _paths(content), "?" in said or _QUESTION.match(said) is not None
        options = wanted(text, said, described, _names(content))
        commands = SkillCommands.of(text, options, paths[0] if len(paths) == 1 else "", asks, _said(content))
        if commands.program:
            own = f"PYTHONPATH={FOLDER}/{name} " if self.skills.has_modules(name, text) else ""
            commands = replace(commands, program=f"{own}{commands.program}{_task(content, commands.program)}")
        if asks and not commands.fits and _documents(content):
            return None  # the answer stands in their text
        return commands if commands.lines or commands.program or "/scripts/" in text else None

    def _wanted(self, content: str, around: Surroundings) -> tuple[str, str]:
        """The one skill that a message asks for, or that fits the file it brings, with its name and description as
        a text; "" for none."""
        said, mark, _ = content.partition(FILE_MARK)
        meant = self.meant(content, around)
        if len(meant) != 1:
            return "", ""
        about = next(about for name, about in around.skills if name == meant[0])
        name = re.escape(meant[0])
        named = re.search(rf"(?:{_USE}|(?<![\w.-])[$/]){name}(?![\w-])", said, re.IGNORECASE)
        described = f"{meant[0]} {about}"
        like = _says(said, meant[0]) or stems(content_words(content)) & stems(described)
        made = _fitting(content, around) == meant[0]
        if not (named and not _QUESTION.match(said)) and not (mark and like) and not made:
            return "", ""
        return meant[0], described


def _fitting(content: str, around: Surroundings) -> str:
    """The skill that fits a message by its words, where it brings a file or wants something made."""
    said, mark, _ = content.partition(FILE_MARK)
    if mark:
        return fits(said, around, _names(content))
    making = _MAKING.match(said)
    return fits(said[making.end() :], around, least=MADE) if making else ""


def _lacking(said: str, known: Sequence[str], texts: Sequence[Collection[str]]) -> list[str]:
    """The words of a question that make it another than the skill's own, where none of the texts has any of them."""
    if "?" not in said and not _QUESTION.match(said):
        return []
    own = {stem for text in known for stem in stems(text)}
    asked = [word for word in re.findall(r"[^\W\d_]+", said) if stems(word) and not _any(stems(word), own)]
    return [] if any(_any(stems(word), text) for word in asked for text in texts) else asked


def _any(found: Collection[str], known: Collection[str]) -> bool:
    """Whether one of them is among those that are known, in this form or another: `cost` is in "costs"."""
    return any(one.startswith(other) or other.startswith(one) for one in found for other in known)


def _names(content: str) -> list[str]:
    """Of a message's files."""
    return [name for name, _ in _FILE.findall(content)]


def _paths(content: str) -> list[str]:
    """Where a message's files lie."""
    return [path or name for name, path in _FILE.findall(content)]


def _documents(content: str) -> bool:
    """Whether all of a message's files are documents whose whole text stands in it."""
    files = len(_FILE.findall(content))
    return files > 0 and files == len(_TEXT_OF.findall(content)) and 'truncated="true"' not in content


def _said(content: str) -> str:
    """The user's words without the names of the files."""
    said = content.partition(FILE_MARK)[0]
    for name in _names(content):
        said = said.replace(name, " ")
    return said


def _run_of(content: str, program: bool) -> str:
    """A message that asks for a run, its files by their places; where a program is to be written also how
    they begin, as the names of columns stand there."""
    said, paths = content.partition(FILE_MARK)[0], _paths(content)
    on = f" on {', '.join(paths)}" if paths else ""
    wish = f"{said}\n{(WRITE_IT if program else RUN_IT).format(on=on)}"
    heads = [f"{head.strip()}\n{_begun(text)}\n</file>" for head, text in _TEXTS.findall(content)] if program else []
    return "\n\n".join([*heads, wish])


def _task(content: str, program: str) -> str:
    """What a program is for, as its first comment: without it Qwen2.5-Coder-0.5B wrote off the one it was shown."""
    said = content.partition(FILE_MARK)[0]
    for name, path in _FILE.findall(content):
        said = said.replace(name, path or name)
    mark = "//" if program.startswith("node") else "#"
    return f"{mark} {' '.join(said.split())[:TASK]} Print the result.\n"


def _begun(text: str) -> str:
    """How a file's text begins."""
    lines = text.split("\n")
    return "\n".join(lines[:HEAD])[:HEAD_CHARS] + ("\n…" if len(lines) > HEAD else "")


def _request_last(content: str) -> str:
    """The files before the words: a small model goes on from what it read last."""
    said, mark, files = content.partition(FILE_MARK)
    return f"{mark.lstrip()}{files}\n\n{said}" if mark and said else content


def _says(said: str, name: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", said, re.IGNORECASE) is not None


def content_words(content: str) -> str:
    """The user's words and the names of the files with them, whose endings say what they are."""
    said, _, files = content.partition(FILE_MARK)
    return " ".join([said, *re.findall(r'name="([^"]*)"', files)])


def fits(said: str, around: Surroundings, files: Sequence[str] = (), least: int = 1) -> str:
    """The one skill that has the most words in common with what was said, `least` or more; "" when there is none, or
    several.

    Of several that have as many, the one that has most without the names of the `files`: `csv` says little.
    """
    plain = said
    for name in files:
        plain = plain.replace(name, " ")
    whole, bare = stems(said), stems(plain)
    of = [stems(f"{name} {about}") for name, about in around.skills]
    shared = [(len(whole & words), len(bare & words)) for words in of]
    best = max(shared, default=(0, 0))
    return around.skills[shared.index(best)][0] if best[0] >= least and shared.count(best) == 1 else ""
