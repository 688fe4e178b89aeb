"""llama.cpp's C API (llama.h), loaded from the wheel `xllamacpp`: one build of it per version, CPU or GPU alike.

The wheel links llama.cpp into its extension module and exports all of `llama_*`, so the file is opened a second time
with ctypes; nothing of the wheel's own classes is used. Structures cross by value, and their layout belongs to a
version of the library: `load` compares what the library says of its defaults with what this layout reads, and
refuses by name what does not agree. Calls release Python's lock. What the library logs is kept, a few lines of it
(`said`), for the errors of loading, and never printed.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int, c_int8, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from skilldeck_daemon.engine.llamacpp import native
from skilldeck_shared.errors import SkilldeckError

log = logging.getLogger(__name__)

PACKAGE = native.PACKAGE
TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}
"""ggml's numbers of the types a key/value cache may have."""
CONTROL = 1 << 3
USER_DEFINED = 1 << 4
_GPUS = (1, 2)  # ggml_backend_dev_type: of its own memory, of the machine's
_ROOM = 512  # bytes after the known fields: a newer library may write more of them


class LibraryMissing(SkilldeckError):
    """llama.cpp is not installed, or is one whose structures this program does not know."""

    code = "engine_missing"


class ModelParams(ctypes.Structure):
    _fields_ = [
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int),
        ("load_mode", c_int),
        ("lazy_mode", c_int),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
        ("_room", ctypes.c_char * _ROOM),
    ]


class ContextParams(ctypes.Structure):
    _fields_ = [
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int),
        ("rope_scaling_type", c_int),
        ("pooling_type", c_int),
        ("attention_type", c_int),
        ("flash_attn_type", c_int),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int),
        ("type_v", c_int),
        ("moe_cache_size", c_size_t),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("op_offload", c_bool),
        ("swa_full", c_bool),
        ("kv_unified", c_bool),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
        ("_room", ctypes.c_char * _ROOM),
    ]


class Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", c_int32),
        ("token", c_void_p),
        ("embd", c_void_p),
        ("pos", c_void_p),
        ("n_seq_id", c_void_p),
        ("seq_id", c_void_p),
        ("logits", c_void_p),
    ]


class VisionParams(ctypes.Structure):
    _fields_ = [
        ("use_gpu", c_bool),
        ("device", c_void_p),
        ("print_timings", c_bool),
        ("n_threads", c_int),
        ("image_marker", c_char_p),
        ("media_marker", c_char_p),
        ("flash_attn_type", c_int),
        ("warmup", c_bool),
        ("image_min_tokens", c_int),
        ("image_max_tokens", c_int),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("batch_max_tokens", c_int32),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("_room", ctypes.c_char * _ROOM),
    ]


class InputText(ctypes.Structure):
    _fields_ = [("text", c_char_p), ("text_len", c_size_t), ("add_special", c_bool), ("parse_special", c_bool)]


Progress = ctypes.CFUNCTYPE(c_bool, c_float, c_void_p)
_Log = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)

