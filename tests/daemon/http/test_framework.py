"""FastAPI's import, which makes no model of its documents ready, and changes nobody else's."""

from __future__ import annotations

from pydantic import BaseModel

from skilldeck_daemon.http.framework import FastAPI


def test_models_that_are_defined_later_are_ready_at_once_and_fastapis_at_their_use() -> None:
    class Later(BaseModel):
        count: int

    assert "defer_build" not in BaseModel.model_config
    assert Later.__pydantic_complete__
    document = FastAPI(title="here", version="1").openapi()
    assert (document["info"]["title"], document["paths"]) == ("here", {})
