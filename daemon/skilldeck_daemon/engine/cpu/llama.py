"""A plain-torch forward of the Llama family (Llama, Qwen 2, Qwen 3, Mistral without a window) over a `SlotCache`.

Written out because it is up to twice as fast as transformers' modules on a small model (fused projections, no module
calls, weights and norms in the form that the CPU's kernels like best) and loads without importing them. Weights come
straight from safetensors. Everything else runs through `hf.py`; `supports` says which is which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from skilldeck_daemon.engine.cpu.slots import LayerShape, SlotCache

_FAMILIES = {"llama", "mistral", "qwen2", "qwen3"}
_ROPE = {"default", "linear", "llama3"}
_SMALL = 1 << 20
"""Numbers of a matrix up to which its layout decides about the time; beyond, reading it does."""


def rope_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The rotary settings, in whichever of its spellings the config holds them: type, theta, factor …"""
    found = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    found["rope_type"] = found.get("rope_type") or found.get("type") or "default"
    found["rope_theta"] = float(found.get("rope_theta") or config.get("rope_theta") or 10000.0)
    return found


def supports(config: dict[str, Any]) -> bool:
    """Whether this module computes exactly what the model's own code would."""
    return bool(
        config.get("model_type") in _FAMILIES
        and not config.get("quantization_config")
        and config.get("hidden_act", "silu") == "silu"
        and rope_settings(config)["rope_type"] in _ROPE
        and float(config.get("partial_rotary_factor") or rope_settings(config).get("partial_rotary_factor") or 1) == 1
    )


def _matrix(weight: Tensor) -> Tensor:
    """`weight` [out, in] for `torch.mm(x, …)`: a small one is laid out by input, which takes half the time for one row
    (of 320 to 768 numbers 17 µs, not 33)."""
    return weight.t().contiguous() if weight.numel() <= _SMALL else weight.t()


