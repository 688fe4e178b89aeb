"""`Runner`: the agent inside a program, its model played by a script, its containers real."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses import Response, ResponseCompletedEvent, ResponseCreatedEvent

from skilldeck_daemon import Runner, SkillMount
from skilldeck_daemon.settings import BadSettings
from skilldeck_shared.errors import BadRequest, Unavailable
from skilldeck_shared.skills.manifest import ManifestError
from support.scripted_model import Call, Endless, Scripted, ScriptedModel, Turn, shell


def skill(folder: Path, name: str = "counting", text: str = "one\n") -> Path:
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(f"---\nname: {name}\ndescription: Counts.\n---\n# {name}\n")
    (folder / "notes.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as model:
        yield model


@pytest.fixture(scope="module")
def shared(model: ScriptedModel) -> Iterator[Runner]:
    with Runner("", engine="remote", remote_url=model.url) as runner:
        yield runner


@pytest.fixture
def runner(shared: Runner, model: ScriptedModel) -> Iterator[Runner]:
    yield shared
    assert model.left == 0


def stdout(response: Response) -> list[str]:
    return [o.stdout for item in response.output if item.type == "shell_call_output" for o in item.output]


def play(model: ScriptedModel, *turns: Scripted) -> None:
    model.then(*turns)


def test_a_folder_is_mounted_where_it_lies_read_only_and_files_are_there(
    runner: Runner, model: ScriptedModel, tmp_path: Path
) -> None:
    folder = skill(tmp_path / "counting")
    data = tmp_path / "data.csv"
    data.write_text("a,b\n")
    command = "cat /mnt/skills/counting/notes.txt data.csv more.txt; touch /mnt/skills/counting/x && echo WROTE; true"
    play(model, Turn(shell(command)), Turn("counted"))
    response = runner.run("count", skills=[SkillMount(folder)], files=[data, ("more.txt", b"more\n")])
    assert isinstance(response, Response)
    assert (response.status, response.output_text) == ("completed", "counted")
    assert stdout(response) == ["one\na,b\nmore\n"]
    assert not (folder / "x").exists()
    assert "- counting: Counts." in model.requests[-1]["messages"][0]["content"]


async def test_files_that_a_run_made_are_copied_into_a_folder(
    runner: Runner, model: ScriptedModel, tmp_path: Path
) -> None:
    made = shell("mkdir d; printf one > d/a.txt; printf two > a.txt; ln -s /etc/passwd link; printf given > given.txt")
    play(model, Turn(made), Turn("See a.txt."), Turn(shell("printf 22 > a.txt")), Turn("Again."))
    response = runner.run("make", files=[("given.txt", b"given")])
    out = tmp_path / "new/out"
    assert sorted(runner.save(response, out)) == [out / "a.txt", out / "d/a.txt", out / "given.txt"]
    assert (out / "d/a.txt").read_text() == "one"
    (out / "a.txt").chmod(0o400)
    again = await runner.arun("change", previous_response_id=response.id)
    assert await runner.asave(again, out) == [out / "a.txt"]
    assert (out / "a.txt").read_text() == "22"
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


def test_the_next_run_goes_on_in_the_same_container(runner: Runner, model: ScriptedModel, tmp_path: Path) -> None:
    folder = skill(tmp_path / "counting")
    play(model, Turn(shell("echo kept > kept.txt")), Turn("first"), Turn(shell("cat kept.txt")), Turn("second"))
    first = runner.run("one", skills=[folder])
    second = runner.run("two", skills=[folder], previous_response_id=first.id)
    assert stdout(second) == ["kept\n"]
    said = [m["content"] for m in model.requests[-1]["messages"] if m["role"] == "user"]
    # The one skill there is stands opened before the user's own words.
    assert [text.rpartition("\n\n")[2] for text in said] == ["one", "two"]


def test_events_come_typed_and_end_with_the_response(runner: Runner, model: ScriptedModel) -> None:
    play(model, Turn("a few words"))
    events = list(runner.stream("say"))
    assert isinstance(events[0], ResponseCreatedEvent)
    assert isinstance(events[-1], ResponseCompletedEvent)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "a few words"


def test_closing_a_stream_cancels_its_run(runner: Runner, model: ScriptedModel) -> None:
    play(model, Turn("on ", Endless()))
    stream = runner.stream("talk")
    left = model.disconnects
    while next(stream).type != "response.output_text.delta":
        pass
    stream.close()  # type: ignore[attr-defined]
    model.wait(lambda model: model.disconnects == left + 1)
    play(model, Turn("afterwards"))
    assert runner.run("and?").output_text == "afterwards"


async def test_several_runs_at_once_from_async_code(runner: Runner, model: ScriptedModel, tmp_path: Path) -> None:
    folders = [skill(tmp_path / str(n) / "counting", text=f"{n}\n") for n in range(3)]

    def answer(body: dict) -> Turn:  # type: ignore[type-arg]
        if body["messages"][-1]["role"] == "tool":
            return Turn(f"saw {body['messages'][-1]['content']}")
        return Turn(shell("cat /mnt/skills/counting/notes.txt"))

    play(model, *[answer] * 6)
    responses = await asyncio.gather(*(runner.arun("look", skills=[folder]) for folder in folders))
    assert [response.output_text for response in responses] == ["saw 0", "saw 1", "saw 2"]
    play(model, Turn("streamed"))
    kinds = [event.type async for event in runner.astream("go")]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")


async def test_cancelling_the_caller_cancels_the_run(runner: Runner, model: ScriptedModel) -> None:
    play(model, Turn("on ", Endless()))
    begun, left = len(model.requests), model.disconnects
    task = asyncio.create_task(runner.arun("talk"))
    await model.until(lambda model: len(model.requests) > begun)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await model.until(lambda model: model.disconnects == left + 1)


async def test_plain_calls_work_under_a_running_event_loop(runner: Runner, model: ScriptedModel) -> None:
    play(model, Turn("here"))
    assert runner.run("where?").output_text == "here"


def test_bad_input_is_refused_with_the_field_and_nothing_runs(
    runner: Runner, model: ScriptedModel, tmp_path: Path
) -> None:
    asked = len(model.requests)
    broken = skill(tmp_path / "broken")
    (broken / "SKILL.md").write_text("---\nname: broken\n---\n")
    local = [{"type": "shell", "environment": {"type": "local"}}]
    for error, param, arguments in (
        (ManifestError, "skills[0]", {"skills": [broken]}),
        (BadRequest, "skills[1]", {"skills": [skill(tmp_path / "good"), tmp_path]}),
        (BadRequest, "skills[0]", {"skills": [tmp_path / "nothing"]}),
        (BadRequest, "skills", {"skills": [tmp_path / "good"], "tools": local}),
        (BadRequest, "files[0]", {"files": [tmp_path / "no.csv"]}),
        (BadRequest, "input", {"input": "twice"}),
        (BadRequest, "background", {"background": True}),
        (BadRequest, "temperature", {"temperature": 9}),
        (BadRequest, "tool", {"tool": []}),
        (BadRequest, "stream", {"stream": True}),
        (BadRequest, "seed", {"seed": "x"}),
        (BadRequest, "top_k", {"top_k": -1}),
        (BadRequest, "min_p", {"min_p": 2}),
        (BadRequest, "dry_base", {"dry_base": 0}),
        (BadRequest, "stop", {"stop": 3}),
        (BadRequest, "text.format.type", {"text": {"format": {"type": "x"}}}),
        (BadRequest, "previous_response_id", {"previous_response_id": "resp_none"}),
    ):
        with pytest.raises(error) as caught:
            runner.run("x", **arguments)  # type: ignore[arg-type]
        assert caught.value.param == param
    assert len(model.requests) == asked


def test_settings_that_cannot_be_are_refused_before_anything_starts(tmp_path: Path) -> None:
    for arguments, word in (
        ({"remote_ulr": "x"}, "remote_ulr"),
        ({"permission": "ask"}, "permission"),
        ({"engine": "steam"}, "engine"),
        ({"max_containers": 0}, "max_containers"),
    ):
        with pytest.raises(BadSettings, match=word):
            Runner("", **arguments)  # type: ignore[arg-type]


def test_the_environment_and_config_file_of_the_user_do_not_reach_a_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKILLDECK_MAX_CONTAINERS", "3")
    runner = Runner("")
    try:
        assert runner._settings.max_containers == 64
    finally:
        runner.close()


def test_skills_of_the_home_are_offered_when_the_runner_is_told_to(
    model: ScriptedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    skill(tmp_path / ".agents/skills/counting", text="at home\n")
    for settings, expected in (({"skills": "named"}, "at home\n"), ({}, "")):
        play(model, Turn(shell("cat /mnt/skills/counting/notes.txt")), Turn("ok"))
        with Runner("", engine="remote", remote_url=model.url, **settings) as runner:  # type: ignore[arg-type]
            assert stdout(runner.run("/counting please")) == [expected]


def test_what_a_closed_runner_kept_is_gone_and_it_says_that_it_is_closed(model: ScriptedModel) -> None:
    play(model, Turn("bye"))
    with Runner("", engine="remote", remote_url=model.url, permission="deny") as runner:
        home = runner._temporary
        assert home is not None
        assert runner.run("x").output_text == "bye"
        assert home.is_dir()
    assert not home.exists()
    runner.close()
    with pytest.raises(Unavailable, match="closed"):
        runner.run("x")


@pytest.mark.parametrize(
    ("tools", "call"),
    [
        ([], shell("touch made")),
        ([{"type": "code_interpreter", "container": {"type": "auto"}}], Call("python", {"code": "open('made', 'w')"})),
        ([{"type": "apply_patch"}], Call("apply_patch", {"type": "create_file", "path": "made", "diff": "+x"})),
    ],
    ids=["shell", "code_interpreter", "apply_patch"],
)
def test_a_runner_that_denies_runs_nothing(model: ScriptedModel, tools: list[Any], call: Call) -> None:
    play(model, Turn(call), Turn("then not"))
    with Runner("", engine="remote", remote_url=model.url, permission="deny") as runner:
        response = runner.run("go", tools=tools)
    assert response.output_text == "then not"
    assert "Permission denied" in model.requests[-1]["messages"][-1]["content"]
    assert response.output[-1].content[0].annotations == []  # type: ignore[union-attr]


def test_a_model_that_cannot_load_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="nowhere") as caught:
        Runner(str(tmp_path / "nowhere")).open()
    assert hasattr(caught.value, "hint")


def test_with_a_data_dir_another_runner_goes_on_and_two_at_once_are_refused(
    model: ScriptedModel, tmp_path: Path
) -> None:
    play(model, Turn("noted"), Turn("as I said"))
    with Runner("", engine="remote", remote_url=model.url, data_dir=tmp_path / "d") as runner:
        first = runner.run("note this")
        with pytest.raises(Exception, match="owns"):
            Runner("", data_dir=tmp_path / "d").open()
    with Runner("", engine="remote", remote_url=model.url, data_dir=tmp_path / "d") as runner:
        runner.run("again", previous_response_id=first.id)
    assert [m["content"] for m in model.requests[-1]["messages"] if m["role"] != "system"] == [
        "note this", "noted", "again"
    ]  # fmt: skip


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, skilldeck_daemon; print(sorted({'torch', 'starlette', 'openai', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
