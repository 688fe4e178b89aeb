"""Guesses of a text's next tokens by a small model of the same vocabulary. Like all guesses they are only ever checked.

It follows one text: that of the request which is alone. A long text is read a piece a step, so that nothing waits for
it; guesses come once it has caught up. What it holds is dropped when a request of another salt comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from skilldeck_daemon.engine.llamacpp import gguf
from skilldeck_daemon.engine.llamacpp.model import LlamaModel, Row
from skilldeck_daemon.engine.llamacpp.options import Fit, LlamaOptions
from skilldeck_daemon.engine.llamacpp.sequences import common_prefix
from skilldeck_daemon.engine.models.source import ModelSource
from skilldeck_shared.errors import BadRequest, SkilldeckError

SURE = 0.5
"""A token the small model gives less than this is not guessed: it is wrong more often than not."""
COMPARED = 2000  # tokens of the two vocabularies that are compared
_SEQUENCE = 0


def draft_file(path: str) -> gguf.Gguf:
    """The GGUF of a draft model. Raises BadRequest that names the option."""
    try:
        source = ModelSource.of(Path(path).expanduser())
        if source.kind == "gguf":
            return gguf.read(source.path)
        problem = f"{path} is {source.what}, not a GGUF file."
    except (SkilldeckError, OSError) as error:
        problem = str(error)
    raise BadRequest(problem, "Give a small GGUF of the same family.", param="draft_model")


class Draft:
    """A loaded draft model; the engine's thread owns it."""

    def __init__(
        self, file: gguf.Gguf, options: LlamaOptions, target: LlamaModel, stopping: Callable[[], bool]
    ) -> None:
        """Blocks while it reads. Raises BadRequest for a model that cannot guess for `target`."""
        context = min(target.context, file.context or target.context)
        mine = replace(options, lora=(), draft_tokens=0, draft_model="", mmproj="off")
        self._model = model = LlamaModel(file, mine, Fit(context, 1, 1, 0), _quiet, stopping)
        try:
            if model.whole:
                raise BadRequest(
                    f"{file.path.name} cannot take back what it guessed.",
                    "Give one without state.",
                    param="draft_model",
                )
            _compare(model, target, file.path.name)
        except BaseException:
            model.close()
            raise
        self._piece = min(options.prefill_chunk, 256)
        self._tokens: list[int] = []
        self._salt = ""

    def guess(self, text: Sequence[int], token: int, most: int, salt: str) -> list[int]:
        """At most `most` tokens that may follow `text` and `token`; none while it still reads, or is not sure."""
        whole = [*text, token]
        if salt != self._salt:
            self._salt, self._tokens = salt, []
        if len(whole) + most >= self._model.context:
            return []
        kept = min(common_prefix(self._tokens, whole), len(whole) - 1)
        if kept < len(self._tokens) or not kept:
            self._model.cut(_SEQUENCE, kept)
        new = whole[kept : kept + self._piece]
        if min(new) < 0:  # an image it cannot see
            self._tokens = whole[:kept]
            return []
        self._tokens = whole[: kept + len(new)]
        rows = self._model.prefill(_SEQUENCE, new, kept, int(len(self._tokens) == len(whole)))
        if not rows:
            return []
        found: list[int] = []
        row = rows[0]
        while (next_one := _sure(row)) is not None:
            found.append(next_one)
            if len(found) == most:
                break
            (row,) = self._model.decode([next_one], [_SEQUENCE], [len(self._tokens)])
            self._tokens.append(next_one)
        return found

    def close(self) -> None:
        self._model.close()


def _sure(row: Row) -> int | None:
    """The likeliest token, where it is likely."""
    best = int(np.argmax(row))
    return best if float(np.exp(row - row[best]).sum()) * SURE <= 1 else None


def _compare(mine: LlamaModel, target: LlamaModel, name: str) -> None:
    """Raise BadRequest unless every id means the same in both, as far as both have it (paddings differ)."""
    few, many = sorted((mine.vocab, target.vocab))
    different = many - few > 256
    for index in range(0, few, max(few // COMPARED, 1)):
        different = different or mine.piece(index) != target.piece(index)
    if different:
        raise BadRequest(
            f"{name} has another vocabulary than the model ({mine.vocab} tokens, {target.vocab}).",
            "Give a small model of the same family.",
            param="draft_model",
        )


def _quiet(_fraction: float, _stage: str) -> None:
    return None
