"""Each tool's call while the model writes it: its item, its events and the call that comes of it, without any run."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from skilldeck_daemon.containers.spec import CommandResult, OutputPiece
from skilldeck_daemon.events.log import EventLog
from skilldeck_daemon.events.output import Output
from skilldeck_daemon.tools import parse_tools
from skilldeck_daemon.tools.absent import ABSENT
from skilldeck_daemon.tools.apply_patch import inside
from skilldeck_daemon.tools.base import Call, Tool, is_clients
from skilldeck_daemon.tools.context import Offer, Placement, ToolContext
from skilldeck_daemon.tools.patching import PatchError
from skilldeck_daemon.tools.shell import ShellOutputWriter
from skilldeck_daemon.wire.fields import Fields
from skilldeck_daemon.wire.item_kinds import KINDS
from skilldeck_shared.errors import BadRequest

FUNCTION = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}}
LOCAL_SHELL: dict[str, Any] = {"type": "shell"}
DECLARED: dict[str, dict[str, Any]] = {
    "function": FUNCTION,
    "namespace": {"type": "namespace", "name": "math", "description": "", "tools": [FUNCTION]},
    "custom": {"type": "custom", "name": "note"},
    "shell": LOCAL_SHELL,
    "code_interpreter": {"type": "code_interpreter", "container": {"type": "auto"}},
    "apply_patch": {"type": "apply_patch"},
}
COMMANDS = json.dumps({"commands": ["ls -la", "pwd"]})
CODE = json.dumps({"code": "print(1)"})
PATCH = json.dumps({"type": "create_file", "path": "a.txt", "diff": "+a"})


def _tool(name: str) -> Tool:
    (tool,) = parse_tools(Fields({"tools": [DECLARED[name]]}))
    return tool


def _write(name: str, arguments: str, *, problem: str | None = None, size: int = 3) -> tuple[Call, Output]:
    """The call, written in pieces."""
    tool, output = _tool(name), Output(EventLog())
    context = ToolContext("resp_1", "resp_1", "ask", cast(Any, _Asked()), cast(Any, None), Offer(), Placement())
    writer = tool.begin(output, context, "call_1", tool.names[0])
    for at in range(0, len(arguments), size):
        writer.write(arguments[at : at + size])
    return writer.close(arguments, problem), output


class _Asked:
    permission = "ask"  # nothing starts unasked


def _streamed(output: Output) -> str:
    """What the events of the item's own kind brought in pieces."""
    deltas = KINDS[output.items[0]["type"]].deltas
    return "".join(event["delta"] for event in output.log.events if event["type"] in deltas)


@pytest.mark.parametrize(
    ("name", "arguments", "field", "whole"),
    [
        ("function", '{"a": 1}', "arguments", '{"a": 1}'),
        ("namespace", '{"a": 1}', "arguments", '{"a": 1}'),
        ("custom", "free text", "input", "free text"),
        ("code_interpreter", CODE, "code", "print(1)"),
        ("code_interpreter", "print(1)", "code", "print(1)"),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_a_call_that_streams_is_the_sum_of_its_pieces(
    name: str, arguments: str, field: str, whole: str, size: int
) -> None:
    call, output = _write(name, arguments, size=size)
    assert output.items[0][field] == _streamed(output) == whole
    assert call.problem is None
    assert call.call_id == "call_1"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_shells_commands_appear_one_after_the_other(size: int) -> None:
    call, output = _write("shell", COMMANDS, size=size)
    kinds = [event["type"].rpartition(".")[2] for event in output.log.events[1:-1]]
    assert (kinds.count("added"), kinds.count("done")) == (2, 2)
    assert _streamed(output) == "ls -lapwd"
    assert output.items[0]["action"]["commands"] == ["ls -la", "pwd"] == list(call.commands)
    assert (output.items[0]["status"], output.items[0]["environment"]) == ("completed", {"type": "local"})


def test_a_patch_appears_whole_and_is_the_clients_without_a_hosted_shell() -> None:
    call, output = _write("apply_patch", PATCH)
    (item,) = output.items
    assert (item["type"], item["status"], item["operation"]["path"]) == ("apply_patch_call", "completed", "a.txt")
    assert not call.hosted
    assert is_clients(item, [call.tool])
    together = parse_tools(
        Fields({"tools": [{"type": "shell", "environment": {"type": "container_auto"}}, DECLARED["apply_patch"]]})
    )
    assert together[1].hosted


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("shell", '{"commands": []}', "one or more strings"),
        ("shell", '{"commands": ["ls"], "timeout_ms": 0}', "at least 1"),
        ("shell", "[]", "must be an object"),
        ("shell", '{"commands": ["l', "not valid JSON"),
        ("code_interpreter", '{"code": 1}', "must be an object like"),
        ("code_interpreter", '{"code": "1", "restart": 1}', "true or false"),
        ("apply_patch", '{"type": "rename", "path": "a"}', "one of: "),
        ("apply_patch", '{"type": "create_file", "path": " ", "diff": ""}', "the file's name"),
    ],
)
def test_a_call_that_cannot_be_carried_out_says_why_and_shows_what_was_written(
    name: str, arguments: str, why: str
) -> None:
    call, output = _write(name, arguments)
    assert call.problem is not None
    assert why in call.problem
    (item,) = output.items
    shown = item.get("code") or item.get("arguments") or "".join((item.get("action") or {}).get("commands", ()))
    assert shown
    assert item["status"] != "completed" or item["type"] == "function_call"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("a.txt", "a.txt"),
        ("./src/./a.txt", "src/a.txt"),
        ("/mnt/data/a.txt", "a.txt"),
        ("../a.txt", None),
        ("/etc/passwd", None),
        ("/mnt/data", None),
        ("src/", None),
        ("a\0.txt", None),
        ("/mnt/database/a", None),
    ],
)
def test_a_patch_names_a_file_of_the_working_directory(path: str, meant: str | None) -> None:
    if meant is None:
        with pytest.raises(PatchError):
            inside(path)
    else:
        assert inside(path) == f"/mnt/data/{meant}"


