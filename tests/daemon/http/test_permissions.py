"""One policy on every surface: who may run the model's commands, who is asked, what is remembered and for what."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import websockets

from skilldeck_daemon.libraries.approvals import covered, named_skills
from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.client.client import Client
from support.bundles import manifest, zip_bytes
from support.daemon import SHELL, Running, running, sse
from support.mcp_server import serving
from support.ordering import TERMINAL
from support.scripted_model import Call, Turn, shell
from support.wait import until
from support.web import Web

PYTHON: dict[str, Any] = {"type": "code_interpreter", "container": {"type": "auto"}}
PATCH = {"type": "apply_patch"}
CODE = {"type": "code_execution_20250825", "name": "code_execution"}
HI = [{"role": "user", "content": "go"}]
WEB = {"type": "web_search"}
MCP = {"type": "mcp", "server_label": "far", "require_approval": "never"}
Ask = Callable[[Running, dict[str, Any], dict[str, str]], Awaitable[None]]


# ------------------------------------------------------------------ the surfaces


async def plain(daemon: Running, body: dict[str, Any], headers: dict[str, str]) -> None:
    answer = await daemon.http.post("/responses", json=body, headers=headers)
    assert answer.json()["status"] == "completed", answer.text


async def streamed(daemon: Running, body: dict[str, Any], headers: dict[str, str]) -> None:
    async with daemon.http.stream("POST", "/responses", json={**body, "stream": True}, headers=headers) as answer:
        assert (await sse(answer))[-1]["type"] == "response.completed"


async def background(daemon: Running, body: dict[str, Any], headers: dict[str, str]) -> None:
    made = await daemon.http.post("/responses", json={**body, "background": True}, headers=headers)
    # The log, not the live run: a quick one has ended by now.
    events = [event async for event in daemon.daemon.services.runs.replay(made.json()["id"])]
    assert events[-1]["type"] == "response.completed"


async def chat(daemon: Running, body: dict[str, Any], headers: dict[str, str]) -> None:
    asked = {"model": "default", "messages": [{"role": "user", "content": "go"}], "tools": body["tools"]}
    answer = await daemon.http.post("/chat/completions", json=asked, headers=headers)
    assert answer.status_code == 200, answer.text


async def chat_streamed(daemon: Running, body: dict[str, Any], headers: dict[str, str]) -> None:
    asked = {
        "model": "default",
        "messages": [{"role": "user", "content": "go"}],
        "tools": body["tools"],
        "stream": True,
    }
    async with daemon.http.stream("POST", "/chat/completions", json=asked, headers=headers) as answer:
        assert (await answer.aread()).endswith(b"data: [DONE]\n\n")


async def messages(daemon: Running, body: dict[str, Any], headers: dict[str, str]) -> None:
    asked = {"model": "default", "max_tokens": 99, "messages": HI, "tools": [CODE]}
    answer = await daemon.http.post("/messages", json=asked, headers=headers)
    assert answer.status_code == 200, answer.text


async def messages_streamed(daemon: Running, body: dict[str, Any], headers: dict[str, str]) -> None:
    asked = {"model": "default", "max_tokens": 99, "messages": HI, "tools": [CODE], "stream": True}
    async with daemon.http.stream("POST", "/messages", json=asked, headers=headers) as answer:
        assert b"message_stop" in await answer.aread()


async def web_socket(daemon: Running, body: dict[str, Any], headers: dict[str, str]) -> None:
    url = daemon.url.replace("http", "ws") + "/responses"
    async with websockets.connect(url, additional_headers=headers, proxy=None) as connection:
        await connection.send(json.dumps({"type": "response.create", **body}))
        while (event := json.loads(await connection.recv()))["type"] not in TERMINAL:
            assert event["type"] != "error", event
        assert event["type"] == "response.completed"


async def control_socket(daemon: Running, body: dict[str, Any], headers: dict[str, str]) -> None:
    async with await Client.connect(daemon.daemon.settings.socket) as client:
        made = await client.start_run(body, headers.get("x-skilldeck-permission", ""))
        async for event in client.watch_run(made["id"]):
            last = event
        assert last.type == "response.completed"


SURFACES: dict[str, tuple[Ask, list[dict[str, Any]]]] = {
    "responses": (plain, [SHELL]),
    "responses, streamed": (streamed, [SHELL]),
    "responses, background": (background, [SHELL]),
    "chat": (chat, [SHELL]),
    "chat, streamed": (chat_streamed, [SHELL]),
    "messages": (messages, [SHELL]),
    "messages, streamed": (messages_streamed, [SHELL]),
    "websocket": (web_socket, [SHELL]),
    "socket": (control_socket, [SHELL]),
    "responses, web": (plain, [WEB]),
    "chat, web": (chat, [WEB]),
    "websocket, web": (web_socket, [WEB]),
    "socket, web": (control_socket, [WEB]),
    "responses, mcp": (plain, [MCP]),
    "chat, mcp": (chat, [MCP]),
    "websocket, mcp": (web_socket, [MCP]),
    "socket, mcp": (control_socket, [MCP]),
}
EVERY = {
    "responses": plain,
    "responses, streamed": streamed,
    "responses, background": background,
    "chat": chat,
    "chat, streamed": chat_streamed,
    "websocket": web_socket,
    "socket": control_socket,
}
SURFACES |= {f"{surface}, code": (ask, [SHELL, PYTHON]) for surface, ask in EVERY.items()}
SURFACES |= {f"{surface}, patch": (ask, [SHELL, PATCH]) for surface, ask in EVERY.items()}
CALLS = {
    **{
        f"{surface}, web": Call("web_search", {"query": "x"})
        for surface in ("responses", "chat", "websocket", "socket")
    },
    **{
        f"{surface}, mcp": Call("far__say", {"text": "ran"}) for surface in ("responses", "chat", "websocket", "socket")
    },
    **{f"{surface}, code": Call("python", {"code": "print('r' + 'an')"}) for surface in EVERY},
    **{
        f"{surface}, patch": Call("apply_patch", {"type": "create_file", "path": "ran.txt", "diff": "+ran"})
        for surface in EVERY
    },
}


class Model:
    """Calls the surface's tool once, then answers; `told` is what it read as the call's output."""

    def __init__(self) -> None:
        self.surface = ""
        self.told = ""

    def __call__(self, body: dict[str, Any]) -> Turn:
        last = body["messages"][-1]
        if last["role"] == "tool":
            self.told = last["content"]
            return Turn("ok")
        return Turn(CALLS.get(self.surface) or shell("echo r''an"))


@pytest.mark.parametrize("operator", ["auto", "ask", "deny"])
async def test_the_strictest_policy_holds_on_every_surface(operator: str) -> None:
    model = Model()
    order = ["auto", "ask", "deny"]
    async with (
        Web() as web,
        serving() as server,
        running(
            *[model] * 300,
            strict=False,
            permission=operator,
            mcp_servers={"far": {"url": server.url}},
            **web.settings,
        ) as daemon,
    ):
        web.results = [web.result("/", "A page", "it ran")]

        async def one(surface: str, wish: str) -> None:
            ask, tools = SURFACES[surface]
            headers = {"x-skilldeck-permission": wish} if wish else {}
            model.surface, model.told = surface, ""
            body = {"model": "default", "input": "go", "tools": tools}
            policy = max(operator, wish or "auto", key=order.index)
            asking = asyncio.create_task(ask(daemon, body, headers))
            if policy == "ask":
                await until(lambda: daemon.daemon.services.approvals.list() or asking.done())
                (pending,) = (await daemon.http.get("/approvals")).json()["data"]
                assert (pending["status"], model.told) == ("pending", "")
                answer = {"decision": "deny", "message": "Not now."}
                decided = await daemon.http.post(f"/approvals/{pending['id']}", json=answer)
                assert decided.json()["status"] == "denied"
            await asking
            expected = {"auto": "ran", "ask": "Permission denied by the user: Not now.", "deny": "Permission denied: "}
            assert expected[policy] in model.told, (surface, wish, model.told)
            assert (policy == "auto") != ("denied" in model.told)
            assert bool(web.searches) == (policy == "auto" and surface.endswith("web"))
            assert bool(server.called) == (policy == "auto" and surface.endswith("mcp"))
            web.searches.clear()
            server.called.clear()

        for surface, wish in itertools.product(SURFACES, ["", "auto", "ask", "deny"]):
            if surface == "responses" or max(operator, wish or "auto", key=order.index) != operator or wish == "":
                await one(surface, wish)
        made = [entry["path"] for entry in await _files(daemon)]
        assert (operator == "auto") == ("/mnt/data/ran.txt" in made)


async def _files(daemon: Running) -> list[dict[str, Any]]:
    found = []
    for container in (await daemon.http.get("/containers")).json()["data"]:
        found += (await daemon.http.get(f"/containers/{container['id']}/files")).json()["data"]
    return found


@pytest.mark.parametrize("surface", ["responses", "chat", "messages", "websocket", "socket"])
async def test_an_unknown_policy_is_refused_on_every_surface(surface: str) -> None:
    async with running(strict=False) as daemon:
        if surface == "websocket":
            url = daemon.url.replace("http", "ws") + "/responses"
            async with websockets.connect(
                url, additional_headers={"x-skilldeck-permission": "never"}, proxy=None
            ) as connection:
                await connection.send(json.dumps({"type": "response.create", "model": "default", "input": "x"}))
                error = json.loads(await connection.recv())["error"]
        elif surface == "socket":
            async with await Client.connect(daemon.daemon.settings.socket) as client:
                with pytest.raises(SkilldeckError) as refused:
                    await client.start_run({"input": "x"}, "never")
            error = {"param": refused.value.param}
        else:
            asked = {
                "responses": {"input": "x"},
                "chat": {"messages": HI},
                "messages": {"messages": HI, "max_tokens": 9},
            }
            body = {"model": "default", **asked[surface]}
            path = "/chat/completions" if surface == "chat" else f"/{surface}"
            async with httpx.AsyncClient(base_url=daemon.url, timeout=60) as http:
                answer = await http.post(path, json=body, headers={"x-skilldeck-permission": "never"})
            assert answer.status_code == 400
            error = answer.json()["error"]
        assert error["param"] == "permission"


async def test_a_question_nobody_answers_is_denied_when_its_time_is_over() -> None:
    async with running(Turn(shell("ls")), Turn("ok"), permission="ask", approval_timeout=0.05) as daemon:
        response = await daemon.respond(tools=[SHELL])
        assert "nobody answered" in response["output"][1]["output"][0]["stderr"]
        assert "nobody answered" in daemon.model.requests[1]["messages"][-1]["content"]
        assert (await daemon.http.get("/approvals")).json()["data"] == []


async def test_a_rule_for_a_skills_scripts_holds_for_that_version_only() -> None:
    def bundle(word: str) -> bytes:
        return zip_bytes({"SKILL.md": manifest("tool"), "scripts/run.sh": f"echo {word} $1\n".encode()}, top="tool")

    run = "sh /mnt/skills/tool/scripts/run.sh"
    turns = [
        turn for command in (run, f"{run} more", run, f"{run} again") for turn in (Turn(shell(command)), Turn("ok"))
    ]
    async with running(*turns, permission="ask") as daemon:
        skill = (await daemon.http.post("/skills", files={"files": bundle("one")})).json()["id"]

        async def use(version: int, **decision: Any) -> dict[str, Any]:
            reference = {"type": "skill_reference", "skill_id": skill, "version": version}
            tool = {"type": "shell", "environment": {"type": "container_auto", "skills": [reference]}}
            task = asyncio.create_task(daemon.respond(tools=[tool]))
            await until(lambda: daemon.daemon.services.approvals.list() or task.done())
            for pending in (await daemon.http.get("/approvals")).json()["data"]:
                assert [(entry["name"], entry["version"]) for entry in pending["skills"]] == [("tool", str(version))]
                answer = await daemon.http.post(f"/approvals/{pending['id']}", json=decision)
                assert answer.status_code == 200, answer.text
            entry: dict[str, Any] = (await task)["output"][1]["output"][0]
            return entry

        folder = "sh /mnt/skills/tool/scripts/"
        first = await use(1, decision="approve", remember_always=True, prefix=folder)
        assert first["stdout"] == "one\n"
        assert (await use(1))["stdout"] == "one more\n"
        (rule,) = (await daemon.http.get("/approvals/rules")).json()["data"]
        assert (rule["prefix"], rule["skills"][0]["skill_id"], rule["skills"][0]["version"]) == (folder, skill, "1")
        wider = await daemon.http.post(f"/approvals/rules/{rule['id']}", json={"prefix": "sh"})
        assert wider.json() == {**rule, "prefix": "sh"}

        added = await daemon.http.post(f"/skills/{skill}/versions", files={"files": bundle("two")})
        assert added.status_code == 200
        assert "denied" in (await use(2, decision="deny"))["stderr"]  # it was asked
        assert (await daemon.http.delete(f"/approvals/rules/{rule['id']}")).json()["deleted"] is True
        assert "denied" in (await use(1, decision="deny"))["stderr"]


@pytest.mark.parametrize("prefix", ["rm", "ec", "echo a;", "echo a b c", "echo\n"])
async def test_a_prefix_that_is_no_beginning_of_the_command_is_refused_and_the_question_stays(prefix: str) -> None:
    async with running(Turn(shell("echo a b")), Turn("ok"), permission="ask") as daemon:
        task = asyncio.create_task(daemon.respond(tools=[SHELL]))
        await until(daemon.daemon.services.approvals.list)
        (pending,) = (await daemon.http.get("/approvals")).json()["data"]
        body = {"decision": "approve", "remember_always": True, "prefix": prefix}
        answer = await daemon.http.post(f"/approvals/{pending['id']}", json=body)
        if prefix.strip() == "echo":
            assert answer.status_code == 200
        else:
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prefix")
            assert (await daemon.http.get("/approvals/rules")).json()["data"] == []
            await daemon.http.post(f"/approvals/{pending['id']}", json={"decision": "approve"})
        assert (await task)["output"][1]["output"][0]["stdout"] == "a b\n"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("python /s/x.py --a", True),
        ("python /s/deep/x.py 'a b.csv' --url=https://example.org/a", True),
        ("python /s/x.py ./a.csv", True),
        ("python /s/../x.py", False),
        ('python /s/".."/x.py', False),
        ("python /s/'.'./x.py", False),
        ("python /s/..\tx", False),
        ("python /s/./x.py", False),
        ("python /s//x.py", False),
        ("python /s/x.py; id", False),
        ("python /s/x.py ../other/y.py", False),
        ("python /s/x.py --from='..'/y.py", False),
        ("python /s/x.py a:////mnt//skills/y.py", False),
    ],
)
def test_a_folder_prefix_covers_what_lies_in_it_and_not_what_dots_lead_to(command: str, answer: bool) -> None:
    assert covered(command, ["python /s/"]) is answer


def test_which_skills_python_may_run() -> None:
    skills = {"a": {"path": "1"}, "a-2": {"path": "2"}}
    assert named_skills("open('/mnt/' + 'skills')", skills, "code_interpreter") == skills
    assert named_skills('{"query": "/mnt/data"}', skills, "mcp") == {}


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("sh /mnt/skills/a-2/x", {"a-2"}),
        ("cd /mnt/skills/a && ls *.csv | sort > /tmp/x 2>/dev/null", {"a"}),
        ("sh /mnt/skills/'a'/x", {"a"}),
        ("cat /usr/share/dict/words", set()),
        ("ls -l --x=/mnt/data/*.csv https://example.org/a", set()),
        ("grep 'a;b' x.csv | sort | uniq -c > /mnt/data/out 2>&1", set()),
        ("python3 -u /mnt/skills/a/x.py /mnt/data/*.csv", {"a"}),
        ("/mnt/skills/a/x.sh; cat /mnt/skills/a-2/y", {"a", "a-2"}),
        ("cd /mnt/skills/a && ls && sh scripts/x.sh in.csv", {"a"}),
        # Each of these runs something of a skill whose folder it does not spell.
        ("sh ../skills/a/x", {"a", "a-2"}),
        ("cd /mnt; sh skills/a/x", {"a", "a-2"}),
        ("cd /; sh mnt/skills/a/x", {"a", "a-2"}),
        ("sh /mnt/./skills/a/x", {"a", "a-2"}),
        ("sh //mnt/skills//a/x", {"a", "a-2"}),
        ("sh /m*/s*/a/x", {"a", "a-2"}),
        ("sh .?/skills/a/x", {"a", "a-2"}),
        ("sh {.,}./skills/a/x", {"a", "a-2"}),
        ("sh /tmp/../mnt/skills/a/x", {"a", "a-2"}),
        ("sh /proc/self/root/mnt/skills/b/x", {"a", "a-2"}),
        ("d=/mnt; sh $d/skills/a/x", {"a", "a-2"}),
        ("sh /mnt/skills/*/x", {"a", "a-2"}),
        # What these run nobody can tell from them: a link, a module, code, a path made of pieces.
        ("bash /mnt/data/link/run.sh", {"a", "a-2"}),
        ("python3 x.py --in=/mnt/data/*.csv https://example.org/a", {"a", "a-2"}),
        ("python3 -c 'import os'", {"a", "a-2"}),
        ("python3 -m tool /mnt/skills/a/x.py", {"a", "a-2"}),
        ("sh -x -c id /mnt/skills/a/x", {"a", "a-2"}),
        ("make -C /mnt/skills/a", {"a", "a-2"}),
        ("PATH=/mnt/data/link ls", {"a", "a-2"}),
        ("link/run.sh", {"a", "a-2"}),
        ("cat x | sh", {"a", "a-2"}),
        ("ls\nsh link/x", {"a", "a-2"}),
        ("ls & sh link/x", {"a", "a-2"}),
        ("echo '>' ; sh link/x", {"a", "a-2"}),
        ("cat <(sh link/x)", {"a", "a-2"}),
        ("(sh link/x)", {"a", "a-2"}),
        ("ls > ; sh x", {"a", "a-2"}),
        ("ls() { sh link/x; }; ls", {"a", "a-2"}),
        ("sort --compress-prog=link/x big", {"a", "a-2"}),
        ("cd /mnt/skills/a; sh scripts/x.sh", {"a", "a-2"}),
        ("cd /mnt/skills/a && cd /mnt/data && sh scripts/x.sh", {"a", "a-2"}),
        ("ls 'x", {"a", "a-2"}),
        ("ls " + "x" * 5000, {"a", "a-2"}),
    ],
)
def test_which_skills_a_command_may_run(command: str, names: set[str]) -> None:
    assert set(named_skills(command, {"a": {"path": "1"}, "a-2": {"path": "2"}})) == names
