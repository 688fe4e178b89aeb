"""What is shown of items that other clients' tools make: each kind in the form that suits it."""

from __future__ import annotations

from typing import Any

import pytest

from skilldeck_tui.chat.transcripts.items import item_class
from skilldeck_tui.widgets.transcript.described import DESCRIBED
from support.fake_daemon import FakeDaemon
from support.tui import deck

CODE = "total = sum(range(10))\nprint(total)"
DIFF = "@@ def area(r):\n-    return 3 * r\n+    return 3.14159 * r * r\n"
ITEMS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "code": (
        {"type": "code_interpreter_call", "id": "ci_1", "status": "completed", "code": CODE, "container_id": "cntr_9",
         "outputs": [{"type": "logs", "logs": "45\n"}, {"type": "image", "url": "data:image/png;base64,"}]},
        ("python", "1 picture", "print(total)", "45"),
    ),
    "patch": (
        {"type": "apply_patch_call", "id": "apc_1", "call_id": "call_p", "status": "completed",
         "operation": {"type": "update_file", "path": "area.py", "diff": DIFF}},
        ("change area.py", "+1 −1", "-    return 3 * r", "+    return 3.14159 * r * r"),
    ),
    "web": (
        {"type": "web_search_call", "id": "ws_1", "status": "completed",
         "action": {"type": "search", "query": "tallest tree", "queries": ["tallest tree"]},
         "results": [{"url": "https://a.example/t", "title": "Hyperion", "text": "x"}]},
        ("web · tallest tree", "1 source", "1. Hyperion https://a.example/t"),
    ),
    "mcp": (
        {"type": "mcp_call", "id": "mcp_1", "server_label": "tickets", "name": "find", "status": "completed",
         "arguments": '{"id": 7}', "output": '{"title": "It leaks"}', "error": None},
        ("tickets · find", '"id": 7', '"title": "It leaks"'),
    ),
    "mcp that failed": (
        {"type": "mcp_call", "id": "mcp_2", "server_label": "tickets", "name": "close", "status": "failed",
         "arguments": "{}", "output": None, "error": {"type": "mcp_tool_execution_error", "content": "not yours"}},
        ("✗ tickets · close", "failed", "not yours"),
    ),
    "tools": (
        {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "tickets",
         "tools": [{"name": "find", "description": "Finds one."}]},
        ("tickets · tools", "1 tool"),
    ),
    "question": (
        {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "tickets", "name": "close",
         "arguments": '{"id": 7}'},
        ("tickets · may close be called?", '"id": 7'),
    ),
    "function": (
        {"type": "function_call", "id": "fc_1", "call_id": "call_f", "name": "get_weather", "status": "completed",
         "arguments": '{"city": "Oslo"}'},
        ("get_weather", '{"city": "Oslo"}'),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ITEMS)
async def test_an_item_is_shown_in_its_form(kind: str) -> None:
    item, texts = ITEMS[kind]
    fake = FakeDaemon()
    run = fake.start("Do it", session_id=fake.add_session("Work")["id"])
    run.end_item(run.begin_item(item))
    run.complete()
    async with deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.shows(*texts)


async def test_a_patch_and_its_answer_are_one_and_its_lines_are_coloured() -> None:
    fake = FakeDaemon()
    run = fake.start("Mend it", session_id=fake.add_session("Work")["id"])
    async with deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        run.end_item(run.begin_item(ITEMS["patch"][0]))
        output = {"type": "apply_patch_call_output", "id": "apco_1", "call_id": "call_p", "status": "failed",
                  "output": "The hunk is not in area.py."}  # fmt: skip
        run.end_item(run.begin_item(output))
        run.complete()
        await d.shows("✗ change area.py", "The hunk is not in area.py.")
        assert len(d.chat.turns[0].items) == 1
        body = d.chat.query("CallView .body").first()
        styles = {str(span.style) for span in body.content.spans}  # type: ignore[attr-defined]
        assert {"$success on $success 12%", "$error on $error 12%"} <= styles


async def test_what_a_call_printed_is_shown_when_only_the_stored_run_has_it() -> None:
    fake = FakeDaemon()
    run = fake.start("Count", session_id=fake.add_session("Work")["id"])
    async with deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        item = {**ITEMS["code"][0], "outputs": None}
        index = run.begin_item({**item, "code": "", "status": "in_progress"})
        run.emit("response.code_interpreter_call_code.delta", output_index=index, item_id="ci_1", delta="total = 1\n")
        await d.shows("total = 1")
        run.response["output"][index] = item
        run.end_item(index)
        run.response["output"][index] = {**item, "outputs": [{"type": "logs", "logs": "fortyfive\n"}]}
        run.done = False
        run.complete()
        await d.shows("fortyfive")


async def test_a_long_body_is_folded_and_found() -> None:
    fake = FakeDaemon()
    item = {**ITEMS["code"][0], "code": "\n".join(f"line_{number} = {number}" for number in range(60))}
    run = fake.start("Do it", session_id=fake.add_session("Work")["id"])
    run.end_item(run.begin_item(item))
    run.complete()
    async with deck(fake, size=(100, 40)) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.shows("line_11 = 11", "lines folded · enter unfolds")
        assert "line_14" not in d.text()
        d.chat.transcript.focus()
        await d.press("k", "enter")
        await d.shows("line_14 = 14")
        assert "unfolds" not in d.text()


def test_every_form_is_of_a_type_that_no_other_class_takes() -> None:
    for type_ in DESCRIBED:
        made, joins = item_class(type_)
        assert (made.kind, joins) == ("other", False)
