"""Paged attention for exllamav2, from whatever this machine has.

exllamav2's paged mode calls one function, flash-attn's `flash_attn_with_kvcache`; without flash-attn it falls back to
an unpaged path that is not causal during prefill. So this module supplies that function from the best provider
present, and `install` puts it where exllamav2 looks. `reference` is the contract, written to be read; every provider
is compared with it (CPU in CI, all of them on a GPU).

The contract: q [B, T, Hq, D]; k and v [B, T, Hkv, D] or both None; k_cache and v_cache [pages, page, Hkv, D];
cache_seqlens int32 [B], tokens in the cache before the append (with k None: after it); block_table int32 [B, n], the
pages of each row; returns [B, T, Hq, D]. New keys and values are written into the pages. Causal, aligned to the bottom
right: query i sits at position total - T + i. `window_size` (left, right) and `softcap` as in flash-attn.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Attention = Callable[..., Tensor]


def reference(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    *,
    cache_seqlens: Tensor,
    block_table: Tensor,
    causal: bool = True,
    softmax_scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
) -> Tensor:
    """Row by row, head by head, in float32: slow and plainly right."""
    rows, length, heads, dim = q.shape
    page, kv_heads = k_cache.shape[1], k_cache.shape[2]
    scale = dim**-0.5 if softmax_scale is None else softmax_scale
    out = torch.empty_like(q)
    for row in range(rows):
        total = int(cache_seqlens[row])
        if k is not None and v is not None:
            for i in range(length):
                number, place = int(block_table[row, (total + i) // page]), (total + i) % page
                k_cache[number, place], v_cache[number, place] = k[row, i], v[row, i]
            total += length
        pages = block_table[row, : math.ceil(total / page)].long()
        keys = k_cache[pages].flatten(0, 1)[:total].float()
        values = v_cache[pages].flatten(0, 1)[:total].float()
        places = torch.arange(total, device=q.device)
        at = torch.arange(total - length, total, device=q.device).unsqueeze(1)
        allowed = places <= at if causal else torch.ones(length, total, dtype=torch.bool, device=q.device)
        if window_size[0] >= 0:
            allowed = allowed & (places >= at - window_size[0])
        for head in range(heads):
            shared = head // (heads // kv_heads)
            scores = q[row, :, head].float() @ keys[:, shared].T * scale
            if softcap:
                scores = softcap * torch.tanh(scores / softcap)
            weights = scores.masked_fill(~allowed, -math.inf).softmax(-1)
            out[row, :, head] = (weights @ values[:, shared]).to(q.dtype)
    return out


def _append(k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, seqlens: Tensor, table: Tensor) -> None:
    """Write k and v [B, T, Hkv, D] behind the tokens that are there, without reading a length on the host."""
    page = k_cache.shape[1]
    places = seqlens.long().unsqueeze(1) + torch.arange(k.shape[1], device=k.device)
    flat = (table.long().gather(1, places // page) * page + places % page).flatten()
    k_cache.view(-1, *k_cache.shape[2:])[flat] = k.flatten(0, 1).to(k_cache.dtype)
    v_cache.view(-1, *v_cache.shape[2:])[flat] = v.flatten(0, 1).to(v_cache.dtype)


def gather(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    *,
    cache_seqlens: Tensor,
    block_table: Tensor,
    causal: bool = True,
    softmax_scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
) -> Tensor:
    """Copy the pages of every row together and run SDPA: any device, any torch; the copy is its price."""
    length, heads, kv_heads = q.shape[1], q.shape[2], k_cache.shape[2]
    total = cache_seqlens.long()
    if k is not None and v is not None:
        _append(k, v, k_cache, v_cache, cache_seqlens, block_table)
        total = total + length
    table = block_table.long()
    keys = k_cache[table].flatten(1, 2).transpose(1, 2).to(q.dtype)
    values = v_cache[table].flatten(1, 2).transpose(1, 2).to(q.dtype)
    places = torch.arange(keys.shape[2], device=q.device)
    at = (total - length).unsqueeze(1) + torch.arange(length, device=q.device)  # [B, T]
    allowed = places <= at.unsqueeze(-1) if causal else places < total.view(-1, 1, 1).expand(-1, length, 1)
    if window_size[0] >= 0:
        allowed = allowed & (places >= at.unsqueeze(-1) - window_size[0])
    allowed = allowed.unsqueeze(1)
    queries = q.transpose(1, 2)
    if not softcap:
        out = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=allowed, scale=softmax_scale, enable_gqa=heads != kv_heads
        )
        return out.transpose(1, 2)
    keys, values = (x.repeat_interleave(heads // kv_heads, 1) for x in (keys, values))
    scale = q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
    scores = softcap * torch.tanh(queries.float() @ keys.float().transpose(2, 3) * scale / softcap)
    weights = scores.masked_fill(~allowed, -math.inf).softmax(-1)
    return (weights @ values.float()).to(q.dtype).transpose(1, 2)


def varlen(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    *,
    cache_seqlens: Tensor,
    block_table: Tensor,
    causal: bool = True,
    softmax_scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
) -> Tensor:
    """torch's own flash attention over pages (CUDA, torch 2.12 and later). It has no softcap; `gather` does those."""
    if softcap or not causal:
        return gather(
            q,
            k_cache,
            v_cache,
            k,
            v,
            cache_seqlens=cache_seqlens,
            block_table=block_table,
            causal=causal,
            softmax_scale=softmax_scale,
            window_size=window_size,
            softcap=softcap,
        )
    from torch.nn.attention.varlen import varlen_attn

    rows, length, heads, dim = q.shape
    used = cache_seqlens
    if k is not None and v is not None:
        _append(k, v, k_cache, v_cache, cache_seqlens, block_table)
        used = cache_seqlens + length
    starts = torch.arange(0, (rows + 1) * length, length, dtype=torch.int32, device=q.device)
    out = varlen_attn(
        q.reshape(rows * length, heads, dim),
        k_cache,
        v_cache,
        starts,
        None,
        length,
        block_table.shape[1] * k_cache.shape[1],
        scale=softmax_scale,
        window_size=(window_size[0], 0),
        enable_gqa=heads != k_cache.shape[2],
        seqused_k=used.int(),
        block_table=block_table.int().contiguous(),
    )
    assert isinstance(out, Tensor)
    return out.view(rows, length, heads, dim)


