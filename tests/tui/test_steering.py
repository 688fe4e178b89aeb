"""Writing while a run is live: what enter, tab, the arrows, the pages and ctrl+c do then."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from skilldeck_tui.chat import sending
from skilldeck_tui.client.types import ConnectionLost
from skilldeck_tui.widgets.composing.composer import ComposerText
from skilldeck_tui.widgets.transcript.view import TranscriptView
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.tui import Deck, deck


class Model:
    """Answers "Echo" to every message but the first, which calls the shell until it is told to go on."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def __call__(self, run: FakeRun) -> None:
        text = run.summary()["title"]
        if text != "first":
            run.text(f"Echo: {text}")
            run.complete()
            return
        call = run.shell(["sleep 9"])
        call.output(stdout="".join(f"row {n}\n" for n in range(40)))
        await self.over.wait()
        call.exit([0])
        if run.leaving.is_set():
            run.cancel()
        else:
            run.text("The first is answered.")
            run.complete()


@pytest.fixture
def fake() -> FakeDaemon:
    made = FakeDaemon()
    made.on_run = Model()
    return made


async def begun(d: Deck) -> Model:
    await d.type("first")
    await d.press("enter")
    await d.shows("row 39")
    await d.until(lambda: d.chat.live)
    model = d.fake.on_run
    assert isinstance(model, Model)
    return model


def asked(fake: FakeDaemon) -> list[str]:
    bodies = [json.loads(request.request_json) for request in fake.called("StartRun")]
    return [body["input"][0]["content"][0]["text"] for body in bodies]


async def test_enter_steers_the_run(fake: FakeDaemon) -> None:
    async with deck(fake) as d:
        model = await begun(d)
        await d.type("only the north")
        await d.press("enter")
        await d.shows("next turn  only the north")
        assert d.chat.composer.text.text == ""
        (cancelled,) = fake.called("CancelRun")
        assert cancelled.after_turn
        assert asked(fake) == ["first"]
        model.over.set()
        await d.shows("went on with your message", "› only the north", "Echo: only the north")
        await d.hides("next turn")
        assert [json.loads(r.request_json)["conversation"] for r in fake.called("StartRun")] == [
            next(iter(fake.objects["session"]))
        ] * 2


@pytest.mark.parametrize("key", ["tab", "alt+enter"])
async def test_tab_sends_it_when_the_run_is_over(fake: FakeDaemon, key: str) -> None:
    async with deck(fake) as d:
        model = await begun(d)
        for text in ("second", "third"):
            await d.type(text)
            await d.press(key)
            await d.shows(f"at the end  {text}")
        assert not fake.called("CancelRun")
        model.over.set()
        await d.shows("The first is answered.", "Echo: second", "Echo: third")
        assert asked(fake) == ["first", "second", "third"]
        await d.hides("at the end")


async def test_what_steers_goes_before_what_waits_and_up_takes_the_last_back(fake: FakeDaemon) -> None:
    async with deck(fake) as d:
        model = await begun(d)
        await d.type("later")
        await d.press("tab")
        await d.type("now")
        await d.press("enter")
        await d.shows("next turn  now", "at the end  later")
        await d.press("up")
        await d.until(lambda: d.chat.composer.text.text == "later")
        await d.hides("at the end")
        await d.type(" and longer")
        await d.press("tab")
        model.over.set()
        await d.shows("Echo: now", "Echo: later and longer")
        assert asked(fake) == ["first", "now", "later and longer"]


async def test_it_is_sent_while_another_session_is_shown(fake: FakeDaemon) -> None:
    async with deck(fake) as d:
        model = await begun(d)
        await d.type("second")
        await d.press("tab")
        await d.press("ctrl+n")
        await d.hides("at the end")
        model.over.set()
        await d.until(lambda: asked(fake) == ["first", "second"])
        assert d.chat.current == ""
        assert len(fake.objects["session"]) == 1
        await d.press("f4")
        assert d.app.current_mode == "files"


async def test_ctrl_c_stops_the_run_and_gives_back_what_waits(fake: FakeDaemon) -> None:
    async with deck(fake) as d:
        await begun(d)
        await d.type("second")
        await d.press("tab")
        await d.type("half written")
        await d.press("ctrl+c")
        await d.shows("stopped", "ctrl+c again quits")
        (cancelled,) = fake.called("CancelRun")
        assert not cancelled.after_turn
        await d.until(lambda: d.chat.composer.text.text == "second\n\nhalf written")
        assert asked(fake) == ["first"]
        assert not d.app._exit


