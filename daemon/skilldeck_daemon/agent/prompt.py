"""What the model reads: items and files as chat messages.

One rendering for everything: a run's own rounds, stored histories and items a client sends back all become messages
here, so a history renders the same every time and only its new end has to be computed again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from skilldeck_daemon.agent.guidance.catalogue import catalogue
from skilldeck_daemon.agent.guidance.outputs import CommandOutputs
from skilldeck_daemon.agent.guidance.skill_paths import SkillPaths
from skilldeck_daemon.attachments.listing import REQUEST_CHARS, Attachments, parts_of
from skilldeck_daemon.engine.messages import Message as Message
from skilldeck_daemon.engine.messages import MessagePart
from skilldeck_daemon.tools.context import Surroundings
from skilldeck_daemon.wire.item_kinds import CALLS, OUTPUTS, CommandOutput, Content, Item, call_key, decisions
from skilldeck_daemon.wire.sealed import unseal
from skilldeck_shared.errors import BadRequest

HOSTED_GUIDE = (
    "You can run commands with the shell tool. Its working directory is /mnt/data: attached files are there under"
    " their own names, and files you leave there reach the user."
)
SKILLS_GUIDE = (
    "Skills are read-only folders of instructions and scripts at /mnt/skills/NAME. When a task fits a skill's"
    " description, first read /mnt/skills/NAME/SKILL.md, unless it stands here already, then follow it; relative paths"
    " in it are meant from its folder. Write results to /mnt/data."
)
LOCAL_GUIDE = "You can ask the user's machine to run commands with the shell tool."
LOCAL_SKILLS_GUIDE = (
    "Skills are folders of instructions and scripts; the path stands after each. When a task fits a skill's"
    " description, first read the SKILL.md in its folder, then follow it."
)
PYTHON_GUIDE = (
    "You can run Python with the python tool; its variables last from call to call. Its working directory is"
    " /mnt/data: attached files are there under their own names, and files you leave there reach the user."
)
PYTHON_BESIDE_GUIDE = (
    "The python tool runs in the same directory as the shell tool; its variables last from call to call."
)
SUMMARY = "Summary of what was said before:"
NO_IMAGE = "(an image that is no longer there)"
NOT_SHOWN = "(image not shown: this model reads text only)"
NO_FILE = "(a file that is no longer there)"
STOPPED = "(the run was stopped before this call had an output)"


def network(hosts: Sequence[str] | None) -> str:
    """What a hosted shell reaches; "" where that is not known."""
    if hosts is None:
        return ""
    return f" Its network reaches only {', '.join(hosts)}." if hosts else " It has no network."


def interpreters(programs: Sequence[str]) -> str:
    """What runs scripts in a hosted shell; "" where that is not known."""
    return f" Beside bash there is {', '.join(programs)}." if programs else ""


def system_message(instructions: Iterable[str], around: Surroundings, context: int = 0) -> list[Message]:
    """The one system message, or none when there is nothing to say. `context`: of the model, 0: not known."""
    parts = [text for text in instructions if text]
    if around.shell == "hosted":
        guide = HOSTED_GUIDE + network(around.hosts) + interpreters(around.programs)
        parts.append(f"{guide} {SKILLS_GUIDE}" if around.skills else guide)
    elif around.shell == "local":
        parts.append(f"{LOCAL_GUIDE} {LOCAL_SKILLS_GUIDE}" if around.skills else LOCAL_GUIDE)
    if around.python:
        parts.append(PYTHON_BESIDE_GUIDE if around.shell == "hosted" else PYTHON_GUIDE)
    text = "\n\n".join(parts)
    if around.shell or around.python:
        text += catalogue(around, context)
    return [{"role": "system", "content": text}] if text else []


def unfold(items: Sequence[Item]) -> list[Item]:
    """What is rendered of a history: the newest compaction as the messages it stands for, and all after it.

    Raises:
        BadRequest: it was made by another daemon, or the key it was sealed with is gone.
    """
    places = [place for place, item in enumerate(items) if item.get("type") == "compaction"]
    if not places:
        return list(items)
    try:
        content = json.loads(unseal(items[places[-1]]["encrypted_content"]))
    except ValueError:
        raise BadRequest(
            "A compaction item of this conversation cannot be read: it was not made by this daemon.",
            "Begin a new conversation.",
            param="input",
        ) from None
    messages = [*content["messages"], {"role": "user", "content": f"{SUMMARY}\n{content['summary']}"}]
    rendered: list[Item] = [
        {"type": "message", "role": message["role"], "content": [{"type": "input_text", "text": message["content"]}]}
        for message in messages
    ]
    return [*rendered, *items[places[-1] + 1 :]]


def system_first(items: Sequence[Item]) -> list[Item]:
    """System and developer messages before the words of the user that they stand behind.

    Agent programs put what they want known behind the first question, and small models answer what they read last:
    asked "hi" by Claude Code, Qwen2.5-Coder 0.5B called an agent that it made up of the list behind. Before the first
    question, it joins the one system message.
    """
    told: list[Item] = []
    asked: list[Item] = []  # what users said since anything else
    for item in items:
        role = item.get("role") if item.get("type", "message") == "message" else None
        if role == "user":
            asked.append(item)
            continue
        if role not in ("system", "developer"):
            told += asked
            asked = []
        told.append(item)
    return told + asked


def split_system(items: Sequence[Item]) -> tuple[list[str], list[Item]]:
    """The texts of the system and developer messages that open a history, and the rest.

    Many templates accept a system message only in front, so those in front join the one system message.
    """
    texts: list[str] = []
    for position, item in enumerate(items):
        if item.get("type") != "message" or item.get("role") not in ("system", "developer"):
            return texts, list(items[position:])
        texts.append("".join(part.get("text", "") for part in item["content"]))
    return texts, []


def to_messages(
    items: Iterable[Item],
    raw: Mapping[str, str],
    files: Attachments,
    decided: Mapping[str, str] | None = None,
    skills: SkillPaths | None = None,
    context: int = 0,
) -> list[Message]:
    """Items as chat messages.

    The output of a call is rendered behind its call, wherever it stands among the items: templates and servers know no
    other place for it. An output whose call is not there (it was deleted) is left out.

    Args:
        raw: each call's arguments as the model wrote them, by call id; others are written out anew.
        files: the files of the items.
        decided: what approval requests among the items came to in this run, see `decisions`.
        skills: the skills whose instructions are rendered with their paths written out.
        context: of the model, a share of which an output may take; 0: not known.
    """
    items = list(items)
    builder = _Builder(items, raw, files, skills, context)
    builder.decided = {**decisions(items), **(decided or {})}
    for place in range(len(items)):
        builder.add(place)
    return builder.finish()


def answers(items: Sequence[Item]) -> dict[int, int]:
    """Where the output of each call stands, by the place of the call.

    Some clients number their calls anew in every turn: of calls with one id, each has the next output after it that
    no other call has taken.
    """
    found: dict[int, int] = {}
    waiting: dict[str, int] = {}
    early: dict[str, int] = {}  # outputs that no call stands before
    for place, item in enumerate(items):
        kind = item.get("type", "message")
        if kind in CALLS:
            waiting[call_key(item)] = place
        elif kind in OUTPUTS:
            key = item["call_id"]
            if key in waiting:
                found[waiting.pop(key)] = place
            else:
                early.setdefault(key, place)
    return found | {place: early[key] for key, place in waiting.items() if key in early}


def shorten(messages: Sequence[Message]) -> list[Message] | None:
    """Without the oldest quarter of the turns (at least one), system messages kept; None when one turn is left.

    A turn is a user message and all that follows it, so no call loses its answer.
    """
    system = [message for message in messages if message["role"] == "system"]
    turns: list[list[Message]] = []
    for message in messages:
        if message["role"] == "system":
            continue
        if message["role"] == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    if len(turns) <= 1:
        return None
    kept = turns[max(1, len(turns) // 4) :]
    return system + [message for turn in kept for message in turn]


@dataclass
class _Open:
    """A call that has no answer yet: `own` is the one its item holds itself, `output` the item that follows."""

    call: Item
    own: str | None = None
    output: Item | None = None


class _Builder:
    def __init__(
        self,
        items: Sequence[Item],
        raw: Mapping[str, str],
        files: Attachments,
        skills: SkillPaths | None,
        context: int,
    ) -> None:
        self._skills = skills or SkillPaths()
        self._outputs = CommandOutputs(skills, {file.name for file in files.files.values()}, context)
        self._items = items
        self._raw = raw
        self._files = files
        self._room = REQUEST_CHARS
        self._messages: list[Message] = []
        self._open: Message | None = None  # the assistant message that still grows
        self._unanswered: dict[int, _Open] = {}  # by the place of the call
        self._answers = answers(items)
        self._calls = {output: call for call, output in self._answers.items()}
        self.decided: Mapping[str, str] = {}

    def add(self, place: int) -> None:
        item = self._items[place]
        kind = item.get("type", "message")
        if kind == "message":
            self._message(item)
        elif kind == "reasoning":
            text = "\n".join(part["text"] for part in item.get("content") or item.get("summary") or [])
            if text:
                message = self._assistant(fresh="content" in (self._open or {}) or "tool_calls" in (self._open or {}))
                message["reasoning_content"] = _beside(message, "reasoning_content", text)
        elif kind in CALLS:
            self._call(place, item)
        elif self._calls.get(place) in self._unanswered:
            self._open = None
            self._answer(self._calls[place])

    def finish(self) -> list[Message]:
        self._settle()
        return [{"content": None, **message} if "tool_calls" in message else message for message in self._messages]

    def _call(self, place: int, item: Item) -> None:
        kind = CALLS[item["type"]]
        rendered = kind.render(item, self._raw)
        if rendered is None:
            return
        own = [call.own is not None for call in self._unanswered.values()]
        message = self._assistant(fresh=bool(own) and all(own))
        message.setdefault("tool_calls", []).append(rendered)
        self._unanswered[place] = call = _Open(item)
        if place in self._answers:
            call.output = self._items[self._answers[place]]
        else:
            answer = kind.answer(item)
            call.own = answer and (self.decided.get(call_key(item)) or answer)

    def _answer(self, place: int) -> None:
        """Render what came of the call at `place`."""
        call = self._unanswered.pop(place)
        content: Content = call.own or STOPPED
        if call.output is not None:
            content = OUTPUTS[call.output["type"]].render(call.output, call.call, self)
        program = CALLS[call.call["type"]].program(call.call)
        if program and isinstance(content, str):
            content = self.written_out(content, program)
        self._messages.append({"role": "tool", "tool_call_id": call_key(call.call), "content": content})

    def _settle(self) -> None:
        """Every call needs an answer before the conversation goes on."""
        for place in list(self._unanswered):
            self._answer(place)

    def _assistant(self, fresh: bool = False) -> Message:
        """The assistant message that grows, or a new one.

        What the model wrote between a call and the call's output belongs to the turn of that call.
        """
        waiting = any(call.output is not None for call in self._unanswered.values())
        if self._open is None or (fresh and not waiting):
            self._settle()
            self._open = {"role": "assistant"}
            self._messages.append(self._open)
        return self._open

    def _message(self, item: Item) -> None:
        role = item["role"]
        if role == "assistant":
            text = "".join(part.get("text") or part.get("refusal") or "" for part in item["content"])
            message = self._assistant(fresh="tool_calls" in (self._open or {}))
            message["content"] = _beside(message, "content", text)
            return
        self._settle()
        self._open = None
        content = self.content(item)
        self._messages.append({"role": "system" if role == "developer" else role, "content": content})

    def written_out(self, output: str, command: str) -> str:
        """What a command printed, with the paths of skills' instructions written out."""
        return self._skills.written_out(output, command)

    def shown(self, entry: CommandOutput, command: str) -> CommandOutput:
        """What one command printed, as the model reads it."""
        return self._outputs.shown(entry, command)

    def content(self, item: Item) -> Content:
        """The text of an item's parts with their files appended; a list of parts when there are images."""
        text, blocks = [], []
        images: list[MessagePart] = []
        for id, part in parts_of(item):
            if part["type"] == "input_image":
                url = self._files.image(part)
                if not self._files.shown(id):
                    text.append(NOT_SHOWN)
                elif url:
                    images.append({"type": "image_url", "image_url": {"url": url}})
                else:
                    text.append(NO_IMAGE)
            elif part["type"] == "input_file":
                attachment = self._files.of(id)
                if attachment is None:
                    text.append(NO_FILE)
                else:
                    blocks.append(attachment.block(self._room))
                    self._room = max(0, self._room - len(attachment.text or ""))
            else:
                text.append(part.get("text", ""))
        whole = "\n".join(text) + "".join(blocks)
        if not blocks and not images:
            return whole
        whole = whole if text else whole.lstrip("\n")
        return [{"type": "text", "text": whole}, *images] if images else whole


def _beside(message: Message, field: str, text: str) -> str:
    """More text of one assistant message; what follows a call begins a line of its own."""
    before = message.get(field) or ""
    return f"{before}\n{text}" if before and text and "tool_calls" in message else before + text
