"""The search through public engines: the real library against an engine on loopback, and what it may reach."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skilldeck_daemon.tools.web import ddgs_program
from skilldeck_daemon.tools.web.providers import Ddgs, Result, SearchFailed
from support.wait import until
from support.web import Page, Web, redirect

ENGINE = """
import runpy
from ddgs.base import BaseSearchEngine
from ddgs.engines import ENGINES
from ddgs.results import TextResult

class Local(BaseSearchEngine[TextResult]):
    name, category, provider, search_method = "duckduckgo", "text", "local", "GET"
    search_url = "{url}/engine"
    items_xpath = "//div"
    elements_xpath = {{"title": ".//h2//text()", "href": "./a/@href", "body": "./p//text()"}}

    def build_payload(self, query, region, safesearch, timelimit, page=1, **kwargs):
        return {{"q": query, "region": region}}

ENGINES["text"] = {{"duckduckgo": Local}}
runpy.run_path({program!r}, run_name="__main__")
"""
HTML = b"""<div><h2>One</h2><a href="https://one.example/">x</a><p>first &amp; <b>best</b></p></div>
<div><h2>Two</h2><a href="javascript:x">x</a></div><div><h2>Three</h2><a href="https://three.example/">x</a></div>"""


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with Web() as server:
        yield server


def local(web: Web, tmp_path: Path, private: tuple[str, ...] = ("127.0.0.1",)) -> Ddgs:
    """The provider with one engine, on loopback."""
    program = tmp_path / "program.py"
    program.write_text(ENGINE.format(url=web.url, program=ddgs_program.__file__))
    return Ddgs(program, hosts=(f"127.0.0.1:{web.port}",), private=private)


async def test_an_engines_page_becomes_results(web: Web, tmp_path: Path) -> None:
    web.pages["/engine"] = Page(HTML)
    found = await local(web, tmp_path).search("what", 5, "de")
    assert sorted(found, key=lambda result: result.title) == [
        Result("https://one.example/", "One", "first & best"),
        Result("https://three.example/", "Three", ""),
    ]
    assert web.hits == ["/engine"]


async def test_an_engine_without_results_gives_none_and_one_that_refuses_is_an_error(web: Web, tmp_path: Path) -> None:
    web.pages["/engine"] = Page(b"<p>nothing</p>")
    assert await local(web, tmp_path).search("what", 5, "") == []
    web.pages["/engine"] = Page(status="429 Too Many Requests")
    with pytest.raises(SearchFailed, match="HTTP 429"):
        await local(web, tmp_path).search("what", 5, "")


async def test_an_engine_that_leads_inside_is_not_followed(web: Web, tmp_path: Path) -> None:
    web.pages["/engine"] = redirect(f"http://localhost:{web.port}/secret")
    with pytest.raises(SearchFailed, match="HTTP 403"):
        await local(web, tmp_path).search("what", 5, "")
    assert web.hits == ["/engine"]


async def test_a_private_address_is_not_reached_unless_the_operator_excepts_it(web: Web, tmp_path: Path) -> None:
    with pytest.raises(SearchFailed, match="HTTP 403"):
        await local(web, tmp_path, private=()).search("what", 5, "")
    assert web.hits == []


async def test_the_real_engines_are_asked_through_the_proxy_and_its_refusals_are_an_error() -> None:
    with pytest.raises(SearchFailed, match="No search engine answered"):
        await Ddgs(hosts=("nothing.invalid",)).search("what", 5, "")


async def test_a_program_that_breaks_is_an_error(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("print('no json')")
    with pytest.raises(SearchFailed, match="without an answer"):
        await Ddgs(program).search("what", 5, "")


async def test_cancelling_ends_the_process(tmp_path: Path) -> None:
    program, mark = tmp_path / "program.py", tmp_path / "pid"
    program.write_text(f"import os, time\nopen({str(mark)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)")
    task = asyncio.create_task(Ddgs(program).search("what", 5, ""))
    await until(lambda: mark.exists() and mark.read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)
