"""Images for a GGUF, by its projector (the `mmproj` file beside it), through llama.cpp's mtmd.

A prompt has the id `IMAGE` where an image stands. `expand` puts in its place what the model is to see there: ids of
text around it, and one made-up negative id for each position that the image takes. Those are made of the picture, so
that the same picture at the same place is found in the cache like any text. Encoding a picture and computing its
embeddings (`compute`) is one step that nothing interrupts: seconds on a CPU.
"""

from __future__ import annotations

import ctypes
import hashlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skilldeck_daemon.engine.base import IMAGE
from skilldeck_daemon.engine.images import read_image
from skilldeck_daemon.engine.llamacpp import gguf, library
from skilldeck_daemon.engine.llamacpp.weights import Weights
from skilldeck_shared.errors import BadRequest

ARCHITECTURE = "clip"
LONGEST = 2048  # pixels of a side, beyond which a picture is made smaller before the model's own rules
USUAL = 512  # pixels of a side of the picture whose tokens stand for any in estimates
NON_CAUSAL_ROWS = 1024  # tokens of an image all of which see each other, and so are computed at once
KEPT = 16  # pictures whose preparation is remembered
_TEXT = 0  # mtmd_input_chunk_type


@dataclass(frozen=True)
class Image:
    """A part of a prompt: `length` positions from `start` on, which take `tokens` of the cache (more than positions in
    models whose images have two dimensions)."""

    start: int
    length: int
    tokens: int
    chunk: int
    prepared: _Prepared = field(repr=False)  # kept alive with it


@dataclass(frozen=True)
class Expanded:
    """A prompt as it is computed: its ids, and what the negative ones among them are."""

    ids: list[int]
    images: tuple[Image, ...] = ()

    def tokens(self, ids: int) -> int:
        """Tokens that the first so many ids are."""
        inside = (image for image in self.images if image.start + image.length <= ids)
        return ids + sum(image.tokens - image.length for image in inside)

    def at(self, start: int) -> Image | None:
        """The image that begins there."""
        return next((image for image in self.images if image.start == start), None)

    def text_from(self, start: int, most: int) -> list[int]:
        """At most so many ids from there on, up to the next image."""
        ends = [image.start for image in self.images if image.start >= start]
        return self.ids[start : min([start + most, *ends])]


class _Prepared:
    """A picture cut up and scaled, as the library's chunks."""

    def __init__(self, api: library.Library, chunks: int) -> None:
        self.chunks = chunks
        weakref.finalize(self, api.mtmd_input_chunks_free, chunks)


