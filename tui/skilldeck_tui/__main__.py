"""`python -m skilldeck_tui`: the TUI alone, on a daemon that runs (`skilldeck` also starts one)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from skilldeck_shared.errors import SkilldeckError
from skilldeck_tui.app import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m skilldeck_tui", description="The terminal UI of skilldeck.")
    parser.add_argument("--socket", type=Path, help="control socket (default: $SKILLDECK_SOCKET or the usual place)")
    parser.add_argument("--run", metavar="RESPONSE_ID", help="open on this run")
    parser.add_argument("--session", metavar="CONVERSATION_ID", help="open on this session")
    parser.add_argument(
        "--mode", choices=("chat", "skills", "files", "daemon"), default="chat", help="for --screenshot"
    )
    parser.add_argument("--screenshot", type=Path, metavar="OUT.SVG", help="save the screen as an SVG and leave")
    parser.add_argument("--size", default="120x40", metavar="WxH", help="of the screenshot (default: 120x40)")
    given = parser.parse_args()
    try:
        width, height = (int(part) for part in given.size.lower().split("x"))
    except ValueError:
        parser.error(f"--size is {given.size!r}; write it as 120x40")
    try:
        return run(given.socket, given.run, given.session, given.screenshot, mode=given.mode, size=(width, height))
    except SkilldeckError as error:
        print(f"skilldeck: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
