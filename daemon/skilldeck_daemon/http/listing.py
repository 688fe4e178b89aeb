"""Lists on the wire: the three paging parameters and the envelope."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypedDict

from starlette.requests import Request

from skilldeck_daemon.store.page import Page
from skilldeck_shared.errors import BadRequest


class Paging(NamedTuple):
    """What a list was asked for; in the order of every service's `list(limit, order, after)`."""

    limit: int
    order: str
    after: str


def paging(request: Request, *, limit: int = 20, minimum: int = 1, maximum: int = 100, order: str = "desc") -> Paging:
    """Read limit, order and after from the query; absent or empty ones take the default.

    Raises:
        BadRequest: naming the parameter.
    """
    query = request.query_params
    asked = query.get("limit") or str(limit)
    # Not int(): it takes "1_000", "+5" and digits of other scripts.
    if not (asked.isascii() and asked.isdigit() and len(asked) < 9 and minimum <= int(asked) <= maximum):
        raise BadRequest(
            f"'limit' is {asked[:32]!r}.", f"It must be a whole number from {minimum} to {maximum}.", param="limit"
        )
    direction = query.get("order") or order
    if direction not in ("asc", "desc"):
        raise BadRequest(f"'order' is {direction[:32]!r}.", "Use asc or desc.", param="order")
    return Paging(int(asked), direction, query.get("after") or "")


class ListObject(TypedDict):
    """A page on the wire."""

    object: Literal["list"]
    data: list[Any]
    first_id: str | None
    last_id: str | None
    has_more: bool


def envelope(page: Page[Any], empty: str | None = None) -> ListObject:
    """The list object around a page.

    Args:
        page: objects with an `id`.
        empty: first_id and last_id of an empty page; "" where the published schema knows no null.
    """
    return {
        "object": "list",
        "data": page.data,
        "first_id": page.data[0]["id"] if page.data else empty,
        "last_id": page.data[-1]["id"] if page.data else empty,
        "has_more": page.has_more,
    }
