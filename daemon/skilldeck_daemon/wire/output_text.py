"""What stands beside an assistant's text when a client sends it back: annotations and log probabilities.

Read completely, since the items are stored and listed again: what is not in the API's shapes is refused or dropped.
"""

from __future__ import annotations

from typing import Any

from skilldeck_daemon.store.run_records import Annotation, Logprob, TopLogprob
from skilldeck_daemon.wire.fields import Fields

_ANNOTATIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "file_citation": (("file_id", "filename"), ("index",)),
    "url_citation": (("url", "title"), ("start_index", "end_index")),
    "container_file_citation": (("container_id", "file_id", "filename"), ("start_index", "end_index")),
    "file_path": (("file_id",), ("index",)),
}
"""By type: the fields that are texts, and those that are indexes."""
_RANGE = 1e300


def annotation(fields: Fields) -> Annotation:
    kind = fields.needed("type", choices=tuple(_ANNOTATIONS))
    texts, indexes = _ANNOTATIONS[kind]
    found: Any = {"type": kind}
    found |= {name: fields.string(name, required=True) or "" for name in texts}
    found |= {name: fields.integer(name, required=True, minimum=0) for name in indexes}
    read: Annotation = found
    return read


def logprob(fields: Fields) -> Logprob:
    return {**_probability(fields), "top_logprobs": [_probability(entry) for entry in fields.objects("top_logprobs")]}


def _probability(fields: Fields) -> TopLogprob:
    token = fields.string("token", required=True) or ""
    value = fields.number("logprob", required=True, minimum=-_RANGE, maximum=_RANGE) or 0
    return {"token": token, "logprob": value, "bytes": fields.integers("bytes", minimum=0, maximum=255)}
