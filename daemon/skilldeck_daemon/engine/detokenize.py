"""Token ids to bytes and to text, exactly and one token at a time.

Owns the reading of `tokenizer.json` (through `tokenizers`, which imports in a tenth of a second) and the table of the
bytes every token stands for. Text is what the bytes spell: a character split over tokens is held back until its last
byte is there, and a byte that no character explains becomes U+FFFD, so nothing generated is ever lost.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.json_types import JsonObject


class TokenizerMissing(SkilldeckError):
    """The model's folder holds no tokenizer this program reads."""


def byte_alphabet() -> dict[str, int]:
    """The printable characters by which byte-level tokenizers spell the 256 bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in plain}
    for offset, byte in enumerate(byte for byte in range(256) if byte not in set(plain)):
        table[chr(256 + offset)] = byte
    return table


COMPOSING = ("NFC", "NFD", "NFKC", "NFKD")


def _steps(normalizer: JsonObject | None) -> list[JsonObject]:
    """A tokenizer's normalizers, one by one."""
    if not normalizer:
        return []
    if normalizer.get("type") == "Sequence":
        return [step for inner in normalizer.get("normalizers") or [] for step in _steps(inner)]
    return [normalizer]


class Vocabulary:
    """A model's tokenizer: text to ids, ids to bytes. Thread-safe once built."""

    begin: tuple[int, ...] = ()
    """Ids that a text must begin with that no chat template wrote."""

    def __init__(self, tokenizer: Tokenizer, spec: JsonObject) -> None:
        self.tokenizer = tokenizer
        self.size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        self.added: dict[int, str] = {entry["id"]: entry["content"] for entry in spec.get("added_tokens") or []}
        self.special = frozenset(entry["id"] for entry in spec.get("added_tokens") or [] if entry.get("special"))
        kinds = set(re.findall(r'"type":\s*"(\w+)"', json.dumps(spec.get("decoder"))))
        pre = set(re.findall(r'"type":\s*"(\w+)"', json.dumps(spec.get("pre_tokenizer"))))
        self.byte_level = "ByteLevel" in kinds | pre
        self.sentencepiece = not self.byte_level and bool(kinds & {"ByteFallback", "Metaspace", "Replace"})
        steps = _steps(spec.get("normalizer"))
        # Composing turns up to four bytes into one; anything else but putting a space in front may drop any number.
        self._composes = any(step.get("type") in COMPOSING for step in steps)
        self._shrinks = any(
            step.get("type") not in (*COMPOSING, "Prepend")
            and not (step.get("type") == "Replace" and "String" in (step.get("pattern") or {}) and step.get("content"))
            for step in steps
        ) or (not self.byte_level and not (spec.get("model") or {}).get("byte_fallback"))
        normal = json.dumps(spec.get("normalizer")) + json.dumps(spec.get("pre_tokenizer"))
        self.prefix_space = "Prepend" in normal or '"prepend_scheme": "always"' in normal

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Read `tokenizer.json` of a model's folder. Raises TokenizerMissing."""
        path = folder / "tokenizer.json"
        try:
            text = path.read_text(encoding="utf-8")
            return cls(Tokenizer.from_str(text), json.loads(text))
        except OSError as err:
            raise TokenizerMissing(
                f"There is no tokenizer.json in {folder}.", "Convert the model's tokenizer with transformers first."
            ) from err
        except Exception as err:  # tokenizers raises a bare Exception for what it cannot read
            raise TokenizerMissing(f"{path} cannot be read: {err}") from err

    def encode(self, text: str) -> list[int]:
        """Ids of a text in which special tokens are written out; none are added."""
        # A batch of one: `encode` alone keeps Python's lock, and a long text would stop the whole daemon for seconds.
        ids: list[int] = self.tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids

    def whole(self, text: str) -> list[int]:
        """Ids of a text with those that the model wants around any: of one that no template writes."""
        return [*self.begin, *self.encode(text)]

    @cached_property
    def longest(self) -> int:
        """Most bytes of text that one token can stand for; 0 where that is not known."""
        if not (self.byte_level or self.sentencepiece) or self._shrinks:
            return 0
        return max(map(len, self.table), default=0) * (4 if self._composes else 1)

    def id_of(self, token: str) -> int | None:
        found: int | None = self.tokenizer.token_to_id(token)
        return found

    @cached_property
    def table(self) -> list[bytes]:
        """The bytes of every id; ids without a token (padding of the embedding) have none."""
        alphabet = byte_alphabet()
        table = [b""] * self.size
        for token, index in self.tokenizer.get_vocab(with_added_tokens=True).items():
            if index >= len(table):
                table += [b""] * (index + 1 - len(table))
            if index in self.added:
                table[index] = self.added[index].encode()
            elif self.byte_level and all(char in alphabet for char in token):
                table[index] = bytes(alphabet[char] for char in token)
            elif self.sentencepiece and re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", token):
                table[index] = bytes([int(token[3:5], 16)])
            else:
                table[index] = (token.replace("▁", " ") if self.sentencepiece else token).encode()
        return table

    def bytes_of(self, token: int) -> bytes:
        return self.table[token] if 0 <= token < len(self.table) else b""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of a whole sequence, special tokens written out."""
        return b"".join(self.bytes_of(token) for token in ids).decode("utf-8", "replace")


class Detokenizer:
    """Incremental text of one generation. Ids in `silent` (end tokens, special tokens nobody parses) say nothing."""

    def __init__(self, vocabulary: Vocabulary, silent: Collection[int] = ()) -> None:
        self._vocabulary = vocabulary
        self._silent = frozenset(silent)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """The characters this token completes, perhaps none."""
        if token in self._silent:
            return ""
        return self._utf8.decode(self._vocabulary.bytes_of(token))

    def flush(self) -> str:
        """What is still held back, as U+FFFD: the generation ended inside a character."""
        return self._utf8.decode(b"", True)
