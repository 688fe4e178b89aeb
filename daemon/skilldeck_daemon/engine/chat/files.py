"""What the daemon reads of a model beside its weights: tokenizer, chat template, end tokens, sampling defaults.

The same whether they lie in a folder of Hugging Face's files or inside a GGUF. A model without a chat template can be
loaded; it continues text, and chatting with it is refused with what to do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from skilldeck_daemon.engine.chat.template import ChatTemplate, NoTemplate, TemplateMissing
from skilldeck_daemon.engine.detokenize import Vocabulary
from skilldeck_shared.json_types import JsonObject


@dataclass(frozen=True)
class ModelFiles:
    """model_type: the architecture as the files name it; generation: what generation_config.json would say."""

    vocabulary: Vocabulary
    template: ChatTemplate
    model_type: str = ""
    end_ids: frozenset[int] = frozenset()
    end_token: str = ""
    generation: JsonObject = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, template: str | None = None) -> ModelFiles:
        """Of a model's folder or GGUF file; `template` stands in for its own. Raises TemplateBroken,
        TokenizerMissing."""
        return _of_gguf(path, template) if path.is_file() else _of_folder(path, template)


def _of_folder(folder: Path, override: str | None) -> ModelFiles:
    config, generation = _read(folder / "config.json"), _read(folder / "generation_config.json")
    ids: set[int] = set()
    for source in (config, generation):
        found = source.get("eos_token_id")
        ids |= set(found) if isinstance(found, list) else {found} if isinstance(found, int) else set()
    end = _read(folder / "tokenizer_config.json").get("eos_token")
    try:
        template: ChatTemplate = ChatTemplate.load(folder, override)
    except TemplateMissing:
        template = NoTemplate(folder.name)
    return ModelFiles(
        Vocabulary.load(folder),
        template,
        str(config.get("model_type", "")),
        frozenset(ids),
        str(end.get("content") if isinstance(end, dict) else end or ""),
        generation,
    )


def _of_gguf(path: Path, override: str | None) -> ModelFiles:
    from skilldeck_daemon.engine.llamacpp import gguf
    from skilldeck_daemon.engine.llamacpp.vocabulary import generation, of

    file = gguf.read(path)
    vocabulary = of(file)
    source = override if override is not None else file.template
    begin = vocabulary.decode(vocabulary.begin)
    template = ChatTemplate(source, vocabulary.specials(), begin) if source else NoTemplate(path.name)
    return ModelFiles(vocabulary, template, file.architecture, vocabulary.ends, generation=generation(file.meta))


def _read(path: Path) -> JsonObject:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}
