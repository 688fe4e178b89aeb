"""What an answer says that nothing its run has read holds is told with the response, or asked about once more."""

from __future__ import annotations

import pytest

from skilldeck_daemon.agent.grounded import ASK
from skilldeck_tui.chat.transcripts.transcript import ShownRun
from support.daemon import SHELL, running
from support.scripted_model import Turn, shell

PRINTS = Turn(shell("echo rows: 12"))


@pytest.mark.parametrize(
    ("verify", "answer", "told"),
    [
        ("mark", "It has 13 rows.", ["13"]),
        ("mark", "It has 12 rows.", []),
        ("off", "It has 13 rows.", []),
    ],
)
async def test_figures_that_no_output_holds_are_told_with_their_places(
    verify: str, answer: str, told: list[str]
) -> None:
    async with running(PRINTS, Turn(answer), verify=verify) as daemon:
        response = (await daemon.stream(tools=[SHELL]))[-1]["response"]
        places = response.get("skilldeck", {}).get("ungrounded", [])
        assert [place["text"] for place in places] == told
        for place in places:
            text = response["output"][place["output_index"]]["content"][place["content_index"]]["text"]
            assert text[place["start_index"] : place["end_index"]] == place["text"]
        assert (await daemon.http.get(f"/responses/{response['id']}")).json() == response
        shown = ShownRun(response["id"])
        shown.close(response, 1.0)
        assert shown.unsupported == told


async def test_a_request_says_what_is_done_in_each_of_the_three_shapes() -> None:
    answer = Turn("It has 13 rows.")
    asked = [{"role": "user", "content": "How many?"}]
    hosted = {"type": "code_execution_20250825", "name": "code_execution"}
    shapes = {
        "/responses": {"model": "default", "input": "How many?", "tools": [SHELL]},
        "/chat/completions": {"model": "default", "messages": asked, "tools": [SHELL]},
        "/messages": {"model": "default", "messages": asked, "tools": [hosted], "max_tokens": 99},
    }
    async with running(*(PRINTS, answer) * 2 * len(shapes), verify="off") as daemon:
        for path, body in shapes.items():
            told = (await daemon.http.post(path, json=body)).json()
            assert "ungrounded" not in str(told), path
            told = (await daemon.http.post(path, json={**body, "verify": "mark"})).json()
            if path == "/responses":
                assert told["skilldeck"]["ungrounded"][0]["text"] == "13"
            elif path == "/messages":
                assert told["skilldeck"]["ungrounded"] == ["13"]
            else:
                message = told["choices"][0]["message"]
                (place,) = message["skilldeck"]["ungrounded"]
                assert message["content"][place["start_index"] : place["end_index"]] == place["text"] == "13"
            wrong = await daemon.http.post(path, json={**body, "verify": "maybe"})
            assert (wrong.status_code, "verify" in wrong.json()["error"]["message"]) == (400, True)


async def test_a_second_answer_may_be_asked_for_and_is_the_last() -> None:
    async with running(PRINTS, Turn("It has 13 rows."), Turn("It has 14."), verify="retry") as daemon:
        response = await daemon.respond(tools=[SHELL])
        messages = daemon.model.requests[2]["messages"]
        assert [message["content"] for message in messages[-2:]] == ["It has 13 rows.", ASK.format(places="13")]
        assert [place["text"] for place in response["skilldeck"]["ungrounded"]] == ["13", "14"]
    async with running(Turn("Paris, since 987."), verify="retry") as daemon:  # what it knows by itself
        assert "skilldeck" not in await daemon.respond(tools=[SHELL])
