"""A GGUF file's tokenizer, as the daemon's `Vocabulary`: llama.cpp's own, loaded without the weights, or the one the
file brings.

Text becomes the very ids llama.cpp would make of it, for every kind of tokenizer it knows; the bytes of each id are
what it would write. A file with a whole tokenizer.json in it (`tokenizer.huggingface.json`) was made with that one,
whether or not llama.cpp has rules that cut text alike; it is used, and the library is not loaded for it. The chat
template and the values for sampling come from the file's metadata.
"""

from __future__ import annotations

import ctypes
import json
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from skilldeck_daemon.engine.detokenize import TokenizerMissing, Vocabulary
from skilldeck_daemon.engine.llamacpp import gguf, library

_SAMPLING = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_p": "top_p",
    "general.sampling.top_k": "top_k",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
    "skilldeck.max_new_tokens": "max_new_tokens",  # the format has no key for it
}
_TOKENIZER = "tokenizer.huggingface.json"


def of(file: gguf.Gguf) -> GgufVocabulary | WrittenVocabulary:
    """The tokenizer of a file. Raises TokenizerMissing, LibraryMissing."""
    return WrittenVocabulary(file) if isinstance(file.meta.get(_TOKENIZER), str) else GgufVocabulary(file.path)


class WrittenVocabulary(Vocabulary):
    """The tokenizer.json in a GGUF file, with the ids that its metadata names."""

    def __init__(self, file: gguf.Gguf) -> None:
        """Raises TokenizerMissing."""
        text = file.meta[_TOKENIZER]
        try:
            super().__init__(Tokenizer.from_str(text), json.loads(text))
        except Exception as error:  # tokenizers raises a bare Exception for what it cannot read
            raise TokenizerMissing(f"The tokenizer.json in {file.path} cannot be read: {error}.") from error
        names = {name: file.meta.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "eot", "padding")}
        self._named = {name: index for name, index in names.items() if isinstance(index, int)}
        self.ends = frozenset(index for name, index in self._named.items() if name in ("eos", "eot"))
        begins = bool(file.meta.get("tokenizer.ggml.add_bos_token")) and "bos" in self._named
        self.begin = (self._named["bos"],) if begins else ()

    def specials(self) -> dict[str, str]:
        """The tokens that templates name: bos_token and the like."""
        names = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token"}
        return {names[name]: self.decode([index]) for name, index in self._named.items() if name in names}


class GgufVocabulary(Vocabulary):
    """The tokenizer in a GGUF file. Thread-safe once built; building one takes a tenth of a second."""

    def __init__(self, path: Path) -> None:
        """Raises TokenizerMissing, LibraryMissing."""
        self._library = api = library.load()
        params = api.llama_model_default_params()
        params.vocab_only = True
        params.n_gpu_layers = 0
        api.said()
        model = api.llama_model_load_from_file(str(path).encode(), params)
        if not model:
            raise TokenizerMissing(f"The tokenizer in {path} cannot be read: {api.said()}.")
        weakref.finalize(self, api.llama_model_free, model)
        self._vocab = vocab = api.llama_model_get_vocab(model)
        self.size = api.llama_vocab_n_tokens(vocab)
        named = {call(vocab) for call in (api.llama_vocab_bos, api.llama_vocab_eos, api.llama_vocab_sep)}
        if max(named) >= self.size:  # the library would end the process at the first text
            raise TokenizerMissing(f"The tokenizer in {path} names token {max(named)} of {self.size}.")
        self.added, special = {}, set()
        for index in range(self.size):
            attributes = api.llama_vocab_get_attr(vocab, index)
            if attributes & (library.CONTROL | library.USER_DEFINED):
                self.added[index] = self._piece(index).decode("utf-8", "replace")
                if attributes & library.CONTROL:
                    special.add(index)
        self.special = frozenset(special)
        # The library makes control tokens of all it ends at, but for what the file names itself.
        ends = (*self.added, api.llama_vocab_eos(vocab))
        self.ends = frozenset(index for index in ends if api.llama_vocab_is_eog(vocab, index))
        bos = api.llama_vocab_bos(vocab)
        self.begin = (bos,) if bos >= 0 and api.llama_vocab_get_add_bos(vocab) else ()
        # Both decide whether pieces encoded apart join exactly (`chat/prompts.py`).
        kind = gguf.read(path).meta.get("tokenizer.ggml.model")
        self.byte_level = kind == "gpt2"
        self.sentencepiece = not self.byte_level
        self.prefix_space = not self.byte_level
        # llama.cpp normalizes nothing before these two, and every byte has a token; of others that is not known.
        self._composes, self._shrinks = False, kind not in ("gpt2", "llama")

    def encode(self, text: str) -> list[int]:
        return self._ids_of(text, False)

    def whole(self, text: str) -> list[int]:
        return self._ids_of(text, True)

    def _ids_of(self, text: str, around: bool) -> list[int]:
        raw = text.encode("utf-8", "replace")
        room = len(raw) + 8  # no tokenizer makes more tokens than bytes, but for a space put before them
        while True:
            ids = (ctypes.c_int32 * room)()
            count = self._library.llama_tokenize(self._vocab, raw, len(raw), ids, room, around, True)
            if count >= 0:
                return ids[:count]
            room = -count

    def id_of(self, token: str) -> int | None:
        return self._ids.get(token)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {text: index for index, text in self.added.items()}

    @cached_property
    def table(self) -> list[bytes]:
        return [self._piece(index) for index in range(self.size)]

    def _piece(self, index: int) -> bytes:
        """What llama.cpp writes for an id, special tokens included."""
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = self._library.llama_token_to_piece(self._vocab, index, buffer, room, 0, True)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def specials(self) -> dict[str, str]:
        """The tokens that templates name: bos_token and the like."""
        api = self._library
        named = {"bos_token": api.llama_vocab_bos, "eos_token": api.llama_vocab_eos, "pad_token": api.llama_vocab_pad}
        ids = {name: find(self._vocab) for name, find in named.items()}
        return {name: self.bytes_of(index).decode("utf-8", "replace") for name, index in ids.items() if index >= 0}


def generation(meta: dict[str, Any]) -> dict[str, Any]:
    """What a file asks for where a request says nothing, by the names of generation_config.json."""
    return {ours: meta[theirs] for theirs, ours in _SAMPLING.items() if isinstance(meta.get(theirs), int | float)}
