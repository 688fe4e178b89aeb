"""The sampler: what each parameter does to the odds, and that a seed decides the draw."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skilldeck_daemon.engine.base import GenRequest, Sampling
from skilldeck_daemon.engine.sampling import BLANKS, DeadEnd, Sampler, logprob

LOGITS = np.array([2.0, 1.0, 0.5, 0.0, -1.0, -3.0], np.float32)


def sampler(prompt: list[int] | None = None, vocab: int = 6, **parameters: Any) -> Sampler:
    return Sampler(GenRequest("g", [0], 9, Sampling(**{"seed": 1, **parameters})), vocab, prompt or [])


def softmax(row: Any) -> NDArray[np.float64]:
    odds = np.exp(np.asarray(row, np.float64))
    return odds / odds.sum()


def drawn(count: int, **parameters: Any) -> Counter[int]:
    one = sampler(**parameters)
    return Counter(one.choose(LOGITS) for _ in range(count))


def edited(one: Sampler) -> list[float]:
    """The row that the choice is made of."""
    kept = LOGITS.copy()
    found: list[float] = one._edited(LOGITS.copy()).tolist()
    one.choose(LOGITS)
    assert np.array_equal(LOGITS, kept), "the row is left as it is"
    return found


class Allows:
    """A mask of given ids."""

    def __init__(self, *ids: int) -> None:
        self.ids = ids

    def fill(self, bits: Any, index: int) -> bool:
        bits[index] = 0
        for token in self.ids:
            bits[index].view(np.uint32)[token // 32] |= np.uint32(1 << (token % 32))
        return True


def test_temperature_zero_takes_the_likeliest() -> None:
    assert drawn(5, temperature=0.0) == Counter({0: 5})


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax(temperature: float) -> None:
    seen = drawn(2000, temperature=temperature)
    for token, probability in enumerate(softmax(LOGITS / temperature)):
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


def test_a_nucleus_wider_than_the_likely_tokens_is_exact() -> None:
    vocab = 5000
    flat = np.zeros(vocab, np.float32)
    flat[7] = 12.0  # beside it the others are unlikely one by one, and a thirtieth of all together
    one = sampler(vocab=vocab, top_p=0.995)
    seen = Counter(one.choose(flat) for _ in range(6000))
    assert seen[7] > 5700
    assert len(seen) > 50, "what is beyond the likely ones belongs to the nucleus"
    assert max(seen) < 0.95 * vocab, "and its end does not: ties go by id"


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
    row = np.array(logits, np.float32)
    one = sampler(vocab=len(logits), temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, seed=seed)
    token = one.choose(row)
    order = np.sort(row)[::-1]
    if top_k:
        assert row[token] >= order[min(top_k, len(logits)) - 1]
    odds = np.exp((row.astype(np.float64) - row.max()) / temperature)
    assert odds[token] >= min_p * 0.999
    # What is likelier than the token has not filled the nucleus yet.
    kept = np.sort(odds)[::-1][: top_k or None]
    assert odds[odds > odds[token] * 1.001].sum() <= top_p * kept.sum() * 1.001


@pytest.mark.parametrize("parameters", [{"temperature": 1.2}, {"top_p": 0.9}, {"top_k": 9}, {"temperature": 0.0}])
def test_the_same_seed_draws_the_same(parameters: dict[str, Any]) -> None:
    rows = np.random.default_rng(2).normal(size=(20, 50)).astype(np.float32)
    one, other = (sampler(vocab=50, seed=7, **parameters) for _ in range(2))
    assert [one.choose(row) for row in rows] == [other.choose(row) for row in rows]


def test_without_a_seed_two_requests_differ() -> None:
    row = np.zeros(1000, np.float32)
    draws = [[one.choose(row) for _ in range(5)] for one in (sampler(vocab=1000, seed=None) for _ in range(2))]
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
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_mask_forbids_the_ids_whose_bit_is_clear(vocab: int, temperature: float) -> None:
    allowed = {0, 31 % vocab, vocab - 1}
    row = np.linspace(0, 1, vocab, dtype=np.float32)
    one = sampler(vocab=vocab, temperature=temperature)
    seen = {one.choose(row, Allows(*allowed)) for _ in range(100)}
    assert seen == (allowed if temperature else {vocab - 1})


def test_a_mask_that_leaves_nothing_is_a_dead_end() -> None:
    for mask, bias in ((Allows(), {}), (Allows(3), {3: -float("inf")})):
        with pytest.raises(DeadEnd):
            sampler(logit_bias=bias).choose(LOGITS, mask)


def test_a_masked_token_is_drawn_by_its_odds_among_those_allowed() -> None:
    one = sampler()
    seen = Counter(one.choose(LOGITS, Allows(1, 3)) for _ in range(1000))
    assert seen[1] / seen[3] == pytest.approx(2.718, rel=0.3)


def test_logprob_is_of_the_raw_row() -> None:
    found = logprob(LOGITS, 2, 3)
    assert found.logprob == pytest.approx(float(np.log(softmax(LOGITS)[2])))
    assert [token for token, _ in found.top] == [0, 1, 2]


def ending(blank: set[int], **parameters: Any) -> Sampler:
    """Of a request that ends by token 0, the likeliest, and has said nothing with those of `blank`."""
    sampling = Sampling(temperature=0.0, seed=1, **parameters)
    request = GenRequest("g", [0], 9, sampling, stop_ids=frozenset({0}), blank=frozenset(blank))
    return Sampler(request, 6, [])


def written(one: Sampler, count: int, mask: Any = None) -> list[int]:
    tokens = []
    for _ in range(count):
        tokens.append(one.choose(LOGITS, mask))
        one.accept(tokens[-1])
    return tokens


def test_a_turn_does_not_end_before_it_said_something() -> None:
    assert written(ending(set()), 1) == [0]
    assert written(ending({0}), 2) == [1, 0]
    assert written(ending({0}), 2, Allows(0, 2)) == [2, 0]
    assert written(ending({0, 1}), BLANKS + 1) == [1] * BLANKS + [0]


def test_a_turn_ends_unsaid_where_nothing_else_is_left() -> None:
    assert written(ending({0}), 1, Allows(0)) == [0]
    others = dict.fromkeys(range(1, 6), -np.inf)
    assert written(ending({0}, logit_bias=others), 1) == [0]