_Calls = dict[str, tuple[Any, tuple[Any, ...]]]
_Expected = tuple[tuple[str, dict[str, Any]], ...]
_CALLS: _Calls = {
    "llama_backend_init": (None, ()),
    "llama_supports_gpu_offload": (c_bool, ()),
    "ggml_backend_dev_count": (c_size_t, ()),
    "ggml_backend_dev_get": (c_void_p, (c_size_t,)),
    "ggml_backend_dev_type": (c_int, (c_void_p,)),
    "ggml_backend_dev_memory": (None, (c_void_p, POINTER(c_size_t), POINTER(c_size_t))),
    "llama_log_set": (None, (_Log, c_void_p)),
    "llama_model_default_params": (ModelParams, ()),
    "llama_context_default_params": (ContextParams, ()),
    "llama_model_load_from_file": (c_void_p, (c_char_p, ModelParams)),
    "llama_model_free": (None, (c_void_p,)),
    "llama_model_get_vocab": (c_void_p, (c_void_p,)),
    "llama_model_n_params": (c_uint64, (c_void_p,)),
    "llama_model_n_layer": (c_int32, (c_void_p,)),
    "llama_model_has_encoder": (c_bool, (c_void_p,)),
    "llama_model_has_decoder": (c_bool, (c_void_p,)),
    "llama_model_is_recurrent": (c_bool, (c_void_p,)),
    "llama_model_is_hybrid": (c_bool, (c_void_p,)),
    "llama_model_is_diffusion": (c_bool, (c_void_p,)),
    "llama_init_from_model": (c_void_p, (c_void_p, ContextParams)),
    "llama_free": (None, (c_void_p,)),
    "llama_n_ctx_seq": (c_uint32, (c_void_p,)),
    "llama_get_memory": (c_void_p, (c_void_p,)),
    "llama_memory_clear": (None, (c_void_p, c_bool)),
    "llama_memory_seq_rm": (c_bool, (c_void_p, c_int32, c_int32, c_int32)),
    "llama_memory_seq_cp": (None, (c_void_p, c_int32, c_int32, c_int32, c_int32)),
    "llama_model_n_embd_out": (c_int32, (c_void_p,)),
    "llama_set_embeddings": (None, (c_void_p, c_bool)),
    "llama_get_embeddings_seq": (POINTER(c_float), (c_void_p, c_int32)),
    "llama_decode": (c_int32, (c_void_p, Batch)),
    "llama_get_logits_ith": (POINTER(c_float), (c_void_p, c_int32)),
    "llama_adapter_lora_init": (c_void_p, (c_void_p, c_char_p)),
    "llama_set_adapters_lora": (c_int32, (c_void_p, POINTER(c_void_p), c_size_t, POINTER(c_float))),
    "llama_vocab_n_tokens": (c_int32, (c_void_p,)),
    "llama_vocab_get_attr": (c_int, (c_void_p, c_int32)),
    "llama_vocab_is_eog": (c_bool, (c_void_p, c_int32)),
    "llama_vocab_bos": (c_int32, (c_void_p,)),
    "llama_vocab_eos": (c_int32, (c_void_p,)),
    "llama_vocab_type": (c_int, (c_void_p,)),
    "llama_vocab_pad": (c_int32, (c_void_p,)),
    "llama_vocab_sep": (c_int32, (c_void_p,)),
    "llama_vocab_get_add_bos": (c_bool, (c_void_p,)),
    "llama_token_to_piece": (c_int32, (c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool)),
    "llama_tokenize": (c_int32, (c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool)),
}

_VISION_CALLS: _Calls = {
    "mtmd_helper_log_set": (None, (_Log, c_void_p)),
    "mtmd_context_params_default": (VisionParams, ()),
    "mtmd_init_from_file": (c_void_p, (c_char_p, c_void_p, VisionParams)),
    "mtmd_free": (None, (c_void_p,)),
    "mtmd_support_vision": (c_bool, (c_void_p,)),
    "mtmd_decode_use_non_causal": (c_bool, (c_void_p, c_void_p)),
    "mtmd_bitmap_init": (c_void_p, (c_uint32, c_uint32, c_char_p)),
    "mtmd_bitmap_free": (None, (c_void_p,)),
    "mtmd_input_chunks_init": (c_void_p, ()),
    "mtmd_input_chunks_free": (None, (c_void_p,)),
    "mtmd_input_chunks_size": (c_size_t, (c_void_p,)),
    "mtmd_input_chunks_get": (c_void_p, (c_void_p, c_size_t)),
    "mtmd_input_chunk_get_type": (c_int, (c_void_p,)),
    "mtmd_input_chunk_get_n_tokens": (c_size_t, (c_void_p,)),
    "mtmd_input_chunk_get_n_pos": (c_int32, (c_void_p,)),
    "mtmd_input_chunk_get_tokens_text": (POINTER(c_int32), (c_void_p, POINTER(c_size_t))),
    "mtmd_tokenize": (c_int32, (c_void_p, c_void_p, POINTER(InputText), POINTER(c_void_p), c_size_t)),
    "mtmd_encode_chunk": (c_int32, (c_void_p, c_void_p)),
    "mtmd_get_output_embd": (c_void_p, (c_void_p,)),
    "mtmd_helper_decode_image_chunk": (
        c_int32,
        (c_void_p, c_void_p, c_void_p, c_void_p, c_int32, c_int32, c_int32, POINTER(c_int32), c_void_p, c_void_p),
    ),
}

