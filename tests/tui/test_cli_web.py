"""The TUI in a browser: loopback only, and only with the token."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from aiohttp import CookieJar
from aiohttp.test_utils import TestClient, TestServer

from skilldeck_shared.errors import Conflict
from skilldeck_tui.cli.web import COOKIE, make_server

LOOPBACK = {"Host": "127.0.0.1"}


@pytest.fixture
async def browser() -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    app = await make_server("true", token="secret")._make_app()
    async with TestClient(TestServer(app), cookie_jar=CookieJar(unsafe=True)) as client:
        yield client


async def test_nothing_is_shown_without_the_token(browser: TestClient) -> None:  # type: ignore[type-arg]
    for path in ("/", "/ws", "/static/js/textual.js", "/?token=wrong"):
        assert (await browser.get(path, headers=LOOPBACK)).status == 403
    assert (await browser.get("/", headers={**LOOPBACK, "Cookie": f"{COOKIE}=wrong"})).status == 403


async def test_the_token_becomes_a_cookie_that_scripts_cannot_read(browser: TestClient) -> None:  # type: ignore[type-arg]
    entered = await browser.get("/?token=secret", headers=LOOPBACK, allow_redirects=False)
    assert entered.status == 302
    assert entered.headers["Location"] == "/"
    cookie = entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert (await browser.get("/", headers=LOOPBACK)).status == 200


async def test_other_names_and_other_sites_are_refused_even_with_the_token(
    browser: TestClient,  # type: ignore[type-arg]
) -> None:
    cookie = {"Cookie": f"{COOKIE}=secret"}
    assert (await browser.get("/", headers={**cookie, "Host": "evil.example"})).status == 403
    assert (await browser.get("/ws", headers={**cookie, **LOOPBACK, "Origin": "http://evil.example"})).status == 403
    assert (await browser.get("/", headers={**cookie, **LOOPBACK})).status == 200


def test_the_server_listens_on_loopback_with_a_new_token_each_time() -> None:
    one, other = make_server("true"), make_server("true")
    assert one.host == "127.0.0.1"
    assert urlsplit(one.entry).hostname == "127.0.0.1"
    assert len(urlsplit(one.entry).query) > 40
    assert urlsplit(one.entry).query != urlsplit(other.entry).query


def test_a_taken_port_is_a_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Conflict, match="is taken"):
            make_server("true", taken.getsockname()[1])
