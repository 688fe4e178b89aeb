"""Models that other programs keep on this disk: the Hugging Face cache, Ollama, LM Studio, Docker's model runner, Jan,
GPT4All, llama.cpp. Read, never written.

Each is known by the name its program has for it: `org/name` (`org/name:Q4_K_M` where a repository's GGUFs of several
quantisations are there, `org/name@revision`), `llama3.2:1b` of Ollama. What is not whole is no model: a download that
is under way, a manifest without its blob. Only names and sizes are looked at, no weights; blocks for milliseconds.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from skilldeck_daemon.engine.llamacpp import gguf
from skilldeck_daemon.engine.models.source import PROJECTOR, choose_projector, ggufs, quantisation, stem
from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_shared.json_types import JsonObject

HUGGING_FACE, OLLAMA, LM_STUDIO = "Hugging Face cache", "Ollama", "LM Studio"
DOCKER, JAN, GPT4ALL, LLAMA_CPP = "Docker", "Jan", "GPT4All", "llama.cpp"
_OLLAMA_HOST, _OLLAMA_OWN, _OLLAMA_TAG = "registry.ollama.ai", "library", "latest"
_OLLAMA_MODEL = "application/vnd.ollama.image.model"
_OLLAMA_ADAPTER = "application/vnd.ollama.image.adapter"
_OLLAMA_RUNNERS = ("", "ollama", "llamacpp")  # of the manifests in a list, those of GGUF files; "": an older one
_OLLAMA_PROJECTOR = "application/vnd.ollama.image.projector"
_LARGEST = 16 << 20  # bytes of a manifest, or of an index of weights


@dataclass(frozen=True)
class Kept:
    """One model: every name it is asked for by, the one to show first; its folder or GGUF file; whose it is; the
    adapters that belong to it."""

    names: tuple[str, ...]
    path: Path
    origin: str
    adapters: tuple[Path, ...] = ()

    @property
    def id(self) -> str:
        return self.names[0]


def find() -> list[Kept]:
    """All of them, by program and name; of two with one name only the first."""
    found: dict[str, Kept] = {}
    for kept in _all():
        if not kept.adapters:
            found.setdefault(kept.id, kept)
    return list(found.values())


def locate(model: str) -> Kept | None:
    """The model of that name, when another program has it here, whole. Raises BadRequest for one that is served only
    with options."""
    for kept in _all():
        if model in kept.names and _whole(kept.path):
            if kept.adapters:
                options = json.dumps({"lora": [str(path) for path in kept.adapters]})
                raise BadRequest(
                    f"{model} of {kept.origin} is a model with an adapter.",
                    f"Serve the model with it: --model {kept.path} --engine-options '{options}'",
                    param="model",
                )
            return kept
    return None


def _all() -> Iterator[Kept]:
    for program in (_hugging_face, _lm_studio, _ollama, _docker, _jan, _gpt4all, _llama_cpp):
        yield from program()


def _base(file: Path) -> str:
    """What a file's name says beside its quantisation, and that it is a projector."""
    name = stem(file).lower()
    for word in (quantisation(file.name).lower(), PROJECTOR, "model"):
        name = name.replace(word, "") if word else name
    return re.sub(r"[\W_]+", "", name)


def _whole(path: Path) -> bool:
    if path.is_dir():
        return True
    try:
        gguf.read(path)
    except (SkilldeckError, OSError):
        return False
    return True


def projector(path: Path) -> Path | None:
    """The file that reads images for the GGUF at `path`: the one beside it, of several the best quantised; or what
    Ollama's manifest names together with it. In a folder of several models it has to bear the model's name."""
    if path.suffix == ".gguf":
        beside = [str(file) for file in path.parent.glob("*.gguf") if file != path]
        if len({_base(file) for file in ggufs(path.parent)}) > 1:
            beside = [file for file in beside if (name := _base(Path(file))) and name in _base(path)]
        found = choose_projector(beside)
        return Path(found) if found else None
    for root in _ollama_roots():
        if path.parent == root / "blobs":
            for _, manifest in _manifests(root):
                if _blob(root, manifest, _OLLAMA_MODEL) == path:
                    return _blob(root, manifest, _OLLAMA_PROJECTOR)
    return None


def _xdg(variable: str, usual: str) -> Path:
    """One of the XDG directories, as other programs find it: a relative one counts."""
    return Path(os.environ.get(variable) or usual).expanduser()


# ------------------------------------------------------------ Hugging Face


