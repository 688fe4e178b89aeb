"""Models on this machine: the bundled one, folders and GGUF files a person names, downloads from a Hugging Face hub,
and what other programs keep here (`elsewhere.py`), which is used and not downloaded again.

Downloads live in `<models>/<organisation>--<name>` and count as present only once `pull` has written its mark after
the last file; a half download is never served. A connection that breaks goes on where it broke; a download that was
stopped keeps the files that were whole. `HF_ENDPOINT`, `HF_TOKEN` and
`HF_HUB_OFFLINE` mean what they mean to huggingface_hub. These functions block; callers use a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from skilldeck_daemon.engine import engines
from skilldeck_daemon.engine.base import Progress
from skilldeck_daemon.engine.llamacpp import gguf
from skilldeck_daemon.engine.models import elsewhere
from skilldeck_daemon.engine.models import source as sources
from skilldeck_daemon.engine.models.source import ModelSource
from skilldeck_shared.errors import BadRequest, NotFound, SkilldeckError, Unavailable
from skilldeck_shared.json_types import JsonObject
from skilldeck_shared.paths import data_dir

log = logging.getLogger(__name__)

OURS, BUNDLED = "skilldeck", "bundled"
TINY = "tiny"
TINY_NAME = "skilldeck-tiny"
TINY_DESCRIPTION = (
    "A demonstration model: it shows that everything works, on any machine, and knows nothing. "
    "For real work load another, for example: skilldeckd serve --model Qwen/Qwen3-8B-GGUF:Q4_K_M"
)
TINY_OPTIONS = {"draft_tokens": 64}
"""Of its engine. Most of what it writes is copied, and wide guesses are cheap in it: 4.3 times the tokens of a
processor second on a text said twice, where 8 guessed tokens give 2.8 times and 24 give 3.8."""
_MARK = ".skilldeck-model.json"
_HUB_ID = re.compile(r"^([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?(?::([\w-]+))?$")
# Everything an engine or a chat template needs, and no second copy of the weights in another format.
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken"]
_UNWANTED = ["original/*", "consolidated*", "onnx/*", "openvino/*"]


@dataclass(frozen=True)
class StoredModel:
    """A model folder or GGUF file: how it is asked for, where it is, bytes on disk, and what it says of itself."""

    id: str
    path: Path
    size: int
    family: str
    context: int
    revision: str = ""
    quantization: str = ""
    licence: str = ""
    parameters: int = 0
    template: bool = True  # it brings a chat template
    origin: str = ""  # whose download it is; "" for a path a person named


def models_dir() -> Path:
    return data_dir() / "models"


def tiny_file() -> Path:
    """The bundled model, inside the package."""
    return Path(__file__).resolve().parents[1] / "tiny" / f"{TINY_NAME}.gguf"


def served_name(model: str) -> str:
    """The name a model is served under when none is given: its id on the hub, or the name of its folder or file."""
    if model in (TINY, TINY_NAME):
        return TINY_NAME
    if _HUB_ID.match(model) and not Path(model).expanduser().is_dir():
        repository, _revision, quantisation = _parts(model)
        return f"{repository}:{quantisation}" if quantisation else repository
    path = Path(model).expanduser().resolve()
    return sources.stem(path) if path.suffix == ".gguf" else path.name


def resolve_model(
    model: str, progress: Progress | None = None, models: Path | None = None, served: bool = False
) -> Path:
    """Where `model` lies: "tiny", a folder, a GGUF file, a name that another program here has for it, or an id of the
    hub, which is fetched then: `org/name`, with `@revision` and, where there are GGUFs of several quantisations,
    `:Q4_K_M`. What this machine could not serve is refused before it is fetched when it is to be `served`.

    Raises NotFound, BadRequest or Unavailable saying what to do.
    """
    if model in (TINY, TINY_NAME):
        if not tiny_file().is_file():
            raise NotFound(
                "This installation lacks the bundled model.", "Reinstall skilldeck, or give --model.", param="model"
            )
        return tiny_file()
    folder = Path(model).expanduser()
    if model and folder.exists():
        return folder.absolute() if folder.is_file() else folder.resolve()
    hub = bool(_HUB_ID.match(model))
    if hub and _mark(present := _folder(model, models)) is not None:
        return present
    if model and (kept := elsewhere.locate(model)) is not None:
        return kept.path
    if not hub:
        raise NotFound(
            f"There is no model folder or file {model!r}.",
            "Give 'tiny', a .gguf file, a folder with config.json, a name that 'skilldeck models ls' shows, "
            "or a Hugging Face id such as Qwen/Qwen3-0.6B-GGUF:Q8_0.",
            param="model",
        )
    return pull(model, progress, models, served)


def ls(models: Path | None = None) -> list[StoredModel]:
    """Every complete model on this machine: the bundled one, our downloads, then those of other programs."""
    folders = [tiny_file()] if tiny_file().is_file() else []
    home = models or models_dir()
    if home.is_dir():
        folders += sorted(path for path in home.iterdir() if _mark(path) is not None)
    found = {model.id: model for model in map(_describe, folders)}
    for kept in elsewhere.find():
        try:
            found.setdefault(kept.id, _kept(kept))
        except (SkilldeckError, OSError) as error:  # half a download, or no language model
            log.debug("%s of %s is left out: %s", kept.id, kept.origin, error)
    return list(found.values())


def info(model: str, models: Path | None = None) -> StoredModel:
    """One model of this machine; NotFound when it is not here."""
    folder = Path(model).expanduser()
    if model in (TINY, TINY_NAME):
        folder = tiny_file()
    elif not folder.exists() and _HUB_ID.match(model):
        folder = _folder(model, models)
    if not folder.exists() and (kept := elsewhere.locate(model)) is not None:
        return _kept(kept)
    if not folder.exists() or not (ModelSource.of(folder).kind == "gguf" or (folder / "config.json").is_file()):
        raise NotFound(f"Model {model} is not on this machine.", f"Fetch it: skilldeck models pull {model}")
    return _describe(folder)


def stored_object(model: StoredModel) -> JsonObject:
    """A stored model as JSON, with the engine that would serve it, or "" and the `trouble` with it."""
    described = {"description": TINY_DESCRIPTION} if model.path == tiny_file() else {}
    try:
        engine = {"engine": engines.choose(ModelSource.of(model.path)).name}
    except SkilldeckError as error:
        engine = {"engine": "", "trouble": f"{error}"}
    return {**asdict(model), "path": str(model.path), **engine, **described}


def rm(model: str, models: Path | None = None) -> int:
    """Delete a downloaded model, finished or not; gives the bytes freed."""
    folder = _folder(model, models) if _HUB_ID.match(model) else None
    if (folder is None or not folder.is_dir()) and (kept := elsewhere.locate(model)) is not None:
        raise BadRequest(f"{model} belongs to another program ({kept.origin}).", "Remove it with that program.")
    if folder is None:
        raise BadRequest(f"{model!r} is no downloaded model.", "Only models pulled from a hub can be removed.")
    if not folder.is_dir():
        raise NotFound(f"Model {model} is not on this machine.", "See: skilldeck models ls")
    freed = _size(folder)
    # The mark goes first: a removal that is interrupted leaves a half download, never a half model.
    (folder / _MARK).unlink(missing_ok=True)
    shutil.rmtree(folder)
    return freed


def pull(
    model: str,
    progress: Progress | None = None,
    models: Path | None = None,
    served: bool = False,
    images: bool = False,
) -> Path:
    """Download a model from the hub, or bring it up to date; resumes what an earlier try left. `served`: only what this
    machine can serve; `images`: with the projector of a GGUF, which is used then."""
    if not _HUB_ID.match(model):
        raise BadRequest(f"{model!r} is no Hugging Face id.", "Ids look like Qwen/Qwen3-0.6B-GGUF:Q8_0.", param="model")
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    report = progress or (lambda _fraction, _stage: None)
    folder = _folder(model, models)
    with pulling(folder, report):
        return _pull(model, folder, report, served, images)


@contextlib.contextmanager
def pulling(folder: Path, report: Progress) -> Iterator[None]:
    """Own a model's folder while it is downloaded; waits for another process that does. What a killed download left
    (each writes its parts under names of its own) is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "wb") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                report(0.0, "waiting for another download of it")
                time.sleep(0.5)
        for part in folder.glob(".cache/huggingface/download/**/*.incomplete"):
            part.unlink(missing_ok=True)
        yield


