"""The tokenizer: byte-level BPE over 2,048 tokens, made so that copying is easy.

Spaces stand alone, so a word has the same tokens after a space, a hyphen or a slash; digits come in pieces of one or
two; the frame of a tool call, the path prefixes and the placeholders are single tokens.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.data import sample
from training.render import SHELL_CLOSE, SHELL_OPEN
from training.skillmd import PLACEHOLDERS
from training.words import made_up, vocabulary

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PIECES = [
    "<tool_call>",
    "</tool_call>",
    SHELL_OPEN,
    SHELL_CLOSE,
    "/mnt/skills/",
    "/mnt/data/",
    "/SKILL.md",
    '{"name": "',
    '", "arguments": {"',
    '": "',
    '", "',
    '"}}',
    '": ',
    ', "',
    "```bash\n",
    "```sh\n",
    "```\n",
    "```shell\n",
    "```console\n",
    "```text\n",
    "```",
    "(exit code ",
    "): ",
    "Failed:\n",
    "Result:\n",
    "Instructions:\n",
]
_WORDS = r"\p{Lu}?\p{Ll}+|\p{Lu}+(?!\p{Ll})|\p{L}|\p{N}{1,2}| +|\s|[^\s\p{L}\p{N}]"


def _corpus(seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(7000):
        yield "".join(text for text, _ in sample(rng, 0.7))
    for _ in range(20000):
        yield made_up(rng, "train")
    for word in vocabulary("train") * 2:
        yield word
        yield word.capitalize()
    for number in range(100):
        for _ in range(200):
            yield f"{number:02d}"


def train_tokenizer(path: Path, size: int = 2048, seed: int = 5) -> Tokenizer:
    """Train and write `tokenizer.json` to `path`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    pieces = PIECES + sorted({hole for hole in PLACEHOLDERS if hole[0] in "<{$"})
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=SPECIAL + pieces,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(seed), trainer)
    description = json.loads(tokenizer.to_str())
    for token in description["added_tokens"]:
        token["special"] = token["content"] in SPECIAL
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(description, ensure_ascii=False), encoding="utf-8")
    return Tokenizer.from_file(str(path))
