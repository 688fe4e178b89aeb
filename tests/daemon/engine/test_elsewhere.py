"""Models of other programs on this disk, in folders laid out as those programs document them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from daemon.engine.conftest import make_chat_folder
from skilldeck_daemon import cli
from skilldeck_daemon.engine.hub import ModelHub
from skilldeck_daemon.engine.models import elsewhere, registry
from skilldeck_shared.errors import BadRequest, SkilldeckError
from support.make_gguf import make_gguf
from support.make_projector import make_projector

COMMIT, OLDER = "c" * 40, "0" * 40
DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def folder(llama: Path, tmp_path: Path) -> Path:
    return make_chat_folder(llama, tmp_path / "chatty")


@pytest.fixture
def data(folder: Path, tmp_path: Path) -> bytes:
    return make_gguf(folder, tmp_path / "made.gguf").read_bytes()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of nobody; no hub can be reached from it."""
    variables = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "OLLAMA_MODELS", "LLAMA_CACHE")
    for name in (*variables, "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "home"


def cached(home: Path, repository: str, commit: str, files: dict[str, bytes], *refs: str) -> Path:
    """A repository as huggingface_hub caches it: blobs, links to them, refs."""
    base = home / ".cache/huggingface/hub" / f"models--{repository.replace('/', '--')}"
    for number, (name, content) in enumerate(files.items()):
        blob = base / "blobs" / f"{commit[0]}{number}"
        link = base / "snapshots" / commit / name
        for path in (blob, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link.symlink_to(os.path.relpath(blob, link.parent))
    for ref in refs:
        (base / "refs").mkdir(exist_ok=True)
        (base / "refs" / ref).write_text(commit)
    return base / "snapshots" / commit


def ollama(root: Path, name: str, data: bytes | None, digest: str = DIGEST) -> None:
    """A model as Ollama keeps it; without data its blob is not there."""
    layers = [
        {"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:00", "size": 1},
        {"mediaType": "application/vnd.ollama.image.model", "digest": digest, "size": len(data or b"")},
    ]
    manifest = root / "manifests" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "config": {"digest": "sha256:11"}, "layers": layers}))
    if data is not None:
        (root / "blobs").mkdir(exist_ok=True)
        (root / "blobs" / digest.replace(":", "-")).write_bytes(data)


def ids(origin: str) -> list[str]:
    return [kept.id for kept in elsewhere.find() if kept.origin == origin]


