"""Files a run made, as annotations on its final text.

Each file is cited where the text first mentions its path or, failing that, its name; a file the text does not mention
is cited with an empty span at the end, so that a client finds every file of the run on the message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


def citations(text: str, files: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """container_file_citation annotations, in order of their place. Indexes count characters; the end is exclusive."""
    found = []
    for file in files:
        start, end = _mention(text, file["path"])
        found.append(
            {
                "type": "container_file_citation",
                "container_id": file["container_id"],
                "file_id": file["id"],
                "filename": file["path"].rsplit("/", 1)[-1],
                "start_index": start,
                "end_index": end,
            }
        )
    return sorted(found, key=lambda citation: (citation["start_index"], citation["end_index"]))


def _mention(text: str, path: str) -> tuple[int, int]:
    for name in (f"sandbox:{path}", path, path.removeprefix("/mnt/data/"), path.rsplit("/", 1)[-1]):
        # A name inside a longer name (data.csv in olddata.csv) is no mention of it.
        match = re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w/-]|\.\w)", text)
        if match:
            return match.start(), match.end()
    return len(text), len(text)
