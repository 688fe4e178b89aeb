"""What the model is told: catalogue, files, histories."""

from __future__ import annotations

from typing import Any

from skilldeck_daemon.agent.prompt import STOPPED, Surroundings, shorten, system_message, to_messages
from skilldeck_daemon.attachments.listing import Attachment, Attachments, free_name, safe_name
from skilldeck_daemon.tools.citations import citations
from skilldeck_daemon.tools.shell_items import shell_text
from skilldeck_daemon.wire.items import parse_input


def entry(stdout: str = "", stderr: str = "", code: int | None = 0) -> dict[str, Any]:
    outcome = {"type": "timeout"} if code is None else {"type": "exit", "exit_code": code}
    return {"stdout": stdout, "stderr": stderr, "outcome": outcome}


def test_the_catalogue_ends_the_system_message_and_leaves_out_what_is_empty() -> None:
    around = Surroundings("hosted", (("csv", "Sums\n  columns."),), ("a.csv", "b c.csv"))
    (message,) = system_message(["Be brief."], around)
    assert message["content"].startswith("Be brief.\n\n")
    assert message["content"].endswith("\n\nSkills:\n- csv: Sums columns.\nFiles:\n- a.csv\n- b c.csv")
    (message,) = system_message([], Surroundings("hosted"))
    assert "Skills:" not in message["content"]
    assert "Files:" not in message["content"]
    assert system_message([""], Surroundings()) == []


def test_shell_output_reads_as_a_terminal_does() -> None:
    assert shell_text([entry("a\n")], ["ls"], None) == "a"
    assert shell_text([entry()], ["true"], None) == "(no output)"
    assert shell_text([entry("a\n", "b\n", 2)], ["x"], None) == "exit code: 2\na\nstderr:\nb"
    assert shell_text([entry("a", code=None)], ["x"], 500) == "timed out after 500 ms\na"
    assert shell_text([entry("1"), entry("", "e", 1)], ["a", "b"], None) == "$ a\n1\n\n$ b\nexit code: 1\nstderr:\ne"


def test_a_history_renders_its_beginning_the_same_when_it_grows() -> None:
    items = parse_input(
        [
            {"role": "user", "content": "go"},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"role": "assistant", "content": "First."},
            {"type": "shell_call", "call_id": "c1", "action": {"commands": ["ls"]}},
            {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
            {"type": "shell_call_output", "call_id": "c1", "output": [entry("a\n")]},
            {"type": "function_call_output", "call_id": "c2", "output": "x"},
            {"role": "assistant", "content": "Done."},
            {"role": "user", "content": "more"},
        ]
    )
    whole = to_messages(items, {}, Attachments())
    assert [message["role"] for message in whole] == ["user", "assistant", "tool", "tool", "assistant", "user"]
    assert whole[1]["reasoning_content"] == "hm"
    assert whole[1]["content"] == "First."
    assert [call["function"]["name"] for call in whole[1]["tool_calls"]] == ["shell", "f"]
    for end in (1, 7, 8):
        part = to_messages(items[:end], {}, Attachments())
        assert whole[: len(part)] == part


def test_arguments_are_told_as_the_model_wrote_them() -> None:
    items = parse_input([{"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}}])
    raw = '{"commands":["ls"]}'
    assert to_messages(items, {"c": raw}, Attachments())[0]["tool_calls"][0]["function"]["arguments"] == raw


def test_a_call_that_was_interrupted_gets_an_answer() -> None:
    items = parse_input(
        [{"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}}, {"role": "user", "content": "again"}]
    )
    roles = [(message["role"], message["content"]) for message in to_messages(items, {}, Attachments())]
    assert roles == [("assistant", None), ("tool", STOPPED), ("user", "again")]


def test_previews_share_one_budget_in_order() -> None:
    def attach(name: str, size: int) -> tuple[dict[str, Any], Attachment]:
        return {"type": "input_file", "file_id": name}, Attachment(
            name, name, b"", size, "text/plain", "x" * min(size, 4096)
        )

    files = Attachments()
    parts = []
    for number in range(10):
        part, attachment = attach(f"f{number}", 4096)
        files.remember(("m", f"content[{number}]", f"f{number}"), attachment)
        parts.append(part)
    item = {"id": "m", "type": "message", "role": "user", "status": "completed", "content": parts}
    content = to_messages([item], {}, files)[0]["content"]
    assert content.count("x" * 4096) == 8
    assert content.count("x") == 32_768 + content.count("text/plain")
    assert content.count('truncated="true"') == 2


def test_shortening_drops_the_oldest_turns_whole() -> None:
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "1"},
        {"role": "assistant", "tool_calls": []},
        {"role": "tool", "content": "t"},
        {"role": "user", "content": "2"},
    ]
    assert shorten(messages) == [messages[0], messages[4]]
    assert shorten([messages[0], messages[4]]) is None


def test_names_are_safe_and_free() -> None:
    assert safe_name("../../etc/passwd", "file") == "passwd"
    assert safe_name("C:\\x\\y.txt", "file") == "y.txt"
    assert safe_name("..", "file") == "file"
    assert safe_name("a\nb", "file") == "a_b"
    assert safe_name("ü" * 150 + ".csv", "file") == "ü" * 98 + ".csv"
    assert free_name("a.csv", {"a.csv", "a-2.csv"}) == "a-3.csv"


def test_citations_point_at_whole_names() -> None:
    def file(path: str) -> dict[str, Any]:
        return {"id": path, "container_id": "c", "path": path}

    text = "See olddata.csv, data.csv. And sandbox:/mnt/data/out/r.txt"
    spans = {
        note["file_id"]: text[note["start_index"] : note["end_index"]]
        for note in citations(text, [file("/mnt/data/data.csv"), file("/mnt/data/out/r.txt"), file("/mnt/data/none")])
    }
    assert spans == {
        "/mnt/data/data.csv": "data.csv",
        "/mnt/data/out/r.txt": "sandbox:/mnt/data/out/r.txt",
        "/mnt/data/none": "",
    }
    assert citations(text, [file("/mnt/data/data.csv")])[0]["start_index"] == 17