def test_what_lies_in_the_hugging_face_cache_is_used_and_not_downloaded(
    home: Path, folder: Path, data: bytes, tmp_path: Path
) -> None:
    whole = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    snapshot = cached(home, "org/whole", COMMIT, whole, "main")
    older = cached(home, "org/whole", OLDER, whole, "v1")
    cached(home, "org/half", COMMIT, {name: whole[name] for name in ("config.json", "tokenizer.json")}, "main")
    one = cached(home, "org/one-GGUF", COMMIT, {"one-Q4_K_M.gguf": data, "mmproj-one-F16.gguf": data}, "main")
    many = cached(home, "org/many-GGUF", COMMIT, {"a-Q8_0.gguf": data, "deep/a-Q4_0.gguf": data}, "main")
    cached(home, "org/cut-GGUF", COMMIT, {"cut-Q4_0.gguf": data[:-9]}, "main")

    for model, path in {
        "org/whole": snapshot,
        "org/whole@main": snapshot,
        f"org/whole@{COMMIT}": snapshot,
        "org/whole@v1": older,
        "org/one-GGUF": one / "one-Q4_K_M.gguf",
        "org/one-GGUF:Q4_K_M": one / "one-Q4_K_M.gguf",
        "org/many-GGUF:Q8_0": many / "a-Q8_0.gguf",
        "org/many-GGUF:Q4_0": many / "deep/a-Q4_0.gguf",
    }.items():
        assert registry.resolve_model(model, models=tmp_path / "models") == path, model
    # What is not whole, or not clear, is asked of the hub, which does not answer here.
    for model in ("org/half", "org/cut-GGUF", "org/many-GGUF", "org/one-GGUF:Q8_0", "org/whole@v2"):
        with pytest.raises(SkilldeckError, match="hub cannot be reached"):
            registry.resolve_model(model, models=tmp_path / "models")
    listed = {model.id: model for model in registry.ls(tmp_path / "models")}
    assert {"org/whole", "org/whole@v1", "org/one-GGUF", "org/many-GGUF:Q8_0", "org/many-GGUF:Q4_0"} <= set(listed)
    assert not {"org/half", "org/cut-GGUF"} & set(listed)
    assert {listed[name].origin for name in ("org/whole", "org/one-GGUF")} == {"Hugging Face cache"}
    assert registry.info("org/one-GGUF:Q4_K_M") == listed["org/one-GGUF"]
    with pytest.raises(BadRequest, match="another program"):
        registry.rm("org/whole", tmp_path / "models")
    assert snapshot.is_dir()


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"])
def test_the_cache_is_where_its_variables_say(
    variable: str, home: Path, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(home, "org/one", COMMIT, {"one.gguf": data}, "main")
    moved = tmp_path / "moved"
    place = {"HF_HUB_CACHE": "hub", "HF_HOME": "", "XDG_CACHE_HOME": ""}[variable]
    source = {"HF_HUB_CACHE": ".cache/huggingface", "HF_HOME": ".cache/huggingface", "XDG_CACHE_HOME": ".cache"}
    (home / source[variable]).rename(moved)
    assert ids(elsewhere.HUGGING_FACE) == []
    monkeypatch.setenv(variable, str(moved / place))
    assert ids(elsewhere.HUGGING_FACE) == ["org/one"]


@pytest.mark.parametrize("place", [lambda home: home / ".ollama/models", lambda home: home / "else"])
def test_ollamas_models_have_their_names_there(
    place: Callable[[Path], Path], home: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = place(home)
    if root.name == "else":
        monkeypatch.setenv("OLLAMA_MODELS", str(root))
    ollama(root, "registry.ollama.ai/library/llama3.2/latest", data)
    ollama(root, "registry.ollama.ai/library/llama3.2/1b", data)
    ollama(root, "registry.ollama.ai/someone/tuned/q8", data)
    ollama(root, "hf.co/org/repo-GGUF/Q4_K_M", data)
    ollama(root, "registry.ollama.ai/library/gone/latest", None, "sha256:" + "cd" * 32)
    ollama(root, "registry.ollama.ai/library/climbs/latest", None, "sha256:../../secret")
    broken = root / "manifests/registry.ollama.ai/library/broken/latest"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    assert ids(elsewhere.OLLAMA) == [
        "hf.co/org/repo-GGUF:Q4_K_M",
        "llama3.2:1b",
        "llama3.2:latest",
        "someone/tuned:q8",
    ]
    blob = root / "blobs" / DIGEST.replace(":", "-")
    for name in ("llama3.2", "llama3.2:latest", "llama3.2:1b", "someone/tuned:q8", "hf.co/org/repo-GGUF:Q4_K_M"):
        assert registry.resolve_model(name) == blob
    assert (registry.info("llama3.2").origin, registry.info("llama3.2").family) == ("Ollama", "llama")


class Ollama:
    """A store as Ollama writes it: everything is a blob, and manifests name them."""

    def __init__(self, root: Path, manifests: str) -> None:
        self.root, self.manifests = root, root / manifests / "registry.ollama.ai/library"

    def blob(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        path = self.root / "blobs" / f"sha256-{digest}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f"sha256:{digest}"

    def manifest(self, **layers: bytes) -> dict[str, Any]:
        config = self.blob(json.dumps({"model_format": "gguf", "model_family": "llama"}).encode())
        kinds = [
            {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": self.blob(content), "size": len(content)}
            for kind, content in layers.items()
        ]
        return {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": config, "size": 9},
            "layers": kinds,
        }

    def name(self, name: str, manifest: Any, link: bool = False) -> None:
        path = self.manifests / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        if not link:
            path.write_text(text)
            return
        digest = self.blob(text.encode()).replace(":", "-")
        path.symlink_to(os.path.relpath(self.root / "blobs" / digest, path.parent))


@pytest.mark.parametrize("manifests", ["manifests", "manifests-v2"])
def test_ollamas_manifests_of_every_form_are_read(manifests: str, home: Path, data: bytes) -> None:
    store = Ollama(home / ".ollama/models", manifests)
    whole = store.manifest(model=data, template=b"{{ .Prompt }}", params=b"{}", license=b"MIT")
    store.name("plain/latest", whole, link=manifests != "manifests")
    eye = make_projector(home / "eye.gguf", 64).read_bytes()
    seeing = store.manifest(model=data + b"2", projector=eye)
    store.name("seeing/7b", seeing)
    child = store.blob(json.dumps(whole).encode())
    kind = "application/vnd.ollama.manifest.list.v2+json"
    mlx = {"runner": "mlx", "format": "safetensors", **store.manifest(tensor=b"weights")}
    store.name("listed/a", {"mediaType": kind, "manifests": [mlx, {"runner": "llamacpp", "digest": child}]})
    store.name("listed/b", {"mediaType": kind, "manifests": [mlx, {"runner": "ollama", **whole}]})
    store.name("listed/mlx", {"mediaType": kind, "manifests": [mlx]})
    store.name("mlx/latest", mlx)
    store.name("tuned/latest", store.manifest(model=data, adapter=b"GGUF of a LoRA"))
    for number, broken in enumerate(
        ("", "{", "[]", '"text"', '{"layers": 5}', '{"layers": [5, {"mediaType": 3}]}', '{"manifests": [7, {}]}',
         {"layers": [{"mediaType": "application/vnd.ollama.image.model"}]},
         {"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:"}]},
         {"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": ["x"]}]})
    ):  # fmt: skip
        store.name(f"broken/{number}", broken)
    assert ids(elsewhere.OLLAMA) == ["listed:a", "listed:b", "plain:latest", "seeing:7b"]
    blob = store.root / "blobs" / whole["layers"][0]["digest"].replace(":", "-")
    for name in ("plain", "plain:latest", "listed:a", "listed:b"):
        assert registry.resolve_model(name) == blob
    seen = registry.resolve_model("seeing:7b")
    assert elsewhere.projector(seen) == store.root / "blobs" / seeing["layers"][1]["digest"].replace(":", "-")
    assert elsewhere.projector(blob) is None
    # Without its adapter it would be another model.
    with pytest.raises(BadRequest, match="with an adapter") as caught:
        registry.resolve_model("tuned")
    assert f"--model {blob}" in caught.value.hint
    assert '{"lora": ["' in caught.value.hint


