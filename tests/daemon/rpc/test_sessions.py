"""Sessions doubled and compacted over the control socket, by a real daemon whose model is played by a script."""

from __future__ import annotations

from typing import Any

import pytest

from skilldeck_shared.errors import BadRequest, NotFound, SkilldeckError
from skilldeck_tui.client.client import Client
from support.daemon import SHELL, Running, running
from support.scripted_model import Text, Turn, shell

Object = dict[str, Any]


async def asked(client: Client, session: str, text: str, tools: list[Object] | None = None) -> Object:
    """A run of the session, ended."""
    content = [{"type": "input_text", "text": text}]
    said = [{"type": "message", "role": "user", "content": content}]
    body = {"model": "default", "input": said, "conversation": session, "tools": tools or []}
    response = await client.start_run(body)
    async for _ in client.watch_run(response["id"]):
        pass
    return (await client.run(response["id"])).response


def told(daemon: Running) -> list[str]:
    """What the model was sent last, without the system message."""
    return [str(m.get("content")) for m in daemon.model.requests[-1]["messages"] if m["role"] != "system"]


async def test_a_fork_holds_what_was_said_to_a_run_and_works_in_the_same_container() -> None:
    turns = (
        Turn(shell("echo kept > note")), Turn(Text("one")), Turn(Text("two")), Turn(Text("three")),
        Turn(shell("cat note")), Turn(Text("other two")), Turn(Text("later")),
    )  # fmt: skip
    async with running(*turns) as daemon, await Client.connect(daemon.daemon.settings.socket) as client:
        session = (await client.create_session({"title": "first"}))["id"]
        runs = [await asked(client, session, text, [SHELL]) for text in ("a", "b", "c")]
        fork = await client.fork_session(session, runs[0]["id"], {"title": "first (2)"})
        assert fork["metadata"] == {"title": "first (2)", "branch_of": session, "branch_after": runs[0]["id"]}
        again = await asked(client, fork["id"], "b again", [SHELL])
        (printed,) = (item for item in again["output"] if item["type"] == "shell_call_output")
        assert printed["output"][0]["stdout"] == "kept\n"  # the container is the one that the session has
        texts = told(daemon)
        assert (texts[0], texts[-3]) == ("a", "b again")
        assert not {"two", "b", "c"} & set(texts)
        # The session it came from is as it was, and a fork at its end has all of it.
        whole = await client.fork_session(session, runs[2]["id"], {})
        await asked(client, whole["id"], "d")
        assert [text for text in told(daemon) if len(text) < 9][-5:] == ["b", "two", "c", "three", "d"]
        assert len((await client.runs(session=session)).data) == 3


async def test_a_fork_begins_at_a_run_of_the_session() -> None:
    async with running(Turn(Text("one"))) as daemon, await Client.connect(daemon.daemon.settings.socket) as client:
        session, other = [(await client.create_session({}))["id"] for _ in range(2)]
        run = await asked(client, session, "a")
        for id_, after, param in (("conv_none", run["id"], "conversation_id"), (other, run["id"], "after"),
                                  (session, "resp_none", "after")):  # fmt: skip
            with pytest.raises(NotFound) as caught:
                await client.fork_session(id_, after, {})
            assert caught.value.param == param


async def test_a_compacted_session_is_told_as_its_summary_and_stays_readable() -> None:
    turns = (Turn(Text("one")), Turn(Text("They talked about a.")), Turn(Text("two")))
    async with running(*turns) as daemon, await Client.connect(daemon.daemon.settings.socket) as client:
        session = (await client.create_session({}))["id"]
        first = await asked(client, session, "a")
        made = await client.compact_session(session)
        assert [item["type"] for item in made["output"]] == ["compaction"]
        await asked(client, session, "b")
        assert told(daemon) == ["a", "Summary of what was said before:\nThey talked about a.", "b"]
        assert [run["id"] for run in (await client.runs(session=session, order="asc")).data][:2] == [
            first["id"], made["id"],
        ]  # fmt: skip
        detail = await client.run(made["id"])
        (item,) = detail.response["output"]
        assert (item["text"], item["kept"], detail.input) == ("They talked about a.", 1, [])
        (span,) = detail.timeline["spans"]
        assert span["context_tokens"] > 0
        # Over HTTP it is OpenAI's item and nothing more, and its log can be followed.
        over_http = (await daemon.http.get(f"/responses/{made['id']}")).json()
        assert set(over_http["output"][0]) == {"id", "type", "encrypted_content"}
        events = [event.type async for event in client.watch_run(made["id"])]
        assert events[-1] == "response.completed"
        assert "response.output_item.done" in events


async def test_a_session_without_a_word_has_nothing_to_compact() -> None:
    async with running() as daemon, await Client.connect(daemon.daemon.settings.socket) as client:
        session = (await client.create_session({}))["id"]
        with pytest.raises(BadRequest):
            await client.compact_session(session)
        with pytest.raises(NotFound):
            await client.compact_session("conv_none")


async def test_a_call_in_place_of_a_summary_is_refused_and_nothing_changes() -> None:
    calls = ('<tool_call>\n{"name": "shell"', '{"name": "shell", "arguments": {}}', "[TOOL_CALLS]shell{}")
    turns = [Turn(Text("one")), *(Turn(Text(call)) for call in calls), Turn(Text("two"))]
    async with running(*turns) as daemon, await Client.connect(daemon.daemon.settings.socket) as client:
        session = (await client.create_session({}))["id"]
        first = await asked(client, session, "a")
        for _ in calls:
            with pytest.raises(SkilldeckError, match="a call instead of a summary"):
                await client.compact_session(session)
        assert [run["id"] for run in (await client.runs(session=session)).data] == [first["id"]]
        await asked(client, session, "b")
        assert told(daemon) == ["a", "one", "b"]


async def test_who_compacts_late_has_the_newest_of_it_summarised() -> None:
    turns = [Turn(Text(text)) for text in ("one", "two", "three", "They talked at length.")]
    async with running(*turns) as daemon, await Client.connect(daemon.daemon.settings.socket) as client:
        session = (await client.create_session({}))["id"]
        for text in ("a", "b", "c"):  # 90 KB each: by a guess of 8 bytes a token more than the context of 32,768
            await asked(client, session, text + " word" * 18_000)
        made = await client.compact_session(session)
        assert [text[:1] for text in told(daemon)] == ["b", "t", "c", "t", "S"]
        (item,) = (await client.run(made["id"])).response["output"]
        assert item["text"] == "They talked at length."
