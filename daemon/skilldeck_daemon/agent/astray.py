"""A model that goes round in circles or says nothing: it is asked once more, in a message that is not kept.

In circles again, the run ends in plain words; silent again, its answer is empty.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from skilldeck_daemon.agent.prompt import Message
from skilldeck_daemon.engine.base import ChatRequest
from skilldeck_daemon.events.output import Output, TextWriter
from skilldeck_daemon.store.run_records import Item
from skilldeck_daemon.tools.base import Tool, is_clients
from skilldeck_daemon.tools.context import Surroundings

GAVE_UP = (
    "The model went round in circles twice and was stopped before it had an answer."
    " Ask again in other words or with fewer skills, attach the file if it needs one, or use a larger model."
)
DIFFERENTLY = "(You began to repeat yourself. Go on differently, and briefly.)"
ANSWER = "(You wrote nothing. Answer the user now, in plain words.)"
ANSWER_OR_CALL = "(You wrote nothing. Answer the user now in plain words, or call a tool.)"
STEM = 5
"""Letters by which words are compared: "summarize" is like "summarizes"."""


def may_retry(items: Sequence[Item], tools: Sequence[Tool]) -> bool:
    """Whether a turn that wrote these items may be made again: not when a client has seen a call of its own in it."""
    return not any(is_clients(item, tools) for item in items)


def asked_differently(messages: list[Message]) -> list[Message]:
    """The messages and the wish to go on differently."""
    return _and_asked(messages, DIFFERENTLY)


def asked_to_answer(chat: ChatRequest) -> list[Message] | None:
    """The messages of a turn that ended before it wrote anything, and the wish for an answer; None where that may be
    what was asked for: the end of an answer that the request began, a stop string, or a bias towards some token.

    A model here goes on by itself until it has written something; one behind another server ends its turn at will,
    which most do now and then behind a tool's output.
    """
    if chat.continues or chat.stop or any(bias > 0 for bias in chat.sampling.logit_bias.values()):
        return None
    return _and_asked(list(chat.messages), ANSWER_OR_CALL if chat.tools and chat.tool_choice != "none" else ANSWER)


def _and_asked(messages: list[Message], wish: str) -> list[Message]:
    """The messages and a wish, in the last one when that is the user's."""
    last = messages[-1]
    if last["role"] == "user" and isinstance(last["content"], str):
        return [*messages[:-1], {**last, "content": f"{last['content']}\n\n{wish}"}]
    return [*messages, {"role": "user", "content": wish}]


def narrowed(around: Surroundings, messages: Sequence[Message]) -> Surroundings:
    """With the one skill whose words are most like the user's: a small model that cannot choose among many can use it.

    As they are when no skill is like them, or several as much.
    """
    said = next((str(message["content"]) for message in reversed(messages) if message["role"] == "user"), "")
    wanted = _stems(said.partition("\n\n<file ")[0])
    likeness = [len(wanted & _stems(f"{name} {about}")) for name, about in around.skills]
    best = max(likeness, default=0)
    if not best or likeness.count(best) > 1:
        return around
    return replace(around, skills=(around.skills[likeness.index(best)],))


def _stems(text: str) -> set[str]:
    return {word[:STEM] for word in re.findall(r"[^\W_]{3,}", text.lower())}


def give_up(output: Output) -> None:
    """Say, instead of the model, that there is no answer."""
    writer = TextWriter(output, logprobs=False)
    writer.write(GAVE_UP, ())
    writer.close()
