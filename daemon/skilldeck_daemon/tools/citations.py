"""Files a run made and pages it found, as annotations on its texts. Indexes count characters; the end is exclusive.

Each file is cited where the text first mentions its path or, failing that, its name; a file the text does not mention
is cited with an empty span at the end, so that a client finds every file of the run on the message. A page is cited
wherever the text holds its URL: the Markdown link around it, or the URL alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from skilldeck_daemon.store.records import ContainerFileObject
from skilldeck_daemon.store.run_records import Annotation
from skilldeck_daemon.tools.web.url_provenance import found, normal

LINK_CHARS = 2_000
"""Longest text of a Markdown link, with its brackets."""


def citations(text: str, files: Sequence[ContainerFileObject]) -> list[Annotation]:
    """container_file_citation annotations, in order of their place."""
    cited: list[Annotation] = []
    for file in files:
        start, end = mention(text, file["path"]) or (len(text), len(text))
        cited.append(
            {
                "type": "container_file_citation",
                "container_id": file["container_id"],
                "file_id": file["id"],
                "filename": file["path"].rsplit("/", 1)[-1],
                "start_index": start,
                "end_index": end,
            }
        )
    return sorted(cited, key=_place)


def url_citations(text: str, sources: Mapping[str, str]) -> list[Annotation]:
    """url_citation annotations, in order of their place. `sources` are the titles of pages by URL."""
    known = {normal(url): (url, title) for url, title in sources.items()}
    cited: list[Annotation] = []
    for start, written in found(text) if known else ():
        source = known.get(normal(written))
        if source is None:
            continue
        end = start + len(written)
        if text[start - 2 : start] == "](" and text[end : end + 1] == ")":
            least = max(0, start - LINK_CHARS)
            opening = text.rfind("[", max(least, text.rfind("\n", least, start)), start - 2)
            if opening >= 0:
                start, end = opening, end + 1
        url, title = source
        cited.append({"type": "url_citation", "start_index": start, "end_index": end, "url": url, "title": title})
    return sorted(cited, key=_place)


def _place(citation: Annotation) -> tuple[int, int]:
    return citation["start_index"], citation["end_index"]


def mention(text: str, path: str, *, name_alone: bool = True) -> tuple[int, int] | None:
    """Where a text first mentions a file of the container: by its path, else (unless not `name_alone`) by its name."""
    last = path.rsplit("/", 1)[-1]
    if last not in text:  # a run may have made 10,000 files: a hundredth of what an expression takes
        return None
    names = [f"sandbox:{path}", path, path.removeprefix("/mnt/data/")]
    for name in [*names, last] if name_alone else names:
        # A name inside a longer name (data.csv in olddata.csv) is no mention of it.
        match = re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w/-]|\.\w)", text)
        if match:
            return match.start(), match.end()
    return None
