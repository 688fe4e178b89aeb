"""What is shown of calls that are neither text nor the shell's: a line, and a body in the form that suits them.

`DESCRIBED` has one entry for each type on the wire. Nothing here draws.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from textual.content import Content
from textual.highlight import highlight

from skilldeck_tui.chat.transcripts.items import Item, Object, OtherItem
from skilldeck_tui.text.format import clean, one_line, plural

LONGEST = 200_000
"""Characters of a body: more is the daemon's, and can be exported."""
PATCH_STYLES = {"+": "$success on $success 12%", "-": "$error on $error 12%", "@": "$accent", "*": "$accent"}
OPERATIONS = {"create_file": "create", "update_file": "change", "delete_file": "delete"}


@dataclass(frozen=True)
class Description:
    """`head` names the call, `note` says more on the same line, `failed` colours it."""

    head: str
    note: str = ""
    body: Content = Content("")  # noqa: RUF009
    failed: bool = False
    folded: bool = False  # the body is shown only when asked for


def code(item: Item) -> Description:
    """A code_interpreter_call: the code, then what it printed; pictures are shown by the view."""
    raw = item.raw
    source = str(raw.get("code") or "") or written(item)
    outputs = raw.get("outputs") or []
    printed = "".join(str(entry.get("logs") or "") for entry in outputs if entry.get("type") == "logs")
    pictures = sum(entry.get("type") == "image" for entry in outputs)
    note = " · ".join(part for part in (_status(raw), plural(pictures, "picture") if pictures else "") if part)
    parts: list[Content] = [highlight(clean(source).strip("\n"), language="python")] if source else []
    if printed:
        parts.append(Content.styled(clean(printed).strip("\n"), "$foreground 82%"))
    return Description("python", note, Content("\n\n").join(parts), raw.get("status") == "failed")


def patch(item: Item) -> Description:
    """An apply_patch_call with its answer: the diff in colours, and why it could not be applied."""
    raw, answer = item.raw, getattr(item, "output_raw", {})
    operation = raw.get("operation") or {}
    diff = clean(str(operation.get("diff") or "") or written(item)).strip("\n")
    failed = answer.get("status") == "failed"
    said = one_line(str(answer.get("output") or ""), 120) if failed else ""
    lines = diff.split("\n") if diff else []
    plus, minus = (sum(line.startswith(sign) for line in lines) for sign in "+-")
    counts = " ".join([*([f"+{plus}"] if plus else []), *([f"−{minus}"] if minus else [])])
    note = " · ".join(part for part in (counts, _status(raw), said) if part)
    head = f"{OPERATIONS.get(str(operation.get('type')), 'patch')} {clean(str(operation.get('path') or ''))}".rstrip()
    return Description(head, note, diff_lines(lines), failed)


def diff_lines(lines: list[str]) -> Content:
    """The lines of a diff, coloured by their first character; those that name files are bold."""
    return Content("\n").join(Content.styled(line, _diff_style(line)) for line in lines)


def _diff_style(line: str) -> str:
    return "bold $muted" if line.startswith(("+++ ", "--- ", "diff ")) else PATCH_STYLES.get(line[:1], "$muted")


def web(item: Item) -> Description:
    """A web_search_call: what was looked for, and what was found."""
    raw = item.raw
    action = raw.get("action") or {}
    kind = str(action.get("type") or "search")
    if kind == "search":
        head = f"web · {one_line(str(action.get('query') or ' '.join(action.get('queries') or []) or '…'), 120)}"
    else:
        pattern = f" “{action['pattern']}” in" if action.get("pattern") else ""
        verb = "find" if pattern else "open"
        head = clean(f"web · {verb}{pattern} {action.get('url') or ''}")
    found = [(str(r.get("title") or ""), str(r.get("url") or "")) for r in raw.get("results") or []]
    found = found or [("", str(source.get("url") or "")) for source in action.get("sources") or []]
    rows = [
        Content.assemble((f"{number}. ", "$faint"), one_line(title, 100), " " if title else "", (clean(url), "$muted"))
        for number, (title, url) in enumerate(found, 1)
    ]
    note = " · ".join(part for part in (plural(len(found), "source") if found else "", _status(raw)) if part)
    return Description(head, note, Content("\n").join(rows), raw.get("status") == "failed")


