"""Events as bytes."""

from __future__ import annotations

import json

import pytest

from skilldeck_daemon.http.sse import encode


@pytest.mark.parametrize("delta", ["plain", "größe 😀 \u2028", 'a "quoted"\nline\x00', ""])
def test_an_event_is_one_line_of_json(delta: str) -> None:
    event = {"type": "response.output_text.delta", "delta": delta, "times": [1.5, 1e22], "none": None}
    name, data, *rest = encode(event).split(b"\n")
    assert (name, rest) == (b"event: response.output_text.delta", [b"", b""])
    assert json.loads(data.removeprefix(b"data: ")) == event
    assert encode(event, named=False) == data + b"\n\n"


def test_half_a_character_is_replaced_and_the_stream_goes_on() -> None:
    data = encode({"type": "t", "delta": "a\ud83d"}).split(b"\ndata: ")[1]
    assert json.loads(data) == {"type": "t", "delta": "a?"}
