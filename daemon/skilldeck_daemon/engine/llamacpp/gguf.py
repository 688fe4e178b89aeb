"""What a GGUF file says of itself: its metadata and the list of its tensors, read without the weights or any library.

A file of several parts (`-00001-of-0000N.gguf`) is asked for by any of them; all must be there. What is no GGUF, is of
a version nobody writes, or ends before its last tensor does is refused with the numbers. Arrays longer than `LONG`
(vocabularies) are passed over. Blocks for milliseconds.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from skilldeck_shared.errors import BadRequest, NotFound

LONG = 1024
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
"""The end of the name of one part of a split model."""
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_LONGEST_STRING = 64 << 20
# ggml's types: name, numbers in a block, bytes of a block
_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int

    @property
    def type(self) -> str:
        """ggml's name of its numbers; "" for one nobody here knows."""
        return _TYPES[self.kind][0] if self.kind in _TYPES else ""

    @property
    def size(self) -> int | None:
        """Bytes; None for a type nobody here knows."""
        known = _TYPES.get(self.kind)
        return None if known is None else prod(self.shape) // known[1] * known[2]


@dataclass(frozen=True)
class Gguf:
    """The metadata of a model, whose weights lie in one file or several. `of(name)` reads `ARCHITECTURE.name`."""

    parts: tuple[Path, ...]
    meta: dict[str, Any]
    tensors: tuple[Tensor, ...] = field(repr=False)

    @property
    def path(self) -> Path:
        return self.parts[0]

    @cached_property
    def size(self) -> int:
        return sum(part.stat().st_size for part in self.parts)

    @property
    def architecture(self) -> str:
        return str(self.meta.get("general.architecture", ""))

    @property
    def name(self) -> str:
        return str(self.meta.get("general.name", ""))

    @property
    def licence(self) -> str:
        return str(self.meta.get("general.license", ""))

    @property
    def parameters(self) -> int:
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def quantisation(self) -> str:
        """As the file names it, else the type most of its numbers have."""
        named = _FILE_TYPES.get(self.meta.get("general.file_type", -1))
        if named:
            return named
        numbers: dict[int, int] = {}
        for tensor in self.tensors:
            numbers[tensor.kind] = numbers.get(tensor.kind, 0) + prod(tensor.shape)
        most = max(numbers, key=lambda kind: numbers[kind], default=-1)
        return _TYPES.get(most, ("",))[0]

    @property
    def context(self) -> int:
        return int(self.of("context_length") or 0)

    @property
    def template(self) -> str:
        """The chat template, that for tools where there are several; "" when there is none."""
        for key in ("tokenizer.chat_template.tool_use", "tokenizer.chat_template"):
            if isinstance(self.meta.get(key), str) and self.meta[key].strip():
                return str(self.meta[key])
        return ""

    @property
    def pooling(self) -> int:
        """How the vectors of its tokens become a text's: 0 not at all, 1 mean, 2 cls, 3 last, 4 by ranking."""
        found = self.of("pooling_type")
        return found if isinstance(found, int) else 0

    @property
    def writes(self) -> bool:
        """Whether it continues text: an encoder does not."""
        return not any(part in self.architecture for part in ("bert", "embed")) and self.architecture != "t5encoder"

    @property
    def embeds(self) -> bool:
        """Whether it was made for embeddings."""
        return bool(self.pooling) or not self.writes

    def of(self, name: str) -> Any:
        return self.meta.get(f"{self.architecture}.{name}")

    @cached_property
    def cache_numbers(self) -> tuple[int, int]:
        """Numbers that keys and values of one token take, over all layers. An upper bound: layers with a window or
        without attention hold fewer."""
        layers, heads = int(self.of("block_count") or 0), _first(self.of("attention.head_count")) or 1
        per_layer = self.of("attention.head_count_kv")
        counts = per_layer if isinstance(per_layer, list) else [_first(per_layer) or heads] * layers
        width = int(self.of("embedding_length") or 0) // heads
        keys = int(self.of("attention.key_length") or width)
        values = int(self.of("attention.value_length") or width)
        return sum(counts) * keys, sum(counts) * values


def read(path: Path) -> Gguf:
    """Read a model's file, or all its parts. Raises NotFound, BadRequest. What was read lately and is as it was is not
    read again: a large vocabulary takes a tenth of a second."""
    parts = _parts(path)
    return _whole(path, parts, tuple((part.stat().st_size, part.stat().st_mtime_ns) for part in parts))


