"""The tool the daemon adds: when it is there, what it reads, what the next turn remembers."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from skilldeck_daemon.agent.prompt import STOPPED
from skilldeck_daemon.tools.read_file import RUN_CHARS, ReadFileTool
from support import documents as made
from support.daemon import SHELL, Running, running
from support.scripted_model import Call, Turn, shell

TEXT = "".join(f"row {number:06d}\n" for number in range(3000))  # 33,000 characters


def part(data: bytes | str, name: str) -> dict[str, Any]:
    content = data.encode() if isinstance(data, str) else data
    return {"type": "input_file", "filename": name, "file_data": base64.b64encode(content).decode()}


def ask(*parts: dict[str, Any], text: str = "What is in row 2500?") -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "input_text", "text": text}, *parts]}]


def messages(daemon: Running, request: int = -1) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.model.requests[request]["messages"]
    return found


def declared(daemon: Running, request: int = 0) -> list[str]:
    return [tool["function"]["name"] for tool in daemon.model.requests[request].get("tools", [])]


def read(name: str, offset: int, **more: Any) -> Call:
    return Call("read_file", {"name": name, "offset": offset, **more})


async def test_the_model_reads_on_and_clients_see_nothing_of_it() -> None:
    async with running(
        Turn("Let me look.", read("rows.txt", 4096)), Turn(read("rows.txt", 27_500, limit=11)), Turn("It is there.")
    ) as daemon:
        events = await daemon.stream(ask(part(TEXT, "rows.txt")))
        response = events[-1]["response"]
        assert [item["type"] for item in response["output"]] == ["message", "message"]
        assert (response["status"], response["tools"]) == ("completed", [])
        assert "read_file" not in json.dumps(events)
        assert declared(daemon) == ["read_file"]
        first, second = messages(daemon, 1)[-1], messages(daemon, 2)[-1]
        assert (
            first["content"]
            == f"[rows.txt: characters 4096 to 12288; more follows from offset 12288]\n{TEXT[4096:12288]}"
        )
        assert (
            second["content"] == "[rows.txt: characters 27500 to 27511; more follows from offset 27511]\nrow 002500\n"
        )
        assert messages(daemon, 1)[-2]["tool_calls"][0]["id"] == first["tool_call_id"]
        detail = await daemon.daemon.services.runs.detail(response["id"])
        calls = [span for span in detail["timeline"]["spans"] if span["kind"] == "call"]
        assert [span["name"] for span in calls] == ["read_file", "read_file"]
        assert all("output_index" not in span for span in calls)


async def test_the_next_turn_remembers_what_was_read_and_renders_it_the_same() -> None:
    async with running(Turn(read("rows.txt", 4096)), Turn("Seen."), Turn("Still."), Turn("Copied.")) as daemon:
        first = await daemon.respond(ask(part(TEXT, "rows.txt")))
        second = await daemon.respond("And now?", previous_response_id=first["id"])
        assert second["status"] == "completed"
        earlier, later = messages(daemon, 1), messages(daemon, 2)
        assert later[: len(earlier)] == earlier
        assert [message["role"] for message in later[len(earlier) :]] == ["assistant", "user"]
        # A client that sends the items back itself has no call of ours, and none is missed.
        page = await daemon.client.responses.input_items.list(first["id"], order="asc")
        items = [item.model_dump(exclude_none=True) for item in page.data] + first["output"]
        copied = await daemon.respond([*items, {"role": "user", "content": "And?"}])
        assert copied["status"] == "completed"
        assert all("tool_calls" not in message for message in messages(daemon))


async def test_a_reading_that_was_cut_off_does_not_block_the_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()

    async def hang(*_: Any) -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    async with running(Turn(read("rows.txt", 4096)), Turn("Fine.")) as daemon:
        with monkeypatch.context() as patched:
            patched.setattr(ReadFileTool, "_read", hang)
            first = await daemon.respond(ask(part(TEXT, "rows.txt")), background=True)
            await asyncio.wait_for(begun.wait(), 20)
            cancelled = await daemon.client.responses.cancel(first["id"])
            assert (cancelled.status, cancelled.output) == ("cancelled", [])
        second = await daemon.respond("Go on.", previous_response_id=first["id"])
        assert second["status"] == "completed"
        assert [message["role"] for message in messages(daemon)] == ["user", "assistant", "tool", "user"]
        assert messages(daemon)[2]["content"] == STOPPED


async def test_what_cannot_be_read_is_said() -> None:
    said = {
        '{"name": "secret.txt", "offset": 0}': "There is no file 'secret.txt'. Files with text: rows.txt.",
        '{"name": "../rows.txt", "offset": 0}': "There is no file '../rows.txt'.",
        '{"name": "a.bin", "offset": 0}': "'a.bin' has no text to read.",
        '{"name": "rows.txt", "offset": 99999}': "[rows.txt: the text ends before character 99999]",
        '{"name": "rows.txt", "offset": 32989}': "the text ends here]\nrow 002999",
        '{"name": "rows.txt", "offset": -1}': '"offset" must be an integer of at least 0.',
        '{"name": "rows.txt", "offset": 1e99}': '"offset" must be an integer of at least 0.',
        '{"name": "rows.txt", "limit": true}': '"limit" must be an integer of at least 1.',
        '{"offset": 0}': 'The arguments must be an object with "name", the name of a file.',
        "not json": "The arguments are not valid JSON",
    }
    async with running(Turn(*(Call("read_file", arguments) for arguments in said)), Turn("ok")) as daemon:
        response = await daemon.respond(ask(part(TEXT, "rows.txt"), part(b"\0\1", "a.bin")))
        assert response["status"] == "completed"
        results = [message["content"] for message in messages(daemon) if message["role"] == "tool"]
        for (arguments, answer), result in zip(said.items(), results, strict=True):
            assert answer in result, arguments


async def test_it_is_declared_only_when_it_has_something_to_read() -> None:
    function = {"type": "function", "name": "read_file", "parameters": {"type": "object", "properties": {}}}
    cut, whole = part(TEXT, "rows.txt"), part("short", "short.txt")
    async with running(*[Turn("ok")] * 6) as daemon:
        await daemon.respond(ask(whole))
        await daemon.respond(ask(cut), tools=[SHELL])
        await daemon.respond(ask(cut), tools=[function])
        await daemon.respond(ask(cut), tools=[function], tool_choice="none")
        await daemon.respond(ask(cut), tools=[{"type": "shell"}])
        await daemon.respond(ask(*[part("x" * 4096 + str(n), f"{n}.txt") for n in range(2)]))
        assert [declared(daemon, n) for n in range(6)] == [
            [],
            ["shell"],
            ["read_file", "read_attached_file"],
            [],
            ["shell", "read_file"],
            ["read_file"],
        ]


async def test_it_counts_neither_as_a_required_call_nor_against_max_tool_calls() -> None:
    function = {"type": "function", "name": "answer", "parameters": {"type": "object", "properties": {}}}
    async with running(Turn(read("rows.txt", 0)), Turn(Call("answer", {}))) as daemon:
        response = await daemon.respond(
            ask(part(TEXT, "rows.txt")), tools=[function], tool_choice="required", max_tool_calls=1
        )
        assert [item["type"] for item in response["output"]] == ["function_call"]
        assert [request["tool_choice"] for request in daemon.model.requests] == ["required", "required"]
        result = {"type": "function_call_output", "call_id": response["output"][0]["call_id"], "output": "done"}
        daemon.model.then(Turn("Good."))
        second = await daemon.respond([result], previous_response_id=response["id"], tools=[function])
        assert second["status"] == "completed"
        assert [message["role"] for message in messages(daemon)] == ["user", "assistant", "tool", "assistant", "tool"]


async def test_one_run_reads_only_so_much() -> None:
    calls = [read("big.txt", offset, limit=16_384) for offset in range(0, RUN_CHARS * 2, 16_384)]
    async with running(Turn(*calls), Turn("enough")) as daemon:
        await daemon.respond(ask(part("x" * RUN_CHARS * 3, "big.txt")))
        results = [message["content"] for message in messages(daemon) if message["role"] == "tool"]
        assert sum(result.count("x") for result in results) <= RUN_CHARS + len(results)
        assert results[-1].startswith("No more can be read")


async def test_a_document_is_read_on_and_lies_beside_the_original_for_commands() -> None:
    document = made.docx(*[f"Paragraph number {number}" for number in range(400)])
    async with running(Turn(read("long.docx", 4096)), Turn("ok")) as daemon:
        await daemon.respond(ask(part(document, "long.docx")))
        assert 'truncated="true">\nParagraph number 0\n' in str(messages(daemon, 0)[-1]["content"])
        assert "Paragraph number 300" in messages(daemon)[-1]["content"]
        daemon.model.then(Turn(shell("tail -1 /mnt/data/long.docx.txt")), Turn("ok"))
        response = await daemon.respond(ask(part(document, "long.docx")), tools=[SHELL])
        outputs = [item for item in response["output"] if item["type"] == "shell_call_output"]
        assert outputs[0]["output"][0]["stdout"].strip() == "Paragraph number 399"
        assert 'path="/mnt/data/long.docx" text="/mnt/data/long.docx.txt"' in str(messages(daemon, 2)[-1]["content"])
