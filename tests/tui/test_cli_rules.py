"""Remembered commands on the command line: listed, changed, revoked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from typer.testing import CliRunner, Result

from skilldeck_tui.cli.main import app
from support.fake_daemon import FakeDaemon

RULE = {
    "id": "rule_1", "object": "rule", "kind": "shell", "prefix": "python /mnt/skills/tidy/a.py",
    "skills": [{"name": "tidy", "path": "p"}], "created_at": 1_700_000_000,
}  # fmt: skip


async def test_rules_are_listed_changed_and_revoked(tmp_path: Path) -> None:
    fake = FakeDaemon()
    fake.rules["rule_1"] = dict(RULE)

    async def sh(*args: str) -> Result:
        # In a thread, because the fake daemon answers in this one.
        return await asyncio.to_thread(CliRunner().invoke, app, ["--socket", str(socket), "rules", *args])

    async with fake.listening(tmp_path / "s") as socket:
        shown = await sh()
        assert shown.exit_code == 0
        assert all(text in shown.stdout for text in ("rule_1", "python /mnt/skills/tidy/a.py", "tidy"))
        assert json.loads((await sh("--json")).stdout) == [RULE]
        assert (await sh("edit", "rule_1", "python")).stdout == "rule_1 covers python\n"
        assert fake.rules["rule_1"]["prefix"] == "python"
        assert (await sh("revoke", "rule_1")).stdout == "rule_1 is revoked\n"
        assert not fake.rules
        assert (await sh("revoke", "rule_1")).exit_code == 4
        assert "Nothing is allowed always." in (await sh()).stderr
