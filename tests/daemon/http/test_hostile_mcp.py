"""MCP servers that mean harm, over HTTP and as programs: their call fails by name, and nobody else waits meanwhile."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from skilldeck_daemon.tools.mcp_servers.messages import Messages
from support.daemon import running
from support.scripted_model import Call, Turn

TOOL = {"name": "say", "description": "Says it.", "inputSchema": {"type": "object"}}
MIB = 1 << 20
LISTS = b"[" + b"[]," * (2 * MIB) + b"[]]"


def message(id: Any, result: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%s,"result":%s}' % (json.dumps(id).encode(), result)


def text(said: bytes) -> bytes:
    return b'{"content":[{"type":"text","text":"%s"}]}' % said


class Hostile(http.server.BaseHTTPRequestHandler):
    """Honest until it is asked to list (`/list/…`) or to call (`/call/…`); what it does then is the end of the path."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        when, how = self.path.strip("/").split("/")
        method = asked.get("method", "")
        if "id" not in asked:
            return self.reply(b"", status=202)
        if method == f"tools/{when}":
            return getattr(self, how)(asked["id"])  # type: ignore[no-any-return]
        self.reply(message(asked["id"], honest(asked)))

    def do_GET(self) -> None:
        self.reply(b"", status=405)

    do_DELETE = do_GET

    def reply(self, body: bytes, type: str = "application/json", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-type": type, "content-length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass

    # -- what it does

    def lists(self, id: Any) -> None:
        self.reply(message(id, b'{"content":[],"structuredContent":{"a":' + LISTS + b"}}"))

    def lists_in_events(self, id: Any) -> None:
        data = message(id, b'{"content":[],"structuredContent":{"a":' + LISTS + b"}}").replace(
            b"[],[]", b"[],\ndata: []"
        )
        self.reply(b"data: " + data + b"\n\n", "text/event-stream")

    def deep(self, id: Any) -> None:
        deep = b"[" * 400_000 + b"]" * 400_000
        self.reply(message(id, b'{"content":[],"structuredContent":{"a":' + deep + b"}}"))

    def long(self, id: Any) -> None:
        self.reply(message(id, text(b"x" * (17 * MIB))))

    def bomb(self, id: Any) -> None:
        self.reply(gzip.compress(message(id, text(b"x" * (64 * MIB)))), content_encoding="gzip")

    def newlines(self, id: Any) -> None:
        self.reply(b"\n" * (4 * MIB) + message(id, text(b"late")))

    def comments(self, id: Any) -> None:
        self.reply(b":\n\n" * (MIB // 4) + b"data: " + message(id, text(b"late")) + b"\n\n", "text/event-stream")

    def picture(self, id: Any) -> None:
        body = b'{"content":[{"type":"text","text":"seen"},{"type":"image","mimeType":"image/png","data":"%s"}]}'
        self.reply(b"data: " + message(id, body % (b"A" * (3 * MIB))) + b"\n\n", "text/event-stream")

    def endless_pages(self, id: Any) -> None:
        self.reply(message(id, b'{"nextCursor":"more","tools":[%s]}' % json.dumps(TOOL).encode()))

    def many_tools(self, id: Any) -> None:
        tools = [{**TOOL, "name": f"t{number}", "description": "d" * 1000} for number in range(5000)]
        self.reply(message(id, json.dumps({"tools": tools}).encode()))

    def escapes(self, id: Any) -> None:
        tool = {**TOOL, "name": "say\x1b[2J", "description": "\x1b]0;owned\x07" + "d" * 100}
        self.reply(message(id, json.dumps({"tools": [tool]}).encode()))

    def chain(self, id: Any) -> None:
        defs = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(3000)} | {"d3000": {"type": "string"}}
        schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": defs}
        self.reply(message(id, json.dumps({"tools": [{**TOOL, "inputSchema": schema}]}).encode()))


def honest(asked: dict[str, Any]) -> bytes:
    results: dict[str, Any] = {
        "initialize": {
            "protocolVersion": asked.get("params", {}).get("protocolVersion", "2025-06-18"),
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "hostile", "version": "1"},
        },
        "tools/list": {"tools": [TOOL]},
        "tools/call": {"content": [{"type": "text", "text": "said"}]},
    }
    return json.dumps(results.get(asked["method"], {})).encode()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("call/lists", "more than 500,000 values"),
        ("call/lists_in_events", "more than 500,000 values"),
        ("call/deep", ""),
        ("call/long", "larger than 16 MiB"),
        ("call/bomb", "compressed"),
        ("list/endless_pages", "without end"),
        ("list/many_tools", "larger than 4 MiB"),
        ("list/lists", "more than 500,000 values"),
    ],
)
async def test_what_is_too_much_fails_by_name_and_holds_nobody(url: str, path: str, words: str) -> None:
    servers = {"far": {"url": f"{url}/{path}", "timeout": 30}}
    tool = {"type": "mcp", "server_label": "far", "require_approval": "never"}
    async with running(Turn(Call("far__say", {})), Turn("ok"), strict=False, mcp_servers=servers) as daemon:
        response = await daemon.respond(tools=[tool])
        if path.startswith("list"):
            assert response["status"] == "failed"
            said = response["error"]["message"]
        else:
            (call,) = [item for item in response["output"] if item["type"] == "mcp_call"]
            assert call["status"] == "failed"
            said = call["error"].get("message", "")
        assert words in said, said
        assert len(said) < 2000
        assert daemon.daemon.services.stalls.longest < 1


