"""/v1/models."""

from __future__ import annotations

import openai
import pytest

from skilldeck_daemon.engine.base import ModelInfo
from skilldeck_daemon.http.objects.models import model_object
from support.daemon import running


async def test_models_are_listed_and_retrieved_by_name_and_alias() -> None:
    async with running(model_name="org/scripted", strict=False) as daemon:
        (model,) = (await daemon.client.models.list()).data
        assert (model.id, model.object, model.owned_by) == ("org/scripted", "model", "skilldeck")
        # The SDK escapes the slash of the id.
        assert await daemon.client.models.retrieve("org/scripted") == model
        assert (await daemon.client.models.retrieve("default")).id == "org/scripted"
        with pytest.raises(openai.NotFoundError) as caught:
            await daemon.client.models.retrieve("org/other")
        assert caught.value.code == "model_not_found"


async def test_without_a_model_the_list_is_empty() -> None:
    async with running(load=False) as daemon:
        assert (await daemon.client.models.list()).data == []


def test_what_is_known_of_a_file_is_in_its_meta_and_what_is_not_is_left_out() -> None:
    info = ModelInfo("m", "llamacpp", "qwen2", 4096, parameters=7, quantization="Q4_K_M", size=9, licence="mit")
    known = {"architecture": "qwen2", "quantization": "Q4_K_M", "n_params": 7, "size": 9, "license": "mit"}
    assert model_object(info)["meta"] == known
    assert "meta" not in model_object(ModelInfo("m", "remote"))
