"""Which URLs a run may open: those that somebody other than the model wrote.

A page can ask the model to open an address that carries the user's words away. So the model opens what stands in the
conversation as it is: a URL from results, from a page, from the user or the instructions; or anything on a host that
the user or the instructions name. Nothing is kept: the items of the conversation are read again for each call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import cast
from urllib.parse import urlsplit

from skilldeck_daemon.tools.web.items import WebCallItem
from skilldeck_daemon.wire.item_kinds import Item

URL = re.compile(r"https?://[^\s<>\"'\[\]{}|\\^`]+", re.IGNORECASE)
_HOST = re.compile(r"(?<![\w@.-])(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,24}(?![\w-])", re.IGNORECASE)
_AUTHORS = ("user", "system", "developer")


def found(text: str) -> Iterator[tuple[int, str]]:
    """(place, URL) of each URL in a text, without the punctuation that follows it."""
    for match in URL.finditer(text):
        url = match.group()
        end, unopened = len(url), url.count(")") - url.count("(")
        while end and (url[end - 1] in ".,;:!?*_" or (url[end - 1] == ")" and unopened > 0)):
            end -= 1
            unopened -= url[end] == ")"
        if end > len("https://"):
            yield match.start(), url[:end]


def normal(url: str) -> str:
    """The URL as one spelling: no fragment, host in lower case, no slash at the end."""
    parts = urlsplit(url)
    return parts._replace(scheme=parts.scheme.lower(), netloc=parts.netloc.lower(), fragment="").geturl().rstrip("/")


def may_open(url: str, items: Iterable[Item], instructions: str = "") -> bool:
    """Whether the conversation holds this URL, or its host as a word of the user's."""
    wanted, host = normal(url), (urlsplit(url).hostname or "").lower()
    named = [instructions]
    given: list[str] = []
    for item in items:
        kind = item.get("type", "message")
        if kind == "message" and item.get("role") in _AUTHORS:
            named += [part.get("text", "") for part in item["content"]]
        elif kind == "message":
            given += [note.get("url", "") for part in item["content"] for note in part.get("annotations", ())]
        elif kind.endswith("_call_output"):
            given.append(str(item.get("output")))  # a call's own record says what it is
        elif kind == "web_search_call":
            given += [f"{page['url']}\n{page['text']}" for page in cast(WebCallItem, item).get("results") or ()]
    if any(host == match.group().lower() for text in named for match in _HOST.finditer(text)):
        return True
    return any(normal(other) == wanted for text in [*named, *given] for _, other in found(text))
