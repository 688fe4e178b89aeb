"""Images for exllamav2: prompts in which an image's place is taken by the ids of its embeddings.

A chat template writes one placeholder for an image; the model expects there what its vision tower makes of it, a few
hundred rows. exllamav2 gives such rows ids beyond the vocabulary. The embeddings of the latest images are kept, so
that an image of an earlier round has the same ids again and stays in the prefix cache; dropping them only costs
computing. Everything here runs on the engine's thread.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from skilldeck_daemon.engine.images import read_image
from skilldeck_shared.errors import BadRequest

KEPT_BYTES = 512 << 20

# By kind of tower: the tokens a template writes for one image, and the text that belongs around it. The embeddings
# that exllamav2 makes hold the opening and closing tokens too.
_WRITTEN: dict[str, tuple[tuple[str, ...], str]] = {
    "pixtral": (("[IMG]",), ""),
    "qwen2": (("<|vision_start|>", "<|image_pad|>", "<|vision_end|>"), ""),
    "qwen2.5": (("<|vision_start|>", "<|image_pad|>", "<|vision_end|>"), ""),
    "siglip_vision_model": (("<start_of_image>",), "\n\n"),
}


class SingleIds:
    """All that a vision tower needs of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def single_id(self, token: str) -> int:
        found: int | None = self.tokenizer.token_to_id(token)
        if found is None:
            raise BadRequest(f"The tokenizer has no token {token}, which the vision tower needs.", param="model")
        return found


class Vision:
    """A loaded tower beside its language model. `kind` is exllamav2's `vision_model_type`."""

    def __init__(self, tower: Any, model: Any, folder: Path, kind: str) -> None:
        self.tower = tower
        self._model = model
        self._ids = SingleIds(Tokenizer.from_file(str(folder / "tokenizer.json")))
        written, around = _WRITTEN[kind]
        self._written = [self._ids.single_id(token) for token in written]
        self._around: list[int] = self._ids.tokenizer.encode(around, add_special_tokens=False).ids if around else []
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def expand(self, prompt: Sequence[int], images: Sequence[str]) -> tuple[list[int], list[Any]]:
        """The prompt with the ids of every image in its place, and the embeddings they stand for.

        images: data URLs, in order. Raises BadRequest naming what is wrong.
        """
        size = len(self._written)
        places = [at for at in range(len(prompt) - size + 1) if list(prompt[at : at + size]) == self._written]
        if len(places) != len(images):
            raise BadRequest(
                f"The prompt has {len(places)} places for {len(images)} images.",
                "The chat template must show every image, and no text may spell a place for one.",
                param="input",
            )
        embeddings = [self._embed(url) for url in images]
        out: list[int] = []
        done = 0
        for at, embedding in zip(places, embeddings, strict=True):
            ids = range(embedding.first_index, embedding.first_index + embedding.length)
            out += [*prompt[done:at], *self._around, *ids, *self._around]
            done = at + size
        return [*out, *prompt[done:]], embeddings

    def _embed(self, url: str) -> Any:
        key = hashlib.sha256(url.encode()).hexdigest()
        if key not in self._kept:
            image = read_image(url, self.tower.config.vision_max_size)
            self._kept[key] = self.tower.get_image_embeddings(self._model, self._ids, image)
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(kept.get_size_in_bytes() for kept in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return self._kept[key]
