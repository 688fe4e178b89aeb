"""A model for client libraries of others: it answers by what it is asked, so that one script serves all of them.

"hi" is greeted, "add" calls the tool `add` once and "both" twice at once, what the calls gave is told as "Sums: …", a
schema (or the tool that stands for one) gets ADA, and an image is a dot.
"""

from __future__ import annotations

import json
import re
from typing import Any

from support.scripted_model import Call, Text, Turn

GREETING = "Hello from here."
ADA = {"name": "Ada", "age": 36}
DOT = "A dot."
ONE, TWO = "Sums: 42", "Sums: 42, 7"
_SUMS = re.compile(r"(?<!\d)(?:42|7)(?!\d)")  # also behind an escaped line break


def play(body: dict[str, Any]) -> Turn:
    """The turn for a request of Chat Completions."""
    messages = body["messages"]
    names = [tool["function"]["name"] for tool in body.get("tools") or ()]
    add = next((name for name in names if name.endswith("add")), None)
    asked = _text([message for message in messages if message["role"] == "user"][-1:])
    told = _text([message for message in messages if message["role"] == "tool"])
    if (body.get("response_format") or {}).get("type") == "json_schema":
        return Turn(json.dumps(ADA))
    if "final_answer" in names and "Observation" in asked:  # smolagents tells outputs as the user's words
        return Turn(Call("final_answer", {"answer": f"Sums: {', '.join(_SUMS.findall(asked))}"}))
    if "[[ ## answer ## ]]" in str(messages):  # dspy's own form of an answer
        return Turn(f"[[ ## answer ## ]]\n{GREETING}\n\n[[ ## completed ## ]]")
    if told:
        return Turn(Text(f"Sums: {', '.join(_SUMS.findall(told))}", chunk=5))
    if add is not None and "both" in asked:
        return Turn(Call(add, {"a": 40, "b": 2}), Call(add, {"a": 3, "b": 4}))
    if add is not None and "add" in asked:
        return Turn(Call(add, {"a": 40, "b": 2}))
    if names and add is None:  # the tool is the form of the answer
        return Turn(Call(names[0], ADA))
    if "image_url" in str(messages):
        return Turn(DOT)
    return Turn(Text(GREETING, chunk=5))


def _text(messages: list[dict[str, Any]]) -> str:
    return " ".join(json.dumps(message.get("content"), ensure_ascii=False) for message in messages)