def _pull(model: str, folder: Path, report: Progress, served: bool, images: bool) -> Path:
    from huggingface_hub import snapshot_download

    repository, revision, quantisation = _parts(model)
    folder.mkdir(exist_ok=True)
    arguments: JsonObject = {
        "repo_id": repository,
        "revision": revision or None,
        "local_dir": folder,
        "allow_patterns": _WANTED,
        "ignore_patterns": _UNWANTED,
        "endpoint": os.environ.get("HF_ENDPOINT") or None,
    }
    stop = threading.Event()
    watcher: threading.Thread | None = None
    try:
        report(0.0, f"asking for {repository}")
        files = snapshot_download(**{**arguments, "allow_patterns": [*_WANTED, "*.gguf"]}, dry_run=True)
        names = [file.filename for file in files]
        whole = any(name.endswith(".safetensors") for name in names) and not quantisation
        if whole and not engines.serves_folders():
            whole = not any(name.endswith(".gguf") for name in names)
            if whole and served:
                shutil.rmtree(folder / ".cache", ignore_errors=True)  # of having asked
                raise engines.without_gpu(repository, repository)
        chosen = [] if whole else sources.choose_gguf(names, quantisation, repository)
        if chosen and images:
            projector = sources.choose_projector(names)
            if projector is None:
                raise BadRequest(f"{repository} has no mmproj file.", "Pull it without --mmproj.", param="model")
            chosen = [*chosen, projector]
        if chosen:
            arguments["allow_patterns"] = chosen
            files = [file for file in files if file.filename in chosen]
        else:
            files = [file for file in files if not file.filename.endswith(".gguf")]
        total = sum(file.file_size or 0 for file in files)
        _check_space(folder, sum(file.file_size or 0 for file in files if file.will_download), model)
        commit = str(files[0].commit_hash) if files else ""
        watcher = threading.Thread(target=_watch, args=(folder, total, report, stop), daemon=True)
        watcher.start()
        snapshot_download(**{**arguments, "revision": commit or arguments["revision"]})
    except SkilldeckError:
        raise
    except Exception as error:
        raise _explain(error, repository, begun=watcher is not None) from error
    finally:
        stop.set()
        if watcher is not None:
            watcher.join()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    if not chosen and not ((folder / "config.json").is_file() and list(folder.glob("*.safetensors"))):
        raise BadRequest(
            f"{repository} holds neither a GGUF nor a config.json with safetensors weights.",
            "Choose another model.",
            param="model",
        )
    mark = folder / (_MARK + ".new")
    mark.write_text(json.dumps({"id": model, "revision": commit, "pulled": int(time.time())}), "utf-8")
    mark.replace(folder / _MARK)
    report(1.0, "downloaded")
    return folder


