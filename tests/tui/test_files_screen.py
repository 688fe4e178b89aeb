"""Files, driven by keys against a scripted daemon."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from pathlib import Path

import pytest
from textual.widgets import Static

from skilldeck_tui.chat.composing import completion
from skilldeck_tui.chat.composing.completion import Candidate
from support.fake_daemon import FakeDaemon
from support.pictures import go
from support.tui import Deck, deck


async def _open(d: Deck) -> None:
    await d.press("f4")
    await d.until(lambda: d.app.current_mode == "files" and d.app.screen.is_mounted)


async def test_an_empty_list_offers_the_next_step_and_a_file_is_uploaded(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("region,amount\nnorth,12\n")
    fake = FakeDaemon()
    async with deck(fake) as d:
        await _open(d)
        await d.shows("No files yet", "u    upload a file")
        await d.press("u")
        await d.shows("Upload a file")
        await d.type(str(tmp_path / "missing"))
        await d.press("enter")
        await d.shows("There is no file")
        await d.press("ctrl+u")
        await d.type(str(path))
        await d.press("enter")
        await d.shows("orders.csv", "23 B", "region,amount", "north,12")


class Lingering(Static):
    """Takes its time to go; what stands before it in the dialog is gone already."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = asyncio.Event()

    async def on_unmount(self) -> None:
        await self.gone.wait()


async def test_completions_that_come_after_the_dialog_was_left_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come between the removal of its widgets and the end of the dialog, where the app once died of them."""
    asked, answer = threading.Event(), threading.Event()

    def slow(*_args: object, **_options: object) -> list[Candidate]:
        asked.set()
        assert answer.wait(60)
        return []

    async with deck(FakeDaemon()) as d:
        await _open(d)
        await d.press("u")
        await d.shows("Upload a file")
        monkeypatch.setattr(completion, "paths", slow)
        await d.type("x")
        await d.until(asked.is_set)
        dialog = d.app.screen
        await dialog.mount(lingering := Lingering())
        [worker] = [worker for worker in d.app.workers if worker.node is dialog]
        dialog.dismiss(None)
        await d.until(lambda: not dialog.query("OptionList"))
        answer.set()
        await d.until(lambda: worker.is_finished)
        lingering.gone.set()
        assert worker.error is None
        await d.shows("No files yet")


async def test_the_preview_says_what_is_no_text() -> None:
    fake = FakeDaemon()
    fake.add_file("photo.png", b"\x89PNG\0\0" * 100)
    async with deck(fake) as d:
        await _open(d)
        await d.shows("photo.png", "png · 600 B · not text")


async def test_a_long_file_is_shown_from_its_beginning() -> None:
    fake = FakeDaemon()
    fake.add_file("long.txt", b"line\n" * 40_000)
    async with deck(fake) as d:
        await _open(d)
        await d.shows("long.txt", "200 KB", "line")
        assert d.app.screen.query_one("Preview").virtual_size.height < 2100


async def test_a_file_goes_to_the_chat_and_its_id_to_the_clipboard() -> None:
    fake = FakeDaemon()
    stored = fake.add_file("orders.csv", b"a,b\n")
    async with deck(fake) as d:
        await _open(d)
        await d.shows("a,b")
        await d.press("c")
        await d.until(lambda: d.app.clipboard == stored["id"])
        await d.press("t")
        await d.until(lambda: d.app.current_mode == "chat")
        await d.shows("▤ orders.csv 4 B ×")


async def test_deleting_asks_first() -> None:
    fake = FakeDaemon()
    fake.add_file("orders.csv", b"a,b\n")
    async with deck(fake) as d:
        await _open(d)
        await d.shows("a,b")
        await d.press("d")
        await d.shows("Delete “orders.csv”?")
        await d.press("y")
        await d.shows("No files yet")


async def test_ages_go_on_while_nothing_happens() -> None:
    fake = FakeDaemon()
    fake.add_skill("csv-summary")
    fake.add_file("orders.csv", b"region,amount\n")
    fake.add_container("auto-7f3a", {"report.md": b"# Report\n"})
    began = time.time()
    now = began + 300
    async with deck(fake, clock=lambda: now) as d:
        for key, mode, thing in (("f4", "files", "orders.csv"), ("f5", "daemon", "auto-7f3a"), ("f3", "skills", "v1")):
            now = began + 300
            await go(d, key, mode)
            if mode == "daemon":
                await d.press("right_square_bracket")  # the section of containers
            await d.until(lambda thing=thing: re.search(rf"{thing}.*\b[45]m", d.text()))  # type: ignore[misc]
            now = began + 3 * 3600 + 300
            await d.until(lambda thing=thing: re.search(rf"{thing}.*\b3h", d.text()))  # type: ignore[misc]
