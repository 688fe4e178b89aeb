"""What a model is on this disk: a folder of safetensors, or a GGUF file. Read without loading anything.

A file stands for itself, any part of a split one for the whole; a folder without config.json in which one GGUF lies
stands for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from skilldeck_daemon.engine.llamacpp import gguf
from skilldeck_daemon.engine.models.folder import read_config
from skilldeck_shared.errors import BadRequest

_QUANTISATION = re.compile(
    r"(?<![a-z0-9])((?:UD-)?(?:I?Q|TQ)\d(?:_[0-9a-z]+)*|BF16|F16|F32|MXFP4(?:_MOE)?)(?![a-z0-9])", re.I
)
_REPOSITORY = re.compile(r"(?:models--)?([\w.-]+?)--([\w.-]+?)(?:--[\w-]+)?")
_PREFERRED = "Q4_K_M"
PROJECTOR = "mmproj"
"""In the name of a GGUF that reads images for another and is no model itself."""
_PRECISE = {"F16": 0, "BF16": 1, "Q8_0": 2, "F32": 3}
"""Which projector is taken where there are several: a rounded one blurs what it sees, F32 adds nothing to F16."""


@dataclass(frozen=True)
class ModelSource:
    """`path`: the folder, or the GGUF's first part."""

    kind: Literal["folder", "gguf"]
    path: Path

    @staticmethod
    def is_gguf_folder(path: Path) -> bool:
        """Whether a folder is one of GGUF files."""
        return not (path / "config.json").is_file() and bool(ggufs(path))

    @classmethod
    def of(cls, path: Path) -> ModelSource:
        """What lies at an existing path. Raises BadRequest, naming the choices when there are several."""
        if path.is_file():
            if not gguf.is_gguf(path):
                raise BadRequest(
                    f"{path} is no GGUF file.", "Give a .gguf file or a folder with config.json.", param="model"
                )
            return cls("gguf", gguf.first_part(path))
        if (path / "config.json").is_file() and any(path.glob("*.safetensors")):
            return cls("folder", path)
        found = ggufs(path)
        if len(found) > 1:
            raise BadRequest(
                f"{path} holds {len(found)} GGUF models: {', '.join(file.name for file in found[:8])}.",
                "Give the path of one of them.",
                param="model",
            )
        return cls("gguf", found[0]) if found else cls("folder", path)

    @cached_property
    def quant_method(self) -> str:
        """How the weights of a folder are quantised, "" when they are not. Raises NotFound, BadRequest."""
        if self.kind != "folder":
            return ""
        return str((read_config(self.path).get("quantization_config") or {}).get("quant_method", ""))

    @cached_property
    def embeds(self) -> bool:
        """Whether it is a GGUF that was made for embeddings. Raises NotFound, BadRequest."""
        return self.kind == "gguf" and gguf.read(self.path).embeds

    @property
    def what(self) -> str:
        return "a GGUF file" if self.kind == "gguf" else "a model folder"

    @property
    def repository(self) -> str:
        """Where the hub has the model, as our downloads and the Hugging Face cache spell it in their paths; else ""."""
        found = [match for part in self.path.parts if (match := _REPOSITORY.fullmatch(part))]
        return f"{found[-1][1]}/{found[-1][2]}" if found else ""


def ggufs(folder: Path) -> list[Path]:
    """The GGUF models in a folder, each by its first part, by name."""
    files = {gguf.first_part(file) for file in folder.glob("*.gguf") if PROJECTOR not in file.name.lower()}
    return sorted(files)


def choose_gguf(names: Iterable[str], wanted: str, repository: str) -> list[str]:
    """The files of one model among those of a repository: of the quantisation wanted, or the only one there is.

    Raises BadRequest with the choices; an empty list where there is no GGUF at all.
    """
    models: dict[str, list[str]] = {}
    for name in sorted(names):
        path = Path(name)
        if path.suffix == ".gguf" and PROJECTOR not in path.name.lower():
            models.setdefault(str(gguf.first_part(path)), []).append(name)
    there = {quantisation(first) for first in models}
    if wanted:
        # Q4_K is the beginning of Q4_K_M and no quantisation of its own where that is there
        exact = [first for first in models if quantisation(first).lower() == wanted.lower()]
        models = {first: models[first] for first in exact}
        found = f"no GGUF of {wanted}"
    else:
        found = f"{len(models)} GGUF models"
    if len(models) == 1:
        return next(iter(models.values()))
    choices = sorted(there - {""})
    if not choices and not wanted:
        return []
    raise BadRequest(
        f"{repository} holds {found}; its quantisations: {', '.join(choices) or 'none'}.",
        f"Name one: {repository}:{_PREFERRED if _PREFERRED in choices or not choices else choices[0]}",
        param="model",
    )


def choose_projector(names: Iterable[str]) -> str | None:
    """The best file among several that reads images; None where none does."""
    projectors = [name for name in names if name.endswith(".gguf") and PROJECTOR in Path(name).name.lower()]
    return min(projectors, key=lambda name: (_PRECISE.get(quantisation(name), len(_PRECISE)), name), default=None)


def quantisation(name: str) -> str:
    """The quantisation in a file's name, in capitals; "" when there is none."""
    found = _QUANTISATION.findall(Path(name).name)
    return str(found[-1]).upper() if found else ""


def stem(path: Path) -> str:
    """A GGUF's name without its ending and its number of parts."""
    return gguf.PART.sub("", path.name) if gguf.PART.search(path.name) else path.stem
