"""What goes wrong with a model: a prompt too long, no model, an engine that is down or busy."""

from __future__ import annotations

from skilldeck_shared.errors import BadRequest, Busy, Unavailable


class TooLong(BadRequest):
    """The prompt leaves no room in the model's context.

    `context` is what that holds and `tokens` what the prompt has, at least; 0 where nobody knows. Agent programs make
    their prompts shorter at the words of the title and at the code (see `too_long`); other APIs have words of their
    own for the two numbers.
    """

    code = "context_length_exceeded"

    def __init__(
        self, title: str, hint: str = "", *, param: str | None = "input", tokens: int = 0, context: int = 0
    ) -> None:
        super().__init__(title, hint, param=param)
        self.tokens = tokens
        self.context = context


def too_long(
    tokens: int, context: int, cure: str = "", *, exact: bool = True, param: str = "input", what: str = "prompt"
) -> TooLong:
    """The error of a prompt of so many tokens, or at least so many. `cure`: how the context is made longer."""
    count = f"{tokens} tokens" if exact else f"{tokens} tokens or more"
    title = f"This model's maximum context length is {context} tokens, the answer included; the {what} has {count}."
    hint = f"Shorten it, or {cure}." if cure else "Shorten it, or choose a model with a longer context."
    return TooLong(title, hint, param=param, tokens=tokens, context=context)


class NotLoaded(Unavailable):
    """No model is loaded, or it is still loading."""

    code = "model_not_loaded"
    retry_after = 10  # seconds: about what a model of a few GB takes to load


class EngineDead(Unavailable):
    """The engine itself failed (worker killed, CUDA error); not the request's fault. It restarts by itself."""

    code = "engine_dead"


class EngineBusy(Busy):
    """The admission queue is full."""
