"""The one family of errors a person or a program sees.

Every error has a `title` (what is wrong, one sentence) and a `hint` (what mends it, may be empty).
Those that can be the answer to a request also carry OpenAI's `status`, `type`, `code` and `param`;
`body()` is the four-key error object of the wire. Anything raised that is not a `SkilldeckError` is a bug.
"""

from __future__ import annotations

from typing import Any


class SkilldeckError(Exception):
    """Base of all errors: `title` for people, `hint` with the fix, the rest for the wire."""

    status = 500
    type = "server_error"
    code: str | None = None
    details: dict[str, Any] | None = None  # for programs; only Anthropic's error bodies have a place for it

    def __init__(self, title: str, hint: str = "", *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(title)
        self.title = title
        self.hint = hint
        self.param = param
        if code is not None:
            self.code = code

    @property
    def message(self) -> str:
        """Title and hint as one text."""
        return f"{self.title} {self.hint}".strip()

    def __str__(self) -> str:
        return self.message

    def body(self) -> dict[str, Any]:
        """`{"error": {message, type, param, code}}`, all four keys always present."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class BadRequest(SkilldeckError):
    """The request is wrong; `param` names the field (dots and brackets: `tools[0].environment.type`)."""

    status = 400
    type = "invalid_request_error"


class Unauthorized(SkilldeckError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class Forbidden(SkilldeckError):
    status = 403
    type = "invalid_request_error"


class NotFound(SkilldeckError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class Conflict(SkilldeckError):
    """A permanent conflict. HTTP sends it with `x-should-retry: false`: SDKs retry a bare 409 twice."""

    status = 409
    type = "invalid_request_error"


class TooLarge(SkilldeckError):
    status = 413
    type = "invalid_request_error"


class Busy(SkilldeckError):
    """The daemon is at a limit now and will not be later; clients retry."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class Unavailable(SkilldeckError):
    """A part the request needs is not ready: the model loads, the engine restarts, the sandbox is missing."""

    status = 503
    type = "server_error"
