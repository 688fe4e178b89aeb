"""The vocabulary of a model, wherever it keeps its tokenizer."""

from __future__ import annotations

from pathlib import Path

from skilldeck_daemon.engine.detokenize import Vocabulary


def load_vocabulary(path: Path) -> Vocabulary:
    """Of a model's folder or GGUF file. Raises TokenizerMissing."""
    if path.is_file():
        from skilldeck_daemon.engine.llamacpp import gguf, vocabulary

        return vocabulary.of(gguf.read(path))
    return Vocabulary.load(path)
