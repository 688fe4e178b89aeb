"""An answer that the request begins: the last message, the assistant's, is what the model goes on from."""

from __future__ import annotations

from skilldeck_daemon.engine.base import ChatRequest
from skilldeck_daemon.engine.messages import Message
from skilldeck_shared.errors import BadRequest


def begun_answer(message: Message, closing: str = "") -> str:
    """What stands in the prompt behind the mark of the assistant's turn. `closing` ends the reasoning that the template
    has opened there: the answer has begun already."""
    said = message.get("content") or ""
    thought = message.get("reasoning_content") or ""
    return f"{thought}\n{closing}\n\n{said}" if closing else said


def check_begun(request: ChatRequest) -> None:
    """Refuse what an answer that has begun cannot be held to. Raises BadRequest."""
    if not request.continues:
        return
    shape = (request.response_format or {}).get("type", "text")
    if shape != "text":
        raise BadRequest(
            "An answer that the request begins cannot be held to a format.",
            "End with a user message.",
            param="text.format",
        )
    if request.tool_choice == "required" or (isinstance(request.tool_choice, dict) and "name" in request.tool_choice):
        raise BadRequest(
            "An answer that the request begins cannot be made a call.", "End with a user message.", param="tool_choice"
        )
