"""How a completion is shown in the list above the composer."""

from __future__ import annotations

from textual.content import Content

from skilldeck_tui.chat.composing.completion import Candidate

SIGNS = {
    "skill": ("◆", "$accent"), "disk": ("◇", "$accent"), "command": ("/", "$accent"), "file": ("▤", "$accent"),
    "path": ("·", "$muted"),
    "folder": ("▸", "$muted"),
}  # fmt: skip


def offered(candidate: Candidate) -> Content:
    sign, style = SIGNS[candidate.kind]
    note = candidate.note if len(candidate.note) <= 60 else candidate.note[:59] + "…"
    return Content.assemble((f"{sign} ", style), candidate.label, (f"  {note}", "$faint"))
