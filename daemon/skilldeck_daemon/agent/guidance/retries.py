"""What a small model's next command is, after one of a skill's that failed.

Left to itself Qwen2.5-Coder-0.5B runs the very same again, whatever the script said. So its next block begins with as
much of the failed command as the error leaves standing, and what follows is held (`Retry.held`) to be something else:

- the error, or the usage with it, names an option that was not given: the command goes on with it;
- what was to be the only file of the request is none: its path stands there;
- the usage wants more arguments: the command goes on; fewer of one argument: what is to be one begins with a quote, and
  so where the shell did not understand the line;
- the error names an argument that was given: another stands in its place, one of those that the error or the
  instructions list; where they list none the command goes on with any other.

In all other cases the turn is the model's. All of it is taken from the error and the instructions.
"""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from skilldeck_daemon.engine.grammar.text import ANY, pattern

OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
_WORD = re.compile(r"\"(?:\\.|[^\"\\])*\"|'[^']*'|\S+")
_USAGE = re.compile(r"^.*?\busage:[ \t]*(?P<usage>.*(?:\n[ \t]+\S.*)*)", re.IGNORECASE | re.MULTILINE)
_OPTIONAL = re.compile(r"\[[^\[\]]*\]")
_NOT_PARSED = re.compile(r"syntax error near|unexpected EOF while|unterminated|No closing quotation", re.IGNORECASE)
_NO_FILE = re.compile(r"No such file or directory|can't open|cannot open|cannot access", re.IGNORECASE)
_CHOICES = re.compile(
    r"\b(?:choose from|choices(?: are)?|one of|must be|expected|allowed|valid(?: \w+)?(?: are)?|known(?: \w+)?)[:\s]+"
    r"(?P<choices>[\w'\"`{(\[][^.;\n)]*)",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"['\"`]([\w.+%-]+)['\"`]")
_LISTED = re.compile(r"`([A-Za-z][\w%+-]*(?:[ ,|/]+[A-Za-z][\w%+-]*)+)`")
_PLAIN = re.compile(r"[A-Za-z][\w%+-]*")
MOST = 60  # words to choose among
ERROR = 4000  # characters of an error that are looked at


class Retry(NamedTuple):
    """begin: what the block begins with; held: what follows it in the turn, as a terminal of a grammar."""

    begin: str
    held: str


ON = pattern(r" [^ \n](.|\n)*")
"""A further word."""
DONE = pattern(r"\n(.|\n)*")
"""The command is whole."""
QUOTED = pattern(r"[^\"\n]+\"\n(.|\n)*")
"""The rest of what stands in quotes, and of the line nothing."""


def retry(failed: str, script: str, error: str, instructions: str, file: str = "") -> Retry | None:
    """The command after `failed`; None: the model's own.

    Args:
        failed: one command line that runs `script`, a file of the skill.
        error: what it printed.
        instructions: the skill's, with the paths written out as the model read them.
        file: path of the only file that the request brought.
    """
    at = failed.find(script)
    if at < 0 or "\n" in failed or re.search(r"[|;&<>]", failed[at:].split("'")[0].split('"')[0]):
        return None
    head, rest = failed[: at + len(script)], failed[at + len(script) :]
    words = [match for match in _WORD.finditer(rest)]
    if _NOT_PARSED.search(error):
        return Retry(f'{head} "', QUOTED) if words else None
    error = error[-ERROR:]
    found = _USAGE.search(error)
    usage = found["usage"] if found else ""
    said = error.replace(found[0], "") if found else error
    wanted = _missing_option(failed, f"{said}\n{_OPTIONAL.sub('', usage)}", instructions)
    if wanted:
        return Retry(f"{failed.rstrip()} {wanted}", ON if _has_value(wanted, instructions, error) else ANY)
    given = _positional([match[0] for match in words])
    takes = len(_positional(_OPTIONAL.sub("", usage).split()[1:])) if usage else len(given)
    lost = bool(file) and file.rpartition("/")[2] not in failed
    if lost and (word := _not_there(words, said)) is not None:
        return Retry(f"{head}{rest[: word.start()]}{shlex.quote(file)}{rest[word.end() :].rstrip()}", DONE)
    if lost and takes == 1 < len(given):
        return Retry(f"{head} {shlex.quote(file)}", DONE)
    if takes > len(given):
        return Retry(failed.rstrip(), ON)
    if takes == 1 < len(given):
        return Retry(f'{head} "', QUOTED)
    return _another(head, rest, words, said, instructions)