def test_what_smaller_programs_keep_has_its_name_there(home: Path, data: bytes, tmp_path: Path) -> None:
    eye = make_projector(tmp_path / "eye.gguf", 64).read_bytes()

    def put(name: str, content: bytes | str) -> Path:
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    ran, waits, sees = "a" * 64, "b" * 64, "c" * 64
    models = [
        {"id": f"sha256:{ran}", "tags": ["ai/smollm2:360M"], "files": [f"sha256:{waits}"]},
        {
            "id": f"sha256:{'d' * 64}",
            "tags": ["ai/other:latest", "ai/same"],
            "files": [f"sha256:{sees}", f"sha256:{waits}"],
        },
        {"id": "sha256:e", "tags": ["ai/gone"], "files": ["sha256:e"]},
        {"id": "sha256:f", "tags": None},
        5,
    ]
    put(".docker/models/models.json", json.dumps({"models": models}))
    unpacked = put(f".docker/models/bundles/sha256/{ran}/model/model.gguf", data)
    put(f".docker/models/bundles/sha256/{ran}/model/mmproj.gguf", eye)
    blob = put(f".docker/models/blobs/sha256/{waits}", data)
    put(f".docker/models/blobs/sha256/{sees}", eye)
    own = put(".local/share/Jan/data/llamacpp/models/org/mine/model.gguf", data)
    put(".local/share/Jan/data/llamacpp/models/org/mine/model.yml", "name: mine\nsize_bytes: 7\n")
    imported = put("files/imported.gguf", data)
    put(".local/share/Jan/data/llamacpp/models/imported/model.yml", f"model_path: {imported}\n")
    put(".local/share/Jan/data/llamacpp/models/lost/model.yml", "model_path: 'nowhere.gguf'\n")
    flat = put(".local/share/nomic.ai/GPT4All/Some-3B-Q4_0.gguf", data)
    cached_one = put(".cache/llama.cpp/org_repo_some-Q8_0.gguf", data)
    put(".cache/llama.cpp/org_repo_mmproj-F16.gguf", eye)
    expected = {
        "ai/smollm2:360M": (unpacked, "Docker"),
        "ai/other:latest": (blob, "Docker"),
        "org/mine": (own, "Jan"),
        "imported": (imported, "Jan"),
        "Some-3B-Q4_0": (flat, "GPT4All"),
        "org_repo_some-Q8_0": (cached_one, "llama.cpp"),
    }
    assert {kept.id: (kept.path, kept.origin) for kept in elsewhere.find()} == expected
    for name, (path, origin) in expected.items():
        assert registry.resolve_model(name) == path
        assert registry.info(name).origin == origin
    assert registry.resolve_model("ai/same") == blob
    assert elsewhere.projector(unpacked) == unpacked.with_name("mmproj.gguf")


