"""A body of very many values is refused before they are made; long text, whatever is in it, is one value."""

from __future__ import annotations

import json

import pytest

from skilldeck_daemon.wire.json_text import MAX_VALUES, parse_json
from skilldeck_shared.errors import TooLarge
from support.daemon import running
from support.scripted_model import Turn


@pytest.mark.parametrize("piece", ["[]", "{}", '""', "0", '{"a":0}', '["\\""]', "[[]]"])
def test_more_values_than_a_request_has_use_for_are_refused(piece: str) -> None:
    text = "[" + ",".join([piece] * (20_000_000 // (len(piece) + 1))) + "]"
    with pytest.raises(TooLarge, match="500,000") as caught:
        parse_json(text.encode())
    assert caught.value.code == "too_many_values"


@pytest.mark.parametrize("count", [MAX_VALUES, MAX_VALUES + 1])
def test_the_limit_is_exact(count: int) -> None:
    text = json.dumps([0] * count).encode()  # as many marks as values: the bracket counts for the first
    if count > MAX_VALUES:
        with pytest.raises(TooLarge):
            parse_json(text)
    else:
        assert len(parse_json(text)) == count


@pytest.mark.parametrize("piece", ["a,b:[c]{d}\n", 'say "[,]"\\', "\\\\", '\\",["'])
def test_text_of_any_length_is_one_value(piece: str) -> None:
    value = {"input": piece * (4_000_000 // len(piece)), "list": [1, 2]}
    assert parse_json(json.dumps(value).encode()) == value


async def test_over_http_it_is_a_413() -> None:
    bomb = '{"model": "default", "input": [' + ",".join(["[]"] * (MAX_VALUES + 1)) + "]}"
    async with running(Turn("ok")) as daemon:
        answer = await daemon.http.post("/responses", content=bomb, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_many_values")
        assert (await daemon.respond("x" * 100))["status"] == "completed"
