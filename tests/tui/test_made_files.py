"""The files that a run made: below it with their sizes, looked at, saved, attached."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from skilldeck_tui.cited import Made, made_by
from skilldeck_tui.screens.dialogs.look import Look, rows, unique
from skilldeck_tui.widgets.files.picture import Picture, decode
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.tui import Deck, deck


def png(width: int = 8, height: int = 4) -> bytes:
    image = Image.new("RGB", (width, height), (200, 30, 30))
    stored = BytesIO()
    image.save(stored, "PNG")
    return stored.getvalue()


def made(fake: FakeDaemon, files: dict[str, bytes]) -> FakeRun:
    run = fake.start("Make it", session_id=fake.add_session("Work")["id"])
    container = fake.add_container("auto-1", files)
    run.text("Here it is.")
    run.response["output"][-1]["content"][0]["annotations"] = [
        {"type": "container_file_citation", "container_id": container["id"], "file_id": file["id"],
         "filename": Path(file["path"]).name, "start_index": 0, "end_index": 0}
        for file, _ in fake.container_files[container["id"]].values()
    ]  # fmt: skip
    run.complete()
    return run


async def look(d: Deck, run: FakeRun, *texts: str) -> None:
    d.chat.open(f"session:{run.session_id}")
    await d.shows("Here it is.", "▤")
    d.chat.transcript.focus()
    await d.press("f")
    await d.until(lambda: isinstance(d.app.screen, Look))
    await d.shows(*texts)


async def test_files_stand_below_the_run_with_their_sizes_and_a_picture_is_seen() -> None:
    fake = FakeDaemon()
    run = made(fake, {"report.md": b"# Report\n" * 300, "chart.png": png()})
    async with deck(fake) as d:
        d.chat.open(f"session:{run.session_id}")
        await d.shows("▤ report.md 2.7 KB", "▤ chart.png", "▀▀▀▀▀▀▀▀")
        assert d.chat.query(Picture)


async def test_a_text_is_looked_at_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fake = FakeDaemon()
    run = made(fake, {"report.md": b"# Report\nAll is well.\n"})
    async with deck(fake) as d:
        await look(d, run, "report.md · 22 B", "All is well.")
        await d.press("s")
        await d.until(lambda: (tmp_path / "report.md").exists())
        assert (tmp_path / "report.md").read_bytes() == b"# Report\nAll is well.\n"


async def test_a_table_has_columns_and_is_attached_to_the_next_message() -> None:
    fake = FakeDaemon()
    run = made(fake, {"totals.csv": b"region,amount\nnorth,4810.20\nsouth,2204.00\n"})
    async with deck(fake) as d:
        await look(d, run, "totals.csv", "2 rows", "north   4810.20")
        await d.press("t")
        await d.until(lambda: not isinstance(d.app.screen, Look))
        await d.shows("▤ totals.csv 42 B")


async def test_a_file_whose_container_is_gone_is_named_and_says_so() -> None:
    fake = FakeDaemon()
    run = made(fake, {"report.md": b"x"})
    fake.container_files.clear()
    fake.objects["container"].clear()
    async with deck(fake) as d:
        await look(d, run, "No container file")
        await d.press("escape")
        await d.shows("report.md gone")


def test_files_are_read_of_a_response() -> None:
    note = {"type": "container_file_citation", "container_id": "c", "file_id": "f", "filename": "a.png"}
    content = [{"type": "output_text", "text": "", "annotations": [note, note]}, {"type": "refusal", "refusal": "no"}]
    (file,) = made_by({"output": [{"type": "message", "content": content}, {"type": "reasoning", "content": None}]})
    assert (file, file.is_picture) == (Made("c", "f", "a.png"), True)


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.csv", b"a;b\n1;2\n", [["a", "b"], ["1", "2"]]),
        ("a.csv", b'a,b\n1\n"x\ny",2,3\n', [["a", "b"], ["1", ""], ["x ⏎ y", "2"]]),
        ("a.tsv", b"a\tb\n1\t2\n", [["a", "b"], ["1", "2"]]),
        ("a.csv", b"only one line, no table\n", []),
        ("a.csv", b"\0\1\2", []),
        ("a.txt", b"a,b\n1,2\n", []),
    ],
)
def test_what_is_a_table(name: str, data: bytes, expected: list[list[str]]) -> None:
    assert rows(name, data) == expected


def test_columns_are_told_apart() -> None:
    assert unique(["a", "a", ""]) == ["a", "a 2", "column 3"]


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\nbroken", png()[:40]])
def test_a_broken_picture_says_so(data: bytes) -> None:
    assert "no picture that can be read" in decode(data).problem
