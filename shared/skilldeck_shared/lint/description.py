"""What of a description keeps a model from opening the skill, or makes it open another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from skilldeck_shared.lint.rules import Finding, Rule
from skilldeck_shared.lint.skill import Neighbour, Skill

SHORT = 40
LONG = 800
"""Characters. Of 1,569 published descriptions one in fifty is longer; the daemon shows 8,000 of all skills together."""

OVERLAP = 0.7
"""Share of the words of the shorter description that the other has, too."""
LEAST_WORDS = 6

SHORT_RULE = Rule(
    "description-short", "warning", f"the description has fewer than {SHORT} characters",
    "The model chooses by name and description alone; a few words match nothing that a person asks for.",
)  # fmt: skip
NO_WHEN = Rule(
    "description-no-when", "warning", "the description does not say when to use the skill",
    "Without an occasion the model opens the skill too rarely: it knows what it is, not that it is meant.",
)  # fmt: skip
LONG_RULE = Rule(
    "description-long", "advice", f"the description has more than {LONG} characters",
    "It stands in front of every request, and is shortened where many skills are offered.",
)  # fmt: skip
PERSON = Rule(
    "description-person", "advice", "the description speaks as I or you",
    "It stands among those of other skills in the system message, where nobody speaks.",
)  # fmt: skip
TAGS = Rule(
    "description-tags", "warning", "the description holds tags",
    "Clients put it between tags of their own; some refuse angle brackets.",
)  # fmt: skip
OVERLAP_RULE = Rule(
    "description-overlap", "warning", "two descriptions use the same words",
    "The model cannot tell which of them is meant and opens either.",
)  # fmt: skip
RULES = (SHORT_RULE, NO_WHEN, LONG_RULE, PERSON, TAGS, OVERLAP_RULE)

# Words by which published descriptions name an occasion, in the languages that many are written in.
_WHEN = re.compile(
    r"\b(?:us(?:e|es|ed|ing|eful)|when|whenever|while|trigger\w*|invok\w+|activat\w+|if|before|after|during|must|asks?|"
    r"asked|asking|wants?|needs?|mentions?|says?|requests?|call(?:ed)? (?:this|for|by)|run this|consult|read this|"
    r"helps?|provid\w+|covers?|applies|apply|for (?:any|all|tasks?|questions?|work\w*|projects?|users?|\w+ing)|"
    # Spanish, Portuguese, French, German
    r"cuando|quando|usar|use[rn]?|utili[sz]\w+|lorsque?|quand|wenn|bei|verwende\w*|nutze\w*|activar|disparador\w*)\b"
    r"|当|时|用于|使用|适用|触发|必须|とき|場合|使用|トリガー|때|사용|트리거",
    re.IGNORECASE,
)
_PERSON = re.compile(r"^\s*(?:I|I'm|I'll|We|My|You|Your)\b|\bI (?:can|will|help)\b|\byou can use this\b", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][\w:-]*(?:\s[^<>]*)?/?>")
_WORD = re.compile(r"[a-z][a-z0-9+#.-]{2,}")
_COMMON = frozenset(
    """a about across after all also an and any are as ask asks asked asking at based be because been
    before between both build but by can code concerning covers create creating data do does during each
    etc every example file files for from get guide has have helps how if in includes including into
    involves is it its like make making mention mentions more must need needs not of on one only or
    other over provides related request requests run should skill skills so such support supports task
    tasks than that the their them then there these they this those through to tool tools trigger
    triggers type types up use used user users uses using via want wants was when whenever where which
    while who will with within without work workflow workflows working works write writing you your""".split()  # noqa: SIM905
)


def check(skill: Skill, others: Sequence[Neighbour]) -> Iterator[Finding]:
    if skill.manifest is None:
        return
    text, path, line = skill.manifest.description, skill.manifest_path, skill.field_line("description")
    plain = " ".join(text.split())
    wide = sum(not character.isascii() for character in plain) > len(plain) / 3
    if len(plain) < (SHORT / 3 if wide else SHORT):
        yield SHORT_RULE.at(
            path, line, f"the description has {len(plain)} characters.",
            "Say what the skill does and when to use it, with the words that people ask with.",
        )  # fmt: skip
    elif not _WHEN.search(plain):
        yield NO_WHEN.at(
            path, line, "the description does not say when to use the skill.",
            'Add a sentence such as "Use when …" with what people ask for and the kinds of file they bring.',
        )  # fmt: skip
    if len(plain) > LONG:
        yield LONG_RULE.at(
            path, line, f"the description has {len(plain):,} characters.",
            f"Keep what tells this skill from others in the first {LONG}; the rest belongs into the body.",
        )  # fmt: skip
    if found := _PERSON.search(plain):
        yield PERSON.at(
            path, line, f"the description speaks to somebody: {found[0].strip()!r}.",
            'Write in the third person: "Extracts …. Use when …".',
        )  # fmt: skip
    if found := _TAG.search(plain):
        yield TAGS.at(path, line, f"the description holds {found[0]!r}.", "Write it in words.")
    yield from _overlaps(skill, plain, others, line)


def words(name: str, text: str) -> frozenset[str]:
    """The words that a description says something with, their endings off."""
    found = _WORD.findall(f"{name.replace('-', ' ')} {text}".lower())
    return frozenset(_stem(word.strip(".-")) for word in found if word.strip(".-") not in _COMMON)


def _stem(word: str) -> str:
    for ending in ("ing", "ies", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def _overlaps(skill: Skill, text: str, others: Sequence[Neighbour], line: int) -> Iterator[Finding]:
    assert skill.manifest is not None
    own = words(skill.manifest.name, text)
    for other in others:
        theirs = words(other.name, other.description)
        least = min(len(own), len(theirs))
        shared = own & theirs
        if other.name == skill.manifest.name or least < LEAST_WORDS or len(shared) / least < OVERLAP:
            continue
        yield OVERLAP_RULE.at(
            skill.manifest_path, line,
            f"{len(shared)} of {least} words are also in the description of {other.name}: "
            f"{', '.join(sorted(shared)[:8])}.",
            "Say in both what the other is not for.",
        )  # fmt: skip
