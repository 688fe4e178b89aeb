"""Every attention provider this machine has, against the reference: run these first on a new GPU."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from skilldeck_daemon.engine.exllama import attention  # noqa: E402

PAGE = 256
NAMES = ("flash-attn", "torch-varlen", "exllamav3-triton", "gather")


def case(lengths: list[int], new: int, heads: int, kv_heads: int, dim: int, append: bool) -> dict[str, Any]:
    torch.manual_seed(sum(lengths) + new + heads + dim)
    rows = len(lengths)
    per_row = max(-(-(length + new) // PAGE) for length in lengths)
    made = {"device": "cuda", "dtype": torch.float16}
    return {
        "q": torch.randn(rows, new, heads, dim, **made),
        "k": torch.randn(rows, new, kv_heads, dim, **made) if append else None,
        "v": torch.randn(rows, new, kv_heads, dim, **made) if append else None,
        "k_cache": torch.randn(rows * per_row, PAGE, kv_heads, dim, **made),
        "v_cache": torch.randn(rows * per_row, PAGE, kv_heads, dim, **made),
        "cache_seqlens": torch.tensor(lengths, dtype=torch.int32, device="cuda") + (0 if append else new),
        "block_table": torch.randperm(rows * per_row, device="cuda").view(rows, per_row).int(),
        "causal": True,
        "softmax_scale": dim**-0.5,
    }


def copied(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in arguments.items()}


@pytest.mark.parametrize("append", [True, False], ids=["appends", "already there"])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(8, 8, 64), (8, 2, 128)], ids=["plain", "grouped"])
@pytest.mark.parametrize(
    ("lengths", "new"),
    [([0], 300), ([5, 255, 256, 700], 1), ([700], 90), ([255, 256, 257], 5)],
    ids=["fresh prefill", "ragged decode", "chunk after chunk", "across pages"],
)
@pytest.mark.parametrize("name", NAMES)
def test_a_provider_is_the_reference(
    name: str, lengths: list[int], new: int, heads: int, kv_heads: int, dim: int, append: bool
) -> None:
    found = attention.providers()
    if name not in found:
        pytest.skip(f"{name} is not here")
    arguments = case(lengths, new, heads, kv_heads, dim, append)
    mine, theirs = copied(arguments), copied(arguments)
    got, expected = found[name](**mine), attention.reference(**theirs)
    torch.testing.assert_close(got, expected, atol=4e-3, rtol=4e-3)
    assert torch.equal(mine["k_cache"], theirs["k_cache"])
    assert torch.equal(mine["v_cache"], theirs["v_cache"])


@pytest.mark.parametrize("more", [{"window_size": (64, 64)}, {"softcap": 20.0}], ids=["sliding window", "softcap"])
@pytest.mark.parametrize("name", NAMES)
def test_windows_and_softcaps_are_honoured(name: str, more: dict[str, Any]) -> None:
    found = attention.providers()
    if name not in found:
        pytest.skip(f"{name} is not here")
    arguments = case([300, 20], 4, 8, 4, 64, True) | more
    mine, theirs = copied(arguments), copied(arguments)
    torch.testing.assert_close(found[name](**mine), attention.reference(**theirs), atol=4e-3, rtol=4e-3)
