"""Whether a shell command spells out all that it runs.

It does when every program of it only reads or prints, or is a script inside one of the given folders, named by its path
(`python3 FOLDER/x.py`, `cd FOLDER && sh x.sh`). Whatever else a command has (a link, a module, code in an argument, a
variable before a program) may run anything. Errs to the side of no: the words are read as the shell would read them,
and what it reads in other ways is no.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

_READERS = re.compile(
    r"\[|basename|cal|cat|cd|cmp|comm|cut|date|df|diff|dirname|du|echo|egrep|expr|false|fgrep|file|fmt|fold|"
    r"grep|head|hexdump|hostname|id|join|jq|ls|md5sum|mkdir|nl|od|paste|printf|pwd|readlink|realpath|rev|rm|"
    r"rmdir|seq|sha1sum|sha256sum|sha512sum|sleep|sort|stat|strings|tac|tail|test|touch|tr|tree|true|type|"
    r"uname|uniq|wc|which|whoami|xxd"
)
"""Programs that run no other and write no program."""
LONGEST = 4096
"""Characters; reading them takes 4 ms."""
_INTERPRETERS = re.compile(r"(?:/usr/bin/|/bin/)?(?:python(?:3(?:\.\d+)?)?|sh|bash|dash|node|perl|ruby)")
_OPTIONS = ("-u", "-x")
_BREAKS = frozenset(";&|\n()")
_REDIRECTS = frozenset(("<", ">", ">>", ">&", "<&", "&>", "&>>", ">|", "<>"))
_PATH = re.compile(r"[\w.,=@%+/-]+")


def spells_out(command: str, folders: Sequence[str]) -> bool:
    """See the module. `folders`: absolute paths whose content is known; nothing in them leads out of them."""
    if len(command) > LONGEST:
        return False
    lexer = shlex.shlex(command, posix=True, punctuation_chars=";&|<>()\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    try:
        tokens = list(lexer)
    except ValueError:  # a quotation that does not end
        return False
    words: list[str] = []
    inside = ""
    redirected = False
    for token in [*tokens, ";"]:
        if token and _BREAKS.issuperset(token):
            if redirected or not _harmless(words, folders, inside):
                return False
            # Behind anything but && the step may have failed, or was made in another process.
            if token != "&&":
                inside = ""
            elif words[:1] == ["cd"]:
                inside = words[1] if len(words) == 2 and _inside(words[1], folders) else ""
            words = []
        elif token and set(token) <= set(";&|<>()\n"):
            if token not in _REDIRECTS or redirected:
                return False
            redirected = True
        elif redirected:
            redirected = False
        else:
            words.append(token)
    return True


def _inside(path: str, folders: Sequence[str]) -> bool:
    """Whether the path spells one of the folders, or what lies in it."""
    plain = _PATH.fullmatch(path) is not None and ".." not in path
    return plain and any(path == folder or path.startswith(folder + "/") for folder in folders)


def _harmless(words: Sequence[str], folders: Sequence[str], inside: str) -> bool:
    if not words:
        return True
    program, *arguments = words
    if _READERS.fullmatch(program):
        # `sort --compress-program=X` runs X, under any beginning of that name.
        return program != "sort" or not any(word.startswith("--co") for word in arguments)
    if _INTERPRETERS.fullmatch(program):
        script = next((word for word in arguments if word not in _OPTIONS), "")
    else:
        script = program
        if "/" not in script:
            return False
    if inside and not script.startswith(("/", "-")):
        script = f"{inside}/{script}"
    return _inside(script, folders)
