"""Pictures in the transcript: those of messages and of code, whole where the terminal is known to show them."""

from __future__ import annotations

import base64
from io import BytesIO

import pytest
from PIL import Image

from skilldeck_tui.widgets.files import kitty
from skilldeck_tui.widgets.files.picture import Picture
from skilldeck_tui.widgets.transcript.pictures import of_message, of_url
from support.fake_daemon import FakeDaemon
from support.tui import deck


def png(width: int = 8, height: int = 4) -> bytes:
    stored = BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(stored, "PNG")
    return stored.getvalue()


def url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


async def test_what_code_drew_and_what_was_sent_is_seen() -> None:
    fake = FakeDaemon()
    file = fake.add_file("photo.png", png(6, 2))
    content = [
        {"type": "input_text", "text": "Draw it"}, {"type": "input_image", "image_url": url(png(8, 2))},
        {"type": "input_file", "file_id": file["id"], "filename": "photo.png"},
    ]  # fmt: skip
    run = fake.start("x", session_id=fake.add_session("Work")["id"])
    run.request["input"] = [{"type": "message", "role": "user", "content": content}]
    outputs = [{"type": "logs", "logs": "drawn"}, *[{"type": "image", "url": url(png(4, 2))}] * 5]
    item = {"id": "ci_1", "type": "code_interpreter_call", "status": "completed", "code": "plot()",
            "container_id": "cntr_1", "outputs": outputs}  # fmt: skip
    run.end_item(run.begin_item(item))
    run.complete()
    async with deck(fake, size=(100, 50)) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.shows("Draw it", "▀" * 8, "▀" * 6, "5 pictures", "⋯ 1 more picture")
        await d.until(lambda: len(d.chat.query(Picture)) == 2 + 4)


async def test_kitty_is_sent_the_picture_and_its_cells_and_forgets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kitty, "understood", lambda: True)
    fake = FakeDaemon()
    run = fake.start("x", session_id=fake.add_session("Work")["id"])
    content = [{"type": "input_image", "image_url": url(png(8, 4))}]
    run.request["input"] = [{"type": "message", "role": "user", "content": content}]
    run.complete()
    async with deck(fake) as d:
        sent: list[str] = []
        monkeypatch.setattr(type(d.app.console), "color_system", "truecolor")
        monkeypatch.setattr(Picture, "_send", lambda self, sequences: sent.append(sequences))
        d.chat.open(f"session:{run.session_id}")
        await d.shows(kitty.PLACEHOLDER)
        (picture,) = d.chat.query(Picture)
        (number,) = picture._sent
        assert sent == [kitty.sent(number, *_sent_as(sent[0]), 8, 2)]
        assert kitty.row(1, 8) in d.text()
        d.chat.open("")
        await d.until(lambda: sent[-1] == kitty.forgotten(number))


def _sent_as(sequence: str) -> tuple[bytes]:
    return (base64.b64decode("".join(part.partition(";")[2] for part in sequence.split("\x1b\\")[:-2])),)


def test_a_picture_goes_in_pieces_and_its_cells_count_rows_and_columns() -> None:
    data = bytes(range(256)) * 20
    *pieces, placed = kitty.sent(70_000, data, 20, 5).split("\x1b\\")[:-1]
    assert [piece.partition(";")[0] for piece in pieces] == ["\x1b_Gi=70000,f=100,t=d,q=2,m=1", "\x1b_Gm=0"]
    assert max(len(piece.partition(";")[2]) for piece in pieces) <= kitty.PIECE
    assert placed == "\x1b_Ga=p,U=1,i=70000,c=20,r=5,q=2"
    # By the protocol's own list: its first characters.
    assert kitty.row(1, 3) == "".join(f"{kitty.PLACEHOLDER}\u030d{mark}" for mark in "\u0305\u030d\u030e")
    assert len(kitty.row(127, kitty.MOST)) == 3 * kitty.MOST


@pytest.mark.parametrize(
    ("environment", "understood"),
    [
        ({"TERM": "xterm-kitty"}, True), ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, True),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, False), ({"TERM": "xterm-256color"}, False), ({}, False),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, False),
    ],
)  # fmt: skip
def test_no_terminal_is_asked(environment: dict[str, str], understood: bool) -> None:
    assert kitty.understood(environment) is understood


@pytest.mark.parametrize("broken", ["https://example.org/a.png", "data:image/png,plain", "data:image/png;base64,a"])
def test_what_holds_no_picture_is_left(broken: str) -> None:
    assert of_url(broken) is None


def test_files_of_a_message_are_pictures_by_their_name() -> None:
    content = [
        {"type": "input_text", "text": "x"}, {"type": "input_file", "file_id": "file_1"},
        {"type": "input_file", "file_id": "file_2"}, {"type": "input_image", "file_id": "file_3"},
        {"type": "input_image", "image_url": "https://example.org/a.png"},
    ]  # fmt: skip
    assert of_message({"content": content}, ["a.csv", "b.JPG"]) == ["file:file_2", "file:file_3"]
    assert of_message({"content": "words"}) == []