class Vision:
    """A loaded projector. `expand` may be called from any thread, the rest by the one that owns the model."""

    def __init__(self, path: Path, weights: Weights, on_gpu: bool) -> None:
        """Blocks while it reads. Raises BadRequest that names the option mmproj."""
        self._path = path
        self._api = api = library.load()
        api.see()
        check(path)
        params = api.mtmd_context_params_default()
        params.use_gpu = on_gpu
        params.print_timings = params.warmup = False
        params.n_threads = weights.threads
        api.said()
        self._context = api.mtmd_init_from_file(str(path).encode(), weights.handle, params)
        if not self._context:
            raise BadRequest(
                f"{path.name} cannot read images for {weights.file.path.name}: {api.said()}.",
                'Give the projector that was made for this model, or none: {"mmproj": "off"}.',
                param="mmproj",
            )
        if not api.mtmd_support_vision(self._context):
            self.close()
            raise BadRequest(f"{path.name} reads no images.", 'Serve without it: {"mmproj": "off"}.', param="mmproj")
        self.whole = bool(api.mtmd_decode_use_non_causal(self._context, None))
        self._vocabulary = weights.vocab
        self._kept: OrderedDict[str, _Prepared] = OrderedDict()
        self._lock = threading.Lock()
        usual = self._prepare(USUAL, USUAL, None)
        self.usual = sum(api.mtmd_input_chunk_get_n_tokens(chunk) for chunk in self._chunks(usual))

    def expand(self, prompt: Sequence[int], urls: Sequence[str]) -> Expanded:
        """The prompt with its images; `urls`: data URLs, in order. Raises BadRequest."""
        places = sum(1 for token in prompt if token == IMAGE)
        if places != len(urls):
            raise BadRequest(f"The prompt has {places} places for {len(urls)} images.", param="input")
        if prompt and prompt[-1] == IMAGE:
            raise BadRequest("The prompt ends with an image.", "Write something after it.", param="input")
        out: list[int] = []
        images: list[Image] = []
        pictures = iter(urls)
        for token in prompt:
            if token != IMAGE:
                out.append(token)
                continue
            picture = read_image(next(pictures), LONGEST)
            data = picture.tobytes()
            width, height = picture.size
            key = hashlib.sha256(f"{width} {height} ".encode() + data).hexdigest()
            prepared = self._known(key) or self._remember(key, self._prepare(width, height, data))
            first = int(key[:12], 16)
            for chunk in self._chunks(prepared):
                if self._api.mtmd_input_chunk_get_type(chunk) == _TEXT:
                    out += self._text(chunk)
                    continue
                length = int(self._api.mtmd_input_chunk_get_n_pos(chunk))
                tokens = int(self._api.mtmd_input_chunk_get_n_tokens(chunk))
                images.append(Image(len(out), length, tokens, chunk, prepared))
                out += range(-2 - first, -2 - first - length, -1)
                first += length
        return Expanded(out, tuple(images))

    def compute(self, context: int, sequence: int, image: Image, rows: int) -> bool:
        """Put an image into a sequence that holds all before it; False where the library cannot."""
        api = self._api
        if api.mtmd_encode_chunk(self._context, image.chunk):
            return False
        made = api.mtmd_get_output_embd(self._context)
        after = ctypes.c_int32()
        code = api.mtmd_helper_decode_image_chunk(
            self._context, context, image.chunk, made, image.start, sequence, rows, ctypes.byref(after), None, None
        )
        return bool(code == 0 and after.value == image.start + image.length)

    def close(self) -> None:
        self._kept = OrderedDict()
        if self._context:
            self._api.mtmd_free(self._context)
        self._context = None

    # ------------------------------------------------------------ inside

    def _prepare(self, width: int, height: int, data: bytes | None) -> _Prepared:
        """A picture of RGB bytes, or of nothing, to count its tokens."""
        api = self._api
        bitmap = api.mtmd_bitmap_init(width, height, data)
        prepared = _Prepared(api, api.mtmd_input_chunks_init())
        try:
            marker = b"<__media__>"
            text = library.InputText(marker, len(marker), False, True)
            bitmaps = (ctypes.c_void_p * 1)(bitmap)
            api.said()
            if api.mtmd_tokenize(self._context, prepared.chunks, ctypes.byref(text), bitmaps, 1):
                raise BadRequest(f"An image of {width} × {height} pixels cannot be read: {api.said()}.", param="input")
        finally:
            api.mtmd_bitmap_free(bitmap)
        return prepared

    def _known(self, key: str) -> _Prepared | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def _remember(self, key: str, prepared: _Prepared) -> _Prepared:
        with self._lock:
            self._kept[key] = prepared
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return prepared

    def _chunks(self, prepared: _Prepared) -> Iterator[int]:
        for index in range(self._api.mtmd_input_chunks_size(prepared.chunks)):
            yield self._api.mtmd_input_chunks_get(prepared.chunks, index)

    def _text(self, chunk: int) -> list[int]:
        count = ctypes.c_size_t()
        ids = self._api.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
        return list(ids[: count.value])


def check(path: Path) -> gguf.Gguf:
    """Raise BadRequest, naming the option mmproj, for what is no projector."""
    try:
        file = gguf.read(path)
    except Exception as error:
        raise BadRequest(f"{error}", 'Give another file, or none: {"mmproj": "off"}.', param="mmproj") from None
    if file.architecture != ARCHITECTURE:
        raise BadRequest(
            f"{path.name} ({file.architecture}) is no projector.", "Give the model's mmproj file.", param="mmproj"
        )
    return file
