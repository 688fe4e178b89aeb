"""Paged attention providers against the reference, on CPU; tests/gpu compares those that need a GPU."""

from __future__ import annotations

import types
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from skilldeck_daemon.engine.exllama import attention  # noqa: E402

PAGE = 16


def case(lengths: list[int], new: int, heads: int, kv_heads: int, append: bool) -> dict[str, Any]:
    """Arguments of one call: rows of `lengths` cached tokens and `new` ones, pages in no order, rubbish elsewhere."""
    torch.manual_seed(sum(lengths) + new + heads)
    rows, dim = len(lengths), 32
    per_row = max(-(-(length + new) // PAGE) for length in lengths)
    order = torch.randperm(rows * per_row + 3)[: rows * per_row]
    arguments: dict[str, Any] = {
        "q": torch.randn(rows, new, heads, dim),
        "k": torch.randn(rows, new, kv_heads, dim) if append else None,
        "v": torch.randn(rows, new, kv_heads, dim) if append else None,
        "k_cache": torch.randn(rows * per_row + 3, PAGE, kv_heads, dim),
        "v_cache": torch.randn(rows * per_row + 3, PAGE, kv_heads, dim),
        "cache_seqlens": torch.tensor(lengths, dtype=torch.int32) + (0 if append else new),
        "block_table": order.view(rows, per_row).int(),
        "causal": True,
        "softmax_scale": dim**-0.5,
    }
    return arguments


def copied(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in arguments.items()}


@pytest.mark.parametrize("append", [True, False], ids=["appends", "already there"])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (8, 2)], ids=["plain", "grouped"])
@pytest.mark.parametrize(
    ("lengths", "new"),
    [([0], 40), ([5, 31, 16, 100], 1), ([37], 19), ([15, 16, 17], 5)],
    ids=["fresh prefill", "ragged decode", "chunk after chunk", "across pages"],
)
@pytest.mark.parametrize(
    "more", [{}, {"window_size": (12, 12)}, {"softcap": 5.0}], ids=["full", "sliding window", "softcap"]
)
def test_gather_is_the_reference(
    lengths: list[int], new: int, heads: int, kv_heads: int, append: bool, more: dict[str, Any]
) -> None:
    arguments = case(lengths, new, heads, kv_heads, append) | more
    mine, theirs = copied(arguments), copied(arguments)
    got, expected = attention.gather(**mine), attention.reference(**theirs)
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)
    assert torch.equal(mine["k_cache"], theirs["k_cache"])
    assert torch.equal(mine["v_cache"], theirs["v_cache"])


def test_the_reference_is_causal_and_appends_to_the_right_pages() -> None:
    arguments = case([20], 10, 4, 4, True)
    changed = copied(arguments)
    changed["k"][0, 5:] += 3.0
    changed["v"][0, 5:] -= 3.0
    before = attention.reference(**arguments)
    after = attention.reference(**changed)
    assert torch.equal(before[0, :5], after[0, :5]), "a query sees no key behind it"
    assert not torch.allclose(before[0, 5:], after[0, 5:])
    second = int(arguments["block_table"][0, 1])
    assert torch.equal(arguments["k_cache"][second, 4:14], arguments["k"][0]), "tokens 20..29 are in the second page"


@pytest.mark.parametrize("causal", [True, False], ids=["at load", "in a vision tower"])
def test_the_unpaged_calls_that_exllamav2_makes(causal: bool) -> None:
    q, k, v = (torch.randn(2, 9, heads, 16) for heads in (4, 2, 2))
    got = attention.unpaged(q, k, v, causal=causal, softmax_scale=0.25)
    expected = torch.nn.functional.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=causal, scale=0.25, enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_the_windows_of_a_vision_tower_attend_to_themselves() -> None:
    q, k, v = (torch.randn(11, 4, 16) for _ in range(3))
    starts = torch.tensor([0, 4, 9, 11], dtype=torch.int32)
    got = attention.unpaged_parts(q, k, v, starts, starts, 5, 5)
    for a, b in ((0, 4), (4, 9), (9, 11)):
        alone = attention.unpaged(*(x[None, a:b] for x in (q, k, v)))[0]
        torch.testing.assert_close(got[a:b], alone)


def test_install_puts_the_best_provider_where_exllamav2_looks() -> None:
    attn, model = types.SimpleNamespace(), types.SimpleNamespace()
    name = attention.install(attn, model)
    assert name == next(iter(attention.providers()))
    assert attn.flash_attn_with_kvcache is attention.providers()[name]
    assert attn.has_flash_attn_with_paged
    assert attn.flash_attn_varlen_func is attention.unpaged_parts
    assert model.has_flash_attn
    with pytest.raises(KeyError):
        attention.install(attn, model, "no such")
