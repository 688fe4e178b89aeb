"""Tools, calls, results and system messages as plain text, for chat templates that have no place for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from skilldeck_daemon.engine.messages import Message, MessageCall, MessagePart
from skilldeck_shared.json_types import JsonObject

FENCE = "```bash\n"
COMMANDS = (
    "To run commands, write one ```bash block of them and nothing after it; you are then given what they print. When"
    " you have what you need, answer the user in plain words, without a block."
)
PRINTED = "Output of the commands:"
GO_ON = "(Answer the user now in plain words; write a block only if a further command has to run.)"


def describe_tools(messages: list[Message], tools: list[JsonObject], write: Mapping[str, Any]) -> list[Message]:
    """Tools in the system message, with the form in which they are called."""
    lines = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    form = f"{write.get('before', '')}{write['begin']}ARGUMENTS{write['end']}{write.get('after', '')}"
    guide = (
        f"You can call these tools, described by JSON schemas:\n{lines}\n"
        f"To call one, write {form.replace('{name}', 'NAME')} and nothing after it."
    )
    if messages and messages[0].get("role") == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{guide}"}, *messages[1:]]
    return [{"role": "system", "content": guide}, *messages]


def calls_as_text(messages: list[Message], write: Mapping[str, Any]) -> list[Message]:
    """Calls as their message's text, in the form the model is asked to write; results as what the user says next.

    Many of these templates want user and assistant to alternate, so results are joined with one another and with the
    text of a user that follows.
    """
    out: list[Message] = []
    results = False  # the last message is made of results
    for message in messages:
        if message.get("tool_calls"):
            shown = [
                write["begin"].replace("{name}", call["function"]["name"])
                + call["function"]["arguments"]
                + write["end"]
                for call in message["tool_calls"]
            ]
            text = write["separator"].join(shown)
            content = f"{message['content']}\n{text}" if message.get("content") else text
            message = {**{name: value for name, value in message.items() if name != "tool_calls"}, "content": content}
        is_result = message.get("role") == "tool"
        if is_result:
            message = {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
        if results and message.get("role") == "user" and isinstance(message["content"], str):
            out[-1] = {"role": "user", "content": f"{out[-1]['content']}\n{message['content']}"}
        else:
            out.append(message)
        results = is_result or (results and message.get("role") == "user")
    return out


def system_as_user(messages: list[Message], first: bool = True) -> list[Message]:
    """System messages as part of what the user says next, all but one that is the first, or with not `first` that too.
    What stands where no user follows becomes a message of the user's own."""
    out: list[Message] = []
    held = ""
    for place, message in enumerate(messages):
        if message.get("role") == "system" and not (first and place == 0):
            held += f"<system>\n{message['content']}\n</system>\n\n"
            continue
        if held and message.get("role") == "user":
            said = message["content"]
            text: list[MessagePart] = [{"type": "text", "text": held}]
            message = {**message, "content": [*text, *said] if isinstance(said, list) else f"{held}{said or ''}"}
        elif held:
            out.append({"role": "user", "content": held.rstrip()})
        held = ""
        out.append(message)
    return [*out, {"role": "user", "content": held.rstrip()}] if held else out


def describe_commands(messages: list[Message]) -> list[Message]:
    """How commands are run by a block of them, in the system message."""
    if messages and messages[0].get("role") == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{COMMANDS}"}, *messages[1:]]
    return [{"role": "system", "content": COMMANDS}, *messages]


def calls_as_commands(messages: list[Message], tool: str, answer: str = "", go_on: str = GO_ON) -> list[Message]:
    """Calls of the shell as the block that the model writes, and what came of them as what the user says next, the last
    with how to `go_on`. `answer`: asks for one, before what came of them."""
    out: list[Message] = []
    shells: set[str] = set()
    for message in messages:
        calls = message.get("tool_calls") or []
        blocks = [_block(call) for call in calls if call["function"]["name"] == tool]
        if blocks and len(blocks) == len(calls) and all(blocks):
            shells |= {str(call.get("id")) for call in calls}
            text = "\n".join(blocks)
            content = f"{message['content']}\n\n{text}" if message.get("content") else text
            message = {**{name: value for name, value in message.items() if name != "tool_calls"}, "content": content}
        elif message.get("role") == "tool" and str(message.get("tool_call_id")) in shells:
            content = f"{PRINTED}\n{message['content']}"
            if message is messages[-1]:
                content = f"{answer}\n\n{message['content']}" if answer else f"{content}\n\n{go_on}"
            if out and out[-1].get("role") == "user":
                out[-1] = {**out[-1], "content": f"{out[-1]['content']}\n\n{content}"}
                continue
            message = {"role": "user", "content": content}
        out.append(message)
    return out


def _block(call: MessageCall) -> str:
    """A call of the shell as a block; "" when its arguments cannot be read."""
    try:
        commands = json.loads(call["function"]["arguments"])["commands"]
        return f"{FENCE}{chr(10).join([commands] if isinstance(commands, str) else commands)}\n```"
    except (ValueError, KeyError, TypeError):
        return ""


def short_id(call_id: str) -> str:
    """Nine letters and digits that stand for a call's id, for templates that demand them."""
    return call_id if len(call_id) == 9 and call_id.isalnum() else hashlib.sha256(call_id.encode()).hexdigest()[:9]
