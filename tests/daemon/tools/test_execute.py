"""Each hosted tool's `execute`, on real containers, a real MCP server and a real web server; no run, no model."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from skilldeck_daemon.attachments.listing import Attachments
from skilldeck_daemon.core import Core
from skilldeck_daemon.events.log import EventLog
from skilldeck_daemon.events.output import Output
from skilldeck_daemon.settings import Settings
from skilldeck_daemon.store.run_records import Item
from skilldeck_daemon.tools import parse_tools
from skilldeck_daemon.tools.base import Call, Tool
from skilldeck_daemon.tools.context import Offer, Placement, ToolContext, Web
from skilldeck_daemon.tools.function import UnknownTool
from skilldeck_daemon.tools.mcp_servers.servers import McpServers
from skilldeck_daemon.tools.read_file import ReadFileTool
from skilldeck_daemon.tools.web.pages import Pages
from skilldeck_daemon.tools.web.providers import SearXNG
from skilldeck_daemon.wire.fields import Fields
from support import mcp_server
from support import web as small_web
from support.wait import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
AUTO = {"type": "container_auto"}
SHELL = {"type": "shell", "environment": AUTO}
PYTHON = {"type": "code_interpreter", "container": {"type": "auto"}}
PATCH = {"type": "apply_patch"}
WEB = {"type": "web_search"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def core(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Core]:
    """A store and containers of plain processes; no model."""
    home = tmp_path_factory.mktemp("core")
    settings = Settings(model="", sandbox="none", data_dir=home / "data", socket=home / "daemon.sock")
    async with Core(settings, tracing=lambda: None) as core:
        yield core


@contextlib.asynccontextmanager
async def _context(core: Core, **fields: Any) -> AsyncIterator[ToolContext]:
    """What a run with a new container gives its tools."""
    record = core.services.environments.new_record("test", [], "1g", [])
    place = Placement(container_id=record["id"], record=record)
    values = {"permission": None, "offer": Offer(), "place": place, **fields}
    services = core.services
    context = ToolContext(
        "resp_1", "resp_1", approvals=services.approvals, environments=services.environments, **values
    )
    try:
        yield context
    finally:
        context.close()


def _tools(*declared: dict[str, Any]) -> list[Tool]:
    return list(parse_tools(Fields({"tools": list(declared)})))


def _call(tool: Tool, context: ToolContext, output: Output, arguments: Any, name: str = "") -> Call:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return tool.begin(output, context, "call_1", name or tool.names[0]).close(text, None)


async def _execute(tool: Tool, context: ToolContext, arguments: Any, name: str = "") -> list[Item]:
    """The items as the model reads them. All that were begun have ended."""
    output = Output(EventLog())
    await tool.execute(_call(tool, context, output, arguments, name), output, context)
    events = [event["type"] for event in output.log.events]
    assert events.count("response.output_item.done") == events.count("response.output_item.added") == len(output.items)
    return output.for_model


def _answer(items: list[Item]) -> Any:
    return items[-1]["output"]


async def test_a_shell_runs_each_command_and_gives_its_streams_and_its_exit_code(core: Core) -> None:
    (tool,) = _tools(SHELL)
    async with _context(core, reports_made=True) as context:
        commands = ["echo out; echo err >&2", "echo 1 > made.txt; exit 3"]
        first, second = _answer(await _execute(tool, context, {"commands": commands}))
        assert (first["stdout"], first["stderr"], first["outcome"]["exit_code"]) == ("out\n", "err\n", 0)
        assert second["outcome"] == {"type": "exit", "exit_code": 3}
        assert [file["path"] for file in context.made["call_1"]] == ["/mnt/data/made.txt"]
        slow = await _execute(tool, context, {"commands": ["sleep 600", "echo no"], "timeout_ms": 1})
        assert _answer(slow)[0]["outcome"] == {"type": "timeout"}
        assert _answer(slow)[1]["stderr"].startswith("Not run")


async def test_python_keeps_its_variables_and_says_what_went_wrong(core: Core) -> None:
    (tool,) = _tools(PYTHON)
    async with _context(core, include=frozenset({"code_interpreter_call.outputs"})) as context:
        assert _answer(await _execute(tool, context, {"code": "n = 20"})) == "(no output)"
        items = await _execute(tool, context, {"code": "print('n is', n); n + 1"})
        assert items[0]["status"] == "completed"
        assert items[0]["outputs"] == [{"type": "logs", "logs": "n is 20\n21\n"}]
        assert _answer(items) == "n is 20\n21\n"
        assert "ZeroDivisionError" in _answer(await _execute(tool, context, {"code": "n / 0"}))


async def test_a_patch_creates_changes_and_deletes_a_file_or_says_why_not(core: Core) -> None:
    _, tool = _tools(SHELL, PATCH)

    async def patch(type: str, diff: str = "") -> tuple[str, str]:
        items = await _execute(tool, context, {"type": type, "path": "a.txt", "diff": diff})
        return items[-1]["status"], _answer(items)

    async with _context(core) as context:
        assert await patch("update_file", "+b") == ("failed", "There is no file a.txt.")
        assert await patch("create_file", "+one\n+two") == ("completed", "Created a.txt: 2 lines added, 0 removed.")
        assert await patch("create_file", "+one") == (
            "failed",
            "a.txt exists already: update it, or delete it first.",
        )
        changed = await patch("update_file", "@@\n one\n-two\n+three\n+four")
        assert changed == ("completed", "Updated a.txt: 2 lines added, 1 removed.")
        assert (await (await context.container()).read("/mnt/data/a.txt", 100)).split() == [b"one", b"three", b"four"]
        assert await patch("delete_file") == ("completed", "Deleted a.txt.")


@pytest.mark.parametrize(
    ("declared", "arguments", "why"),
    [
        (SHELL, {"commands": []}, "one or more strings"),
        (PYTHON, {"code": 1}, "must be an object like"),
        (PATCH, {"type": "rename"}, "one of: "),
        (WEB, {"query": ""}, "a text of 1 to"),
    ],
)
async def test_a_call_that_makes_no_sense_is_answered_with_why(
    core: Core, declared: dict[str, Any], arguments: dict[str, Any], why: str
) -> None:
    (*_, tool) = _tools(*([SHELL] if declared is PATCH else []), declared)
    async with _context(core) as context:
        items = await _execute(tool, context, arguments)
        assert why in str(_answer(items))
        assert core.services.environments.containers.get(context.container_id) is None


@pytest.mark.parametrize(
    ("declared", "arguments"),
    [
        (SHELL, {"commands": ["touch here"]}),
        (PYTHON, {"code": "open('here', 'w')"}),
        (PATCH, {"type": "create_file", "path": "here", "diff": "+x"}),
        (WEB, {"query": "anything"}),
    ],
)
async def test_what_is_denied_is_not_begun_and_the_model_reads_that(
    core: Core, declared: dict[str, Any], arguments: dict[str, Any]
) -> None:
    (*_, tool) = _tools(*([SHELL] if declared is PATCH else []), declared)
    async with _context(core, permission="deny") as context:
        assert "Permission denied" in str(_answer(await _execute(tool, context, arguments)))
        assert core.services.environments.containers.get(context.container_id) is None
        assert [verdict.allowed for verdict in context.verdicts.values()] == [False]


async def test_a_shell_that_is_cancelled_keeps_what_its_command_wrote(core: Core) -> None:
    (tool,) = _tools(SHELL)
    async with _context(core) as context:
        container, output = await context.container(), Output(EventLog())
        call = _call(tool, context, output, {"commands": ["echo begun; sleep 600"]})
        task = asyncio.create_task(tool.execute(call, output, context))
        await until(lambda: "begun" in str(output.log.events[-1].get("delta")))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        item: Any = output.items[-1]
        assert (item["status"], item["output"][0]["stdout"]) == ("incomplete", "begun\n")
        await until(lambda: not container.busy)


async def test_python_that_is_cancelled_ends_as_incomplete(core: Core, tmp_path: Path) -> None:
    (tool,) = _tools(PYTHON)
    async with _context(core) as context:
        container, output = await context.container(), Output(EventLog())
        code = f"import time\nopen({str(tmp_path / 'begun')!r}, 'w').close()\ntime.sleep(600)"
        call = _call(tool, context, output, {"code": code})
        task = asyncio.create_task(tool.execute(call, output, context))
        await until((tmp_path / "begun").exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert output.items[-1]["status"] == "incomplete"
        await until(lambda: not container.busy)


async def test_the_web_is_searched_opened_and_looked_through(core: Core) -> None:
    (tool,) = _tools(WEB)
    async with small_web.Web() as web:
        hosts = web.settings["private_hosts"]
        pages = Pages(core._documents, hosts)
        offer = Offer(Web(SearXNG(web.url, hosts), pages))
        web.results = [web.result("/page", "A page", "what it says")]
        web.pages["/page"] = small_web.Page(b"Salt is white.\nPepper is black.", "text/plain; charset=utf-8")
        async with _context(core, offer=offer) as context:
            unseen = await _execute(tool, context, {"url": web.url + "/page"}, "open_page")
            assert unseen[0]["status"] == "failed"
            assert "Search for it first" in _answer(unseen)
            found = await _execute(tool, context, {"query": "salt"}, "web_search")
            assert (found[0]["status"], web.searches) == ("completed", ["salt"])
            assert "what it says" in _answer(found)
            assert context.sources == {web.url + "/page": "A page"}
            context.said = found
            opened = await _execute(tool, context, {"url": web.url + "/page"}, "open_page")
            assert "Pepper is black." in _answer(opened)
            places = await _execute(tool, context, {"url": web.url + "/page", "pattern": "PEPPER is"}, "find_in_page")
            assert "[at character 15]" in _answer(places)
            assert web.hits.count("/page") == 1
            web.answer = small_web.Page(b"no JSON", "application/json")
            assert (await _execute(tool, context, {"query": "salt"}, "web_search"))[0]["status"] == "failed"


async def test_an_mcp_servers_tool_answers_or_fails_with_its_own_words(core: Core) -> None:
    async with mcp_server.serving() as server:
        servers = McpServers({}, [server.url.split("/")[2]])
        declared = {"type": "mcp", "server_label": "s", "server_url": server.url, "require_approval": "never"}
        (tool,) = _tools(declared)
        async with _context(core, offer=Offer(mcp=servers)) as context:
            output = Output(EventLog())
            assert list(await tool.open(output, context)) == []
            add, fail = tool.named("add")[0], tool.named("fail")[0]
            items = await _execute(tool, context, {"a": 2, "b": 3}, add)
            assert (items[0]["status"], items[0]["output"], _answer(items)) == ("completed", "5 ✓", "5 ✓")
            items = await _execute(tool, context, {}, fail)
            assert (items[0]["status"], items[0]["error"]["type"]) == ("failed", "mcp_tool_execution_error")
            assert "it does not work" in _answer(items)
            assert "not valid JSON" in _answer(await _execute(tool, context, "{", add))
            context.permission = "deny"
            assert "Permission denied" in _answer(await _execute(tool, context, {"a": 2, "b": 3}, add))
            assert server.called == ["add"]
        await servers.close()


async def test_tools_that_only_the_model_reads_of_leave_no_item(core: Core) -> None:
    async with _context(core) as context:
        for tool, said in (
            (UnknownTool("ls", ("shell",)), "There is no tool called 'ls'. There is: shell."),
            (ReadFileTool("read_file", Attachments()), "There is no file 'a.txt'. No file has text."),
        ):
            output = Output(EventLog())
            call = _call(tool, context, output, {"name": "a.txt", "offset": 0}, "read_file")
            await tool.execute(call, output, context)
            assert (output.items, output.for_model[-1]["output"]) == ([], said)