def _folder(model: str, models: Path | None) -> Path:
    name = model.replace("/", "--", 1).replace("/", "-").replace(":", "--")
    return (models or models_dir()) / name


def _parts(model: str) -> tuple[str, str, str]:
    """Repository, revision and quantisation of an id of the hub; "" for what it leaves out."""
    found = _HUB_ID.match(model)
    return (found[1], found[2] or "", found[3] or "") if found else (model, "", "")


def _mark(folder: Path) -> JsonObject | None:
    try:
        mark = json.loads((folder / _MARK).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return mark if isinstance(mark, dict) else None


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _kept(kept: elsewhere.Kept) -> StoredModel:
    return replace(_describe(kept.path), id=kept.id, origin=kept.origin)


def _describe(folder: Path) -> StoredModel:
    """Of a model's folder, or a GGUF file."""
    mark = (_mark(folder) if folder.is_dir() else None) or {}
    source = ModelSource.of(folder)
    if source.kind == "gguf":
        return _describe_gguf(source.path, mark)
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        config = {}
    quantization = config.get("quantization_config") or {}
    return StoredModel(
        id=str(mark.get("id") or folder),
        path=folder,
        size=_size(folder),
        family=str(config.get("model_type", "")),
        context=int(config.get("max_position_embeddings") or 0),
        revision=str(mark.get("revision", "")),
        quantization=str(quantization.get("quant_method", "")),
        origin=OURS if mark else "",
    )


def _describe_gguf(path: Path, mark: JsonObject) -> StoredModel:
    file = gguf.read(path)
    return StoredModel(
        id=TINY_NAME if path == tiny_file() else str(mark.get("id") or path),
        revision=str(mark.get("revision", "")),
        path=path,
        size=file.size,
        family=file.architecture,
        context=file.context,
        quantization=file.quantisation,
        licence=file.licence,
        parameters=file.parameters,
        template=bool(file.template),
        origin=BUNDLED if path == tiny_file() else OURS if mark else "",
    )


def _watch(folder: Path, total: int, report: Progress, stop: threading.Event) -> None:
    """Report bytes on disk, partial files included, until `stop`."""
    while not stop.wait(0.5):
        try:
            here = _size(folder)
        except OSError:
            continue  # a partial file was renamed under us
        report(min(here / total, 0.999) if total else 0.0, f"downloading {here >> 20} of {total >> 20} MiB")


def _check_space(folder: Path, needed: int, model: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise Unavailable(
            f"{model} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free in {folder.parent}.",
            "Free some space, or point XDG_DATA_HOME elsewhere.",
        )


def _explain(error: Exception, repository: str, begun: bool) -> SkilldeckError:
    """`begun`: the hub answered and files were on their way, so what broke is the connection."""
    from huggingface_hub import errors

    if isinstance(error, errors.DryRunError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # asking for the list of files failed, and this is why
    if isinstance(error, errors.GatedRepoError):
        return BadRequest(f"{repository} is gated.", "Accept its terms on its page and set HF_TOKEN.", param="model")
    if isinstance(error, errors.RepositoryNotFoundError):
        return NotFound(
            f"The hub has no model {repository}.", "Check the spelling; for a private one set HF_TOKEN.", param="model"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFound(f"{repository} has no such revision.", param="model")
    offline = isinstance(error, (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError))
    if offline or (_unreachable(error) and not begun):
        return Unavailable(
            f"{repository} is not on this machine and the hub cannot be reached.",
            "Unset HF_HUB_OFFLINE, check the network or HF_ENDPOINT, or copy the folder here and give its path.",
        )
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return Unavailable(f"Downloading {repository} failed: {first}", "Run it again; it resumes where it stopped.")


def _unreachable(error: Exception) -> bool:
    """Whether this is the HTTP client's way to say that nobody answered."""
    return any(kind.__name__ in ("ConnectionError", "TimeoutError", "TransportError") for kind in type(error).__mro__)