def mcp(item: Item) -> Description:
    """An mcp_call: arguments and result."""
    raw = item.raw
    error = raw.get("error")
    said = error if isinstance(error, str) else json.dumps(error, ensure_ascii=False) if error else ""
    head = f"{raw.get('server_label') or 'mcp'} · {raw.get('name') or ''}"
    result = said or str(raw.get("output") or "")
    arguments = str(raw.get("arguments") or written(item))
    return Description(clean(head), _status(raw), _asked_and_answered(arguments, result), bool(error))


def mcp_tools(item: Item) -> Description:
    raw = item.raw
    tools = raw.get("tools") or []
    rows = [
        Content.assemble((clean(str(tool.get("name") or "")), "$foreground"), "  ",
                         (one_line(str(tool.get("description") or ""), 160), "$faint"))
        for tool in tools
    ]  # fmt: skip
    error = one_line(str(raw.get("error") or ""), 120)
    head = f"{raw.get('server_label') or 'mcp'} · tools"
    return Description(clean(head), error or plural(len(tools), "tool"), Content("\n").join(rows), bool(error), True)


def mcp_asks(item: Item) -> Description:
    raw = item.raw
    head = f"{raw.get('server_label') or 'mcp'} · may {raw.get('name') or 'this'} be called?"
    return Description(clean(head), "the client decides", _asked_and_answered(str(raw.get("arguments") or ""), ""))


def function(item: Item) -> Description:
    """A function or custom tool's call, with the answer when it came in this run."""
    raw, answer = item.raw, getattr(item, "output_raw", {})
    output = answer.get("output")
    output = output if isinstance(output, str) or output is None else json.dumps(output, ensure_ascii=False)
    given = str(raw.get("arguments") or raw.get("input") or written(item))
    note = _status(raw) or ("" if output else one_line(given, 80))
    name = clean(str(raw.get("name") or "function"))
    return Description(name, note, _asked_and_answered(given, output or ""), folded=True)


def compaction(item: Item) -> Description:
    """A summary in place of what was said: what it says, and how much was kept beside it."""
    raw = item.raw
    if raw.get("status") == "in_progress":
        return Description("summarising what was said", "it stays readable here")
    kept, summary = raw.get("kept"), clean(str(raw.get("text") or "")).strip()
    words = f"{plural(kept, 'message')} of yours kept word for word" if isinstance(kept, int) else ""
    note = " · ".join(part for part in (words, "all of it stays readable here") if part)
    return Description("from here on the model reads a summary", note, Content.styled(summary, "$foreground 82%"))


DESCRIBED: dict[str, Callable[[Item], Description]] = {
    "code_interpreter_call": code,
    "apply_patch_call": patch,
    "web_search_call": web,
    "mcp_call": mcp,
    "mcp_list_tools": mcp_tools,
    "mcp_approval_request": mcp_asks,
    "function_call": function,
    "custom_tool_call": function,
    "compaction": compaction,
}


def pictures(item: Item) -> list[str]:
    """URLs of the pictures that a call made, data URLs among them."""
    return [str(entry.get("url") or "") for entry in item.raw.get("outputs") or [] if entry.get("type") == "image"]


def written(item: Item) -> str:
    """What has come of it while it is written."""
    return "".join(item.pieces) if isinstance(item, OtherItem) else ""


def _status(raw: Object) -> str:
    status = str(raw.get("status") or "")
    return "" if status in ("completed", "") else status.replace("_", " ")


def _asked_and_answered(given: str, output: str) -> Content:
    parts: list[Content] = []
    if given.strip() not in ("", "{}"):
        parts.append(highlight(pretty(given), language="json"))
    if output:
        parts.append(Content.styled(pretty(output), "$foreground 82%"))
    return Content("\n").join(parts)


def pretty(text: str) -> str:
    """JSON on lines of its own, other text as it is."""
    text = clean(text[:LONGEST]).strip("\n")
    if text[:1] in "{[":
        try:
            value: Any = json.loads(text)
            return json.dumps(value, indent=2, ensure_ascii=False)
        except ValueError:
            pass
    return text
