"""Approvals: asked inline, answered by one key, queued, and told in other modes."""

from __future__ import annotations

import pytest

from skilldeck_tui.widgets.transcript import approval
from skilldeck_tui.widgets.transcript.approval import ApprovalBox
from support.fake_daemon import FakeDaemon
from support.tui import Deck, deck


@pytest.fixture(autouse=True)
def _no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approval, "GUARD_SECONDS", 0.0)


async def _asking(d: Deck, *commands: str) -> None:
    run = d.fake.start("clean up", session_id=d.fake.add_session("Cleaning")["id"])
    call = run.shell(list(commands))
    for number, command in enumerate(commands):
        asked = d.fake.add_approval(run, [command])
        d.fake.put("approval", {**asked, "call_id": call.call["call_id"], "created_at": number})
    d.chat.open(f"session:{run.session_id}")
    await d.shows("May this run?", f"$ {commands[0]}", "? waits for approval")


@pytest.mark.parametrize(
    ("key", "decision", "session", "always"),
    [
        ("y", "approve", False, False),
        ("s", "approve", True, False),
        ("n", "deny", False, False),
    ],
)
async def test_one_key_answers(key: str, decision: str, session: bool, always: bool) -> None:
    fake = FakeDaemon()
    async with deck(fake) as d:
        await _asking(d, "rm -r out")
        await d.until(lambda: isinstance(d.chat.focused, ApprovalBox))
        await d.press(key)
        sent = await d.until(lambda: fake.decisions and fake.decisions[0])
        assert (sent.decision, sent.remember_for_session, sent.remember_always) == (decision, session, always)
        await d.hides("May this run?")
        await d.until(lambda: d.chat.focused is d.chat.composer.text)


async def test_a_denial_can_carry_a_note_for_the_model() -> None:
    fake = FakeDaemon()
    async with deck(fake) as d:
        await _asking(d, "rm -r out")
        await d.until(lambda: isinstance(d.chat.focused, ApprovalBox))
        await d.press("d")
        await d.shows("why not?")
        await d.type("keep it")
        await d.press("enter")
        sent = await d.until(lambda: fake.decisions and fake.decisions[0])
        assert (sent.decision, sent.message) == ("deny", "keep it")


async def test_several_are_asked_one_after_the_other() -> None:
    fake = FakeDaemon()
    async with deck(fake) as d:
        await _asking(d, "rm one", "rm two")
        await d.shows("1 of 2")
        await d.until(lambda: isinstance(d.chat.focused, ApprovalBox))
        await d.press("y")
        await d.until(lambda: len(fake.decisions) == 1)
        await d.until(lambda: d.chat.query_one(ApprovalBox).approval and "1 of 2" not in d.text())
        await d.press("n")
        await d.until(lambda: len(fake.decisions) == 2)
        assert [sent.decision for sent in fake.decisions] == ["approve", "deny"]


async def test_someone_who_writes_keeps_the_focus() -> None:
    fake = FakeDaemon()
    async with deck(fake) as d:
        await d.type("half a sentence")
        await _asking(d, "rm -r out")
        assert d.chat.focused is d.chat.composer.text
        await d.press("y")
        assert d.chat.composer.text.text == "half a sentencey"
        assert not fake.decisions
        await d.press("ctrl+y")
        await d.until(lambda: isinstance(d.chat.focused, ApprovalBox))


async def test_keys_meant_for_something_else_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approval, "GUARD_SECONDS", 3600.0)
    fake = FakeDaemon()
    async with deck(fake) as d:
        await _asking(d, "rm -r out")
        await d.until(lambda: isinstance(d.chat.focused, ApprovalBox))
        await d.press("y")
        assert not fake.decisions
        assert "May this run?" in d.text()


async def test_another_mode_shows_a_badge_and_ctrl_y_leads_there() -> None:
    fake = FakeDaemon()
    async with deck(fake) as d:
        await d.press("f5")
        await d.until(lambda: d.app.current_mode == "daemon")
        run = fake.start("clean up", session_id=fake.add_session("Cleaning")["id"])
        fake.add_approval(run, ["rm -r out"])
        await d.shows("Chat ?1", "A command waits for approval")
        await d.press("ctrl+y")
        await d.until(lambda: d.app.current_mode == "chat")
        await d.shows("May this run?", "$ rm -r out")


async def test_what_is_to_hold_always_is_shown_and_may_be_changed_before_it_is_stored() -> None:
    fake = FakeDaemon()
    async with deck(fake) as d:
        await _asking(d, "ls -l out")
        await d.until(lambda: isinstance(d.chat.focused, ApprovalBox))
        await d.press("a")
        await d.shows("Never asked again, in any session, also with more plain arguments.", "ls -l out")
        assert not fake.decisions
        await d.press("escape")
        await d.shows("always")
        await d.press("a", *["backspace"] * len(" out"), "enter")
        sent = await d.until(lambda: fake.decisions and fake.decisions[0])
        assert (sent.decision, sent.remember_always, sent.prefix) == ("approve", True, "ls -l")


async def test_the_rules_of_several_commands_and_the_skill_they_vouch_for_are_shown_before_enter() -> None:
    fake = FakeDaemon()
    async with deck(fake) as d:
        run = fake.start("clean up", session_id=fake.add_session("Cleaning")["id"])
        asked = fake.add_approval(run, ["echo 1", "python /mnt/skills/tidy/tidy.py"])
        fake.put("approval", {**asked, "skills": [{"name": "tidy", "path": "p"}]})
        d.chat.open(f"session:{run.session_id}")
        await d.until(lambda: isinstance(d.chat.focused, ApprovalBox))
        await d.press("a")
        await d.shows("$ python /mnt/skills/tidy/tidy.py", "Asked again when tidy changes.")
        await d.press("enter")
        sent = await d.until(lambda: fake.decisions and fake.decisions[0])
        assert (sent.decision, sent.remember_always, sent.prefix) == ("approve", True, "")
