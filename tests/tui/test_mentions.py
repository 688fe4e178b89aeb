"""What a message names: files and ranges behind `@`, commands and skills behind `/`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from skilldeck_tui.chat.composing import completion, tree
from skilldeck_tui.chat.composing.mentions import Mention, excerpt, leading, lost_slash, mentions, ranged
from skilldeck_tui.screens.dialogs.help import Help
from support.fake_daemon import FakeDaemon
from support.tui import deck


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("src/parser/tokens.py", "src/main.py", "node_modules/x/main.py", "build/main.py", "notes.md", ".env"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"line {number}\n" for number in range(1, 31)))
    (tmp_path / ".gitignore").write_text("build/\n")
    monkeypatch.chdir(tmp_path)
    tree._below.cache_clear()
    return tmp_path


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("main", ["src/main.py"]),
        ("tok", ["src/parser/tokens.py"]),
        ("spt", ["src/parser/tokens.py"]),
        ("parser", ["src/parser/", "src/parser/tokens.py"]),
        ("build", ["build/"]),  # what is named is there
        ("zz", []),
        ("main#2-3", ["src/main.py#2-3"]),
        ("src/", ["src/main.py", "src/parser/"]),
    ],
)
def test_files_are_found_by_their_letters_without_what_is_ignored(project: Path, word: str, found: list[str]) -> None:
    labels = [row.label for row in completion.files(word, (), project)]
    assert labels[: len(found)] == found
    assert not any("node_modules" in label or label.startswith(("build/m", ".env")) for label in labels)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a.py", ("a.py", None)),
        ("a.py#20", ("a.py", (20, 20))),
        ("a.py#20-45", ("a.py", (20, 45))),
        ("a.py#L20-L45", ("a.py", (20, 45))),
        ("a.py#45-20", ("a.py#45-20", None)),
        ("a.py#0", ("a.py#0", None)),
        ("c#", ("c#", None)),
    ],
)
def test_a_range_is_read(word: str, expected: tuple[str, tuple[int, int] | None]) -> None:
    assert ranged(word) == expected


def test_mentions_are_files_or_lead_nowhere_and_code_names_none(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(project))
    text = "Compare @notes.md, @src/main.py#2-3 and @nope (@notes.md#5). a@b.c\n```\n@property\n```\n"
    found, lost = mentions(text, project)
    assert found == [
        Mention("notes.md", project / "notes.md"),
        Mention("src/main.py#2-3", project / "src/main.py", (2, 3)),
        Mention("notes.md#5", project / "notes.md", (5, 5)),
    ]
    assert [mention.name for mention in found] == ["notes.md", "main#2-3.py", "notes#5.md"]
    assert lost == ["@nope"]
    part = excerpt(found[1])
    assert (part.name, part.read_text()) == ("main#2-3.py", "line 2\nline 3\n")
    with pytest.raises(ValueError, match="no line 90"):
        excerpt(Mention("", project / "notes.md", (90, 99)))


def test_a_slash_is_a_command_only_at_the_beginning_and_never_a_path_that_is_there() -> None:
    assert leading("/model big one") == ("model", "big one")
    assert leading("see /model") == ("", "")
    assert lost_slash("/nope do", {"help"}) == ["/nope"]
    assert lost_slash("/help", {"help"}) == []
    assert lost_slash("/etc is large", {"help"}) == []


async def test_a_message_takes_the_files_it_names_with_it_and_says_what_it_does_not_find(project: Path) -> None:
    fake = FakeDaemon()
    async with deck(fake) as d:
        await d.paste("Explain @src/main.py#2-3 and @nope please")
        await d.shows("@nope is no file here: plain text to the model", "goes with it: main#2-3.py")
        await d.press("enter")
        await d.until(lambda: fake.called("StartRun"))
        (upload,) = fake.objects["file"].values()
        assert (upload["filename"], fake.file_data[upload["id"]]) == ("main#2-3.py", b"line 2\nline 3\n")
        sent = fake.called("StartRun")[0].request_json
        assert "Explain main#2-3.py and @nope please" in sent
        assert upload["id"] in sent


async def test_a_command_runs_and_is_not_sent() -> None:
    fake = FakeDaemon()
    fake.put("model", {"id": "big", "object": "model", "state": "ready", "engine": "llamacpp"})
    async with deck(fake) as d:
        await d.type("/hel")
        await d.shows("/ help")
        await d.press("enter")
        await d.until(lambda: isinstance(d.app.screen, Help))
        await d.press("escape")
        await d.paste("/model bi")
        await d.press("enter")
        await d.until(lambda: d.chat.composer.draft.model == "big")
        await d.paste("/model huge")
        await d.press("enter")
        await d.shows("No model huge is loaded: big, skilldeck-tiny.")
        await d.paste("/nope at all")
        await d.shows("/nope is no command and no skill")
        assert not fake.called("StartRun")


async def test_a_skill_named_at_the_beginning_is_chosen_also_without_the_list() -> None:
    fake = FakeDaemon()
    skill = fake.add_skill("csv-summary")
    async with deck(fake) as d:
        await d.until(lambda: d.app.state.skills)
        await d.paste("/csv-summary sum it up")
        await d.press("enter")
        await d.until(lambda: fake.called("StartRun"))
        sent = fake.called("StartRun")[0].request_json
        assert '"sum it up"' in sent
        assert skill["id"] in sent
