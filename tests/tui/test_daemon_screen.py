"""Daemon mode: log, containers, models, rates."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.fake_daemon import FakeDaemon
from support.tui import Deck, deck


async def _open(d: Deck) -> None:
    await d.press("f5")
    await d.until(lambda: d.app.current_mode == "daemon" and d.app.screen.is_mounted)


async def test_the_log_follows_filters_and_finds() -> None:
    fake = FakeDaemon()
    for number in range(50):
        fake.write_log(f"record {number}")
    fake.write_log("a detail", "debug")
    fake.write_log("disk is full", "error")
    async with deck(fake) as d:
        await _open(d)
        await d.press("left_square_bracket")
        await d.shows("record 49", "disk is full", "info and above")
        assert "a detail" not in d.text()
        fake.write_log("fresh one")
        await d.shows("fresh one")
        await d.press("l")
        await d.shows("warning and above")
        await d.hides("record 49")
        await d.press("l", "l")
        await d.shows("debug and above", "a detail")
        await d.press("slash")
        await d.type("record 7")
        await d.shows("1/1", "record 7")
        await d.press("enter", "escape", "c")
        await d.until(lambda: "record 7" in d.app.clipboard)


async def test_containers_show_their_files_which_can_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fake = FakeDaemon()
    fake.add_container("auto-1", {"report.md": b"# Report\n"})
    async with deck(fake, size=(120, 40)) as d:
        await _open(d)
        await d.shows("auto-1", "running", "/mnt/data/report.md", "the model")
        d.app.screen.query_one("#cfiles").focus()
        await d.press("enter")
        await d.until(lambda: (tmp_path / "report.md").exists())
        assert (tmp_path / "report.md").read_bytes() == b"# Report\n"


async def test_a_container_is_killed_after_a_yes() -> None:
    fake = FakeDaemon()
    fake.add_container("auto-1", {})
    async with deck(fake, size=(120, 40)) as d:
        await _open(d)
        await d.shows("auto-1")
        d.app.screen.query_one("Containers").focus()
        await d.press("d")
        await d.shows("Stop “auto-1”?")
        await d.press("y")
        await d.until(lambda: not fake.objects["container"])
        await d.shows("A run that calls the shell starts one")


async def test_a_model_is_loaded_and_unloaded_and_the_small_one_is_called_a_demonstration() -> None:
    fake = FakeDaemon()
    async with deck(fake, size=(120, 40)) as d:
        await _open(d)
        await d.shows("skilldeck-tiny", "small demonstration model")
        await d.press("o")
        await d.shows("Load a model")
        await d.type("/models/small")
        await d.press("enter")
        await d.shows("small is ready, and answers from the next message on.")
        d.app.screen.query_one("Models").focus()
        await d.press("home", "d")
        await d.shows("Unload “skilldeck-tiny”?")
        await d.press("y")
        await d.until(lambda: list(fake.objects["model"]) == ["small"])


async def test_rates_and_memory_are_told() -> None:
    fake = FakeDaemon()
    model = {**fake.status["models"][0], "active": 1, "queued": 3, "tokens_per_s": 131.4, "engine": "exllamav2",
             "cache_used": 0.42,
             "device_memory_used": 3.1e9, "device_memory_total": 8e9}  # fmt: skip
    fake.status = {**fake.status, "models": [model]}
    async with deck(fake, size=(120, 40)) as d:
        await _open(d)
        await d.shows("tokens/s 131", "cache 42%", "VRAM 3.1 GB of 8.0 GB", "131 tok/s · 1 active · 3 queued")


async def test_a_small_screen_shows_one_section_at_a_time_and_a_large_one_all_of_them() -> None:
    fake = FakeDaemon()
    run = fake.start("Sum it up", session_id=fake.add_session("Orders of March")["id"])
    fake.add_container(f"auto-{run.id}", {"report.md": b"# Report\n"})
    fake.write_log("a record")
    async with deck(fake, size=(80, 24)) as d:
        await _open(d)
        await d.shows("Models 1", "Containers 1", "http://127.0.0.1:1234/v1", "tokens/s")
        assert "a record" not in d.text()
        await d.press("right_square_bracket")
        # Known by the session it was made for, not by the id of its first run.
        await d.shows("Orders of March", "/mnt/data/report.md", "the model")
        await d.press("right_square_bracket")
        await d.shows("Nothing. Where commands wait for a yes")
        await d.press("slash")
        await d.shows("a record")
        await d.pilot.resize_terminal(130, 40)
        await d.shows("a record", "Orders of March", "report.md", "tokens/s")


async def test_what_is_allowed_always_is_changed_and_revoked() -> None:
    fake = FakeDaemon()
    fake.rules["rule_1"] = {
        "id": "rule_1", "kind": "shell", "prefix": "python3 /mnt/skills/tidy/a.py", "skills": [{"name": "tidy"}],
        "created_at": 1,
    }  # fmt: skip
    async with deck(fake, size=(80, 24)) as d:
        await _open(d)
        await d.press("right_square_bracket", "right_square_bracket")
        await d.shows("python3 /mnt/skills/tidy/a.py, also with more plain", "when tidy changes.")
        await d.press("e")
        await d.shows("Commands that begin with these words run without a question.")
        await d.press("end", *["backspace"] * len(" /mnt/skills/tidy/a.py"), "enter")
        await d.until(lambda: fake.rules["rule_1"]["prefix"] == "python3")
        await d.shows("python3, also with more plain")
        await d.press("d")
        await d.shows("Ask again about “python3”?")
        await d.press("y")
        await d.until(lambda: not fake.rules)
        await d.shows("Nothing. Where commands wait for a yes")