def test_a_projector_belongs_to_the_model_whose_name_it_bears(data: bytes, tmp_path: Path) -> None:
    names = ("gemma-3-4b-it-Q4_K_M.gguf", "gemma-3-4b-it-Q8_0.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf")
    folder = tmp_path / "models"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(data)
    for name in names[:2]:  # one model in two quantisations: any projector is theirs
        assert elsewhere.projector(folder / name) == folder / "mmproj-F16.gguf"
    (folder / "Other-7B-Q4_K_M.gguf").write_bytes(data)
    assert elsewhere.projector(folder / names[0]) is None
    (folder / "gemma-3-4b-it-mmproj-f16.gguf").write_bytes(data)
    assert elsewhere.projector(folder / names[0]) == folder / "gemma-3-4b-it-mmproj-f16.gguf"
    assert elsewhere.projector(folder / "Other-7B-Q4_K_M.gguf") is None


@pytest.mark.parametrize("place", [".lmstudio", ".cache/lm-studio", "elsewhere", "moved"])
def test_lm_studios_models_are_asked_for_by_publisher_and_repository(place: str, home: Path, data: bytes) -> None:
    root = home / place / "models"
    split = [f"pub/big/big-Q4_0-0000{number}-of-00002.gguf" for number in (1, 2)]
    for name in ("pub/one-GGUF/one-Q4_K_M.gguf", "pub/two/two-Q8_0.gguf", "pub/two/two-Q4_0.gguf", *split):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "pub/two/mmproj-two.gguf").write_bytes(data)
    if place == "elsewhere":
        (home / ".lmstudio-home-pointer").write_text(f"{home / place}\n")
    if place == "moved":
        (home / ".lmstudio").mkdir()
        (home / ".lmstudio/settings.json").write_text(json.dumps({"downloadsFolder": str(root)}))
    assert ids(elsewhere.LM_STUDIO) == ["pub/big", "pub/one-GGUF", "pub/two:Q4_0", "pub/two:Q8_0"]
    assert registry.resolve_model("pub/big:Q4_0") == root / split[0]
    assert elsewhere.projector(root / "pub/two/two-Q8_0.gguf") == root / "pub/two/mmproj-two.gguf"
    assert registry.resolve_model("pub/two:Q8_0") == root / "pub/two/two-Q8_0.gguf"


async def test_a_model_of_another_program_is_served_by_its_name_and_listed(
    home: Path, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ollama(home / ".ollama/models", "registry.ollama.ai/library/llama3.2/1b", data)
    hub = ModelHub(tmp_path / "models", worker=False)
    info = await hub.load("llama3.2:1b")
    assert (info.name, info.engine, info.quantization, info.size) == ("llama3.2:1b", "llamacpp", "F32", len(data))
    await hub.close()
    monkeypatch.setenv("SKILLDECK_DATA_DIR", str(tmp_path / "data"))
    found = CliRunner().invoke(cli.app, ["models", "ls"])
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("llama3.2:1b")]
    assert line.endswith("Ollama")
    shown = json.loads(CliRunner().invoke(cli.app, ["models", "info", "llama3.2:1b", "--json"]).stdout)
    assert (shown["origin"], shown["engine"], shown["template"]) == ("Ollama", "llamacpp", True)
