"""Transcripts as Markdown and JSON. `save` writes a new file and never replaces one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path, PurePath

from skilldeck_tui.chat.transcripts.items import Item, ReasoningItem, ShellItem, TextItem, UserItem
from skilldeck_tui.chat.transcripts.transcript import ShownRun


def markdown(title: str, turns: Sequence[ShownRun]) -> str:
    parts = [f"# {title}"]
    for turn in turns:
        parts += [text for item in turn.all_items if (text := item_markdown(item))]
        if turn.error:
            parts.append(f"*{turn.status}: {turn.error}*")
        if turn.usage:
            parts.append(f"*{turn.usage.input} tokens in, {turn.usage.output} out · {turn.model}*")
    return "\n\n".join(parts) + "\n"


def item_markdown(item: Item) -> str:
    match item:
        case UserItem():
            files = "".join(f"\n> 📎 {name}" for name in item.files)
            return "> " + item.text.strip().replace("\n", "\n> ") + files
        case ReasoningItem():
            return f"<details><summary>Reasoning</summary>\n\n{item.text.strip()}\n\n</details>"
        case TextItem():
            return item.text.strip()
        case ShellItem():
            return "\n\n".join(_command(item, index) for index in range(len(item.commands)))
    return f"```json\n{json.dumps(item.raw, indent=2, ensure_ascii=False)}\n```"


def _command(item: ShellItem, index: int) -> str:
    command = item.commands[index]
    body = f"$ {command.text}\n{command.output.text()}".rstrip()
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", body)), 0)
    ended = (
        ""
        if command.outcome in (0, None)
        else f"\n\n*{'timed out' if command.outcome == 'timeout' else f'exit code {command.outcome}'}*"
    )
    return f"{fence}console\n{body}\n{fence}{ended}"


def as_json(turns: Sequence[ShownRun]) -> str:
    """A list of runs: `{id, status, model, input, output, usage, error, timeline}` with OpenAI's items."""
    runs = [
        {
            "id": turn.run_id,
            "status": turn.status,
            "model": turn.model,
            "input": [item.raw for item in turn.asked],
            "output": turn.response.get("output") or _items(turn),
            "usage": turn.response.get("usage"),
            "error": turn.response.get("error"),
            "timeline": [asdict(span) for span in turn.timeline],
        }
        for turn in turns
    ]
    return json.dumps(runs, indent=2, ensure_ascii=False) + "\n"


def _items(turn: ShownRun) -> list[dict[str, object]]:
    items = []
    for item in turn.items:
        items.append(item.raw)
        if isinstance(item, ShellItem) and item.output_raw:
            items.append(item.output_raw)
    return items


def save(title: str, kind: str, text: str, folder: Path) -> Path:
    """Write `text` as `TITLE.KIND`, numbered when that exists. Raises OSError."""
    stem = re.sub(r"[^\w.-]+", "-", title.lower()).strip("-.")[:60] or "transcript"
    return save_bytes(f"{stem}.{kind}", text.encode(), folder)


def save_bytes(name: str, data: bytes, folder: Path) -> Path:
    """Write a new file called `name`, numbered when that exists. Raises OSError."""
    wanted = PurePath(PurePath(name).name or "file")
    number = 1
    while True:
        path = folder / (wanted if number == 1 else f"{wanted.stem}-{number}{wanted.suffix}")
        try:
            with path.open("xb") as handle:
                handle.write(data)
            return path
        except FileExistsError:
            number += 1
