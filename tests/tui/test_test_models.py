"""Models of a matrix by name: served, aliases, on this disk; loaded for their tries and gone after them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from skilldeck_shared.errors import BadRequest, NotFound, Unavailable
from skilldeck_tui.client.client import Client
from skilldeck_tui.skill_tests.matrix.asked import Asked, make_plan
from skilldeck_tui.skill_tests.matrix.models import Models
from skilldeck_tui.skill_tests.matrix.runner import Evaluated, evaluate
from skilldeck_tui.skill_tests.written.reading import load_cases
from support.counter_skill import counter
from support.fake_daemon import FakeDaemon


def stored(id_: str, path: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "path": path, "size": 1, "family": "qwen2", "engine": "llamacpp", "served": "", **more}


@pytest.fixture
def fake() -> FakeDaemon:
    made = FakeDaemon()
    made.objects["model"]["skilldeck-tiny"] |= {"path": "/models/tiny.gguf", "aliases": ["fast", "gpt-5"]}
    made.stored_models = [
        stored("skilldeck-tiny", "/models/tiny.gguf", served="skilldeck-tiny"),
        stored("qwen3:1.7b", "/ollama/blob-1"),
        stored("/models/own/small.gguf", "/models/own/small.gguf"),
        stored("/models/odd", "/models/odd", engine="", trouble="nothing here reads it."),
        stored("/models/old/skilldeck-tiny.gguf", "/models/old/skilldeck-tiny.gguf"),
    ]
    return made


@pytest.mark.parametrize(
    ("name", "found", "source"),
    [
        ("default", "skilldeck-tiny", None),
        ("skilldeck-tiny", "skilldeck-tiny", None),
        ("gpt-5", "skilldeck-tiny", None),
        ("/models/tiny.gguf", "skilldeck-tiny", None),
        ("qwen3:1.7b", "qwen3:1.7b", "/ollama/blob-1"),
        ("small", "small", "/models/own/small.gguf"),
        ("/models/own/small.gguf", "small", "/models/own/small.gguf"),
    ],
)
async def test_a_model_is_found_by_each_of_its_names(
    fake: FakeDaemon, name: str, found: str, source: str | None
) -> None:
    async with fake.client() as client:
        model = await Models(client).find(name)
    assert (model["id"], model.get("source")) == (found, source)


async def test_a_file_that_no_list_has_is_found_by_its_path(fake: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    async with fake.client() as client:
        model = await Models(client).find(str(tmp_path / "mine.gguf"))
    assert (model["id"], model["source"]) == ("mine", str(tmp_path / "mine.gguf"))


async def test_a_name_that_is_none_says_what_there_is(fake: FakeDaemon) -> None:
    async with fake.client() as client:
        with pytest.raises(NotFound, match="No model 'gpt-4' is served or on this disk") as missing:
            await Models(client).find("gpt-4", "judge")
        with pytest.raises(BadRequest, match="odd cannot be served: nothing here reads it"):
            await Models(client).find("odd")
        with pytest.raises(BadRequest, match="is served as 'skilldeck-tiny'"):
            await Models(client).find("/models/old/skilldeck-tiny.gguf")
    assert missing.value.param == "judge"
    assert missing.value.hint == (
        "Served: skilldeck-tiny (also fast, gpt-5). On this disk: qwen3:1.7b, small, odd, skilldeck-tiny. "
        "A file or folder is named by its path."
    )


async def matrix(client: Client, folder: Path, asked: Asked, **more: Any) -> Evaluated:
    plan = await make_plan(client, folder, await asyncio.to_thread(load_cases, folder), asked)
    return await evaluate(client, plan, **more)


async def test_models_of_the_disk_are_served_for_their_tries_alone(fake: FakeDaemon, tmp_path: Path) -> None:
    folder, told = counter(tmp_path, "Counts things.", "judge: ['It counts.'], "), list[str]()
    async with fake.client() as client:
        asked = Asked(models=("fast", "qwen3:1.7b", "default", "small"), judge="small", seed=0)
        done = await matrix(client, folder, asked, loading=lambda stage, _: told.append(stage))
    assert list(dict.fromkeys(trial["model"] for trial in done.trials)) == ["skilldeck-tiny", "qwen3:1.7b", "small"]
    assert not any(trial["status"] == "error" for trial in done.trials)
    assert done.evaluation["judge"] == "small"
    loads = [(call.model, call.name, call.keep_default) for call in fake.called("LoadModel")]
    assert loads == [("/models/own/small.gguf", "small", True), ("/ollama/blob-1", "qwen3:1.7b", True)]
    assert "loading small: reading weights" in told
    # The one is gone before the other's tries begin; the judge stays to the end.
    order = [name for name, _ in fake.calls if name in ("LoadModel", "UnloadModel")]
    assert order == ["LoadModel", "LoadModel", "UnloadModel", "UnloadModel"]
    assert [call.id for call in fake.called("UnloadModel")] == ["qwen3:1.7b", "small"]
    assert list(fake.objects["model"]) == ["skilldeck-tiny"]


async def test_a_model_that_others_use_by_now_stays(fake: FakeDaemon, tmp_path: Path) -> None:
    folder = counter(tmp_path, "Counts things.")
    busy = {**fake.status["models"][0], "name": "small", "active": 1}
    fake.status = {**fake.status, "models": [*fake.status["models"], busy]}
    async with fake.client() as client:
        await matrix(client, folder, Asked(models=("small",), seed=0))
    assert not fake.called("UnloadModel")


async def test_a_model_that_cannot_be_loaded_costs_its_own_tries(fake: FakeDaemon, tmp_path: Path) -> None:
    folder = counter(tmp_path, "Counts things.")
    fake.fail["LoadModel"] = Unavailable("The model needs 40 GB.")
    async with fake.client() as client:
        done = await matrix(client, folder, Asked(models=("small", "default"), seed=0))
    of = {model: {t["status"] for t in done.trials if t["model"] == model} for model in ("small", "skilldeck-tiny")}
    assert of["small"] == {"error"}
    assert "error" not in of["skilldeck-tiny"]
    assert "it cannot be run: The model needs 40 GB." in done.trials[0]["checks"][0]["reason"]
    assert done.evaluation["status"] == "completed"
