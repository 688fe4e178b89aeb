"""Served names, and models on this machine: a small Hugging Face hub on loopback plays the real one."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner

from daemon.engine.conftest import make_chat_folder
from skilldeck_daemon import cli
from skilldeck_daemon.engine import engines
from skilldeck_daemon.engine.base import ChatFinished, ChatRequest, Sampling
from skilldeck_daemon.engine.errors import NotLoaded
from skilldeck_daemon.engine.hub import ModelHub
from skilldeck_daemon.engine.models import registry
from skilldeck_daemon.engine.models import source as sources
from skilldeck_daemon.engine.models.source import ModelSource
from skilldeck_daemon.engine.remote.replicas import ReplicatedChatModel
from skilldeck_shared.errors import BadRequest, NotFound, SkilldeckError, Unavailable
from support.make_gguf import make_gguf
from support.scripted_model import ScriptedModel, Turn

COMMIT = "a" * 40


@pytest.fixture
def chat_folder(llama: Path, tmp_path: Path) -> Path:
    return make_chat_folder(llama, tmp_path / "chatty")


@pytest.fixture
def chat_file(chat_folder: Path, tmp_path: Path) -> Path:
    return make_gguf(chat_folder, tmp_path / "chatty.gguf")


async def test_a_folder_is_served_under_its_name_and_as_default(chat_file: Path) -> None:
    hub = ModelHub(worker=False)
    assert hub.status().state == "idle"
    with pytest.raises(NotLoaded):
        hub.get("default")
    seen: list[str] = []

    def progress(_fraction: float, stage: str) -> None:
        seen.append(hub.status().state)
        hub._begun -= 60  # as if a minute passed in which the engine reports nothing
        assert hub.status().stage.endswith(" s)"), stage

    info = await hub.load(str(chat_file), progress=progress)
    assert set(seen) == {"loading"}
    assert (info.name, info.engine) == ("chatty", "llamacpp")
    assert hub.status().state == "ready"
    assert hub.get("default") is hub.get("chatty")
    assert [model.name for model in hub.list()] == ["chatty"]
    with pytest.raises(NotFound) as caught:
        hub.get("gpt-4o")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")

    request = ChatRequest(
        messages=[{"role": "user", "content": "hello"}], sampling=Sampling(temperature=0), max_tokens=5
    )
    events = [event async for event in hub.get("default").stream(request)]
    assert isinstance(events[-1], ChatFinished)
    assert events[-1].usage.output_tokens <= 5
    assert hub.stats()["chatty"].max_batch == 4, "as its engine chose"

    await hub.load(str(chat_file), name="second", options={"context": 64})
    assert [model.name for model in hub.list()] == ["chatty", "second"]
    hub.set_default("second")
    assert hub.get("default").info.context == 64
    await hub.unload("second")
    assert hub.default == "chatty"
    with pytest.raises(NotFound):
        await hub.unload("second")
    await hub.close()
    assert hub.status().state == "idle"


async def test_a_failed_load_is_told_and_the_next_one_mends_it(chat_file: Path, tmp_path: Path) -> None:
    hub = ModelHub(worker=False)
    with pytest.raises(NotFound):
        await hub.load(str(tmp_path / "nothing"))
    status = hub.status()
    assert (status.state, status.model) == ("degraded", "nothing")
    assert "no model folder" in status.error
    with pytest.raises(NotLoaded, match="no model folder"):
        hub.get("default")
    for arguments, field in (({"engine": "gpu"}, "engine"), ({"name": "default"}, "name")):
        with pytest.raises(BadRequest) as caught:
            await hub.load(str(chat_file), **arguments)
        assert caught.value.param == field
    await hub.load(str(chat_file))
    assert hub.status().state == "ready"
    await hub.close()


async def test_health_speaks_of_what_is_served_whatever_else_is_loaded(
    chat_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub = ModelHub(worker=False)
    await hub.load(str(chat_file))
    with pytest.raises(NotFound):
        await hub.load(str(tmp_path / "nothing"))
    assert (hub.status().state, hub.status().model, hub.status().error) == ("ready", "chatty", "")
    assert "the model nothing was not loaded" in caplog.text
    seen = []
    await hub.load(str(chat_file), name="second", progress=lambda *_: seen.append(hub.status()))
    assert {status.state for status in seen} == {"ready"}
    assert all(status.stage.startswith("loading second: ") for status in seen)
    assert hub.status().stage == ""
    # What was not loaded long ago does not come back when the last model goes.
    await hub.unload("second")
    await hub.unload("chatty")
    assert hub.status().state == "idle"
    # One that takes the place of the only model is what is served.
    await hub.load(str(chat_file))
    with pytest.raises(SkilldeckError):
        await hub.load(str(chat_file), options={"chat_template": str(tmp_path / "none.jinja")})
    assert (hub.status().state, hub.status().model) == ("degraded", "chatty")
    await hub.close()


async def test_a_chat_template_of_ones_own_replaces_the_folders(chat_file: Path, tmp_path: Path) -> None:
    hub = ModelHub(worker=False)
    file = tmp_path / "mine.jinja"
    with pytest.raises(BadRequest, match="cannot be read") as caught:
        await hub.load(str(chat_file), options={"chat_template": str(file)})
    assert caught.value.param == "chat_template"
    file.write_text("{% for m in messages %}[{{ m['content'] }}]{% endfor %}", "utf-8")
    await hub.load(str(chat_file), options={"chat_template": str(file)})
    request = ChatRequest(messages=[{"role": "user", "content": "hello"}])
    assert await hub.get("default").count_tokens(request) == len("[hello]")
    await hub.close()


async def test_loading_tells_its_stage_and_how_long_it_took(chat_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 2))
    monkeypatch.setattr("skilldeck_daemon.engine.hub.time.monotonic", lambda: float(next(clock)))
    hub = ModelHub(worker=False)
    stages: list[str] = []
    await hub.load(str(chat_file), progress=lambda _, stage: stages.append(stage))
    monkeypatch.undo()
    assert stages[-1] != stages[0]
    assert re.search(r"\(\d+ s\)$", stages[-1])
    await hub.close()


async def test_a_remote_model_without_a_name_is_called_as_its_server_calls_it() -> None:
    with ScriptedModel(name="org/theirs") as server:
        hub = ModelHub()
        for model in ("tiny", "remote"):
            info = await hub.load(model, None, "remote", {"remote_url": server.url})
            assert info.name == "org/theirs"
        assert ([one.name for one in hub.list()], hub.default) == (["org/theirs"], "org/theirs")
        assert hub.get("default") is hub.get("org/theirs")
        assert (await hub.load("another", None, "remote", {"remote_url": server.url})).name == "another"
        await hub.close()


async def test_several_addresses_are_one_remote_model() -> None:
    with ScriptedModel(Turn("hello")) as server:
        hub = ModelHub()
        options = {"remote_url": f"http://127.0.0.1:9,{server.url}", "remote_images": True}
        info = await hub.load("remote", "served", "remote", options)
        assert (info.name, info.engine) == ("served", "remote")
        assert isinstance(hub.get("served"), ReplicatedChatModel)
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
        request = ChatRequest(messages=[{"role": "user", "content": [picture]}])
        events = [event async for event in hub.get("served").stream(request)]
        assert isinstance(events[-1], ChatFinished)
        assert events[-1].reason == "stop"
        assert server.requests[-1]["messages"][0]["content"] == [picture]
        await hub.close()
    for options, field in (({}, "remote_url"), ({"remote_url": "http://x", "chat_template": "y"}, "chat_template")):
        with pytest.raises(BadRequest) as caught:
            await hub.load("remote", "served", "remote", options)
        assert caught.value.param == field


# ---------------------------------------------------------------- the registry


class SmallHub(http.server.BaseHTTPRequestHandler):
    """The answers of a Hugging Face hub that `snapshot_download` needs, for the files of one model."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[tuple[str, str]]] = []
    broken: ClassVar[set[str]] = set()
    cut: ClassVar[dict[str, int]] = {}  # so many bytes of a file, then the connection breaks, once
    ranges: ClassVar[list[int]] = []
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def _json(self, value: Any, status: int = 200, **headers: str) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append((self.command, path))
        if "/org/small" not in path:
            self._json({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        elif path.startswith("/api/models/org/small/tree/"):
            self._json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in self.files.items()
                ]
            )
        elif path.startswith("/api/models/org/small"):
            self._json({"id": "org/small", "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]})
        else:
            self._file(path.rpartition(f"/{COMMIT}/")[2])

    def _file(self, name: str) -> None:
        if name in self.broken and self.command == "GET":
            self._json({"error": "gone"}, 404, X_Error_Code="EntryNotFound")
            return
        data = self.files[name]
        start = 0
        given = self.headers.get("range")
        if given:
            start = int(given.removeprefix("bytes=").partition("-")[0])
            self.ranges.append(start)
        self.send_response(206 if given else 200)
        self.send_header("content-length", str(len(data) - start))
        if given:
            self.send_header("content-range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("etag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("x-repo-commit", COMMIT)
        self.send_header("accept-ranges", "bytes")
        self.end_headers()
        if self.command == "HEAD":
            return
        self.close_connection = self.close_connection or name in self.cut
        self.wfile.write(data[start : self.cut.pop(name, len(data))])


@pytest.fixture
def small_hub(llama: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[SmallHub]]:
    SmallHub.files = {
        "config.json": (llama / "config.json").read_bytes(),
        "model.safetensors": (llama / "model.safetensors").read_bytes(),
        "README.md": b"words",
        "original/consolidated.00.safetensors": b"twice",
        "pytorch_model.bin": b"pickles",
    }
    SmallHub.asked, SmallHub.broken, SmallHub.cut, SmallHub.ranges = [], set(), {}, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SmallHub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield SmallHub
    server.shutdown()
    server.server_close()
    thread.join()


def test_pull_takes_what_an_engine_needs_and_ls_info_rm_tell_the_same(small_hub: Any, tmp_path: Path) -> None:
    seen: list[float] = []
    folder = registry.pull("org/small", lambda fraction, _: seen.append(fraction), tmp_path)
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
        "config.json",
        "model.safetensors",
    }
    assert (folder / "model.safetensors").read_bytes() == small_hub.files["model.safetensors"]
    assert seen[-1] == 1.0
    listed = [model for model in registry.ls(tmp_path) if model.id == "org/small"]
    assert listed == [registry.info("org/small", tmp_path)]
    assert (listed[0].family, listed[0].revision) == ("llama", COMMIT)

    small_hub.asked.clear()
    assert registry.resolve_model("org/small", models=tmp_path) == folder
    assert small_hub.asked == [], "a model that is here needs no network"

    assert registry.rm("org/small", tmp_path) >= len(small_hub.files["model.safetensors"])
    assert not folder.exists()
    with pytest.raises(NotFound):
        registry.rm("org/small", tmp_path)
    with pytest.raises(NotFound, match="models pull"):
        registry.info("org/small", tmp_path)


def test_a_broken_download_is_no_model_and_is_taken_up_again(small_hub: Any, tmp_path: Path) -> None:
    small_hub.broken = {"model.safetensors"}
    with pytest.raises(SkilldeckError, match="resumes"):
        registry.pull("org/small", models=tmp_path)
    assert (tmp_path / "org--small" / "config.json").is_file()
    assert not [model for model in registry.ls(tmp_path) if model.id == "org/small"]
    small_hub.broken = set()
    small_hub.asked.clear()
    folder = registry.resolve_model("org/small", models=tmp_path)
    assert (folder / "model.safetensors").read_bytes() == small_hub.files["model.safetensors"]
    fetched = [path for command, path in small_hub.asked if command == "GET" and "/resolve/" in path]
    assert not [path for path in fetched if path.endswith("config.json")], "what is there is not fetched again"


def test_a_download_that_broke_in_the_middle_of_a_file_goes_on_there(
    small_hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 4096)  # it keeps what came in whole chunks
    whole = small_hub.files["model.safetensors"]
    small_hub.cut["model.safetensors"] = len(whole) // 2
    folder = registry.pull("org/small", models=tmp_path)
    assert (folder / "model.safetensors").read_bytes() == whole
    assert small_hub.ranges == [len(whole) // 2 // 4096 * 4096]


def test_what_a_killed_download_left_is_removed_but_not_while_another_goes_on(small_hub: Any, tmp_path: Path) -> None:
    left = tmp_path / "org--small" / ".cache" / "huggingface" / "download" / "abc.incomplete"
    left.parent.mkdir(parents=True)
    stages: list[str] = []
    other = registry.pulling(left.parents[3], lambda _fraction, _stage: None)
    other.__enter__()
    left.write_bytes(b"half")

    def heard(_fraction: float, stage: str) -> None:
        stages.append(stage)
        if "another" in stage and len(stages) == 1:
            assert left.exists()
            other.__exit__(None, None, None)

    registry.pull("org/small", heard, tmp_path)
    assert "another" in stages[0]
    assert not left.exists()


async def test_a_draft_model_may_be_an_id_of_the_hub_and_a_wrong_one_is_named(
    small_hub: Any, chat_folder: Path, tmp_path: Path
) -> None:
    hub = ModelHub(tmp_path / "models", worker=False)
    with pytest.raises(NotFound) as caught:
        await hub.load(str(chat_folder), engine="exllamav2", options={"draft_model": "org/absent"})
    assert caught.value.param == "draft_model"
    with pytest.raises(SkilldeckError):  # no CUDA here; the draft model was fetched before
        await hub.load(str(chat_folder), engine="exllamav2", options={"draft_model": "org/small"})
    assert registry.info("org/small", tmp_path / "models").family == "llama"


def test_a_model_nobody_has_is_not_found(small_hub: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no model org/absent"):
        registry.pull("org/absent", models=tmp_path)
    assert not (tmp_path / "org--absent").exists()


def test_an_unreachable_hub_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="cannot be reached"):
        registry.resolve_model("org/small", models=tmp_path)


@pytest.mark.parametrize("model", ["nothing here", "a/b/c", "../x", ""])
def test_what_is_neither_folder_nor_id_is_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(SkilldeckError):
        registry.resolve_model(model, models=tmp_path)


@pytest.mark.parametrize(
    ("model", "name"),
    [("tiny", "skilldeck-tiny"), ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"), ("a/b@main", "a/b"), ("/models/mine", "mine")],
)
def test_served_names(model: str, name: str) -> None:
    assert registry.served_name(model) == name


# ---------------------------------------------------------------- skilldeckd models


def test_models_on_the_command_line(small_hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKILLDECK_DATA_DIR", str(tmp_path))

    def run(*words: str) -> Any:
        return CliRunner().invoke(cli.app, ["models", *words])

    pulled = run("pull", "org/small")
    assert pulled.exit_code == 0, pulled.output
    folder = tmp_path / "models" / "org--small"
    assert pulled.stdout.strip() == str(folder)
    assert "100% downloaded" in pulled.stderr
    assert json.loads(run("pull", "org/small", "--json").stdout)["revision"] == COMMIT
    listed = {model["id"]: model for model in json.loads(run("ls", "--json").stdout)}
    assert listed["org/small"]["family"] == "llama"
    assert "demonstration" in listed["skilldeck-tiny"]["description"]
    assert "org/small" in run("ls").stdout
    told = json.loads(run("info", "org/small", "--json").stdout)
    assert (told["path"], told["context"]) == (str(folder), 512)
    if not engines.serves_folders():
        assert told["engine"] == ""
        assert "only a CUDA card" in told["trouble"]
        assert "only a CUDA card" in pulled.stderr
    assert f"path          {folder}" in run("info", "org/small").stdout.splitlines()
    assert json.loads(run("rm", "org/small", "--json").stdout)["deleted"] is True
    assert not folder.exists()
    assert isinstance(run("rm", "org/small").exception, NotFound)


def test_offline_nothing_is_asked_and_what_is_here_is_served(
    small_hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = registry.pull("org/small", models=tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    small_hub.asked.clear()
    assert registry.resolve_model("org/small", models=tmp_path) == folder
    with pytest.raises(Unavailable, match="cannot be reached"):
        registry.pull("org/absent", models=tmp_path)
    assert small_hub.asked == []


@pytest.mark.skipif(engines.serves_folders(), reason="this machine computes folders of safetensors")
async def test_what_could_not_be_served_here_is_not_fetched_to_be_served(
    llama_gguf: Path, small_hub: Any, tmp_path: Path
) -> None:
    hub = ModelHub(tmp_path / "models", worker=False)
    with pytest.raises(BadRequest, match=r"org/small holds safetensors") as caught:
        await hub.load("org/small")
    assert "skilldeckd models pull org/small-GGUF:Q4_K_M" in caught.value.hint
    assert not [path for command, path in small_hub.asked if "/resolve/" in path and command == "GET"], (
        "nothing fetched"
    )
    assert not (tmp_path / "models" / "org--small").exists()
    small_hub.files["m-Q8_0.gguf"] = llama_gguf.read_bytes()
    folder = registry.pull("org/small", models=tmp_path)
    assert [path.name for path in folder.iterdir() if path.suffix == ".gguf"] == ["m-Q8_0.gguf"]
    assert not list(folder.glob("*.safetensors")), "of both it is the one that runs here"


GGUFS = ("m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-m-F16.gguf")


def test_one_quantisation_of_a_gguf_repository_is_pulled_and_the_choices_are_named(
    llama: Path, small_hub: Any, tmp_path: Path
) -> None:
    data = make_gguf(llama, tmp_path / "made.gguf").read_bytes()
    small_hub.files = {"README.md": b"words", "config.json": b"{}", **dict.fromkeys(GGUFS, data)}
    with pytest.raises(BadRequest, match=r"holds 2 GGUF models; its quantisations: Q4_K_M, Q8_0\.") as caught:
        registry.pull("org/small", models=tmp_path)
    assert caught.value.hint == "Name one: org/small:Q4_K_M"
    with pytest.raises(BadRequest, match=r"no GGUF of Q5_K_M"):
        registry.pull("org/small:Q5_K_M", models=tmp_path)
    folder = registry.resolve_model("org/small:q8_0", models=tmp_path)
    assert [path.name for path in folder.glob("*.gguf")] == ["m-Q8_0.gguf"]
    assert not (folder / "config.json").exists()
    assert ModelSource.of(folder) == ModelSource("gguf", folder / "m-Q8_0.gguf")
    (listed,) = [model for model in registry.ls(tmp_path) if model.id == "org/small:q8_0"]
    assert (listed.family, listed.size, listed.revision) == ("llama", len(data), COMMIT)
    assert registry.info("org/small:q8_0", tmp_path) == listed
    registry.pull("org/small:q8_0", models=tmp_path, images=True)
    assert sorted(path.name for path in folder.glob("*.gguf")) == ["m-Q8_0.gguf", "mmproj-m-F16.gguf"]
    assert ModelSource.of(folder) == ModelSource("gguf", folder / "m-Q8_0.gguf")
    assert registry.rm("org/small:q8_0", tmp_path) > 0
    small_hub.files = {"m-00001-of-00002.gguf": data, "m-00002-of-00002.gguf": data}
    folder = registry.pull("org/small", models=tmp_path)
    assert len(list(folder.glob("*.gguf"))) == 2
    with pytest.raises(BadRequest, match="no mmproj file"):
        registry.pull("org/small", models=tmp_path, images=True)


@pytest.mark.parametrize(
    ("name", "quantisation"),
    [
        ("Qwen3-8B-Q4_K_M.gguf", "Q4_K_M"),
        ("a/model.Q4_1.gguf", "Q4_1"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("gemma-3-27b-it-UD-IQ2_XXS-00001-of-00003.gguf", "UD-IQ2_XXS"),
        ("bf16-of-Q.gguf", "BF16"),
        ("model.gguf", ""),
    ],
)
def test_a_files_name_tells_its_quantisation(name: str, quantisation: str) -> None:
    assert sources.quantisation(name) == quantisation