@pytest.mark.parametrize(
    ("path", "output"), [("call/newlines", "late"), ("call/comments", "late"), ("call/picture", "seen")]
)
async def test_what_is_only_odd_is_read(url: str, path: str, output: str) -> None:
    servers = {"far": {"url": f"{url}/{path}", "timeout": 60}}
    tool = {"type": "mcp", "server_label": "far", "require_approval": "never"}
    async with running(Turn(Call("far__say", {})), Turn("ok"), mcp_servers=servers) as daemon:
        response = await daemon.respond(tools=[tool])
        (call,) = [item for item in response["output"] if item["type"] == "mcp_call"]
        assert (call["status"], call["output"].split("\n")[0]) == ("completed", output)
        assert daemon.daemon.services.stalls.longest < 1


@pytest.mark.parametrize("path", ["list/escapes", "list/chain"])
async def test_tools_that_are_not_what_they_should_be_leave_the_run_alive(url: str, path: str) -> None:
    servers = {"far": {"url": f"{url}/{path}", "timeout": 30}}
    async with running(Turn("ok"), mcp_servers=servers) as daemon:
        response = await daemon.respond(tools=[{"type": "mcp", "server_label": "far", "require_approval": "never"}])
        assert response["status"] == "completed"
        names = [tool["function"]["name"] for tool in daemon.model.requests[0]["tools"]]
        assert all(name.isprintable() for name in names), names
        assert daemon.daemon.services.stalls.longest < 1


PROGRAM = """
import json, sys
how = sys.argv[1]
out = sys.stdout
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked or "method" not in asked:
        continue
    results = {
        "initialize": {"protocolVersion": asked.get("params", {}).get("protocolVersion"), "capabilities": {"tools": {}},
                       "serverInfo": {"name": "h", "version": "1"}},
        "tools/list": {"tools": [{"name": "say", "description": "Says it.", "inputSchema": {"type": "object"}}]},
    }
    if asked["method"] != "tools/call":
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": results.get(asked["method"], {})}), flush=True)
        continue
    said = {"content": [{"type": "text", "text": "said"}]}
    if how == "chatty":
        for number in range(20000):
            print("a line of the log", number)
    if how == "notices":
        for number in range(5000):
            print(json.dumps({"jsonrpc": "2.0", "method": "notifications/message",
                              "params": {"level": "info", "data": "x" * 50}}))
    if how == "asks":
        for number in range(100):
            print(json.dumps({"jsonrpc": "2.0", "id": 1000 + number, "method": "sampling/createMessage",
                              "params": {"messages": [], "maxTokens": 5}}))
    if how == "long":
        said = {"content": [{"type": "text", "text": "x" * (17 << 20)}]}
    if how == "lists":
        said = {"content": [], "structuredContent": {"a": [[]] * 2000000}}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": said}), flush=True)
"""


@pytest.mark.parametrize(
    ("how", "status", "words"),
    [
        ("chatty", "completed", "said"),
        ("notices", "completed", "said"),
        ("asks", "completed", "said"),
        ("long", "failed", "larger than 16 MiB"),
        ("lists", "failed", "more than 500,000 values"),
    ],
)
async def test_a_program_that_says_too_much(how: str, status: str, words: str) -> None:
    servers = {"near": {"command": sys.executable, "args": ["-c", PROGRAM, how], "timeout": 60}}
    tool = {"type": "mcp", "server_label": "near", "require_approval": "never"}
    async with running(Turn(Call("near__say", {})), Turn("ok"), mcp_servers=servers) as daemon:
        response = await daemon.respond(tools=[tool])
        (call,) = [item for item in response["output"] if item["type"] == "mcp_call"]
        assert call["status"] == status, call["error"]
        assert words in (call["output"] or call["error"]["message"])
        assert daemon.daemon.services.stalls.longest < 1


@pytest.mark.parametrize("size", [3, 7, 4096])
def test_a_message_that_comes_in_pieces_is_one(size: int) -> None:
    event = b'data: {"id": "x",\r\ndata: ' + b"[],\ndata: " * 180_000 + b"\n\n"
    sent = b": here\n\ndata: a\ndata: b\n\n" + event + b"data: c\n\n"
    messages, out = Messages("event"), b""
    for at in range(0, len(sent), size):
        out += messages.feed(sent[at : at + size])
    *before, refused, after, rest = (out + messages.flush()).split(b"\n\n")
    assert (before, after, rest) == ([b": here", b"data: a\ndata: b"], b"data: c", b"")
    error = json.loads(refused.removeprefix(b"data: "))
    assert (error["id"], error["error"]["message"]) == ("x", "Its answer is of more than 500,000 values.")
