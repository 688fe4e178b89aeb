"""A GGUF's weights in memory, for whatever computes with them.

On a machine with a GPU that the library can use, `n_gpu_layers` -1 puts as many layers there as its free memory holds
beside their part of the cache; the rest stays with the processor.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from skilldeck_daemon.engine.base import ModelInfo, ModelSpec, Progress
from skilldeck_daemon.engine.llamacpp import library, native
from skilldeck_daemon.engine.llamacpp.gguf import Gguf
from skilldeck_shared.errors import BadRequest

TINY = 50_000_000
"""Parameters below which a second thread costs more in waiting than it computes."""
ALL = -1
_MAPPED, _READ = 1, 0  # llama_load_mode
_LAYER = re.compile(r"blk\.(\d+)\.")
_SPARE = 512 << 20  # bytes of a GPU that computing takes
_TILED = ("Q4_K", "Q2_K")  # of what is repacked on x86, what a batch also reads in tiles when it is not
_UNTILED = ("Q4_0", "Q8_0", "IQ4_NL", "MXFP4")  # and what nothing else reads fast


class Placing(Protocol):
    """Where weights go; see `options.LlamaOptions`."""

    @property
    def n_gpu_layers(self) -> int: ...

    @property
    def mmap(self) -> bool: ...

    @property
    def repack(self) -> str: ...

    @property
    def threads(self) -> int: ...


class Weights:
    """`handle` is the library's model. `close` frees it; nothing may compute with it then."""

    def __init__(
        self,
        file: Gguf,
        options: Placing,
        progress: Progress,
        stopping: Callable[[], bool] = lambda: False,
        cache_bytes: int = 0,
    ) -> None:
        """Blocks while it reads, and gives up when `stopping` says so. Raises BadRequest with the library's reason."""
        self.file = file
        self._api = api = library.load()
        params = api.llama_model_default_params()
        params.n_gpu_layers = gpu_layers(file, options.n_gpu_layers, cache_bytes, api.free_gpu_memory())
        params.load_mode = _MAPPED if options.mmap else _READ
        params.use_extra_bufts = repacked(file, options.repack)

        @library.Progress  # type: ignore[untyped-decorator]
        def report(fraction: float, _data: Any) -> bool:
            progress(0.02 + 0.9 * fraction, "reading weights")
            return not stopping()

        params.progress_callback = ctypes.cast(report, ctypes.c_void_p)
        api.said()
        self.handle = api.llama_model_load_from_file(os.fsencode(file.path), params)
        if not self.handle:
            reason = api.said()
            raise BadRequest(
                f"{file.path.name} ({file.architecture or 'no architecture'}) cannot be loaded: {reason}.",
                "Serve another model, or take a newer version of xllamacpp if this architecture is new.",
                param="model",
            )
        self.parameters = int(api.llama_model_n_params(self.handle))
        self.vocab = int(api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.handle)))
        self.threads = options.threads or (1 if self.parameters < TINY else cores())

    def described(self, spec: ModelSpec, engine: str, context: int) -> ModelInfo:
        """What surfaces show of it; `context`: tokens that a request may hold."""
        file = self.file
        return ModelInfo(
            name=spec.name,
            engine=engine,
            family=file.architecture,
            context=context,
            longest=file.context,
            vocab=self.vocab,
            parameters=self.parameters,
            path=spec.path,
            created=int(file.path.stat().st_mtime),
            quantization=file.quantisation,
            size=file.size,
            licence=file.licence,
        )

    def close(self) -> None:
        if self.handle:
            self._api.llama_model_free(self.handle)  # and its adapters
        self.handle = None


def gpu_layers(file: Gguf, wanted: int, cache_bytes: int, free: int | None) -> int:
    """Layers for the GPU. `free`: bytes of all GPUs together, None where the library uses none.

    -1 is as many as fit, the last first, as the library takes them: the output counts as one more layer.
    """
    if free is None:
        return 0
    if wanted != ALL:
        return wanted
    layers: dict[int, int] = {}
    output = 0
    for tensor in file.tensors:
        if found := _LAYER.match(tensor.name):
            layers[int(found[1])] = layers.get(int(found[1]), 0) + (tensor.size or 0)
        elif not tensor.name.startswith("token_embd") or not any(t.name == "output.weight" for t in file.tensors):
            output += tensor.size or 0
    each = cache_bytes // max(len(layers), 1)
    left, count = free - _SPARE, 0
    for size in [*(layers[number] + each for number in sorted(layers, reverse=True)), output]:
        if size > left:
            break
        left, count = left - size, count + 1
    return count


def repacked(file: Gguf, wanted: str) -> bool:
    """Whether the library lays the weights out anew for the processor when it reads them. `wanted`: auto, on, off.

    What is left as it is in the file is multiplied in tiles by a build for a processor with AVX-512 VNNI: a 1.5B in
    Q4_K_M reads 257 tokens of a prompt a second there instead of 172, writes 28.6 one by one instead of 37, checks a
    guess of eight as fast, and is mapped instead of copied. Agents read ten tokens and more for each they write.
    """
    if wanted != "auto":
        return wanted == "on"
    sizes = {kinds: sum(t.size or 0 for t in file.tensors if t.type in kinds) for kinds in (_TILED, _UNTILED)}
    tiles = native.has("avx512_vnni") and library.load().path == native.built()
    return not (tiles and sizes[_TILED] > sizes[_UNTILED])


def cores() -> int:
    """Processor cores this process may use; two threads of one core share what computing needs."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    found = set()
    for number in usable:
        try:
            home = Path(f"/sys/devices/system/cpu/cpu{number}/topology")
            found.add(((home / "physical_package_id").read_text(), (home / "core_id").read_text()))
        except OSError:
            return len(usable)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("utf-8").split()
        if quota != "max":
            return max(1, min(len(found), int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return len(found)
