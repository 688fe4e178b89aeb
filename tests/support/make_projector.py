"""Projectors (mmproj files) with random weights, small enough to make on the spot: what they see means nothing, but two
programs that read them rightly see the same."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np

from training.gguf import Tensors, encode

PLAIN, TWO_DIMENSIONAL = "mlp", "qwen2vl_merger"
"""A picture of fixed size in as many positions as tokens; one of any size whose tokens have rows and columns."""
_PATCH, _WIDTH, _INNER, _LAYERS, _HEADS = 14, 32, 48, 2, 4


def make_projector(target: Path, width: int, kind: str = PLAIN, size: int = 28) -> Path:
    """Write one for a model whose embeddings are `width` wide; PLAIN scales pictures to `size` pixels a side."""
    source = np.random.default_rng(1)

    def some(*shape: int) -> np.ndarray:
        return (source.standard_normal(shape) * 0.2).astype("f4")

    names = {"embedding_length": _WIDTH, "feed_forward_length": _INNER, "block_count": _LAYERS, "image_size": size}
    names |= {"patch_size": _PATCH, "projection_dim": width, "attention.head_count": _HEADS}
    meta = {
        "general.architecture": "clip",
        "general.name": target.stem,
        "general.file_type": 0,
        "clip.has_vision_encoder": True,
        "clip.projector_type": kind,
        "clip.use_gelu": True,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
        **{f"clip.vision.{name}": value for name, value in names.items()},
    }
    tensors: Tensors = {"v.patch_embd.weight": some(_WIDTH, 3, _PATCH, _PATCH)}
    if kind == PLAIN:
        tensors["v.position_embd.weight"] = some((size // _PATCH) ** 2, _WIDTH)
    else:
        tensors["v.patch_embd.weight.1"] = some(_WIDTH, 3, _PATCH, _PATCH)
        tensors |= {"v.post_ln.weight": 1 + some(_WIDTH), "v.post_ln.bias": some(_WIDTH)}
    for layer in range(_LAYERS):
        shapes = {name: (_WIDTH, _WIDTH) for name in ("attn_q", "attn_k", "attn_v", "attn_out")}
        shapes |= {"ffn_down": (_INNER, _WIDTH), "ffn_up": (_WIDTH, _INNER)}  # the format has them the other way round
        for name, shape in shapes.items():
            tensors[f"v.blk.{layer}.{name}.weight"] = some(*shape)
            tensors[f"v.blk.{layer}.{name}.bias"] = some(shape[0])
        for name in ("ln1", "ln2"):
            tensors[f"v.blk.{layer}.{name}.weight"] = 1 + some(_WIDTH)
            tensors[f"v.blk.{layer}.{name}.bias"] = some(_WIDTH)
    inside = _WIDTH if kind == PLAIN else 4 * _WIDTH
    middle = width if kind == PLAIN else inside
    tensors |= {"mm.0.weight": some(middle, inside), "mm.0.bias": some(middle)}
    tensors |= {"mm.2.weight": some(width, middle), "mm.2.bias": some(width)}
    target.write_bytes(encode(meta, tensors))
    return target


def picture(colour: str, size: tuple[int, int] = (30, 20)) -> str:
    """A data URL of one colour."""
    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
