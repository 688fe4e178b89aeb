"""The published specification as a client: Schemathesis calls every operation with what its schema allows and forbids.

A few examples an operation in the suite; SKILLDECK_TEST_SCHEMA=50 asks for so many. Whatever is asked, there is no
5xx, every error has the four keys, and every answer fits the schema.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.errors import SchemathesisError
from schemathesis.generation import GenerationMode

from support import contract
from support.bundles import skill_zip
from support.daemon import Running
from support.ordering import check_stream
from support.scripted_model import Turn
from support.threaded import served

EXAMPLES = int(os.environ.get("SKILLDECK_TEST_SCHEMA", "1"))
ALL = list(HealthCheck)


class Api:
    """The running daemon, the operations, and ids of objects that exist."""

    def __init__(self, daemon: Running, ids: dict[str, str]) -> None:
        self.daemon = daemon
        self.ids = ids

    def call(self, case: Any) -> None:
        """As it was generated, and then about objects that exist and the model that is served."""
        self._send(case)
        if isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = "default"
        if case.method.upper() != "DELETE" and not case.path.endswith(("/cancel", "/complete")):
            case.path_parameters = {name: self.ids.get(name, value) for name, value in case.path_parameters.items()}
        self._send(case)

    def _send(self, case: Any) -> None:
        method, path = case.method.upper(), case.path
        answer = case.call(base_url=self.daemon.url, timeout=60)
        text = answer.content.decode("utf-8", "replace")
        shown = f"{method} {case.formatted_path} {str(case.body)[:2000]} -> {answer.status_code} {text[:2000]}"
        # Completions without a chat are the engine's: the scripted server has none, and its refusal is told as such.
        refused = path == "/completions" and answer.status_code == 503
        assert answer.status_code < 500 or refused, shown
        kind = answer.headers.get("content-type", [""])[0]
        if kind.startswith("application/json"):
            contract.check(method, contract.BASE + path, answer.status_code, json.loads(text))
        elif kind.startswith("text/event-stream"):
            sent = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
            assert sent[-1] == "[DONE]", shown
            if path == "/responses":
                check_stream([json.loads(line) for line in sent[:-1]])
        else:
            assert answer.status_code == 200, shown


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with served(*[Turn("ok")] * 50_000, strict=False) as daemon, httpx.Client(base_url=daemon.url, timeout=60) as http:
        item = {"type": "message", "role": "user", "content": "x"}
        conversation = http.post("/conversations", json={"items": [item]}).json()["id"]
        messages = [{"role": "user", "content": "x"}]
        upload = {"filename": "a", "purpose": "vision", "bytes": 1, "mime_type": "t"}
        chat = {"model": "default", "messages": messages, "store": True}
        ids = {
            "response_id": http.post("/responses", json={"model": "default", "input": "x"}).json()["id"],
            "container_id": http.post("/containers", json={"name": "n"}).json()["id"],
            "conversation_id": conversation,
            "item_id": http.get(f"/conversations/{conversation}/items").json()["data"][0]["id"],
            "skill_id": http.post("/skills", files={"files": skill_zip()}).json()["id"],
            "version": "1",
            "upload_id": http.post("/uploads", json=upload).json()["id"],
            "completion_id": http.post("/chat/completions", json=chat).json()["id"],
            "model": "scripted",
        }
        yield Api(daemon, ids)


def operations() -> Iterator[Any]:
    document = json.loads(contract.SPEC.read_text(encoding="utf-8"))
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = found.ok()
        yield pytest.param(operation, id=f"{operation.method.upper()} {operation.path}")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "forbidden"])
@pytest.mark.parametrize("operation", operations())
def test_an_operation_answers_to_its_schema(api: Api, operation: Any, mode: GenerationMode) -> None:
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=ALL,
        phases=[Phase.generate],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def calls(case: Any) -> None:
        api.call(case)

    try:
        calls()
    except (Unsatisfiable, SchemathesisError):
        if mode is GenerationMode.POSITIVE:
            raise
        # Nothing can be wrong with, say, a list without parameters.