def _project(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    return torch.mm(x, matrix) if bias is None else torch.addmm(bias, x, matrix)


def _inverse_frequencies(config: dict[str, Any], dim: int) -> Tensor:
    rope = rope_settings(config)
    frequencies: Tensor = 1.0 / rope["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    if rope["rope_type"] == "linear":
        return frequencies / float(rope["factor"])
    if rope["rope_type"] == "llama3":
        old = float(rope["original_max_position_embeddings"])
        low, high, factor = float(rope["low_freq_factor"]), float(rope["high_freq_factor"]), float(rope["factor"])
        wavelength = 2 * math.pi / frequencies
        smooth = (old / wavelength - low) / (high - low)
        blended = (1 - smooth) * frequencies / factor + smooth * frequencies
        scaled = torch.where(wavelength > old / low, frequencies / factor, frequencies)
        middle = (wavelength <= old / low) & (wavelength >= old / high)
        return torch.where(middle, blended, scaled)
    return frequencies


@dataclass
class _Layer:
    input_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    q_norm: Tensor | None
    k_norm: Tensor | None
    out: Tensor
    out_bias: Tensor | None
    post_norm: Tensor
    gate_up: Tensor
    gate_up_bias: Tensor | None
    down: Tensor
    down_bias: Tensor | None


class LlamaDecoder:
    """`prefill` computes one row's next tokens, `decode` one token for each of rows 0..n-1. Not thread-safe."""

    def __init__(
        self, config: dict[str, Any], weight: Callable[[str], Tensor | None], context: int, dtype: torch.dtype
    ) -> None:
        """`weight(name)` gives a checkpoint tensor, or None when the checkpoint lacks it."""
        self.heads = int(config["num_attention_heads"])
        self.kv_heads = int(config.get("num_key_value_heads") or self.heads)
        self.dim = int(config.get("head_dim") or config["hidden_size"] // self.heads)
        self.vocab = int(config["vocab_size"])
        self.context = context
        self.dtype = dtype
        self.eps = float(config.get("rms_norm_eps", 1e-6))
        self.parameters = 0
        # Rotation of adjacent pairs is one complex product; of halves, five operations. Permuting the rows of the
        # query and key projections turns one into the other and leaves every attention score as it was.
        pairs = torch.arange(self.dim).view(2, -1).T.flatten()

        def take(name: str, required: bool = True) -> Tensor | None:
            tensor = weight(name)
            if tensor is None:
                if required:
                    raise KeyError(name)
                return None
            self.parameters += tensor.numel()
            return tensor.to(dtype)

        def must(name: str) -> Tensor:
            tensor = take(name)
            assert tensor is not None
            return tensor

        def paired(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.view(-1, self.dim, *tensor.shape[1:])[:, pairs].flatten(0, 1)

        def norm(name: str) -> Tensor:
            # The CPU has a kernel for LayerNorm and none for RMSNorm (8 µs a row to 21). Of x and -x side by side the
            # mean is 0 and the variance the mean square of x, so that LayerNorm's first half is the RMSNorm of x.
            weight = must(name)
            return torch.cat([weight, torch.zeros_like(weight)])

        def joined(parts: Sequence[Tensor | None]) -> Tensor | None:
            present = [part for part in parts if part is not None]
            return torch.cat(present) if present else None

        self.embedding = must("model.embed_tokens.weight")
        self.layers: list[_Layer] = []
        for i in range(int(config["num_hidden_layers"])):
            at = f"model.layers.{i}."
            attn, mlp = f"{at}self_attn.", f"{at}mlp."
            qkv = joined([paired(take(f"{attn}{x}_proj.weight")) for x in "qk"] + [take(f"{attn}v_proj.weight")])
            gate_up = joined([take(f"{mlp}{x}_proj.weight") for x in ("gate", "up")])
            assert qkv is not None
            assert gate_up is not None
            self.layers.append(
                _Layer(
                    norm(f"{at}input_layernorm.weight"),
                    _matrix(qkv),
                    joined(
                        [paired(take(f"{attn}{x}_proj.bias", False)) for x in "qk"]
                        + [take(f"{attn}v_proj.bias", False)]
                    ),
                    paired(take(f"{attn}q_norm.weight", False)),
                    paired(take(f"{attn}k_norm.weight", False)),
                    _matrix(must(f"{attn}o_proj.weight")),
                    take(f"{attn}o_proj.bias", False),
                    norm(f"{at}post_attention_layernorm.weight"),
                    _matrix(gate_up),
                    joined([take(f"{mlp}{x}_proj.bias", False) for x in ("gate", "up")]),
                    _matrix(must(f"{mlp}down_proj.weight")),
                    take(f"{mlp}down_proj.bias", False),
                )
            )
        self.norm = norm("model.norm.weight")
        tied = bool(config.get("tie_word_embeddings", False))
        head = None if tied else take("lm_head.weight", False)
        self.head = _matrix(self.embedding if head is None else head)
        angles = torch.outer(torch.arange(context, dtype=torch.float64), _inverse_frequencies(config, self.dim))
        self._rotation = torch.polar(torch.ones_like(angles), angles).to(torch.complex64)

    def shapes(self) -> list[LayerShape]:
        return [LayerShape(self.kv_heads, self.dim, self.kv_heads, self.dim)] * len(self.layers)

    def prefill(self, cache: SlotCache, row: int, ids: Sequence[int], start: int, keep: int) -> Tensor:
        """Compute tokens `start`… of `row`; the logits of the last `keep` of them, float32 [keep, vocab]."""
        count, end, groups = len(ids), start + len(ids), self.heads // self.kv_heads
        mask = None
        if start:
            mask = torch.zeros(count, end, dtype=self.dtype)
            mask.masked_fill_(torch.ones(count, end, dtype=torch.bool).triu(start + 1), -math.inf)
            mask = mask.repeat(groups, 1)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            cache.k[layer][row, :, start:end] = k.transpose(0, 1)
            cache.v[layer][row, :, start:end] = v.transpose(0, 1)
            keys, values = cache.k[layer][row : row + 1, :, :end], cache.v[layer][row : row + 1, :, :end]
            if mask is None:
                if groups > 1:
                    keys, values = keys.repeat_interleave(groups, 1), values.repeat_interleave(groups, 1)
                out = F.scaled_dot_product_attention(q.transpose(0, 1).unsqueeze(0), keys, values, is_causal=count > 1)
                return out[0].transpose(0, 1)
            # The queries that share a key head become that head's query positions: no copy of keys for groups.
            grouped = q.view(count, self.kv_heads, groups, self.dim).permute(1, 2, 0, 3).flatten(1, 2)
            out = F.scaled_dot_product_attention(grouped.unsqueeze(0), keys, values, attn_mask=mask)
            return out.view(self.kv_heads, groups, count, self.dim).permute(2, 0, 1, 3)

        hidden = self._forward(torch.tensor(ids), self._rotation[start:end], attend)
        return self._logits(hidden[len(ids) - keep :])

    def decode(self, cache: SlotCache, ids: Sequence[int], lengths: Sequence[int]) -> Tensor:
        """One more token for rows 0..n-1, which hold `lengths` tokens; logits float32 [n, vocab]."""
        rows, end = len(ids), max(lengths) + 1
        places = torch.tensor(lengths)
        mask = None
        if min(lengths) + 1 < end:
            hidden_places = torch.arange(end) > places.unsqueeze(1)
            mask = torch.zeros(rows, end, dtype=self.dtype).masked_fill_(hidden_places, -math.inf)[:, None, None]
        index = torch.arange(rows)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = cache.k[layer], cache.v[layer]
            if rows == 1:
                at = lengths[0]
                keys[0, :, at], values[0, :, at] = k[0], v[0]
            else:
                keys[index, :, places], values[index, :, places] = k, v
            grouped = q.view(rows, self.kv_heads, -1, self.dim)
            return F.scaled_dot_product_attention(
                grouped, keys[:rows, :, :end], values[:rows, :, :end], attn_mask=mask
            ).view(rows, self.heads, self.dim)

        return self._logits(self._forward(torch.tensor(ids), self._rotation[places], attend))

    def _forward(
        self, ids: Tensor, rotation: Tensor, attend: Callable[[int, Tensor, Tensor, Tensor], Tensor]
    ) -> Tensor:
        count = len(ids)
        turned = self.heads + self.kv_heads
        rotation = rotation.unsqueeze(1)
        x = F.embedding(ids, self.embedding)
        for i, layer in enumerate(self.layers):
            qkv = _project(self._rms(x, layer.input_norm), layer.qkv, layer.qkv_bias)
            qkv = qkv.view(count, turned + self.kv_heads, self.dim)
            qk, v = qkv[:, :turned], qkv[:, turned:]
            if layer.q_norm is not None and layer.k_norm is not None:
                q = F.rms_norm(qk[:, : self.heads], (self.dim,), layer.q_norm, self.eps)
                k = F.rms_norm(qk[:, self.heads :], (self.dim,), layer.k_norm, self.eps)
                qk = torch.cat([q, k], 1)
            pairs = torch.view_as_complex(qk.float().reshape(count, turned, -1, 2))
            qk = torch.view_as_real(pairs * rotation).flatten(-2).to(self.dtype)
            mixed = attend(i, qk[:, : self.heads], qk[:, self.heads :], v)
            x = x + _project(mixed.reshape(count, -1), layer.out, layer.out_bias)
            gate_up = _project(self._rms(x, layer.post_norm), layer.gate_up, layer.gate_up_bias)
            gate, up = gate_up.chunk(2, -1)
            x = x + _project(F.silu(gate) * up, layer.down, layer.down_bias)
        return self._rms(x, self.norm)

    def _rms(self, x: Tensor, doubled: Tensor) -> Tensor:
        width = x.shape[1]
        if self.dtype != torch.float32:  # each step is rounded as the model's own code rounds it
            return F.rms_norm(x, (width,), doubled[:width], self.eps)
        return F.layer_norm(torch.cat((x, -x), 1), (2 * width,), doubled, None, self.eps)[:, :width]

    def _logits(self, hidden: Tensor) -> Tensor:
        return torch.mm(hidden, self.head).float()
