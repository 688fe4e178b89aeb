"""Which requests are given which skills on disk, down to the container that mounts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skilldeck_daemon.agent.planning.plan import Nearby
from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.libraries.ondisk import DiskSkills, mentions
from skilldeck_daemon.skills.trust import Trust
from skilldeck_shared.errors import BadRequest, NotFound
from support.daemon import SHELL, Running, running
from support.scripted_model import Turn, shell


def put(folder: Path, text: str = "disk\n") -> Path:
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(f"---\nname: {folder.name}\ndescription: Does {folder.name}.\n---\n")
    (folder / "notes.txt").write_text(text)
    return folder


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("/report this", {"report"}),
        ("please run $csv-sum, then (/report).", {"csv-sum", "report"}),
        ("look in /usr/bin, a/b, ~/x, ./y and https://host/path", set()),
        ("costs 5$ and $HOME/x ${x} --/-", set()),
        ("no names", set()),
    ],
)
def test_names_in_a_prompt(text: str, names: set[str]) -> None:
    assert mentions([user(text)]) == names


def test_only_what_users_say_counts() -> None:
    assert (
        mentions([{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "/x"}]}])
        == set()
    )
    assert mentions([{"type": "shell_call_output", "output": []}, {"role": "user", "content": "/y"}]) == {"y"}


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    home, project = tmp_path / "home", tmp_path / "project"
    for name in ("mine", "same"):
        put(home / ".agents/skills" / name)
    for name in ("theirs", "same"):
        put(project / ".agents/skills" / name)
    return home, project


async def names(disk: DiskSkills, text: str, project: Path | None, *asked: str) -> list[str]:
    return [f"{skill.scope}/{skill.name}" for skill in await disk.wanted([user(text)], project, asked)]


async def test_a_projects_skills_are_offered_once_it_is_trusted(places: tuple[Path, Path], tmp_path: Path) -> None:
    home, project = places
    disk = DiskSkills(Trust(tmp_path / "trusted.json"), home=home)
    text = "use /mine /same $theirs and /other"
    assert await names(disk, text, None) == ["user/mine", "user/same"]
    # An untrusted project does not even hide the user's own.
    assert await names(disk, text, project) == ["user/mine", "user/same"]
    with pytest.raises(NotFound, match="not trusted"):
        await disk.wanted([], project, ["theirs"])
    disk.trust.add(str(project))
    assert await names(disk, text, project) == ["user/mine", "project/same", "project/theirs"]
    assert await names(disk, "nothing", project, "theirs") == ["project/theirs"]
    with pytest.raises(NotFound, match="nope"):
        await disk.wanted([], project, ["nope"])


async def test_auto_offers_all_and_off_none(places: tuple[Path, Path], tmp_path: Path) -> None:
    trust = Trust(tmp_path / "trusted.json")
    assert await names(DiskSkills(trust, mode="auto", home=places[0]), "hello", None) == ["user/mine", "user/same"]
    assert await names(DiskSkills(trust, mode="off", home=places[0]), "/mine", None) == []


async def test_the_list_tells_scope_trust_and_what_is_offered(places: tuple[Path, Path], tmp_path: Path) -> None:
    disk = DiskSkills(Trust(tmp_path / "trusted.json"), home=places[0])
    found = {(s["name"], s["scope"]): (s["trusted"], s["offered"]) for s in await disk.list(str(places[1]))}
    assert found == {
        ("mine", "user"): (True, True),
        ("same", "user"): (True, True),
        ("same", "project"): (False, False),
        ("theirs", "project"): (False, False),
    }
    assert len(await disk.warnings(str(places[1]))) == 1
    with pytest.raises(BadRequest):
        await disk.list("relative")


async def started(deck: Running, text: str, nearby: Nearby | None = None, **fields: Any) -> dict[str, Any]:
    request = ResponseRequest.parse({"input": text, "tools": [SHELL], **fields})
    return await (await deck.daemon.services.runs.start(request, nearby=nearby)).finished()


def shell_output(response: dict[str, Any]) -> str:
    return str(next(item for item in response["output"] if item["type"] == "shell_call_output")["output"][0]["stdout"])


async def test_a_named_skill_is_mounted_and_joins_the_container_a_conversation_has(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, project = places
    monkeypatch.setenv("HOME", str(home))
    look = "cat kept.txt /mnt/skills/*/notes.txt; ls /mnt/skills"
    turns = [Turn(shell("echo kept > kept.txt; ls /mnt/skills")), Turn("1"), Turn(shell(look)), Turn("2"), Turn("3")]
    async with running(*turns) as deck:
        first = await started(deck, "use /mine")
        assert shell_output(first) == "mine\n"
        assert "- mine: Does mine." in deck.model.requests[0]["messages"][0]["content"]
        deck.daemon.services.disk.trust.add(str(project))
        near = Nearby(project=str(project / ".agents"))
        second = await started(deck, "and $theirs", near, previous_response_id=first["id"])
        assert shell_output(second) == "kept\ndisk\ndisk\nmine\ntheirs\n"
        # Without a name, and over HTTP, nothing of the disk is told.
        await deck.respond("plain", tools=[SHELL])
        assert "Skills:" not in deck.model.requests[-1]["messages"][0]["content"]
