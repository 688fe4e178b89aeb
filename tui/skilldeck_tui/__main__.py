"""`python -m skilldeck_tui`: the `skilldeck` command."""

from __future__ import annotations

from skilldeck_tui.cli import main

if __name__ == "__main__":
    main()
