"""What a person who looks elsewhere hears of, once."""

from __future__ import annotations

from typing import Any

from skilldeck_tui.terminal.notices import News


def _run(status: str, id: str = "resp_1") -> dict[str, Any]:
    return {"id": id, "status": status, "title": f"title of {id}"}


def test_an_approval_is_news_once() -> None:
    news = News()
    assert [one["id"] for one in news.waiting([{"id": "a"}, {"id": "b"}])] == ["a", "b"]
    assert list(news.waiting([{"id": "b"}, {"id": "c"}])) == [{"id": "c"}]


def test_only_an_end_that_was_seen_coming_is_news() -> None:
    news = News()
    news.known([_run("in_progress"), _run("completed", "old")])
    assert list(news.ended([_run("in_progress"), _run("completed", "old"), _run("failed", "never seen")])) == []
    assert list(news.ended([_run("completed")])) == [("done", "title of resp_1")]
    assert list(news.ended([_run("completed")])) == []
    assert list(news.ended([_run("queued", "two")])) == []
    assert list(news.ended([_run("failed", "two")])) == [("failed", "title of two")]
