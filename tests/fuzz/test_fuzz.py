"""The fuzzer in small: always the same inputs, and everything that was ever found."""

from __future__ import annotations

from pathlib import Path

from fuzz.__main__ import fuzz
from fuzz.generate import CORPUS, KINDS, made

COUNT = 120


async def test_no_generated_input_ends_or_stalls_the_daemon(tmp_path: Path) -> None:
    result = await fuzz(tmp_path, seed=1, count=COUNT)
    assert result.broken == [], result.report()
    assert result.sent.total() == COUNT
    assert {name for name in result.outcomes if name.startswith("tools ")} >= {"tools 200", "tools 400"}


async def test_nothing_of_the_corpus_does(tmp_path: Path) -> None:
    known = sorted(CORPUS.iterdir())
    assert known
    result = await fuzz(tmp_path, seed=0, replay=known)
    assert result.broken == [], result.report()


def test_a_seed_means_the_same_inputs() -> None:
    for kind in KINDS:
        assert [made(kind, seed) for seed in range(20)] == [made(kind, seed) for seed in range(20)]
        assert len({made(kind, seed) for seed in range(20)}) > 5
