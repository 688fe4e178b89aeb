"""The proxy once more on the event loop that a daemon has; the other tests are on that of asyncio."""

from __future__ import annotations

import asyncio

import pytest

from daemon.containers.test_network import (
    test_allowed_hosts_are_reached_over_http_and_https,
    test_too_many_connections_are_turned_away_and_later_ones_work,
    web,
)
from daemon.containers.test_secrets import (
    service,
    test_basic_authorization_and_other_programs,
    test_other_hosts_and_plain_http_get_the_placeholder,
    test_the_domain_gets_the_value_and_the_container_does_not,
)

uvloop = pytest.importorskip("uvloop")
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy")

__all__ = [
    "service",
    "test_allowed_hosts_are_reached_over_http_and_https",
    "test_basic_authorization_and_other_programs",
    "test_other_hosts_and_plain_http_get_the_placeholder",
    "test_the_domain_gets_the_value_and_the_container_does_not",
    "test_too_many_connections_are_turned_away_and_later_ones_work",
    "web",
]


@pytest.fixture
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    policy: asyncio.AbstractEventLoopPolicy = uvloop.EventLoopPolicy()
    return policy


async def test_this_is_uvloop() -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