def _triton() -> Attention:
    """exllamav3's Triton kernels: pure Python in its wheel, usable without building its extension."""
    from exllamav3.modules.attention_fn.triton_paged import paged_attn_triton_decode, paged_attn_triton_prefill

    def attend(
        q: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        k: Tensor | None = None,
        v: Tensor | None = None,
        *,
        cache_seqlens: Tensor,
        block_table: Tensor,
        causal: bool = True,
        softmax_scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
        softcap: float = 0.0,
    ) -> Tensor:
        length = q.shape[1]
        kernel = paged_attn_triton_decode if length <= 16 else paged_attn_triton_prefill
        appended = 0
        seqlens = cache_seqlens
        if k is None:  # flash-attn counts tokens that are already there, these kernels those before them
            appended, seqlens = length, cache_seqlens - length
        window = None if window_size[0] < 0 else (window_size[0], 0)
        out: Tensor = kernel(
            q.contiguous(),
            None if k is None else k.contiguous(),
            None if v is None else v.contiguous(),
            k_cache,
            v_cache,
            block_table.contiguous(),
            seqlens.contiguous(),
            causal=causal,
            softmax_scale=softmax_scale,
            window_size=window,
            softcap=softcap,
            pre_appended_len=appended,
        )
        return out

    return attend


def _flash() -> Attention:
    from flash_attn import flash_attn_with_kvcache

    found: Attention = flash_attn_with_kvcache
    return found


def _cuda() -> bool:
    return torch.cuda.is_available()


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _has_varlen() -> bool:
    return _cuda() and _has("torch.nn.attention.varlen")


# In order of preference: fused kernels first, the one that copies last.
_PROVIDERS: tuple[tuple[str, Callable[[], bool], Callable[[], Attention]], ...] = (
    ("flash-attn", lambda: _cuda() and _has("flash_attn"), _flash),
    ("torch-varlen", _has_varlen, lambda: varlen),
    ("exllamav3-triton", lambda: _cuda() and _has("exllamav3") and _has("triton"), _triton),
    ("gather", lambda: True, lambda: gather),
)


def providers() -> dict[str, Attention]:
    """Every provider that imports here, best first. One that is installed but broken is left out."""
    found: dict[str, Attention] = {}
    for name, present, make in _PROVIDERS:
        try:
            if present():
                found[name] = make()
        except Exception:  # a wheel built for another torch raises whatever it likes
            continue
    return found


def unpaged(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, **more: Any) -> Tensor:
    """flash-attn's `flash_attn_func` [B, T, H, D]: exllamav2 calls it, causal, while it measures memory at load, and
    for the layers of a vision tower, not causal."""
    more.pop("dropout_p", None)
    if not causal and not more.get("softcap") and more.get("window_size", (-1, -1))[0] < 0:
        # No mask at all: an image has thousands of patches, and their square is the mask's size.
        out = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            scale=more.get("softmax_scale"),
            enable_gqa=q.shape[2] != k.shape[2],
        )
        return out.transpose(1, 2)
    rows, length = k.shape[:2]  # each row is one page of its own length
    table = torch.arange(rows, dtype=torch.int32, device=q.device).unsqueeze(1)
    seqlens = torch.full((rows,), length, dtype=torch.int32, device=q.device)
    return gather(q, k, v, cache_seqlens=seqlens, block_table=table, causal=causal, **more)


def unpaged_parts(q: Tensor, k: Tensor, v: Tensor, starts: Tensor, *_: Any, **more: Any) -> Tensor:
    """flash-attn's `flash_attn_varlen_func` [T, H, D]: every part `starts[i]`…`starts[i + 1]` attends to itself, as in
    the windows of Qwen 2.5's vision tower."""
    places = starts.tolist()
    parts = [unpaged(*(x[a:b].unsqueeze(0) for x in (q, k, v)), **more)[0] for a, b in itertools.pairwise(places)]
    return torch.cat(parts)


def install(attn: Any, model: Any, name: str = "auto") -> str:
    """Give exllamav2's modules `attn` and `model` a provider; returns its name. KeyError for one that is not here."""
    found = providers()
    chosen = next(iter(found)) if name == "auto" else name
    attn.flash_attn_with_kvcache = found[chosen]
    if not hasattr(attn, "flash_attn_func"):
        attn.flash_attn_func, attn.flash_attn_varlen_func = unpaged, unpaged_parts
    for flag in ("has_flash_attn", "has_flash_attn_with_paged", "has_flash_attn_with_window"):
        setattr(attn, flag, True)
    attn.has_flash_attn_with_softcap = True
    model.has_flash_attn = True
    return chosen