_DEFAULTS: _Expected = (
    ("llama_model_default_params", {"n_gpu_layers": -1, "split_mode": 1, "load_mode": -1, "use_extra_bufts": True}),
    ("llama_model_default_params", {"tensor_split": None, "kv_overrides": None, "vocab_only": False}),
    ("llama_context_default_params", {"n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1}),
    ("llama_context_default_params", {"rope_scaling_type": -1, "flash_attn_type": -1, "rope_freq_base": 0.0}),
    ("llama_context_default_params", {"yarn_ext_factor": -1.0, "type_k": 1, "type_v": 1, "offload_kqv": True}),
    ("llama_context_default_params", {"swa_full": True, "kv_unified": False, "samplers": None, "n_samplers": 0}),
)
_VISION_DEFAULTS: _Expected = (
    ("mtmd_context_params_default", {"use_gpu": True, "n_threads": 4, "media_marker": b"<__media__>", "warmup": True}),
    ("mtmd_context_params_default", {"flash_attn_type": -1, "image_max_tokens": -1, "batch_max_tokens": 1024}),
)


_said: deque[tuple[int, str]] = deque(maxlen=64)
_lock = threading.Lock()


@_Log  # type: ignore[untyped-decorator]
def _keep(level: int, text: bytes | None, _data: Any) -> None:
    """What the library logs, of all of the process: it may call this at any time."""
    with _lock:
        _said.append((level, (text or b"").decode("utf-8", "replace")))


class Library:
    """The functions of llama.h by name, and the last lines the library logged."""

    def __init__(self, path: Path) -> None:
        self.path, self._handle = path, ctypes.CDLL(str(path))
        self._seeing = False
        self._take(_CALLS, _DEFAULTS)
        self.llama_log_set(_keep, None)
        self.llama_backend_init()

    def _take(self, calls: _Calls, defaults: _Expected) -> None:
        for name, (result, arguments) in calls.items():
            try:
                call = getattr(self._handle, name)
            except AttributeError:
                raise LibraryMissing(
                    f"{self.path} lacks {name}.", f"Install the {PACKAGE} this program names."
                ) from None
            call.restype, call.argtypes = result, arguments
            setattr(self, name, call)
        for name, expected in defaults:
            given = getattr(self, name)()
            for field, value in expected.items():
                if getattr(given, field) != value:
                    raise LibraryMissing(
                        f"{self.path} has other structures than this program knows ({name}: {field} is "
                        f"{getattr(given, field)!r}, not {value!r}).",
                        f"Install the version of {PACKAGE} this program names: pip install 'skilldeck[daemon]'.",
                    )

    def see(self) -> None:
        """Make the functions of images (mtmd.h) callable, too. Raises LibraryMissing."""
        if not self._seeing:
            self._take(_VISION_CALLS, _VISION_DEFAULTS)
            self.mtmd_helper_log_set(_keep, None)
            self._seeing = True

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(name)  # for type checkers: every function of _CALLS is set by name

    def said(self) -> str:
        """What the library complained of since the last call, on one line; the reason first, as it logs it first."""
        with _lock:
            lines = [text.strip() for level, text in _said if level >= 3 and text.strip()]
            _said.clear()
        plain = [line.partition(": ")[2] or line for line in lines]
        return "; ".join(dict.fromkeys(plain))[:400]

    def free_gpu_memory(self) -> int | None:
        """Free bytes of all GPUs together; None where this build uses none."""
        if not self.llama_supports_gpu_offload():
            return None
        total = 0
        for index in range(self.ggml_backend_dev_count()):
            device = self.ggml_backend_dev_get(index)
            if self.ggml_backend_dev_type(device) in _GPUS:
                free, whole = c_size_t(), c_size_t()
                self.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(whole))
                total += free.value
        return total


def installed() -> bool:
    """Whether the wheel is there; nothing is loaded."""
    return importlib.util.find_spec(PACKAGE) is not None


@cache
def load() -> Library:
    """The library, loaded once a process: the build for this processor where there is one (`native`), else the wheel's.
    Raises LibraryMissing."""
    own = native.built()
    if own is not None:
        try:
            return Library(own)
        except (OSError, LibraryMissing) as error:
            log.warning("the build for this processor is not used: %s", error)
    return _of_wheel()


def _of_wheel() -> Library:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise LibraryMissing(f"GGUF files need {PACKAGE}.", "Run: pip install 'skilldeck[daemon]'.")
    folder = Path(spec.origin).parent
    found = sorted(path for path in folder.iterdir() if path.suffix in (".so", ".pyd", ".dylib"))
    if not found:
        raise LibraryMissing(f"{folder} holds no library.", f"Reinstall it: pip install --force-reinstall {PACKAGE}.")
    try:
        return Library(found[0])
    except OSError as error:
        raise LibraryMissing(f"{found[0]} cannot be loaded: {error}.", f"Reinstall {PACKAGE}.") from error


def patient() -> None:
    """Make the library's threads look for each other a moment, then sleep; before anything loads OpenMP.

    Each operation of a model ends in a wait for the other threads. By default they look for milliseconds: beside other
    work on the same cores that cost nineteen parts of twenty (135M, 2 cores, load 11: 0.65 tokens a second where
    sleeping threads gave 12). Threads that sleep at once cost two thirds on a quiet machine: 53 tokens a second where
    a thousand looks, some 20 µs, give 170, and beside eight busy processes 9 to 19, as sleeping does.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # a failed assertion would start a debugger on this process


__all__ = ["CONTROL", "TYPES", "USER_DEFINED", "Batch", "Library", "LibraryMissing", "c_int8", "installed", "load"]
