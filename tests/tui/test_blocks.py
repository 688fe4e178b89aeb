"""Markdown as answers have it: tables, boxes, diffs, long lines; one block of it copied."""

from __future__ import annotations

from pathlib import Path

import pytest

from skilldeck_tui.chat.transcripts.fences import fences, is_diff
from skilldeck_tui.terminal import clipboard
from skilldeck_tui.widgets.transcript.blocks import Fence, TableContent
from support.fake_daemon import FakeDaemon
from support.fake_run import FakeRun
from support.tui import Deck, deck

LONG = "total = " + " + ".join(f"amount_{number}" for number in range(20))
ANSWER = f"""Here:

| region | amount | share |
|:---|---:|:---:|
| north | 12 | a |
| south-west | 4810.20 | b |

- [x] counted
- [ ] written
- plain

1. [x] first

```python
{LONG}
```

```diff
--- a/x
+++ b/x
@@ -1 +1 @@
-old
+new
```
"""


async def answered(d: Deck) -> None:
    await d.type("Show it")
    await d.press("enter")
    await d.shows("Here:", "+new")
    await d.until(lambda: not d.chat.busy and len(d.chat.query(Fence)) == 2)


@pytest.fixture
def fake() -> FakeDaemon:
    made = FakeDaemon()

    async def answer(run: FakeRun) -> None:
        run.shell(["wc -l a.csv"]).exit([0])
        run.text(ANSWER, pieces=1)
        run.complete()

    made.on_run = answer
    return made


async def test_tables_boxes_diffs_and_long_lines_are_shown_as_they_are_meant(fake: FakeDaemon) -> None:
    async with deck(fake, size=(80, 60)) as d:
        await answered(d)
        shown = d.text().split("\n")
        amounts = [line for line in shown if "north" in line or "south-west" in line]
        ends = {line.index(text) + len(text) for line, text in zip(amounts, ("12", "4810.20"), strict=True)}
        assert len(ends) == 1, amounts  # to the right
        centred = [cell.has_class("-center") for cell in d.chat.query_one(TableContent).children]
        assert centred == [False, False, True] * 3
        await d.shows("☑ counted", "☐ written", "• plain", "1. ☑ first")
        # The line is longer than the screen, and all of it is there.
        assert all(f"amount_{number}" in d.text() for number in range(20))
        styles = {str(span.style) for span in d.chat.query(Fence)[1]._content.spans}
        assert any("$success" in style for style in styles)
        assert any("$error" in style for style in styles)


async def test_y_copies_one_block_after_the_other(fake: FakeDaemon) -> None:
    async with deck(fake, size=(80, 60)) as d:
        await answered(d)
        await d.press("escape", "y")
        await d.until(lambda: d.app.clipboard == LONG)
        await d.shows("Copied python: 1 line, 1 of 2.")
        assert [fence.has_class("-block") for fence in d.chat.query(Fence)] == [True, False]
        await d.press("y")
        await d.until(lambda: d.app.clipboard.endswith("-old\n+new"))
        assert [fence.has_class("-block") for fence in d.chat.query(Fence)] == [False, True]
        await d.press("y")
        await d.until(lambda: d.app.clipboard == LONG)
        # Of a call its command and its output; of what has no blocks all of it.
        await d.press("up", "y")
        await d.until(lambda: d.app.clipboard == "wc -l a.csv")
        assert not any(fence.has_class("-block") for fence in d.chat.query(Fence))
        await d.press("up", "y")
        await d.until(lambda: d.app.clipboard == "Show it")


@pytest.mark.parametrize(
    ("code", "language", "expected"),
    [
        ("anything", "diff", True), ("anything", "patch extra", True), ("@@ -1,2 +1 @@\n-a", "", True),
        ("@@ -1,2 +1 @@\n-a", "python", False), ("- a list\n+ of signs", "", False),
    ],
)  # fmt: skip
def test_a_diff_says_so_or_looks_like_one(code: str, language: str, expected: bool) -> None:
    assert is_diff(code, language) is expected


def test_blocks_are_found_wherever_they_stand() -> None:
    text = "- item\n\n  ```sh\n  ls\n  ```\n\n> ~~~\n> quoted\n> ~~~\n\n    indented\n"
    found = [(block.what, block.text) for block in fences(text)]
    assert found == [("sh", "ls"), ("code", "quoted"), ("code", "indented")]


@pytest.mark.parametrize(
    ("text", "environment", "kept"),
    [
        ("short", {"TERM": "xterm-256color"}, False), ("short", {"TERM": "linux"}, True),
        ("short", {"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, True),
        ("x" * 80_000, {"TERM": "xterm-256color"}, True),
    ],
    ids=["taken", "console", "apple", "long"],
)  # fmt: skip
def test_what_the_terminal_may_not_take_is_in_a_file(
    text: str, environment: dict[str, str], kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for _ in range(2):  # the second takes the place of the first
        path = clipboard.keep(text, environment)
        assert (path.read_text() if path else None) == (text if kept else None)
