"""A run that has not ended, as those see it who do not run it: what it continues with, and how it is stopped."""

from __future__ import annotations

from typing import Protocol

from skilldeck_daemon.agent.planning.request import ResponseRequest
from skilldeck_daemon.attachments.url_files import Page
from skilldeck_daemon.wire.items import Item


class LiveRun(Protocol):
    """See `run.Run`, which is one."""

    @property
    def request(self) -> ResponseRequest: ...

    @property
    def session(self) -> str: ...

    @property
    def items(self) -> list[Item]:
        """The conversation with this run's output."""

    @property
    def raw(self) -> dict[str, str]:
        """The arguments of all calls of the conversation as the model wrote them, by call id."""

    @property
    def pages(self) -> dict[str, Page]:
        """What URLs of the conversation led to, when it is not stored."""

    def cancel(self) -> None: ...

    def abandon(self) -> None: ...
