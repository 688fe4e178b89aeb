"""The transcript, or one item of it, copied and saved in the current directory. A mixin of `ChatScreen`."""

from __future__ import annotations

from pathlib import Path

from textual import on

from skilldeck_tui.chat.own_commands import ChatOwnCommands
from skilldeck_tui.chat.sessions import Session
from skilldeck_tui.chat.transcripts.export import as_json, item_markdown, markdown, save
from skilldeck_tui.chat.transcripts.items import Item
from skilldeck_tui.widgets.transcript.view import TranscriptView


class ChatExporting(ChatOwnCommands):
    rows: list[Session]

    @property
    def row(self) -> Session | None:
        return next((row for row in self.rows if row.key == self.current), None)

    @on(TranscriptView.Copied)
    def _copied(self, event: TranscriptView.Copied) -> None:
        self.deck.copy(event.text, event.what)

    @on(TranscriptView.CopyAllAsked)
    def _copy_all(self) -> None:
        self.deck.copy(self.as_markdown(), "the transcript")

    @on(TranscriptView.ExportAsked)
    def _export_asked(self, event: TranscriptView.ExportAsked) -> None:
        self._save("md", self.as_markdown(event.item))

    def action_export_markdown(self) -> None:
        self.export("md")

    def action_export_json(self) -> None:
        self.export("json")

    def as_markdown(self, item: Item | None = None) -> str:
        title = self.row.title if self.row else "Transcript"
        return item_markdown(item) if item is not None else markdown(title, self.turns)

    def export(self, kind: str) -> None:
        """Save the transcript in the current directory."""
        if self.turns:
            self._save(kind, as_json(self.turns) if kind == "json" else self.as_markdown())
        else:
            self.notify("There is nothing to export yet.", severity="warning")

    def _save(self, kind: str, text: str) -> None:
        try:
            path = save(self.row.title if self.row else "transcript", kind, text, Path.cwd())
        except OSError as error:
            self.notify(f"The file cannot be written: {error.strerror}.", severity="error")
        else:
            self.notify(f"Saved as {path}")