async def test_ctrl_c_twice_quits(fake: FakeDaemon) -> None:
    async with deck(fake) as d:
        d.app.monotonic = lambda: 100.0  # both within two seconds, however slow the machine
        await begun(d)
        await d.press("ctrl+c")
        assert not d.app._exit
        await d.press("ctrl+c")
        await d.until(lambda: d.app._exit)


async def test_the_pages_scroll_from_the_composer(fake: FakeDaemon) -> None:
    async with deck(fake, size=(80, 24)) as d:
        await begun(d)
        view = d.chat.transcript
        await d.type("half")
        end = await d.until(lambda: view.scroll_y)
        await d.press("pageup")
        await d.until(lambda: view.scroll_y < end)
        await d.press("pagedown")
        await d.until(lambda: view.scroll_y == end)
        await d.press("ctrl+home")
        await d.until(lambda: view.scroll_y == 0)
        await d.press("ctrl+end")
        await d.until(lambda: view.scroll_y == end)
        assert d.chat.composer.text.text == "half"


async def test_escape_leaves_the_composer_and_comes_back(fake: FakeDaemon) -> None:
    async with deck(fake) as d:
        await begun(d)
        await d.press("escape")
        assert isinstance(d.app.focused, TranscriptView)
        await d.press("escape")
        assert isinstance(d.app.focused, ComposerText)
        assert not fake.called("CancelRun")


async def test_the_arrows_move_between_the_lines_of_a_message(fake: FakeDaemon) -> None:
    async with deck(fake) as d:
        await d.type("one")
        await d.press("ctrl+j")
        await d.type("two")
        await d.press("up", "home")
        await d.type("more ")
        assert d.chat.composer.text.text == "more one\ntwo"
        await d.press("down", "end")
        await d.type("!")
        assert d.chat.composer.text.text == "more one\ntwo!"


async def test_what_is_typed_behind_enter_is_the_next_message(fake: FakeDaemon) -> None:
    async with deck(fake) as d:
        model = await begun(d)
        await d.burst(*"now", "enter", *"later", "tab", *"rest")
        await d.shows("next turn  now", "at the end  later")
        assert d.chat.composer.text.text == "rest"
        model.over.set()
        await d.shows("Echo: now", "Echo: later")


@pytest.mark.parametrize("chain", [False, True])
@pytest.mark.parametrize("started", [True, False])
async def test_a_message_whose_start_was_lost_is_neither_doubled_nor_gone(
    started: bool, chain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeDaemon()
    fake.start("just once").complete()  # said before, elsewhere
    first = fake.start("begin")
    first.complete()
    async with deck(fake) as d:
        if chain:
            d.chat.open(f"run:{first.id}")
            await d.until(lambda: d.chat.turns)
        shown, known = len(d.chat.turns), len(fake.live)
        begin, away = d.app.client.start_run, iter((True, True))
        runs = d.app.client.runs

        async def lost(*given: Any, **named: Any) -> Any:
            if started:
                await begin(*given, **named)
            raise ConnectionLost("The daemon went away.")

        async def later(**named: Any) -> Any:
            if next(away, False):
                raise ConnectionLost("It is still away.")
            return await runs(**named)

        monkeypatch.setattr(sending, "LOST_PAUSE", 0.0)
        monkeypatch.setattr(d.app.client, "start_run", lost)
        monkeypatch.setattr(d.app.client, "runs", later)
        await d.type("just once")
        await d.press("enter")
        if started:
            await d.shows("› just once", "Echo: just once")
            assert (d.chat.composer.text.text, len(d.chat.turns)) == ("", shown + 1)
        else:
            await d.until(lambda: d.chat.composer.text.text == "just once")
            assert len(d.chat.turns) == shown
        assert len(fake.live) == known + started


async def test_a_session_whose_making_was_lost_is_taken(fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    async with deck(fake) as d:
        make = d.app.client.create_session

        async def lost(*given: Any) -> Any:
            await make(*given)
            raise ConnectionLost("The daemon went away.")

        monkeypatch.setattr(d.app.client, "create_session", lost)
        await d.type("just once")
        await d.press("enter")
        await d.until(lambda: d.chat.turns and d.chat.turns[0].run_id)
        assert d.chat.current == f"session:{next(iter(fake.objects['session']))}"
        assert len(fake.objects["session"]) == 1
