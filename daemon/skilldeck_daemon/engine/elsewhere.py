"""Models that other programs keep on this disk: the Hugging Face cache, Ollama, LM Studio. Read, never written.

Each is known by the name its program has for it: `org/name` (`org/name:Q4_K_M` where a repository's GGUFs of several
quantisations are there, `org/name@revision`), `llama3.2:1b` of Ollama. What is not whole is no model: a download that
is under way, a manifest without its blob. Only names and sizes are looked at, no weights; blocks for milliseconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from skilldeck_daemon.engine.llamacpp import gguf
from skilldeck_daemon.engine.source import PROJECTOR, quantisation
from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.json_types import JsonObject

HUGGING_FACE, OLLAMA, LM_STUDIO = "Hugging Face cache", "Ollama", "LM Studio"
_OLLAMA_HOST, _OLLAMA_OWN, _OLLAMA_TAG = "registry.ollama.ai", "library", "latest"
_OLLAMA_MODEL = "application/vnd.ollama.image.model"
_LARGEST = 16 << 20  # bytes of a manifest, or of an index of weights


@dataclass(frozen=True)
class Kept:
    """One model: every name it is asked for by, the one to show first; its folder or GGUF file; whose it is."""

    names: tuple[str, ...]
    path: Path
    origin: str

    @property
    def id(self) -> str:
        return self.names[0]


def find() -> list[Kept]:
    """All of them, by program and name; of two with one name only the first."""
    found: dict[str, Kept] = {}
    for kept in (*_hugging_face(), *_lm_studio(), *_ollama()):
        found.setdefault(kept.id, kept)
    return list(found.values())


def locate(model: str) -> Kept | None:
    """The model of that name, when another program has it here, whole."""
    for kept in (*_hugging_face(), *_lm_studio(), *_ollama()):
        if model in kept.names and _whole(kept.path):
            return kept
    return None


def _whole(path: Path) -> bool:
    if path.is_dir():
        return True
    try:
        gguf.read(path)
    except (SkilldeckError, OSError):
        return False
    return True


# ------------------------------------------------------------ Hugging Face


def _hub_cache() -> Path:
    """Where huggingface_hub keeps what it downloads."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return Path(named).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return Path(os.environ.get("HF_HOME") or cache / "huggingface").expanduser() / "hub"


def _hugging_face() -> Iterator[Kept]:
    """`models--org--name/snapshots/<commit>/`: links to blobs, made when each is whole; `refs/` names commits."""
    for home in _folders(_hub_cache(), "models--*--*"):
        repository = home.name.removeprefix("models--").replace("--", "/", 1)
        revisions: dict[str, list[str]] = {}
        for ref in sorted(path for path in (home / "refs").rglob("*") if path.is_file()):
            commit = ref.read_text("utf-8", "replace").strip()
            revisions.setdefault(commit, []).append(ref.relative_to(home / "refs").as_posix())
        for snapshot in _folders(home / "snapshots", "*"):
            known = revisions.get(snapshot.name, [])
            suffixes = [*([""] if "main" in known else []), *(f"@{name}" for name in [*known, snapshot.name])]
            if _is_model(snapshot):
                yield Kept(tuple(f"{repository}{suffix}" for suffix in suffixes), snapshot, HUGGING_FACE)
            else:
                yield from _ggufs(snapshot, [f"{repository}{suffix}" for suffix in suffixes], HUGGING_FACE)


def _is_model(folder: Path) -> bool:
    """Whether configuration, tokenizer and every file of the weights are there."""
    if not ((folder / "config.json").exists() and (folder / "tokenizer.json").exists()):
        return False
    index = _json(folder / "model.safetensors.index.json")
    parts = set((index.get("weight_map") or {}).values()) or {"model.safetensors"}
    return all((folder / str(part)).exists() for part in parts)


def _ggufs(folder: Path, names: list[str], origin: str) -> Iterator[Kept]:
    """The GGUF models below a folder: one alone by the folder's names, several by their quantisations."""
    firsts = {gguf.first_part(file) for file in folder.rglob("*.gguf") if PROJECTOR not in file.name.lower()}
    files = sorted(file for file in firsts if file.exists())
    kinds = [quantisation(file.name) for file in files]
    for file, kind in zip(files, kinds, strict=True):
        alone = names if len(files) == 1 else []
        named = [f"{name}:{kind}" for name in names] if kind and kinds.count(kind) == 1 else []
        yield Kept((*alone, *named) or (str(file),), file, origin)


# ------------------------------------------------------------ LM Studio


def _lm_studio() -> Iterator[Kept]:
    """`models/<publisher>/<repository>/`, below the folder that a pointer in the home names, or where it was before."""
    home = Path.home()
    try:
        pointed = (home / ".lmstudio-home-pointer").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        pointed = ""
    roots = [Path(pointed)] if pointed else []
    roots += [home / ".lmstudio", home / ".cache" / "lm-studio"]
    for root in dict.fromkeys(roots):
        for folder in _folders(root / "models", "*/*"):
            name = folder.relative_to(root / "models").as_posix()
            yield from _ggufs(folder, [name], LM_STUDIO)


# ------------------------------------------------------------ Ollama


def _ollama() -> Iterator[Kept]:
    """`manifests/<host>/<namespace>/<model>/<tag>` names the blob `blobs/sha256-<digest>` that is the GGUF."""
    named = os.environ.get("OLLAMA_MODELS")
    roots = [Path(named)] if named else [Path.home() / ".ollama/models", Path("/usr/share/ollama/.ollama/models")]
    for root in roots:
        manifests = root / "manifests"
        for file in _files(manifests, "*/*/*/*"):
            host, namespace, model, tag = file.relative_to(manifests).parts
            blob = _blob(root, _json(file))
            if blob is None:
                continue
            owner = "" if namespace == _OLLAMA_OWN else f"{namespace}/"
            name = f"{owner}{model}" if host == _OLLAMA_HOST else f"{host}/{namespace}/{model}"
            yield Kept((f"{name}:{tag}", *([name] if tag == _OLLAMA_TAG else [])), blob, OLLAMA)


def _blob(root: Path, manifest: JsonObject) -> Path | None:
    layers = manifest.get("layers")
    for layer in layers if isinstance(layers, list) else []:
        if isinstance(layer, dict) and layer.get("mediaType") == _OLLAMA_MODEL:
            name = str(layer.get("digest")).replace(":", "-")
            blob = root / "blobs" / Path(name).name
            return blob if blob.is_file() else None
    return None


# ------------------------------------------------------------ reading


def _folders(root: Path, pattern: str) -> list[Path]:
    return [path for path in _matches(root, pattern) if path.is_dir()]


def _files(root: Path, pattern: str) -> list[Path]:
    return [path for path in _matches(root, pattern) if path.is_file()]


def _matches(root: Path, pattern: str) -> list[Path]:
    """Sorted; none where the folder is another user's."""
    try:
        return sorted(root.glob(pattern))
    except OSError:
        return []


def _json(path: Path) -> JsonObject:
    try:
        if path.stat().st_size > _LARGEST:
            return {}
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
