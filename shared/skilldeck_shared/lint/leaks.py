"""What a skill gives away or ties to one machine: keys, and paths of its author's home."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from math import log2

from skilldeck_shared.lint.rules import Finding, Rule
from skilldeck_shared.lint.skill import Skill
from skilldeck_shared.skills.ignore import secret

SECRET = Rule(
    "secret", "error", "a key or password lies in the skill",
    "Whoever gets the skill gets it, and so does the model's provider.",
)  # fmt: skip
ABSOLUTE = Rule(
    "absolute-path", "warning", "a path of one person's machine",
    "It is on no other machine, nor in a container.",
)  # fmt: skip
RULES = (SECRET, ABSOLUTE)

ENTROPY = 3.0
"""Bits a character. Keys have 4 and more, `sk-your-key-here` and rows of x less."""

_KEYS = {
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "an API key": r"\bsk-(?:proj-|ant-[a-z0-9]+-|svcacct-|or-v1-)?[A-Za-z0-9_-]{32,}",
    "a Google API key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "a Slack token": r"\bxox[abposr]-[0-9A-Za-z-]{20,}",
    "a Stripe key": r"\b(?:sk|rk)_live_[0-9A-Za-z]{20,}",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "an npm token": r"\bnpm_[A-Za-z0-9]{36}\b",
    "a JSON web token": r"\beyJ[\w-]{20,}\.eyJ[\w-]{20,}\.[\w-]{20,}",
}
_KEY = re.compile("|".join(f"(?P<k{number}>{pattern})" for number, pattern in enumerate(_KEYS.values())))
_PRIVATE = re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s*\n\s*[A-Za-z0-9+/=]{40,}")
_EXAMPLE = re.compile(
    r"example|sample|placeholder|your|dummy|fake|test|redacted|xxxx|1234567|abcdef|a1b2c3", re.IGNORECASE
)
_HOME = re.compile(
    r"(?<![\w.~/$}-])(?:/home/|/Users/)([A-Za-z][\w.-]*)(?:/[\w.@+-]+)+|\b[A-Z]:\\+Users\\+([A-Za-z][\w.-]*)\\+[\w.-]+"
)
_NOBODY = frozenset(
    """user username users you youruser yourname your-name your_name your-username me myuser name alice bob
    carol john jane jdoe johndoe john.doe janedoe foo bar example dev developer admin administrator root runner ubuntu
    kali vscode node app shared public default someone somebody person test tester oai claude sandbox coder
    codespace ec2-user vagrant jovyan linuxbrew operator deploy git""".split()  # noqa: SIM905
)


def check(skill: Skill) -> Iterator[Finding]:
    for path, text in skill.texts.items():
        if secret(path):
            cure = "Take it out of the folder, and change what it held if it was published."
            yield SECRET.at(path, 0, "files of this name hold secrets.", cure)
            continue
        yield from _secrets(path, text)
        if path.endswith((".md", ".py", ".sh", ".bash", ".js", ".mjs", ".ts", ".txt", ".yaml", ".yml", ".toml")):
            yield from _homes(path, text)


def _secrets(path: str, text: str) -> Iterator[Finding]:
    cure = "Delete it, change it where it is valid, and have scripts read it from the environment."
    for found in _KEY.finditer(text):
        value = found[0]
        if _EXAMPLE.search(value) or entropy(value) < ENTROPY:
            continue
        kind = list(_KEYS)[int(str(found.lastgroup)[1:])]
        yield _at(SECRET, path, text, found.start(), f"{value[:8]}… looks like {kind}.", cure)
    for found in _PRIVATE.finditer(text):
        if len(set(found[0].splitlines()[-1].strip())) > 12:
            yield _at(SECRET, path, text, found.start(), "a private key lies here.", cure)


def _homes(path: str, text: str) -> Iterator[Finding]:
    reported: set[str] = set()
    for found in _HOME.finditer(text):
        name = (found[1] or found[2]).lower()
        if name in _NOBODY or re.match(r"your|my|user|example|test", name) or name in reported or "..." in found[0]:
            continue
        reported.add(name)
        cure = "Write it relative to the skill's folder, or as an argument."
        yield _at(ABSOLUTE, path, text, found.start(), f"{found[0]} is on one machine only.", cure)


def _at(rule: Rule, path: str, text: str, at: int, message: str, cure: str) -> Finding:
    line = text.count("\n", 0, at) + 1
    return rule.at(path, line, message, cure, column=at - (text.rfind("\n", 0, at) + 1) + 1)


def entropy(text: str) -> float:
    """Bits a character."""
    return -sum(n / len(text) * log2(n / len(text)) for n in Counter(text).values())
