"""Responses whose model patches files: the client's, or those of a hosted container."""

from __future__ import annotations

from typing import Any

import pytest

from support.daemon import SHELL, Running, running
from support.scripted_model import Call, Turn, shell

PATCH: dict[str, Any] = {"type": "apply_patch"}


def patch(type: str, path: str, diff: str | None = None) -> Call:
    return Call("apply_patch", {"type": type, "path": path} | ({} if diff is None else {"diff": diff}))


def told(daemon: Running, request: int = -1) -> str:
    return str(daemon.model.requests[request]["messages"][-1]["content"])


def results(response: dict[str, Any]) -> list[tuple[str, str]]:
    found = [item for item in response["output"] if item["type"] == "apply_patch_call_output"]
    return [(item["status"], item["output"]) for item in found]


async def test_by_itself_it_is_the_clients() -> None:
    diff = "@@ def f():\n-    return 1\n+    return 2"
    async with running(Turn("Now.", patch("update_file", "src/a.py", diff)), Turn("Done.")) as daemon:
        first = (await daemon.stream(tools=[PATCH]))[-1]["response"]
        call = first["output"][-1]
        assert call["operation"] == {"type": "update_file", "path": "src/a.py", "diff": diff}
        assert (first["status"], call["type"], call["status"]) == ("completed", "apply_patch_call", "completed")
        assert first["tools"] == [PATCH]
        alone = await daemon.http.post(
            "/responses", json={"model": "default", "input": "and?", "previous_response_id": first["id"]}
        )
        assert "No tool output found for the apply_patch_call" in alone.json()["error"]["message"]
        output = {
            "type": "apply_patch_call_output",
            "call_id": call["call_id"],
            "status": "failed",
            "output": "no such file",
        }
        await daemon.respond([output], previous_response_id=first["id"], tools=[PATCH])
        assert told(daemon) == "failed: no such file"
        sent = daemon.model.requests[1]["messages"][-2]["tool_calls"][0]["function"]
        assert sent["name"] == "apply_patch"
        assert (await daemon.client.containers.list()).data == []


async def test_the_official_client_reads_it_and_stateless_clients_send_it_back() -> None:
    async with running(Turn(patch("create_file", "a.txt", "+x")), Turn("ok")) as daemon:
        response = await daemon.client.responses.create(model="default", input="go", tools=[PATCH], store=False)  # type: ignore[list-item]
        call: Any = response.output[0]
        assert call.operation.diff == "+x"
        items = [
            {"role": "user", "content": "go"},
            call.model_dump(exclude_none=True),
            {"type": "apply_patch_call_output", "call_id": call.call_id, "status": "completed"},
        ]
        await daemon.respond(items, tools=[PATCH])
        assert told(daemon) == "done"


async def test_beside_a_hosted_shell_patches_are_applied_in_its_container() -> None:
    calls = [
        patch("create_file", "pkg/new.py", "+def f():\n+    return 1"),
        patch("update_file", "/mnt/data/pkg/new.py", " def f():\n-    return 1\n+    return 2"),
        shell("cat pkg/new.py; echo > gone.txt; chmod 755 pkg/new.py"),
    ]
    later = Turn(patch("delete_file", "gone.txt"), patch("update_file", "pkg/new.py", "-def f():\n+def g():"))
    async with running(Turn(*calls), later, Turn(shell("stat -c %a pkg/new.py; ls")), Turn("See new.py.")) as daemon:
        response = (await daemon.stream(tools=[SHELL, PATCH]))[-1]["response"]
        assert results(response) == [
            ("completed", "Created pkg/new.py: 2 lines added, 0 removed."),
            ("completed", "Updated pkg/new.py: 1 lines added, 1 removed."),
            ("completed", "Deleted gone.txt."),
            ("completed", "Updated pkg/new.py: 1 lines added, 1 removed."),
        ]
        shown = [item["output"][0]["stdout"] for item in response["output"] if item["type"] == "shell_call_output"]
        assert shown == ["def f():\n    return 2\n", "755\npkg\n"]
        assert [note["filename"] for note in response["output"][-1]["content"][0]["annotations"]] == ["new.py"]


async def test_a_hosted_patch_stays_inside_and_applies_whole_or_not_at_all() -> None:
    setup = shell("printf 'a\\nb\\n' > f; ln -s /etc/passwd link; ln -s /etc dir; mkdir d; printf '\\377' > bin")
    refused = [
        (patch("create_file", "../x", "+x"), "no file under /mnt/data"),
        (patch("create_file", "/etc/x", "+x"), "no file under /mnt/data"),
        (patch("create_file", "d/../../x", "+x"), "no file under /mnt/data"),
        (patch("update_file", "link", "-root\n+x"), "not a regular file"),
        (patch("create_file", "dir/x", "+x"), "no directory, or a link"),
        (patch("delete_file", "d"), "not a regular file"),
        (patch("create_file", "f/x", "+x"), "no directory, or a link"),
        (patch("create_file", "f", "+x"), "exists already"),
        (patch("update_file", "none", "-x\n+y"), "no file none"),
        (patch("delete_file", "none"), "no file none"),
        (patch("update_file", "bin", "-x\n+y"), "not UTF-8"),
        (patch("update_file", "f", "@@\n-a\n+A\n@@\n-x\n+y"), "not after line 1"),
    ]
    async with running(Turn(setup, *(call for call, _ in refused), shell("cat f; ls")), Turn("ok")) as daemon:
        response = (await daemon.stream(tools=[SHELL, PATCH]))[-1]["response"]
        for (status, text), (_, complaint) in zip(results(response), refused, strict=True):
            assert status == "failed"
            assert complaint in text
        last = [item for item in response["output"] if item["type"] == "shell_call_output"][-1]
        assert last["output"][0]["stdout"] == "a\nb\nbin\nd\ndir\nf\nlink\n"
        assert told(daemon).endswith("link")


@pytest.mark.parametrize("tools", [[PATCH], [SHELL, PATCH]])
async def test_a_call_that_is_no_operation_is_answered_here(tools: list[dict[str, Any]]) -> None:
    wrong = [Call("apply_patch", '{"type": "rename", "path": "a"}'), Call("apply_patch", "*** Begin Patch")]
    async with running(Turn(*wrong), Turn("ok")) as daemon:
        response = (await daemon.stream(tools=tools))[-1]["response"]
        kinds = [item["type"] for item in response["output"]]
        assert kinds == [*["function_call"] * 2, *["function_call_output"] * 2, "message"]
        assert "create_file, update_file, delete_file" in response["output"][2]["output"]


async def test_tool_choice_names_it() -> None:
    async with running(Turn(patch("create_file", "a", "+x"))) as daemon:
        response = await daemon.respond(tools=[PATCH], tool_choice=PATCH)
        assert response["tool_choice"] == PATCH
