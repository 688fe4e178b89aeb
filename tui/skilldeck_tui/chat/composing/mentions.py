"""What a message names: `@file`, `@file#20-45` (lines of it), and at its beginning `/command` or `/skill`.

    resolved = mentions(text, folder)      # the files that are there, and the words that lead nowhere

Looks at the disk: blocks.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from skilldeck_shared.paths import expanded

RANGE = re.compile(r"#L?(\d+)(?:-L?(\d+))?$")
_AT = re.compile(r"(?:^|(?<=[\s(]))@([^\s@]+)")
_FENCED = re.compile(r"(?:^|\n)(```|~~~).*?(?:\n\1|\Z)", re.DOTALL)
_SLASH = re.compile(r"/([\w.-]+)(?:\s+|$)")
_PUNCTUATION = ".,;:!?)"


@dataclass(frozen=True)
class Mention:
    """`word` is as it was written, `lines` the first and the last one of a range, counted from 1."""

    word: str
    path: Path
    lines: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """What the file is called for the model: a part of it says so, before its ending."""
        if self.lines is None:
            return self.path.name
        first, last = self.lines
        return f"{self.path.stem}#{first}-{last}{self.path.suffix}" if last > first else (
            f"{self.path.stem}#{first}{self.path.suffix}"
        )  # fmt: skip


def ranged(word: str) -> tuple[str, tuple[int, int] | None]:
    """A word without the range at its end, and the range; one that runs backwards is none."""
    found = RANGE.search(word)
    if found is None:
        return word, None
    first = int(found[1])
    last = int(found[2] or first)
    return (word[: found.start()], (first, last)) if 0 < first <= last else (word, None)


def find(word: str, folder: Path) -> Mention | None:
    """The file that a word behind an `@` means, with its range."""
    for candidate in dict.fromkeys((word, word.rstrip(_PUNCTUATION))):
        for name, lines in dict.fromkeys((ranged(candidate), (candidate, None))):
            path = folder / expanded(name)
            if name and os.path.isfile(path):
                return Mention(candidate, path, lines)
    return None


def mentions(text: str, folder: Path) -> tuple[list[Mention], list[str]]:
    """The files that `text` names, and the words behind an `@` that are no file. Code between fences names none."""
    found: list[Mention] = []
    lost: list[str] = []
    for word in dict.fromkeys(_AT.findall(_FENCED.sub("", text))):
        mention = find(word, folder)
        if mention is None:
            lost.append(f"@{word.rstrip(_PUNCTUATION)}")
        elif mention not in found:
            found.append(mention)
    return found, lost


def leading(text: str) -> tuple[str, str]:
    """The word behind a slash at the beginning of a message, and what follows it; empty when there is none."""
    found = _SLASH.match(text)
    return (found[1], text[found.end() :].strip()) if found else ("", "")


def lost_slash(text: str, known: Collection[str]) -> list[str]:
    """What begins a message like a command and is none."""
    word, _ = leading(text)
    return [f"/{word}"] if word and word not in known and not os.path.exists(f"/{word}") else []


def excerpt(mention: Mention) -> Path:
    """A new file of the lines that are meant, in a folder of its own.

    Raises: OSError, or ValueError when there are none.
    """
    assert mention.lines is not None
    first, last = mention.lines
    with mention.path.open(encoding="utf-8", errors="replace") as file:
        lines = list(islice(file, first - 1, last))
    if not lines:
        raise ValueError(f"{mention.path.name} has no line {first}.")
    path = Path(tempfile.mkdtemp(prefix="skilldeck-")) / mention.name
    path.write_text("".join(lines), "utf-8")
    return path


def describe_lost(words: Sequence[str]) -> str:
    """That what a message names is not there, in a sentence."""
    files, commands = ([word for word in words if word[0] == sign] for sign in "@/")
    said = [f"{' and '.join(files)} {'is no file' if len(files) == 1 else 'are no files'} here"] if files else []
    said += [f"{commands[0]} is no command and no skill"] if commands else []
    return f"{'; '.join(said)}: plain text to the model"
