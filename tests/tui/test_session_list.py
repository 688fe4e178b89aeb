"""The list of sessions: runs of no session grouped by who asked, rows deleted together, and sessions found by their
titles and by what was said in them."""

from __future__ import annotations

from skilldeck_shared.errors import Unavailable
from skilldeck_tui.widgets.session_list import SessionList
from support.fake_daemon import FakeDaemon
from support.tui import deck


async def test_runs_of_no_session_are_folded_and_deleted_together() -> None:
    fake = FakeDaemon()
    fake.start("in a session", session_id=fake.add_session("Mine")["id"]).complete()
    for number in range(3):
        fake.start(f"from a script {number}").complete()
    going = fake.start("still going")
    async with deck(fake) as d:
        await d.shows("Mine", "still going", "▸ 3 other runs")
        assert "from a script" not in d.text()
        going.complete()
        await d.shows("▸ 4 other runs")
        d.chat.query_one(SessionList).focus()
        await d.press("end", "enter")
        await d.shows("▾ 4 other runs", "from a script 0", "still going")
        await d.press("home", "down", "d")
        await d.shows("Delete 4 runs that belong to no session?")
        await d.press("y")
        await d.hides("other runs")
        assert [run["title"] for run in fake.objects["run"].values()] == ["in a session"]


async def test_a_session_is_found_by_the_letters_of_its_title() -> None:
    fake = FakeDaemon()
    for title in ("Orders of March", "Failing hosts"):
        fake.start(title, session_id=fake.add_session(title)["id"]).complete()
    async with deck(fake) as d:
        await d.press("ctrl+k")
        await d.shows("Sessions and runs")
        await d.type("fh")
        await d.press("enter")
        await d.until(lambda: d.chat.row and d.chat.row.title == "Failing hosts")


async def test_runs_are_grouped_by_who_asked_and_a_group_is_deleted_at_once() -> None:
    fake = FakeDaemon()
    fake.start("mine", session_id=fake.add_session("Mine")["id"]).complete()
    for origin in ("test", "test", "OpenAI/Python", "run"):
        fake._new_run({"model": "default", "input": f"asked by {origin}"}, origin).complete()
    async with deck(fake) as d:
        await d.shows("▸ skilldeck run · 1", "▸ OpenAI/Python · 1", "▸ tests · 2")
        d.chat.query_one(SessionList).focus()
        await d.press("home", "down", "enter")
        await d.shows("▾ tests · 2", "asked by test")
        assert "asked by OpenAI" not in d.text()
        await d.press("d")
        await d.shows("Delete 2 runs of tests?")
        await d.press("y")
        await d.hides("tests · 2")
        left = [run["origin"] for run in fake.objects["run"].values()]
        assert left == ["", "OpenAI/Python", "run"]


async def test_marked_rows_are_deleted_together() -> None:
    fake = FakeDaemon()
    for title in ("One", "Two", "Three"):
        fake.start(title, session_id=fake.add_session(title)["id"]).complete()
    async with deck(fake) as d:
        await d.shows("One", "Two", "Three")
        d.chat.query_one(SessionList).focus()
        await d.press("home", "space", "down", "space")
        assert d.text().count("■ ") == 2
        await d.press("home", "space")
        assert d.text().count("■ ") == 1
        await d.press("home", "space", "d")
        await d.shows("Delete the 2 that are marked?")
        kept = d.chat.rows[1].id
        await d.press("y")
        await d.until(lambda: list(fake.objects["session"]) == [kept])


async def test_a_session_is_found_by_what_was_said_in_it() -> None:
    fake = FakeDaemon()
    for title, said in (("Orders", "which region is the largest"), ("Hosts", "what fails")):
        run = fake.start(said, session_id=fake.add_session(title)["id"])
        run.text("nothing of note")
        run.complete()
    async with deck(fake) as d:
        await d.press("ctrl+k")
        await d.type("largest")
        await d.shows("Orders", "is the largest")
        await d.press("enter")
        await d.until(lambda: d.chat.row and d.chat.row.title == "Orders")
        fake.fail["Search"] = Unavailable("The store is busy.")
        await d.press("ctrl+k")
        await d.type("region")
        await d.shows("The store is busy.", "Nothing found.")


async def test_runs_that_go_on_from_each_other_are_one_row_and_deleted_as_one() -> None:
    fake = FakeDaemon()
    links: list[str] = []
    for said, before in (("first", -1), ("second", 0), ("third", 1), ("another way", 0)):
        body = {"model": "default", "input": said} | ({"previous_response_id": links[before]} if before >= 0 else {})
        run = fake._new_run(body)
        run.complete()
        links.append(run.id)
    async with deck(fake) as d:
        await d.shows("▸ 2 other runs")
        d.chat.query_one(SessionList).focus()
        await d.press("home", "enter", "down")
        await d.until(lambda: d.text().count("○ first") == 2)
        d.chat.open(f"run:{links[2]}")
        await d.until(lambda: len(d.chat.turns) == 3)
        d.chat.action_delete_session()
        await d.shows("Delete “first”?")
        await d.press("y")
        # The beginning belongs to the other way, too.
        await d.until(lambda: list(fake.objects["run"]) == [links[0], links[3]])
