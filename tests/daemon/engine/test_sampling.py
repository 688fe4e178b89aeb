"""The sampler: what each parameter does to the odds, and that a seed decides the draw."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from skilldeck_daemon.engine.base import Sampling  # noqa: E402
from skilldeck_daemon.engine.sampling import RequestSampler, apply_bitmask, choose, logprob  # noqa: E402

LOGITS = [2.0, 1.0, 0.5, 0.0, -1.0, -3.0]


def sampler(prompt: list[int] | None = None, vocab: int = 6, **parameters: Any) -> RequestSampler:
    return RequestSampler(Sampling(**{"seed": 1, **parameters}), vocab, prompt or [])


def drawn(count: int, logits: list[float] | None = None, **parameters: Any) -> Counter[int]:
    one = sampler(**parameters)
    row = torch.tensor([logits or LOGITS])
    return Counter(choose(row, [one])[0] for _ in range(count))


def edited(one: RequestSampler, logits: list[float] | None = None) -> list[float]:
    row = torch.tensor(logits or LOGITS)
    one.edit(row)
    return row.tolist()


def test_temperature_zero_takes_the_likeliest() -> None:
    assert drawn(5, temperature=0.0) == Counter({0: 5})


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax(temperature: float) -> None:
    seen = drawn(2000, temperature=temperature)
    expected = (torch.tensor(LOGITS) / temperature).softmax(0)
    for token, probability in enumerate(expected.tolist()):
        assert seen[token] / 2000 == pytest.approx(probability, abs=0.04)


def test_top_k_keeps_k_and_their_proportions() -> None:
    seen = drawn(1000, top_k=2)
    assert set(seen) == {0, 1}
    assert seen[0] / seen[1] == pytest.approx(2.718, rel=0.3)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    # softmax: .561 .206 .125 .076 .028 .004
    assert set(drawn(300, top_p=0.5)) == {0}
    assert set(drawn(300, top_p=0.6)) == {0, 1}
    assert set(drawn(300, top_p=0.8)) == {0, 1, 2}


def test_min_p_keeps_what_is_likely_beside_the_best() -> None:
    assert set(drawn(300, min_p=0.3)) == {0, 1}
    assert set(drawn(300, min_p=0.2)) == {0, 1, 2}


def test_a_nucleus_wider_than_the_sorted_head_is_exact() -> None:
    vocab = 5000
    flat = torch.zeros(1, vocab)
    one = sampler(vocab=vocab, top_p=0.9)
    seen = {choose(flat, [one])[0] for _ in range(600)}
    assert max(seen) - min(seen) > 1024, "a flat distribution's nucleus is 90 % of the vocabulary"
    assert len(seen) > 400


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-20, 20), min_size=2, max_size=40),
    st.floats(0.05, 3.0),
    st.floats(0.01, 1.0),
    st.integers(0, 10),
    st.floats(0.0, 1.0),
    st.integers(0, 2**31),
)
def test_a_draw_is_always_one_the_filters_leave(
    logits: list[float], temperature: float, top_p: float, top_k: int, min_p: float, seed: int
) -> None:
    row = torch.tensor([logits])
    one = sampler(vocab=len(logits), temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, seed=seed)
    token = choose(row, [one])[0]
    order = row[0].sort(descending=True).values
    if top_k:
        assert row[0, token] >= order[min(top_k, len(logits)) - 1]
    odds = (row[0] / temperature).softmax(0)
    assert odds[token] >= min_p * odds.max() * 0.999


def test_the_same_seed_draws_the_same_alone_and_in_a_batch() -> None:
    rows = torch.randn(3, 50, generator=torch.Generator().manual_seed(2))
    parameters: list[dict[str, Any]] = [{"temperature": 1.2}, {"top_p": 0.9}, {"temperature": 0.0}]
    together = [sampler(vocab=50, seed=7, **p) for p in parameters]
    alone = [sampler(vocab=50, seed=7, **p) for p in parameters]
    for _ in range(20):
        batch = choose(rows, together)
        assert batch == [choose(rows[i : i + 1], [alone[i]])[0] for i in range(3)]


def test_without_a_seed_two_requests_differ() -> None:
    rows = torch.zeros(1, 1000)
    draws = [[choose(rows, [one])[0] for _ in range(5)] for one in (sampler(vocab=1000, seed=None) for _ in range(2))]
    assert draws[0] != draws[1]


def test_presence_and_frequency_count_generated_tokens_only() -> None:
    one = sampler(prompt=[1, 1, 1], presence_penalty=0.5, frequency_penalty=0.25)
    for token in (0, 0, 3):
        one.accept(token)
    assert edited(one) == pytest.approx([2.0 - 0.5 - 0.5, 1.0, 0.5, 0.0 - 0.5 - 0.25, -1.0, -3.0])


def test_repetition_penalty_divides_what_is_positive_and_multiplies_what_is_not() -> None:
    one = sampler(prompt=[1, 4], repetition_penalty=2.0)
    one.accept(0)
    assert edited(one) == pytest.approx([1.0, 0.5, 0.5, 0.0, -2.0, -3.0])


def test_dry_punishes_the_token_that_would_continue_a_repetition() -> None:
    one = sampler(prompt=[0, 1, 2, 3, 5, 0, 1, 2], dry_multiplier=0.8, dry_base=2.0, dry_allowed_length=2)
    # "0 1 2" repeats, three tokens: 3 would continue it and loses 0.8 * 2 ** (3 - 2).
    assert edited(one) == pytest.approx([2.0, 1.0, 0.5, 0.0 - 1.6, -1.0, -3.0])


def test_dry_leaves_short_repetitions_alone() -> None:
    one = sampler(prompt=[0, 1, 5, 1], dry_multiplier=0.8)
    assert edited(one) == pytest.approx(LOGITS)


def test_bias_adds_and_ignores_unknown_ids() -> None:
    assert edited(sampler(logit_bias={5: 9.0, 0: -1.5, 700: 3.0})) == pytest.approx([0.5, 1.0, 0.5, 0.0, -1.0, 6.0])


@pytest.mark.parametrize("vocab", [31, 32, 33, 64, 320])
def test_a_bitmask_forbids_the_ids_whose_bit_is_clear(vocab: int) -> None:
    words = -(-vocab // 32)
    allowed = {0, 31 % vocab, vocab - 1}
    bitmask = torch.zeros(1, words, dtype=torch.int32)
    for token in allowed:
        bit = 1 << (token % 32)
        bitmask[0, token // 32] |= bit - (1 << 32) if bit >= 1 << 31 else bit
    logits = torch.zeros(1, vocab)
    apply_bitmask(logits, bitmask)
    assert set(torch.isfinite(logits[0]).nonzero().flatten().tolist()) == allowed


def test_logprob_is_of_the_raw_row() -> None:
    found = logprob(torch.tensor(LOGITS), 2, 3)
    expected = torch.tensor(LOGITS).log_softmax(0)
    assert found.logprob == pytest.approx(float(expected[2]))
    assert [token for token, _ in found.top] == [0, 1, 2]
