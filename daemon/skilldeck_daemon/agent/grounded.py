"""What an answer says that stands in nothing its run has read: numbers, dates and names.

Small models misread what a command printed ("quantity: 3 missing" where it says 1). What was read is known here, so
what was not can be named: `ungrounded` gives the places. It says "unsupported", not "wrong": a sum that the model did
itself stands in no output either. Only a run that read the output of a call is looked at, since what a model knows by
itself stands nowhere.

- A number is the same written as 1,240.00, 1240 or 1 240; digits of a name (`a4`, `v1.2`) belong to the name.
- A date is the same written as 2025-03-14, 14 March 2025 or March 14th; without its year it is any year's.
- A name is a word with a capital letter inside a sentence. Words all in capitals, weekdays and months are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

from skilldeck_daemon.engine.messages import Message
from skilldeck_daemon.store.run_records import Item, Ungrounded

Verify = Literal["off", "mark", "retry"]
"""What is done about them: nothing, they are reported, or the model is asked once more before they are."""
VERIFIES: tuple[Verify, ...] = get_args(Verify)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = r"(?P<{0}>(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*)\.?"
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?<![\w.-])(?P<y>\d{4})[-/](?P<m>\d{1,2})[-/](?P<d>\d{1,2})(?![\w-]*-)",
        rf"\b(?P<d>\d{{1,2}})(?:st|nd|rd|th)? (?:of )?{_MONTH.format('n')}(?:,? (?P<y>\d{{4}}))?\b",
        rf"\b{_MONTH.format('n')} (?P<d>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,? (?P<y>\d{{4}})\b)?",
    )
)
_NUMBER = re.compile(r"(?<![\w.])\d{1,3}(?:[,  ]\d{3})+(?:\.\d+)?(?![\w]|[.,]\d)|(?<![\w.])\d+(?:[.,]\d+)*(?!\w)")
_ORDINAL = re.compile(r"^[ \t]*(?:#+ )?\d+[.)][ \t]", re.MULTILINE)
"""The number of an item in a list, which is the answer's own."""
_NAME = re.compile(r"(?<=[\w,;] )[A-Z][a-zà-öø-ÿ]+(?:[-'][A-Z]?[a-z]+)*\b")
_NO_NAMES = frozenset(
    ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "i'm", "i'll", "i've")
)
ASK = "(Nothing that was read holds: {places}. Answer once more, only with what was printed.)"
SHOWN = 50
"""Places that are named of one answer."""


class Place(NamedTuple):
    """In characters of the text; `text` is what stands there."""

    start: int
    end: int
    text: str


def ungrounded(answer: str, read: Iterable[str]) -> list[Place]:
    """The numbers, dates and names of an answer that none of the texts has."""
    texts = list(read)
    dates = {date for text in texts for _, date in _dates(text)}
    numbers = {number for text in texts for _, number in _numbers(text, dates_too=True)}
    words = {word for text in texts for word in re.findall(r"[^\W\d_]+", text.lower())}
    found: list[Place] = []
    taken: list[tuple[int, int]] = []
    for (start, end), date in _dates(answer):
        taken.append((start, end))
        if date not in dates:
            found.append(Place(start, end, answer[start:end]))
    for (start, end), number in _numbers(answer):
        if number not in numbers and not any(start < other_end and other < end for other, other_end in taken):
            found.append(Place(start, end, answer[start:end]))
    for match in _NAME.finditer(answer):
        parts = re.findall(r"[^\W\d_]+", match[0].lower())
        known = match[0].lower() in _NO_NAMES or match[0][:3].lower() in MONTHS or words.issuperset(parts)
        if not known and not any(word in words for word in _singular(match[0].lower())):
            found.append(Place(match.start(), match.end(), match[0]))
    return sorted(found)[:SHOWN]


def figures(text: str) -> list[tuple[int, int]]:
    """Where the numbers of a text stand, but for those that count the items of its lists."""
    return [place for place, _ in _numbers(text)]


def places_of(items: Sequence[Item], messages: Sequence[Message]) -> list[Ungrounded]:
    """The places in the messages among a run's items, as a response names them.

    Args:
        messages: what the model has read; without an output of a call among them nothing is looked at.
    """
    if not any(message["role"] == "tool" for message in messages):
        return []
    texts = [text for message in messages if message["role"] != "assistant" for text in _texts(message["content"])]
    return [
        {"output_index": index, "content_index": part, "start_index": start, "end_index": end, "text": text}
        for index, item in enumerate(items)
        if item.get("type") == "message"
        for part, content in enumerate(item["content"])
        for start, end, text in ungrounded(content.get("text") or "", texts)
    ]


def asked_again(places: Sequence[Ungrounded]) -> Message:
    """The wish for an answer without them, as a message."""
    return {"role": "user", "content": ASK.format(places=", ".join(dict.fromkeys(place["text"] for place in places)))}


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif content:
        yield from (part.get("text", "") for part in content)


def _singular(word: str) -> Iterator[str]:
    yield word.removesuffix("s")
    yield f"{word}s"


def _dates(text: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """(month, day) of each date with its place; two with different years differ by the year as a number."""
    for pattern in _DATES:
        for match in pattern.finditer(text):
            groups = match.groupdict()
            month = int(groups["m"]) if groups.get("m") else MONTHS.index(groups["n"][:3].lower()) + 1
            yield match.span(), (month, int(groups["d"]))


def _numbers(text: str, dates_too: bool = False) -> Iterator[tuple[tuple[int, int], str]]:
    """Each number in one way of writing it, with its place. `dates_too`: also the parts of a time or a date."""
    own = set() if dates_too else {match.end() - 2 for match in _ORDINAL.finditer(text)}
    for match in _NUMBER.finditer(text):
        if match.end() not in own:
            yield match.span(), _plain(match[0])
    if dates_too:
        for match in re.finditer(r"\d+(?:\.\d+)?", text):
            yield match.span(), _plain(match[0])


def _plain(number: str) -> str:
    whole, point, rest = re.sub(r"[,  ](?=\d{3}(?:\D|$))", "", number).partition(".")
    rest = rest.rstrip("0")
    return (whole.lstrip("0") or "0") + (point + rest if rest else "")
