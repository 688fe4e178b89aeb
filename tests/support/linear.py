"""Readers of strangers' text, each with the text that would cost it the most. A program: `python linear.py`.

Every case runs in a process of its own with `CPU_SECONDS` of processor time, many times what it needs (a second at
most); time that grows with the square of these sizes is minutes or hours. Prints {case: "" or what went wrong} as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from skilldeck_daemon.attachments import convert_document
from skilldeck_daemon.containers.network import proxy
from skilldeck_daemon.engine.chat.stops import StopStrings
from skilldeck_daemon.engine.checks import InputField, ToolPlan
from skilldeck_daemon.engine.parsing.jsonscan import JsonScan
from skilldeck_daemon.engine.remote.stream import StreamReader
from skilldeck_daemon.events.log import EventLog
from skilldeck_daemon.events.output import Output
from skilldeck_daemon.http import auth
from skilldeck_daemon.libraries import approvals, ondisk
from skilldeck_daemon.tools import citations, patching
from skilldeck_daemon.tools.code_interpreter import PythonWriter
from skilldeck_daemon.tools.mcp import McpWriter
from skilldeck_daemon.tools.partial import CommandReader
from skilldeck_daemon.tools.shell import ShellWriter
from skilldeck_daemon.tools.web import pages
from skilldeck_daemon.tools.web import url_provenance as said
from skilldeck_daemon.tools.web.items import web_text
from skilldeck_daemon.wire import json_text
from skilldeck_shared.errors import SkilldeckError
from skilldeck_shared.skills.manifest import parse_manifest

CPU_SECONDS = 20
MIB = 1 << 20
DELTA = 64
CALL = 8 * MIB

CASES: dict[str, Callable[[], Any]] = {}


def case(name: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def add(work: Callable[[], Any]) -> Callable[[], Any]:
        CASES[name] = work
        return work

    return add


def filled(piece: str, size: int = MIB) -> str:
    return piece * (size // len(piece))


# -- commands that are asked about

SKILLS = {"csv-summary": {"path": "x"}, "csv": {"path": "y"}}
for piece in (
    "{",
    "{a",
    "{a.",
    "}{",
    "$",
    "/",
    "/a",
    "../",
    "a=",
    "a://",
    "://",
    "ftp+",
    "'",
    "\\",
    " ",
    "\t\n",
    ".",
    ".[",
):
    CASES[f"a command of {piece!r}"] = lambda piece=piece: (  # type: ignore[misc]
        approvals.named_skills(f"echo {filled(piece)}", SKILLS),
        approvals.covered(f"echo {filled(piece)}", ["echo", "echo a/", "/mnt/skills/csv/"]),
    )
for piece in ("/mnt/skills/", "/mnt/skills/csv-", "/mnt/skills/csv/", "/mnt/data", "/tmp"):
    CASES[f"a command of {piece!r}"] = lambda piece=piece: approvals.named_skills(filled(piece), SKILLS)  # type: ignore[misc]

# -- SKILL.md

for piece in (
    "a: ",
    "- ",
    "[",
    "[a,",
    "{",
    "? ",
    "&a ",
    "'",
    '"',
    "\\",
    "\n",
    "a: b\n",
    "a-b: |\n",
    "# ",
    "---\n",
    "\r",
    "é",
):

    def manifest(piece: str = piece) -> None:
        for text in (f"---\n{filled(piece, 32_000)}\n---\nbody", filled(piece), f"---\nname: a\n---\n{filled(piece)}"):
            try:
                parse_manifest(text)
            except SkilldeckError:
                pass

    CASES[f"a SKILL.md of {piece!r}"] = manifest

# -- what a model or a page wrote

SOURCES = {"https://a.de": "A"}
FILES = [{"container_id": "c", "id": "f", "path": "/mnt/data/a-a.csv"}]
for piece in (
    "](https://a.de)",
    "[](https://a.de)",
    "https://a.de ",
    "[",
    "(",
    "a-",
    "a.",
    "/mnt/data/",
    "https://",
    "@a.",
):

    def cited(piece: str = piece) -> None:
        text = filled(piece)
        citations.url_citations(text, SOURCES)
        citations.citations(text, FILES)
        item = {"type": "message", "role": "user", "content": [{"text": text}]}
        said.may_open("https://b.de/x", [item], text)
        ondisk.mentions([item])

    CASES[f"an answer of {piece!r}"] = cited
for piece in (")", "(", ".", "_)", "()"):
    CASES[f"a URL that ends in {piece!r}"] = lambda piece=piece: list(said.found("https://a.de/" + filled(piece)))  # type: ignore[misc]
for piece in (
    "<",
    "< ",
    "<\n",
    "</",
    "</ ",
    " ",
    "\t",
    "\n",
    " \n",
    "data:",
    "data:;a",
    ";a",
    "data:a;base64,",
    "<title",
    "<title>",
):

    def page(piece: str = piece) -> None:
        text = "<" + filled(piece)
        web_text({"type": "open_page"}, [{"url": "u", "title": "t", "text": text}])
        convert_document.clean(text + "x")
        pages._TITLE.search(text)

    CASES[f"a page of {piece!r}"] = page
for piece in ("$a", "/a", "$a-", "/-", "$"):
    CASES[f"a prompt of {piece!r}"] = lambda piece=piece: ondisk.mentions(  # type: ignore[misc]
        [{"role": "user", "content": filled(piece)}]
    )

# -- patches


@case("a hunk of lines that are all the same")
def _() -> None:
    text = "x\n" * 60_000
    try:
        patching.update(text, " x\n" * 30_000 + "-y\n")
    except patching.PatchError:
        return
    raise AssertionError("it cannot be applied")


@case("a hunk that is ambiguous all over")
def _() -> None:
    try:
        patching.update("x\n" * 60_000, " x\n" * 30_000 + "-x\n")
    except patching.PatchError:
        return
    raise AssertionError("it cannot be applied")


@case("a patch of very many hunks")
def _() -> None:
    lines = [f"line {number}" for number in range(40_000)]
    diff = "".join(f"@@\n-{line}\n+{line} \n" for line in lines)
    text, summary = patching.update("\n".join(lines), diff)
    assert summary.added == len(lines)
    assert text.startswith("line 0 \n")


@case("a patch of very many anchors")
def _() -> None:
    lines = [f"  line {number}" for number in range(40_000)]
    diff = "".join(f"@@ {line.strip()}\n" for line in lines[:-1]) + f"-{lines[-1]}\n"
    patching.update("\n".join(lines), diff)


# -- calls, 8 MB of them in small pieces


def deltas(text: str) -> Iterator[str]:
    return (text[at : at + DELTA] for at in range(0, len(text), DELTA))


def arguments(key: str, wrap: str) -> str:
    return json.dumps({key: wrap * (CALL // len(wrap))})


@case("a call from another server")
def _() -> None:
    for kind in ("none", "auto"):
        reader = StreamReader(ToolPlan(kind, (), ()))  # type: ignore[arg-type]
        count = 0
        for delta in deltas(arguments("x", "y")):
            function = {"name": "" if count else "f", "arguments": delta}
            chunk = {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": function}]}}]}
            count += sum(1 for _ in reader.line("data: " + json.dumps(chunk)))
        assert count > CALL // DELTA
        list(reader.line("data: " + json.dumps({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})))
        assert [event.arguments for event in reader.close()] == [arguments("x", "y")]  # type: ignore[union-attr]


@case("a free-text call")
def _() -> None:
    text = arguments("input", "patch\n\\é")
    field = InputField()
    shown = "".join(field.feed(delta) for delta in deltas(text))
    assert (shown, "") == (json.loads(text)["input"], field.whole()[1])


@case("a free-text call that is white space")
def _() -> None:
    field = InputField()
    for delta in deltas(" " * CALL):
        field.feed(delta)
    assert field.whole()[0] == " " * CALL


@case("a shell call")
def _() -> None:
    text = json.dumps({"commands": ["echo " + "x" * (CALL // 2), "y" * (CALL // 2)]})
    output = Output(EventLog())
    writer = ShellWriter(SimpleNamespace(hosted=False), output, "call", {"type": "local"})  # type: ignore[arg-type]
    for delta in deltas(text):
        writer.write(delta)
    call = writer.close(text, None)
    assert list(call.commands) == json.loads(text)["commands"] == output.items[0]["action"]["commands"]


@case("a shell call of many commands")
def _() -> None:
    text = json.dumps({"commands": ["x"] * 100_000})
    writer = ShellWriter(SimpleNamespace(hosted=False), Output(EventLog()), "call", {})  # type: ignore[arg-type]
    for delta in deltas(text):
        writer.write(delta)
    assert len(writer.close(text, None).commands) == 100_000


WORK: Any = SimpleNamespace(include=(), container_id="c")
for name, text in (
    ("a Python call", arguments("code", "x = 1\n")),
    ("a Python call without JSON", "x = 1\n" * (CALL // 6)),
    ("a Python call after white space", " " * CALL + "x"),
):

    def python(text: str = text) -> None:
        output = Output(EventLog())
        writer = PythonWriter(SimpleNamespace(), output, WORK, "call")  # type: ignore[arg-type]
        for delta in deltas(text):
            writer.write(delta)
        call = writer.close(text, None)
        writer.finish("completed", "")
        assert call.problem is None
        assert output.items[0]["code"] == call.commands[0]

    CASES[name] = python


@case("a call of an MCP tool")
def _() -> None:
    output = Output(EventLog())
    writer = McpWriter(SimpleNamespace(label="a"), output, "call", "a__b", "b", None)  # type: ignore[arg-type]
    for delta in deltas(arguments("x", "y")):
        writer.write(delta)
    writer.stop()
    assert output.items[0]["arguments"] == arguments("x", "y")


@case("a command read while it is written")
def _() -> None:
    for piece in ("\\", "\\u00", '"', "[", "{", "\\ud800"):
        reader = CommandReader()
        for delta in deltas('{"commands": ["' + filled(piece)):
            reader.feed(delta)


@case("a number without end")
def _() -> None:
    scan = JsonScan()
    for char in "1" * MIB + " ":
        scan.step(char)


@case("a stop string that nearly comes again and again")
def _() -> None:
    stops = StopStrings(["a" * 100_000 + "b", "ab" * 50_000 + "c"])
    text = "".join(stops.feed(delta) for delta in deltas(filled("a")))
    assert text + stops.flush() == filled("a")


# -- the wire


@case("JSON bodies")
def _() -> None:
    for piece in ("[", "{", '{"a":', '"', "\\ud800", "1", "-", " ", "[],", "nul", '",', '\\",', ',"\\'):
        for text in (filled(piece), "[" + filled(piece), '"' + filled(piece)):
            try:
                json_text.parse_json(text.encode())
            except SkilldeckError:
                pass


@case("host names")
def _() -> None:
    for piece in ("a.", "a-", "a", ".", "_", "ä", "[", ":", "1:"):
        for read in (auth._hostname, proxy.normal):
            try:
                read(filled(piece))
            except (ValueError, SkilldeckError):
                pass


def outcome(work: Callable[[], Any]) -> str:
    """What went wrong with a case, in a process of its own."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
        status = 0
        try:
            work()
        except BaseException:
            os.write(writer, traceback.format_exc()[-4000:].encode())
            status = 1
        os._exit(status)
    os.close(writer)
    with open(reader, "rb") as told_:
        text = told_.read().decode()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return f"ended by signal {os.WTERMSIG(status)} (24: it took more than {CPU_SECONDS} s of processor time)"
    return text


if __name__ == "__main__":
    wanted = sys.argv[1:] or list(CASES)
    print(json.dumps({name: outcome(CASES[name]) for name in wanted}))