def _not_there(words: list[re.Match[str]], said: str) -> re.Match[str] | None:
    """The argument that the error says is no file."""
    lines = [line for line in said.splitlines() if _NO_FILE.search(line)]
    return next((word for word in words if any(word[0].strip("'\"") in line for line in lines)), None)


def _missing_option(failed: str, said: str, instructions: str) -> str:
    """The one option that the error names and the command has not; of several the one that the instructions know."""
    own = {match[0] for match in OPTION.finditer(failed)}
    named = [name for name in dict.fromkeys(OPTION.findall(said)) if name not in own and name not in ("-h", "--help")]
    known = [name for name in named if name in instructions]
    named = known or named
    return named[0] if len(named) == 1 else ""


def _has_value(option: str, instructions: str, error: str) -> bool:
    """Whether a value stands behind the option where commands are shown."""
    name = re.escape(option)
    return bool(
        re.search(rf"`[^`\n]*{name}[ =][^\s`-]|^[ \t]*\S+ .*{name}[ =][^\s`-]", instructions, re.MULTILINE)
        or re.search(rf"{name}[ =](?:[A-Z]{{2}}|[<{{])", error)
    )


def _positional(words: list[str]) -> list[str]:
    """Without options; what follows one is taken for its value."""
    left, value = [], False
    for word in words:
        if word.startswith("-") and not re.fullmatch(r"-[\d.]+", word):
            value = "=" not in word
        elif value:
            value = False
        else:
            left.append(word)
    return left


def _another(head: str, rest: str, words: list[re.Match[str]], said: str, instructions: str) -> Retry | None:
    """The command up to the argument that the error names."""
    spoken = {word.strip(".,:;()'\"`").lower() for word in said.split()}
    listed = _choices(said) or {word for match in _LISTED.finditer(instructions) for word in _PLAIN.findall(match[1])}
    for word in words:
        text = word[0].strip("'\"")
        if text.lower() not in spoken or "/" in text or text.startswith("-") or text in listed:
            continue
        begin = head + rest[: word.start()].rstrip()
        if listed:
            given = {other[0].strip("'\"") for other in words}  # what stands elsewhere is not meant here too
            others = _alike(text, listed - given or listed - {text})
            other = "|".join(re.escape(one) for one in sorted(others)[:MOST])
            return Retry(begin, pattern(rf" ({other}){re.escape(rest[word.end() :].rstrip())}(\n(.|\n)*)?"))
        same = pattern(rf" {re.escape(text)}(.|\n)*")
        return Retry(begin, f"{ON} & ~{same}")
    return None


def _alike(word: str, listed: set[str]) -> set[str]:
    """Those that stand for the word: its beginning (`in` for inches), or short for it (`km` for kilometres); all where
    none does. Left to choose, Qwen2.5-Coder-0.5B took metres for miles."""
    low = word.lower()
    begins = [one for one in listed if len(one) > 1 and low.startswith(one.lower())]
    if begins:
        return {max(begins, key=len)}
    shorts = {one for one in listed if one and _short_for(one.lower(), low)}
    return shorts or listed


def _short_for(short: str, word: str) -> bool:
    letters = iter(word)
    return word[:1] == short[0] and all(letter in letters for letter in short)


def _choices(said: str) -> set[str]:
    """The words that an error lists as those that may stand there."""
    found = _CHOICES.search(said)
    if not found:
        return set()
    quoted = _QUOTED.findall(found["choices"])
    plain = [word for word in _PLAIN.findall(found["choices"]) if word.lower() not in ("or", "and", "a", "an", "the")]
    return set(quoted or (plain if "," in found["choices"] else ()))
