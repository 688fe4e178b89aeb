"""The building of what a run's skills need, as lines on stderr while the run waits for it."""

from __future__ import annotations

import sys

from skilldeck_tui.cli import output as out
from skilldeck_tui.client.client import Change
from skilldeck_tui.skills.packages import named


class PackageNotes:
    """Of one run."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._said: dict[str, int] = {}  # lines of the log, by environment
        self._ended: set[str] = set()

    def show(self, change: Change) -> None:
        shown = change.object
        if shown is None or self._run_id not in shown.get("runs", ()) or change.id in self._ended:
            return
        skills = out.safe(", ".join(shown["skills"]), sys.stderr)
        if shown["status"] in ("building", "ready", "failed") and change.id not in self._said:
            self._said[change.id] = 0
            out.note(f"building what {skills} needs: {out.safe(named(shown), sys.stderr)}", "cyan")
        seen = self._said.get(change.id, 0)
        fresh = min(int(shown["lines"]) - seen, len(shown["log"]))
        for line in shown["log"][len(shown["log"]) - fresh :]:
            out.note(f"  {out.safe(str(line), sys.stderr)}", "dim")
        if change.id in self._said:
            self._said[change.id] = int(shown["lines"])
        if shown["status"] == "ready":
            out.note(f"✓ what {skills} needs is there", "green")
        elif shown["status"] in ("failed", "denied"):
            out.note(f"✗ what {skills} needs is not there: {out.safe(str(shown['detail']), sys.stderr)}", "red")
        if shown["status"] in ("ready", "failed", "denied"):
            self._ended.add(change.id)