@lru_cache(maxsize=8)
def _whole(path: Path, parts: tuple[Path, ...], _stamps: tuple[tuple[int, int], ...]) -> Gguf:
    meta, tensors = _read(parts[0])
    for part in parts[1:]:
        tensors += _read(part)[1]
    if not meta.get("general.architecture"):
        raise _wrong(path, "names no architecture")
    if not tensors:
        raise _wrong(path, "holds no weights, only a vocabulary")
    return Gguf(parts, meta, tuple(tensors))


def is_gguf(path: Path) -> bool:
    """Whether a file begins as a GGUF does."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False


def first_part(path: Path) -> Path:
    """The first part of a split model, or the file itself."""
    found = PART.search(path.name)
    return path.with_name(f"{path.name[: found.start()]}-00001-of-{found[2]}.gguf") if found else path


def _parts(path: Path) -> tuple[Path, ...]:
    if not path.is_file():
        raise NotFound(f"There is no file {path}.", param="model")
    found = PART.search(path.name)
    if found is None:
        return (path,)
    count = int(found[2])
    stem = path.name[: found.start()]
    parts = tuple(path.with_name(f"{stem}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1))
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise NotFound(
            f"{path.name} is one of {count} parts; {len(missing)} of them are missing: {', '.join(missing[:3])}.",
            f"Put all parts into {path.parent}.",
            param="model",
        )
    return parts


def _wrong(path: Path, what: str, hint: str = "") -> BadRequest:
    return BadRequest(f"{path} {what}.", hint or "Give a model's .gguf file.", param="model")


def _read(path: Path) -> tuple[dict[str, Any], list[Tensor]]:
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            reader = _Reader(file, size)
            if file.read(4) != b"GGUF":
                raise _wrong(path, "is no GGUF file")
            version = reader.scalar(4)
            if version not in (2, 3):
                raise _wrong(path, f"is a GGUF of version {version}; 2 and 3 can be read")
            tensor_count, pairs = reader.scalar(10), reader.scalar(10)
            meta = {}
            for _ in range(pairs):
                key = reader.string()
                meta[key] = reader.value(reader.scalar(4))
            tensors = []
            for _ in range(tensor_count):
                name = reader.string()
                shape = tuple(reader.scalar(10) for _ in range(reader.scalar(4)))
                tensors.append(Tensor(name, shape, reader.scalar(4), reader.scalar(10)))
            begin = file.tell()
    except (EOFError, struct.error, UnicodeDecodeError, KeyError, MemoryError):
        raise _short(path, size, None) from None
    except OSError as error:
        raise _wrong(path, f"cannot be read: {error.strerror}") from None
    alignment = int(meta.get("general.alignment", 32)) or 32
    data = (begin + alignment - 1) // alignment * alignment
    end = max((data + tensor.offset + (tensor.size or 0) for tensor in tensors), default=0)
    if end > size:
        raise _short(path, size, end)
    return meta, tensors


def _short(path: Path, size: int, needed: int | None) -> BadRequest:
    sizes = f"it has {size:,} bytes and needs {needed:,}" if needed else f"its {size:,} bytes end inside its header"
    return _wrong(path, f"is cut short or damaged: {sizes}", "Download it again.")


def _first(value: Any) -> int:
    return int(max(value, default=0) if isinstance(value, list) else value or 0)


class _Reader:
    """Values of a GGUF header, never more than the file has."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def take(self, count: int) -> bytes:
        if count > self._size:
            raise EOFError
        data = self._file.read(count)
        if len(data) != count:
            raise EOFError
        return data

    def scalar(self, kind: int) -> Any:
        form = _SCALARS[kind]
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def string(self) -> str:
        length = self.scalar(10)
        if length > _LONGEST_STRING:
            raise EOFError
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        """A value; None for an array too long to be of interest here."""
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.scalar(kind)
        inner, count = self.scalar(4), self.scalar(10)
        if inner in _SCALARS:
            width = struct.calcsize(_SCALARS[inner])
            data = self.take(width * count)
            if count > LONG:
                return None
            return list(struct.unpack(f"<{count}{_SCALARS[inner][1]}", data))
        if inner == _ARRAY or count > self._size:
            raise EOFError
        if count > LONG:
            for _ in range(count):
                self.take(self.scalar(10))
            return None
        return [self.string() for _ in range(count)]
