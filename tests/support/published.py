"""Short forms for tests of single endpoints: an object to a published schema, an error to its four keys."""

from __future__ import annotations

from typing import Any

from support.contract import conforms


def check(name: str, value: Any) -> Any:
    """Assert that `value` is valid as schema `name`; returns it."""
    conforms(name, value)
    return value


def check_error(body: Any) -> dict[str, Any]:
    """Assert the four-key error body; returns the inner object."""
    assert set(body) == {"error"}, body
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}, error
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["code"] is None or isinstance(error["code"], str)
    return error
