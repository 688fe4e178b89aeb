"""Tests that need a CUDA device; without one they skip and say so."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    try:
        import torch

        reason = "" if torch.cuda.is_available() else "no CUDA device here"
    except ImportError:
        reason = "torch is not installed"
    for item in items:
        if Path(__file__).parent in Path(item.path).parents:
            item.add_marker(pytest.mark.gpu)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 4 layers with random float16 weights, of the widths the kernels want."""
    from skilldeck_daemon.engine.exllama.bench import fabricate

    return fabricate(
        tmp_path_factory.mktemp("small"),
        hidden_size=512,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=512,
        max_position_embeddings=4096,
    )
