"""The engines there are: what each accepts, what it needs, how it is made. Nothing heavy is imported here.

Hub, settings, command line and doctor read this table; a further engine is one more entry of it. `remote` is in the
list of names only: it is no engine but another server.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from skilldeck_daemon.engine.base import Engine
from skilldeck_daemon.engine.models import source as sources
from skilldeck_daemon.engine.models.folder import usable
from skilldeck_daemon.engine.models.source import ModelSource
from skilldeck_shared.errors import BadRequest, SkilldeckError

AUTO, REMOTE = "auto", "remote"


@dataclass(frozen=True)
class EngineKind:
    """One engine. `wants` says how well it suits a model it accepts: 0 not unless asked for, the highest is taken."""

    name: str
    accepts: str  # in words, for errors and help
    takes: Callable[[ModelSource], bool]
    wants: Callable[[ModelSource], int]
    packages: tuple[str, ...]  # what it imports
    extra: str  # what of skilldeck to install for them
    ahead: tuple[str, ...]  # what a process that waits for its model imports meanwhile
    made_by: str  # module:class
    named: bool = False  # the class is given the engine's name

    @property
    def missing(self) -> list[str]:
        """The packages it lacks here."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]

    def check(self) -> None:
        """Raise a SkilldeckError when it cannot run here for want of a package."""
        if missing := self.missing:
            raise SkilldeckError(
                f"The {self.name} engine needs {', '.join(missing)}, not installed here.",
                f"Run: pip install 'skilldeck[{self.extra}]'.",
            )

    def make(self) -> Engine:
        """An engine of this process that has loaded nothing yet."""
        module, _, name = self.made_by.partition(":")
        built: Engine = getattr(import_module(module), name)(*([self.name] if self.named else []))
        return built


def _exl(method: str) -> Callable[[ModelSource], int]:
    def wants(source: ModelSource) -> int:
        if source.quant_method == method:
            return 3
        return 1 if method == "exl2" and usable("exllamav2") else 0

    return wants


def _is_folder(source: ModelSource) -> bool:
    return source.kind == "folder"


_ENGINE = "skilldeck_daemon.engine"
KINDS = (
    EngineKind(
        "llamacpp",
        "GGUF files",
        lambda source: source.kind == "gguf",
        lambda source: 2,
        ("xllamacpp", "numpy"),
        "daemon",
        (f"{_ENGINE}.llamacpp.engine",),
        f"{_ENGINE}.llamacpp.engine:LlamaCppEngine",
    ),
    EngineKind(
        "llamacpp-embeddings",
        "GGUF files for /v1/embeddings",
        lambda source: source.kind == "gguf",
        lambda source: 3 if source.embeds else 0,
        ("xllamacpp", "numpy"),
        "daemon",
        (f"{_ENGINE}.llamacpp.embedder",),
        f"{_ENGINE}.llamacpp.embedder:LlamaCppEmbedder",
    ),
    EngineKind(
        "exllamav2",
        "folders with EXL2 or unquantised weights",
        _is_folder,
        _exl("exl2"),
        ("torch", "exllamav2"),
        "gpu",
        ("torch",),
        f"{_ENGINE}.exllama.engine:ExllamaEngine",
        named=True,
    ),
    EngineKind(
        "exllamav3",
        "folders with EXL3 weights",
        _is_folder,
        _exl("exl3"),
        ("torch", "exllamav3"),
        "gpu",
        ("torch",),
        f"{_ENGINE}.exllama.engine:ExllamaEngine",
        named=True,
    ),
)
NAMES = (AUTO, *(kind.name for kind in KINDS), REMOTE)


def kind(name: str) -> EngineKind:
    """The engine of that name. Raises BadRequest with those there are."""
    for found in KINDS:
        if found.name == name:
            return found
    raise BadRequest(f"There is no engine {name!r}.", f"Engines: {', '.join(NAMES)}.", param="engine")


def choose(source: ModelSource) -> EngineKind:
    """The engine that suits a model best. Raises NotFound, or BadRequest with what to serve where none here does."""
    best = max(KINDS, key=lambda found: found.wants(source) if found.takes(source) else 0)
    if not (best.takes(source) and best.wants(source)):
        if not any(source.path.glob("*.safetensors")):
            raise BadRequest(
                f"{source.path} holds neither a GGUF nor *.safetensors.", "Download the model again.", param="model"
            )
        raise without_gpu(str(source.path), source.repository, sources.ggufs(source.path))
    return best


def serves_folders() -> bool:
    """Whether this machine can serve a folder of safetensors."""
    return any(usable(found.name) for found in KINDS if found.extra == "gpu")


def without_gpu(model: str, repository: str, beside: Sequence[Path] = ()) -> BadRequest:
    """The error of safetensors on a machine that cannot compute them.

    Args:
        repository: where the hub has the model, "" where nobody knows.
        beside: GGUF files in its folder.
    """
    if beside:
        instead = f"take the GGUF beside them: --model {beside[0]}"
    else:
        instead = f"take a GGUF of the model: skilldeckd models pull {repository or 'ORG/NAME'}-GGUF:Q4_K_M, or whoever"
        instead += " on the hub has quantised it"
    return BadRequest(
        f"{model} holds safetensors, which only a CUDA card with the exllamav2 or exllamav3 engine computes.",
        f"On this machine {instead}. With such a card: pip install 'skilldeck[gpu]'.",
        param="model",
    )


def ahead(name: str, model: str) -> tuple[str, ...]:
    """What a process may import before it is sent its model: of the engine named, or the one the model looks like."""
    if name not in (AUTO, REMOTE):
        return kind(name).ahead
    path = Path(model).expanduser()
    folder = path.is_dir() and not ModelSource.is_gguf_folder(path)
    return kind("exllamav2" if folder else "llamacpp").ahead


def chosen(name: str, source: ModelSource) -> EngineKind:
    """The engine a person named, or the one for the model. Raises BadRequest when it does not accept the model."""
    if name == AUTO:
        return choose(source)
    found = kind(name)
    if not found.takes(source):
        try:
            hint = f"Leave --engine at auto, which takes {choose(source).name}."
        except BadRequest as error:
            hint = error.hint
        raise BadRequest(
            f"The {name} engine serves {found.accepts}; {source.path} is {source.what}.", hint, param="engine"
        )
    return found