@pytest.mark.parametrize("name", ["function", "custom"])
def test_a_call_that_the_limit_cut_off_stays_incomplete(name: str) -> None:
    tool, output = _tool(name), Output(EventLog())
    context = ToolContext("resp_1", "resp_1", "ask", cast(Any, _Asked()), cast(Any, None), Offer(), Placement())
    writer = tool.begin(output, context, "call_1", tool.names[0])
    writer.write("{")
    writer.cut("{")
    assert output.items[0]["status"] == "incomplete"
    assert output.raw == {"call_1": "{"}


def _result(stdout: str, code: int | None) -> CommandResult:
    return CommandResult(stdout, "", code, timed_out=code is None, duration_s=0.1, truncated_bytes=0)


def _shell_output() -> tuple[ShellOutputWriter, Output]:
    output = Output(EventLog())
    return ShellOutputWriter(output, Call(_tool("shell"), "call_1", "shell", "{}", True, commands=("a", "b"))), output


def test_a_shells_output_is_streamed_and_ends_with_each_commands_outcome() -> None:
    writer, output = _shell_output()
    writer.written(OutputPiece(0, "stdout", "one"))
    writer.command(0, "done", _result("one", 0))
    writer.written(OutputPiece(1, "stdout", "tw"))
    assert KINDS["shell_call_output"].so_far(output.items[0], output.log.events)["output"][1:] == [
        {"stdout": "tw", "stderr": "", "outcome": {"type": "exit", "exit_code": 137}}
    ]
    writer.command(1, "done", _result("two", 3))
    writer.close([_result("one", 0), _result("two", 3)])
    (item,) = output.items
    assert [(entry["stdout"], entry["outcome"]["exit_code"]) for entry in item["output"]] == [("one", 0), ("two", 3)]
    assert item["status"] == "completed"


def test_a_command_that_was_stopped_keeps_what_it_wrote() -> None:
    writer, output = _shell_output()
    writer.command(0, "done", _result("one", 0))
    writer.written(OutputPiece(1, "stderr", "half"))
    writer.interrupted()
    last = output.items[0]["output"][-1]
    assert (last["stderr"], last["outcome"]) == ("half", {"type": "exit", "exit_code": 137})


@pytest.mark.parametrize("type", sorted(ABSENT))
def test_a_tool_that_is_not_here_is_known_by_name_and_refused_with_what_there_is_instead(type: str) -> None:
    (tool,) = parse_tools(Fields({"tools": [{"type": type}]}))
    assert tool.dispensable
    with pytest.raises(BadRequest) as raised:
        tool.require(Offer())
    assert (raised.value.param, raised.value.hint) == ("tools[0].type", ABSENT[type])
