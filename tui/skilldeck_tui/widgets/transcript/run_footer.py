"""How a run ended: state, time, tokens, and a bar that shows where its time went."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content

from skilldeck_shared.terminal import clean
from skilldeck_tui.chat.transcripts.items import ShellItem
from skilldeck_tui.chat.transcripts.transcript import ShownRun
from skilldeck_tui.demonstration import CHAT
from skilldeck_tui.text.format import SPINNER, duration, plural
from skilldeck_tui.text.lines import in_lines
from skilldeck_tui.widgets.settled import settled
from skilldeck_tui.widgets.text_block import TextBlock

KINDS = ("wait", "prefill", "generate", "call")
STYLES = {"wait": "$faint", "prefill": "$secondary", "generate": "$primary", "call": "$success"}
LABELS = {"wait": "waiting", "prefill": "prefill", "generate": "generate", "call": "commands"}
SHORT_SECONDS, PLAIN_SECONDS = 1.0, 10.0
"""Of a run that took less nobody asks where its time went; the second, of one that called nothing: below an answer of a
line the bar would outweigh it."""
BARS, GAP = (32, 16, 8), "   "
"""Cells of the bar: as many as leave room for what it says."""


class RunFooter(Vertical):
    virtual_size = settled()
    DEFAULT_CSS = """
    RunFooter { height: auto; margin: 0 0 1 0; padding: 0 2; }
    RunFooter Static { height: auto; }
    RunFooter .error { color: $error; }
    """

    def __init__(self, turn: ShownRun) -> None:
        super().__init__()
        self.turn = turn
        self._painted = -1
        self.now = turn.started
        self._demonstration = False

    def compose(self) -> ComposeResult:
        for name in ("error", "summary", "bar", "note"):
            yield TextBlock(classes=name)

    def on_mount(self) -> None:
        self.sync(self.now)

    def on_resize(self) -> None:
        # What fits on a line is known only once there is a width.
        self._painted = -1
        self.sync(self.now)

    def demonstrate(self) -> None:
        """Say below the answer that the bundled model is one for demonstration."""
        self._demonstration, self._painted = True, -1
        self.sync(self.now)

    def sync(self, now: float) -> None:
        self.now = now or self.now
        if not self.children or (self.turn.revision == self._painted and not self.turn.live):
            return
        self._painted = self.turn.revision
        turn = self.turn
        error, summary, bar = (self.query_one(f".{name}", TextBlock) for name in ("error", "summary", "bar"))
        error.display = turn.status == "failed" and bool(turn.error)
        if error.display:
            error.write(Content(f"✗ {clean(turn.error)}"))
        summary.write(self._live(now) if turn.live else self._ended())
        bars = Content("") if turn.live else timeline(turn, self.content_size.width or 80)
        bar.display = bool(bars.plain)
        bar.write(bars)
        note = self.query_one(".note", TextBlock)
        note.display = self._demonstration and not turn.live
        note.write(Content.styled(CHAT, "$muted"))

    def _live(self, now: float) -> Content:
        turn = self.turn
        spent = max(0.0, now - turn.started) if turn.started else 0.0
        frame = SPINNER[int(now * 10) % len(SPINNER)]
        doing = "queued" if turn.status == "queued" else "running" if turn.items else "reading the prompt"
        if turn.items and isinstance(turn.items[-1], ShellItem) and turn.items[-1].running:
            doing = "waiting for your answer" if turn.items[-1].waiting else "running a command"
        elif turn.items:
            doing = "writing"
        if turn.preparing:
            doing = turn.preparing
        state = f"{doing} · {duration(spent)}"
        # On two lines it would jump as the seconds grow.
        hint = "   ctrl+c stops" if len(state) + 18 < (self.size.width or 80) else ""
        return Content.assemble((f"{frame} ", "$accent"), (state, "$muted"), (hint, "$faint"))

    def _ended(self) -> Content:
        turn = self.turn
        glyph, style, word = {
            "completed": ("✓", "$success", "") if turn.says_something else ("○", "$warning", "the model said nothing"),
            "failed": ("✗", "$error", "failed"),
            "cancelled": ("■", "$muted", turn.error or "stopped"),
            "incomplete": ("◐", "$warning", f"incomplete: {turn.error.replace('_', ' ')}"),
        }.get(turn.status, ("○", "$muted", turn.status))
        parts = []
        if turn.ended > turn.started > 0:
            parts.append(duration(turn.ended - turn.started))
        if turn.usage and (turn.usage.input or turn.usage.output):  # a stopped run may not know
            cached = f" ({turn.usage.cached:,} cached)" if turn.usage.cached else ""
            parts += [f"{turn.usage.input:,} in{cached}", f"{turn.usage.output:,} out"]
        commands = sum(len(item.commands) for item in turn.items if isinstance(item, ShellItem))
        if commands:
            parts.append(plural(commands, "command"))
        if turn.model:
            parts.insert(0, clean(turn.model))
        if word:
            parts.insert(0, word)
        shown = [Content.styled(part, "$faint") for part in parts]
        if (turn.response.get("skilldeck") or {}).get("shortened"):
            shown.append(Content.styled("older messages left out, to make room", "$warning"))
        if unsupported := turn.unsupported:
            shown.append(Content.styled(f"stands in nothing it read: {clean(', '.join(unsupported))}", "$warning"))
        lines = in_lines(shown, " · ", (self.content_size.width or 80) - 2)
        return Content.assemble((f"{glyph} ", style), Content("\n  ").join(lines))


def timeline(turn: ShownRun, width: int = 80) -> Content:
    """One line: a bar in the order things happened, and the seconds of each kind, the longest first where not all have
    room."""
    total = sum(span.end - span.start for span in turn.timeline)
    if total < (SHORT_SECONDS if any(span.kind == "call" for span in turn.timeline) else PLAIN_SECONDS):
        return Content("")
    spent = {kind: sum(span.end - span.start for span in turn.timeline if span.kind == kind) for kind in KINDS}
    labels = {
        kind: Content.assemble(("■ ", STYLES[kind]), (f"{LABELS[kind]} {duration(seconds)}", "$faint"))
        for kind, seconds in spent.items()
        if seconds > 0
    }
    cells = BARS[-1]
    for cells in BARS:
        if cells + sum(len(GAP) + label.cell_length for label in labels.values()) <= width:
            break
    bar: list[tuple[str, str]] = []
    owed, left = 0.0, width - cells
    for span in turn.timeline:
        owed += (span.end - span.start) / total * cells
        bar.append(("━" * round(owed), STYLES[span.kind]))
        owed -= round(owed)
    shown = set()
    for kind in sorted(labels, key=lambda kind: -spent[kind]):
        left -= len(GAP) + labels[kind].cell_length
        if left < 0:
            break
        shown.add(kind)
    parts = [Content.assemble(*bar), *(label for kind, label in labels.items() if kind in shown)]
    return Content(GAP).join(parts)
