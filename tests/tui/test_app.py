"""The app as a whole: modes, palette, help, keymap, themes, losing and finding the daemon, what it imports."""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from textual.events import MouseDown, MouseUp
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from skilldeck_shared.errors import BadRequest, SkilldeckError
from skilldeck_tui import actions
from skilldeck_tui.app import SkilldeckApp
from skilldeck_tui.chat.composing import completion, mentions
from skilldeck_tui.client.client import Client, DaemonUnreachable, Link, Snapshot
from skilldeck_tui.client.transport import SocketChannel
from skilldeck_tui.preferences import Memory, Preferences
from skilldeck_tui.screens import dialogs
from skilldeck_tui.screens.dialogs.confirm import Confirm
from skilldeck_tui.screens.dialogs.dialog import Dialog, Palette
from skilldeck_tui.screens.dialogs.jump import Jump
from skilldeck_tui.screens.dialogs.prompt import Prompt
from skilldeck_tui.skills.skill_rows import SkillRow
from skilldeck_tui.state import STUCK_ATTEMPTS, DaemonState
from skilldeck_tui.terminal.notices import notice
from skilldeck_tui.terminal.screenshot import take
from skilldeck_tui.widgets.session_list import SessionList
from support.fake_daemon import FakeDaemon
from support.tui import Deck, deck


async def test_the_modes_are_reached_by_function_keys_and_where_nobody_writes_by_digits() -> None:
    async with deck(FakeDaemon()) as d:
        for key, mode in (("f3", "skills"), ("f4", "files"), ("f5", "daemon"), ("f2", "chat")):
            await d.press(key)
            await d.until(lambda mode=mode: d.app.current_mode == mode)  # type: ignore[misc]
        await d.type("2")
        assert d.app.current_mode == "chat"
        assert d.chat.composer.text.text == "2"
        await d.press("f5")
        await d.until(lambda: d.app.current_mode == "daemon")
        await d.press("3")
        await d.until(lambda: d.app.current_mode == "files")


async def test_help_lists_the_keys_of_the_focused_widget_first() -> None:
    async with deck(FakeDaemon(), size=(100, 110)) as d:
        await d.press("f1")
        await d.shows("Keys", "Composer", "Send the message; while a run is live", "Everywhere")
        text = d.text()
        assert text.index("Composer") < text.index("Everywhere")
        await d.press("escape")
        await d.hides("Everywhere")


async def test_the_palette_runs_an_action_of_the_present_mode() -> None:
    fake = FakeDaemon()
    fake.add_session("Old")
    async with deck(fake) as d:
        d.chat.open(d.chat.rows[0].key)
        await d.press("ctrl+p")
        await d.type("chat: new")
        await d.shows("Chat: New")
        await d.press("enter")
        await d.until(lambda: d.chat.current == "")


async def test_jump_mode_puts_the_focus_anywhere() -> None:
    fake = FakeDaemon()
    fake.add_session("Old")
    async with deck(fake) as d:
        await d.shows("Old")
        await d.press("f6")
        jump = await d.until(lambda: isinstance(d.app.screen, Jump) and d.app.screen)
        assert isinstance(jump, Jump)
        letter = next(key for key, widget in jump.places.items() if type(widget).__name__ == "SessionList")
        await d.press(letter)
        await d.until(lambda: type(d.chat.focused).__name__ == "SessionList")


async def test_keys_are_remapped_by_the_configuration() -> None:
    preferences = Preferences(keys={"app.daemon": "ctrl+g"}, notify=False)
    async with deck(FakeDaemon(), size=(100, 60), preferences=preferences) as d:
        await d.press("ctrl+g")
        await d.until(lambda: d.app.current_mode == "daemon")
        await d.press("f1")
        await d.shows("ctrl+g")


async def test_an_action_without_a_key_can_be_given_one_by_the_name_that_help_shows() -> None:
    fake = FakeDaemon()
    fake.start("Never ends")
    preferences = Preferences(keys={"chat.stop": "f10"}, notify=False)
    async with deck(fake, size=(100, 60), preferences=preferences) as d:
        d.chat.open(d.chat.rows[0].key)
        await d.until(lambda: d.chat.live)
        await d.press("f1")
        await d.shows("f10", "Cancel the run that is shown.  chat.stop")
        await d.press("escape", "f10")
        await d.until(lambda: fake.called("CancelRun"))


