"""What the engine keeps of a prompt is for the caller who sent it: API keys and `prompt_cache_key` keep it apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest_asyncio

from skilldeck_daemon.agent.planning.request import ResponseRequest
from support.daemon import Running, running

LONG = "Say one word. " * 40


@pytest_asyncio.fixture
async def keyed() -> AsyncIterator[Running]:
    """A daemon with the bundled model and two keys."""
    async with running(
        engine="llamacpp",
        remote_url="",
        model="tiny",
        model_name="tiny",
        engine_process="off",
        api_key=["first", "second"],
    ) as up:
        yield up


async def _cached(up: Running, key: str, path: str = "/responses", **body: Any) -> int:
    """Prompt tokens that were not computed again."""
    ask: dict[str, Any] = {"model": "tiny", **body}
    if path == "/responses":
        ask = {"input": LONG, "max_output_tokens": 16, **ask}
    else:
        ask = {"messages": [{"role": "user", "content": LONG}], "max_tokens": 4, **ask}
    async with httpx.AsyncClient(base_url=up.url, timeout=60, headers={"authorization": f"Bearer {key}"}) as http:
        answer = await http.post(path, json=ask)
    assert answer.status_code == 200, answer.text
    usage = answer.json()["usage"]
    details = usage.get("input_tokens_details") or usage.get("prompt_tokens_details")
    return int(details["cached_tokens"])


async def test_two_keys_share_no_prefix_and_one_key_does(keyed: Running) -> None:
    assert await _cached(keyed, "first") == 0
    assert await _cached(keyed, "first") > 50
    assert await _cached(keyed, "second") == 0
    assert await _cached(keyed, "second", "/chat/completions") > 50
    assert await _cached(keyed, "first", "/chat/completions") > 50


async def test_a_prompt_cache_key_is_a_further_part(keyed: Running) -> None:
    assert await _cached(keyed, "first", prompt_cache_key="a") == 0
    assert await _cached(keyed, "first", prompt_cache_key="b") == 0
    assert await _cached(keyed, "second", prompt_cache_key="a") == 0
    assert await _cached(keyed, "first", "/chat/completions", prompt_cache_key="a") > 50
    assert await _cached(keyed, "first") == 0


async def test_a_local_caller_needs_no_key_and_is_one_of_its_own(keyed: Running) -> None:
    assert await _cached(keyed, "first") == 0
    request = ResponseRequest.parse({"model": "tiny", "input": LONG, "max_output_tokens": 16})
    for shared in (False, True):
        run = await keyed.daemon.services.runs.start(request)
        assert ((await run.finished())["usage"]["input_tokens_details"]["cached_tokens"] > 0) is shared