def _hub_cache() -> Path:
    """Where huggingface_hub keeps what it downloads."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("HF_HOME") or _xdg("XDG_CACHE_HOME", "~/.cache") / "huggingface").expanduser() / "hub"


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
    """`models/<publisher>/<repository>/`, below the folder that a pointer in the home names, or where it was before; or
    in the folder that its settings name."""
    home = Path.home()
    try:
        pointed = (home / ".lmstudio-home-pointer").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        pointed = ""
    roots = [Path(pointed)] if pointed else []
    roots += [home / ".lmstudio", home / ".cache" / "lm-studio"]
    moved = [_json(root / "settings.json").get("downloadsFolder") for root in roots]
    homes = [*(Path(folder) for folder in moved if isinstance(folder, str) and folder), *(r / "models" for r in roots)]
    for models in dict.fromkeys(homes):
        for folder in _folders(models, "*/*"):
            name = folder.relative_to(models).as_posix()
            yield from _ggufs(folder, [name], LM_STUDIO)


# ------------------------------------------------------------ Ollama


def _ollama() -> Iterator[Kept]:
    """`manifests/<host>/<namespace>/<model>/<tag>`, or the same below `manifests-v2`, names the blob
    `blobs/sha256-<digest>` that is the GGUF, and those of its projector and adapters."""
    for root in _ollama_roots():
        for (host, namespace, model, tag), manifest in _manifests(root):
            blob = _blob(root, manifest, _OLLAMA_MODEL)
            if blob is None:
                continue
            owner = "" if namespace == _OLLAMA_OWN else f"{namespace}/"
            name = f"{owner}{model}" if host == _OLLAMA_HOST else f"{host}/{namespace}/{model}"
            names = (f"{name}:{tag}", *([name] if tag == _OLLAMA_TAG else []))
            yield Kept(names, blob, OLLAMA, tuple(_blobs(root, manifest, _OLLAMA_ADAPTER)))


def _ollama_roots() -> list[Path]:
    named = os.environ.get("OLLAMA_MODELS")
    return [Path(named)] if named else [Path.home() / ".ollama/models", Path("/usr/share/ollama/.ollama/models")]


def _manifests(root: Path) -> Iterator[tuple[tuple[str, ...], JsonObject]]:
    """Host, namespace, model and tag, with what the manifest says; of a list the one of a GGUF."""
    for home in (root / "manifests-v2", root / "manifests"):
        for file in _files(home, "*/*/*/*"):
            manifest = _json(file)
            listed = manifest.get("manifests")
            for one in listed if isinstance(listed, list) else []:
                if isinstance(one, dict) and one.get("runner", "") in _OLLAMA_RUNNERS:
                    reference = _named_blob(root, one.get("digest"))
                    manifest = one if isinstance(one.get("layers"), list) or reference is None else _json(reference)
                    break
            yield file.relative_to(home).parts, manifest


def _blob(root: Path, manifest: JsonObject, kind: str) -> Path | None:
    """The layer of that kind, when there is one and it is here."""
    return next(iter(_blobs(root, manifest, kind)), None)


def _blobs(root: Path, manifest: JsonObject, kind: str) -> Iterator[Path]:
    layers = manifest.get("layers")
    for layer in layers if isinstance(layers, list) else []:
        if (
            isinstance(layer, dict)
            and layer.get("mediaType") == kind
            and (blob := _named_blob(root, layer.get("digest")))
        ):
            yield blob


def _named_blob(root: Path, digest: object) -> Path | None:
    blob = root / "blobs" / Path(str(digest).replace(":", "-")).name
    return blob if blob.is_file() else None


# ------------------------------------------------------------ Docker, Jan, GPT4All, llama.cpp


def _docker() -> Iterator[Kept]:
    """`models.json` names models by tags; their files are unpacked at `bundles/sha256/<id>/model` once they ran, and
    `blobs/sha256/<digest>` before."""
    root = Path.home() / ".docker/models"
    entries = _json(root / "models.json").get("models")
    for entry in entries if isinstance(entries, list) else []:
        tags = entry.get("tags") if isinstance(entry, dict) else None
        if not isinstance(tags, list) or not tags:
            continue
        digests = [entry.get("id"), *(entry.get("files") or [])]
        bundle, *blobs = (Path(str(digest).replace(":", "/")).name for digest in digests)
        files = _files(root / "bundles/sha256" / bundle / "model", "*.gguf")
        files = [file for file in files if PROJECTOR not in file.name.lower()]
        files = files or [file for name in blobs if _writes(file := root / "blobs/sha256" / name)]
        if files:
            yield Kept(tuple(map(str, tags)), gguf.first_part(files[0]), DOCKER)


def _writes(path: Path) -> bool:
    """Whether a blob is a GGUF that is a model by itself."""
    return gguf.is_gguf(path) and _whole(path) and gguf.read(path).architecture != "clip"


def _jan() -> Iterator[Kept]:
    """`llamacpp/models/<id>/` with `model.yml` and the file, or the path of a file that was imported."""
    shared = _xdg("XDG_DATA_HOME", "~/.local/share")
    config = _xdg("XDG_CONFIG_HOME", "~/.config")
    for root in (shared / "Jan/data", config / "Jan/data", Path.home() / "jan"):
        for note in _files(root / "llamacpp/models", "**/model.yml"):
            folder = note.parent
            named = re.search(r"^model_path:\s*['\"]?(.+?)['\"]?\s*$", _text(note), re.M)
            file = root / named[1] if named else folder / "model.gguf"
            if file.is_file():
                yield Kept((folder.relative_to(root / "llamacpp/models").as_posix(),), gguf.first_part(file), JAN)


def _gpt4all() -> Iterator[Kept]:
    shared = _xdg("XDG_DATA_HOME", "~/.local/share")
    return _flat(shared / "nomic.ai/GPT4All", GPT4ALL)


def _llama_cpp() -> Iterator[Kept]:
    """Where its programs download to when they are given a repository's name."""
    cache = _xdg("XDG_CACHE_HOME", "~/.cache")
    return _flat(Path(os.environ.get("LLAMA_CACHE") or cache / "llama.cpp").expanduser(), LLAMA_CPP)


def _flat(folder: Path, origin: str) -> Iterator[Kept]:
    """The GGUF models right in a folder, by the names of their files."""
    for file in ggufs(folder):
        if file.is_file():
            yield Kept((stem(file),), file, origin)


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


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8") if path.stat().st_size <= _LARGEST else ""
    except (OSError, ValueError):
        return ""


def _json(path: Path) -> JsonObject:
    try:
        found = json.loads(_text(path) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