async def test_the_theme_changes_and_is_remembered(tmp_path: Path) -> None:
    memory = Memory(path=tmp_path / "tui.json")
    fake = FakeDaemon()
    fake.add_file("a.txt", b"x")
    async with deck(fake, memory=memory) as d:
        await d.press("f4")
        for theme in ("skilldeck-light", "ansi-dark", "skilldeck-dark"):
            await d.press("f8")
            await d.until(lambda theme=theme: d.app.theme == theme)  # type: ignore[misc]
            await d.shows("a.txt")
            assert Memory.read(tmp_path / "tui.json").theme == theme


def test_every_action_has_an_implementation_and_ids_are_unique() -> None:
    from skilldeck_tui.screens import chat, daemon, files, skills
    from skilldeck_tui.screens.dialogs import diff, lint, matrix, trials
    from skilldeck_tui.widgets import log_pane, session_list
    from skilldeck_tui.widgets.composing import composer
    from skilldeck_tui.widgets.transcript import approval
    from skilldeck_tui.widgets.transcript import view as transcript_view

    owners = {
        "app": SkilldeckApp, "chat": chat.ChatScreen, "sessions": session_list.SessionList,
        "transcript": transcript_view.TranscriptView, "composer": composer.ComposerText,
        "approval": approval.ApprovalBox, "skills": skills.SkillsScreen, "diff": diff.DiffScreen,
        "files": files.FilesScreen, "daemon": daemon.DaemonScreen, "logs": log_pane.LogPane,
        "lint": lint.LintScreen, "matrix": matrix.MatrixScreen, "trials": trials.TrialsScreen,
    }  # fmt: skip
    delegated = dict.fromkeys(("models", "containers", "rules"), daemon.DaemonScreen)
    for action in actions.ACTIONS:
        asked = chat.ChatScreen if action.scope == "transcript" and action.action.startswith("screen.") else None
        owner = asked or {**owners, **delegated}[action.scope]
        name = action.action.split("(")[0].removeprefix("screen.")
        assert hasattr(owner, f"action_{name}"), action.id
    assert len(actions.BY_ID) == len(actions.ACTIONS)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[tui]\ntheme = 'none'", "tui.theme"),
        ("[tui.keys]\n'no.such' = 'x'", "tui.keys"),
        ("[tui]\nkeys = 3", "tui.keys"),
        ("[tui]\nshell_lines = 1", "tui.shell_lines"),
        ("tui = 3", "tui"),
    ],
)
def test_a_wrong_configuration_names_its_field(text: str, field: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(BadRequest) as caught:
        Preferences.read(path)
    assert caught.value.param == field


def test_a_configuration_that_is_no_toml_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[tui")
    with pytest.raises(BadRequest, match=r"config\.toml"):
        Preferences.read(path)
    assert Preferences.read(tmp_path / "missing") == Preferences()


def test_a_damaged_memory_is_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "tui.json"
    for text in ("", "[]", '{"watched": 3}', "\0"):
        path.write_text(text)
        assert Memory.read(path).watched == []


async def test_a_lost_daemon_is_told_and_everything_is_read_again_when_it_is_back(tmp_path: Path) -> None:
    fake = FakeDaemon()
    session = fake.add_session("Counting")
    run = fake.start("Count", session_id=session["id"])
    message = run.begin_text()
    message.delta("one ")
    path = tmp_path / "s"
    client = Client(SocketChannel(path), path)
    app = SkilldeckApp(lambda: client, preferences=Preferences(notify=False), memory=Memory(), open_run=run.id)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        d = Deck(app, pilot, fake)
        async with fake.listening(path):
            await d.shows("one")
            message.delta("two ")
            await d.shows("one two")
        await d.shows("Lost the connection")
        assert "one two" in d.text()
        message.delta("three")
        run.complete()
        fake.objects["session"][session["id"]] = {**session, "metadata": {"title": "renamed meanwhile"}}
        async with fake.listening(path):
            await d.shows("one two three", "renamed meanwhile", "120 in")
            assert d.text().count("one two three") == 1
            await d.until(lambda: app.state.connected)
    await client.close()


def test_the_link_goes_from_degraded_over_stuck_to_recovered() -> None:
    state = DaemonState()
    state.apply(Link("connected"))
    state.apply(Snapshot("i"))
    error = DaemonUnreachable("No daemon listens.")
    state.apply(Link("lost", 1, error))
    assert state.link == "degraded"
    state.apply(Link("lost", STUCK_ATTEMPTS + 1, error))
    assert (state.link, state.link_error) == ("stuck", error)
    state.apply(Link("connected"))
    assert state.link == "recovered"
    state.settle()
    assert state.link == "connected"


async def test_a_screenshot_is_taken_without_a_terminal(tmp_path: Path) -> None:
    fake = FakeDaemon()
    run = fake.start("Count the lines")
    run.text("There are **12** lines.")
    run.complete()
    async with fake.client() as client:
        app = SkilldeckApp(lambda: client, preferences=Preferences(notify=False), memory=Memory(), open_run=run.id)
        await take(app, tmp_path / "out.svg")
    picture = (tmp_path / "out.svg").read_text("utf-8")
    assert picture.startswith("<svg")
    assert "Count&#160;the&#160;lines" in picture


async def test_a_screenshot_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    async with FakeDaemon().client() as client:
        app = SkilldeckApp(lambda: client, preferences=Preferences(notify=False), memory=Memory())
        with pytest.raises(SkilldeckError, match="cannot be written"):
            await take(app, tmp_path / "no" / "out.svg")


def test_a_notice_holds_no_control_characters_of_its_text() -> None:
    assert notice("a;b", "x\x1b]0;evil\x07y\nz") == "\a\x1b]9;a,b: xy\x1b\\\x1b]777;notify;a,b;xy\x1b\\"


def test_the_tui_imports_neither_the_daemon_nor_what_it_needs() -> None:
    code = (
        "import sys, json, skilldeck_tui.app, skilldeck_tui.cli.main, skilldeck_tui.watching.watcher\n"
        "import skilldeck_tui.screens.dialogs.diff\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(result.stdout))
    assert not loaded & {"torch", "transformers", "starlette", "uvicorn", "sqlalchemy", "openai", "skilldeck_daemon"}


async def test_nothing_is_painted_and_no_timer_runs_while_nothing_happens() -> None:
    async with deck(FakeDaemon()) as d:
        await d.type("hi")
        await d.press("enter")
        await d.shows("Echo: hi")
        await d.until(lambda: not d.chat._reading)
        timer = d.chat._timer
        assert timer is not None
        await d.until(lambda: not timer._active.is_set())


async def test_a_notice_is_plain_text_and_leaves_the_composer_free() -> None:
    async with deck(FakeDaemon()) as d:
        d.app.notify("Saved as /tmp/[/bold]/[x", title="[/]")
        d.chat.notify("[/red] as well", severity="error")
        await d.shows("Saved as /tmp/[/bold]/[x", "[/red] as well", "[/]")
        rack = d.app.screen.query_one("ToastRack").region
        assert not rack.overlaps(d.chat.composer.region)


@pytest.mark.parametrize(
    "keys", [("f6", "a"), ("ctrl+k", "escape"), ("ctrl+o", "escape"), ("f1", "escape"), ("ctrl+p", "escape")]
)
async def test_a_dialog_is_answered_once(keys: tuple[str, str]) -> None:
    opens, closes = keys
    async with deck(FakeDaemon()) as d:
        await d.press(opens)
        await d.until(lambda: len(d.app.screen_stack) == 2)
        dialog = d.app.screen
        await d.burst(closes, closes, closes)
        await d.until(lambda: d.app.screen_stack == [d.chat])
        dialog.dismiss(None)  # and what a worker of it found is for nobody
        await d.handled()
        assert d.app.screen_stack == [d.chat]


async def test_a_palette_that_closes_stops_looking() -> None:
    async with deck(FakeDaemon()) as d:
        await d.press("ctrl+p")
        await d.until(lambda: isinstance(d.app.screen, Palette))
        palette = d.app.screen
        await d.type("zz")
        palette.dismiss(None)
        palette.query_one(Input).value = "zzz"  # a letter that is handled late
        await d.until(lambda: d.app.screen_stack == [d.chat])
        await d.until(lambda: not [worker for worker in d.app.workers if worker.node is palette])
        assert d.app._exception is None


async def test_a_burst_of_a_key_opens_one_dialog() -> None:
    fake = FakeDaemon()
    fake.add_session("Orders")
    async with deck(fake) as d:
        d.chat.query_one(SessionList).focus()
        await d.until(lambda: isinstance(d.app.focused, SessionList))
        await d.burst(*"word word word")
        await d.until(lambda: len(d.app.screen_stack) == 2)
        await d.handled()
        assert len(d.app.screen_stack) == 2
        await d.press("escape")
        await d.until(lambda: d.app.screen_stack == [d.chat])


@pytest.mark.parametrize("key", ["f4", "ctrl+o"])
async def test_a_press_on_what_was_just_removed_is_one_beside_everything(key: str) -> None:
    async with deck(FakeDaemon()) as d:
        await d.press(key)
        await d.until(lambda: d.app.screen is not d.chat)
        label = Label("removed")
        await d.app.screen.mount(label)
        await d.shows("removed")
        x, y = label.region.offset
        assert d.app.screen.get_widget_and_offset_at(x, y)[0] is label
        parent = label._parent
        label._detach()
        press = MouseDown(None, x, y, 0, 0, 1, False, False, False)
        d.app.screen._forward_event(press)
        d.app.screen._forward_event(MouseUp(None, x, y, 0, 0, 1, False, False, False))
        assert d.app.screen.get_widget_and_offset_at(x, y) == (None, None)
        assert parent is not None
        label._attach(parent)
        assert d.app.screen.get_widget_and_offset_at(x, y)[0] is label


async def test_a_dialog_that_had_to_be_fetched_opens_when_the_one_that_is_open_closes() -> None:
    async with deck(FakeDaemon()) as d:
        fetched, list_ = asyncio.Event(), d.chat.query_one(SessionList)

        async def fetch() -> None:
            await fetched.wait()
            d.app.push_screen(Confirm("Fetched?"), answers.append)
            d.app.push_screen(Confirm("Fetched too?"), answers.append)

        answers: list[bool | None] = []
        list_.call_later(lambda: list_.run_worker(fetch()))
        await d.press("ctrl+o")
        await d.until(lambda: isinstance(d.app.screen, Prompt))
        fetched.set()
        await d.type("notes")
        assert d.app.screen.query_one(Input).value == "notes"
        await d.press("escape")
        await d.shows("Fetched?")
        await d.press("y")
        await d.shows("Fetched too?")
        await d.press("escape")
        await d.until(lambda: d.app.screen_stack == [d.chat])
        assert answers == [True, False]


@pytest.mark.parametrize("path", ["word " * 80, "~nobody-here/x", "/nul\0", "/proc/1/cwd/x/y"])
async def test_a_path_that_cannot_be_looked_at_is_not_there(path: str) -> None:
    assert completion.paths(path, Path.cwd()) == []
    assert completion.pasted_paths(path) == []
    assert mentions.find(path, Path.cwd()) is None
    assert mentions.lost_slash("/" + "word" * 80, ())
    assert SkillRow("x", skill={"source": path}).folder is None
    async with deck(FakeDaemon()) as d:
        await d.press("ctrl+o")
        await d.until(lambda: isinstance(d.app.screen, Prompt))
        d.app.screen.query_one(Input).value = path
        await d.press("enter")
        await d.shows("There is no file")


def test_every_dialog_is_one_that_is_answered_once() -> None:
    for module in pkgutil.iter_modules(dialogs.__path__):
        importlib.import_module(f"{dialogs.__name__}.{module.name}")
    found = [kind for kind in every(ModalScreen) if kind.__module__.startswith("skilldeck_tui")]
    assert len(found) > 10
    assert [kind for kind in found if not issubclass(kind, Dialog | Palette)] == []


def every(kind: type[Any]) -> list[type[Any]]:
    return [below for child in kind.__subclasses__() for below in (child, *every(child))]
