"""The chat template in Python, with the spans to be learned: conversations to (text, weight) segments.

The template that ships (`engine/tiny/chat_template.jinja`) is the contract; this module writes the same text, faster,
and knows which parts the model has to say. A test holds the two equal over generated conversations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]
Segment = tuple[str, int]  # text, weight of its tokens in the loss (0: context)

BEGIN = "<|endoftext|>"
SKILLS = "/mnt/skills/"
DATA = "/mnt/data/"
EDGE = ".,:;!?()[]{}<>\"'`*$/@“”‘’«»"
_QUOTES = "()[]{}<>\"'`*$/@“”‘’«»"
SHELL_OPEN = '{"name": "shell", "arguments": {"commands": ["'
SHELL_CLOSE = '"]}}'


def system_message(skills: Sequence[tuple[str, str]], files: Sequence[str], guide: str = "") -> list[Message]:
    """The daemon's system message for (name, description) pairs and file names; empty when there is neither."""
    block = ""
    if skills:
        block += "Skills:\n" + "".join(f"- {name}: {description}\n" for name, description in skills)
    if files:
        block += "Files:\n" + "".join(f"- {name}\n" for name in files)
    content = "\n\n".join(part for part in (guide, block.rstrip("\n")) if part)
    return [{"role": "system", "content": content}] if content else []


def shell_call(command: str) -> Message:
    """The assistant message that runs one shell command."""
    arguments = json.dumps({"commands": [command]}, ensure_ascii=False)
    function = {"name": "shell", "arguments": arguments}
    return {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "type": "function", "function": function}]}


def tool_result(text: str) -> Message:
    return {"role": "tool", "tool_call_id": "c", "content": text}


def mark(text: str, skills: Sequence[str], files: Sequence[str]) -> str:
    """Put the path prefix before each word that is a skill's or a file's name (any case, quoted or not)."""
    for file in files:
        if " " in file:
            text = text.replace(file, DATA + file)
    known = {name.lower(): SKILLS + name for name in skills} | {name.lower(): DATA + name for name in files}

    def word(raw: str) -> str:
        hit = known.get(raw.strip(EDGE).split("/")[-1].lower())
        return hit + raw[len(raw.rstrip(EDGE)) :].strip(_QUOTES) if hit else raw

    return "\n".join(" ".join(word(raw) for raw in line.split(" ")) for line in text.split("\n"))


def _names_a_command(line: str) -> bool:
    """Whether something with a space in it stands in backticks, outside a list of options."""
    return not line.startswith("- `-") and any(" " in span for span in line.split("`")[1::2])


def _instructions(text: str) -> str:
    kept: list[str] = []
    code = False
    front = text.startswith("---")
    for number, line in enumerate(text.split("\n")):
        if front:
            front = number == 0 or line != "---"
        elif line.startswith("```"):
            code = not code
            kept.append(line)
        elif code or line.startswith("#") or line.endswith(":") or _names_a_command(line):
            kept.append(line)
    short = "\n".join(kept).rstrip("\n")
    return short if "`" in short else text


def _outcome(text: str, reads: bool) -> str:
    lines = text.split("\n")
    if lines[0].startswith(("exit code: ", "timed out")):
        middle = "".join(line + "\n" for line in lines[1:-1][-12:])
        last = lines[-1] if len(lines) > 1 else "(no output)"
        return f"Failed:\n{middle}({lines[0].replace('exit code: ', 'exit code ')}): {last}"
    if reads:
        return "Instructions:\n" + _instructions(text)
    shown = text.split("\nstderr:\n")[0]
    return "Result:\n" + (shown if len(shown) <= 2000 else shown[:2000] + " ...")


def _function_line(function: Mapping[str, Any]) -> str:
    schema = function.get("parameters") or {}
    required = schema.get("required")
    values = {"integer": "0", "number": "0", "boolean": "true"}
    arguments = ", ".join(
        f'"{name}": {values.get(kind.get("type"), chr(34) * 2)}'
        for name, kind in (schema.get("properties") or {}).items()
        if not required or name in required
    )
    return f'\n{{"name": "{function["name"]}", "arguments": {{{arguments}}}}} {function.get("description") or ""}'


def render(
    skills: Sequence[tuple[str, str]],
    files: Sequence[str],
    functions: Sequence[Mapping[str, Any]],
    messages: Sequence[Message],
    *,
    marking: bool = True,
) -> list[Segment]:
    """Segments of a conversation; `messages` come without the system message.

    Assistant messages carry weight 1 (0 where a message has `"learn": False`). `marking=False` leaves the user's text
    as it is: the model has to find names by itself, and a part of training does without the help.
    """
    parts: list[Segment] = [(BEGIN, 0)]
    if skills or files or functions:
        text = "<|im_start|>system"
        if files:
            text += "\nFiles:" + "".join(f"\n{DATA}{name}" for name in files)
        if skills:
            text += "\nSkills:" + "".join(f"\n{SKILLS}{name}/SKILL.md: {about}" for name, about in skills)
        if functions:
            text += "\nFunctions:" + "".join(map(_function_line, functions))
        parts.append((text + "<|im_end|>\n", 0))
    names = [name for name, _ in skills]
    reads = False
    for message in messages:
        content = message.get("content") or ""
        if message["role"] == "user":
            text = content.split("\n\n<file ")[0]
            text = mark(text, names, files) if marking else text
            parts.append((f"<|im_start|>user\n{text}<|im_end|>\n", 0))
        elif message["role"] == "assistant":
            reads = False
            said = content
            for call in message.get("tool_calls") or []:
                function = call["function"]
                reads = "cat " in function["arguments"] and "/SKILL.md" in function["arguments"]
                head = "\n" if said else ""
                text = f'{{"name": "{function["name"]}", "arguments": {function["arguments"]}}}'
                said += f"{head}<tool_call>\n{text}\n</tool_call>"
            parts.append(("<|im_start|>assistant\n", 0))
            parts.append((said + "<|im_end|>", 1 if message.get("learn", True) else 0))
            parts.append(("\n", 0))
        elif message["role"] == "tool":
            parts.append((f"<|im_start|>tool\n{_outcome(content.rstrip(chr(10)), reads)}<|im_end|>\n", 0))
    return parts
