"""The `skilldeck` command, also `python -m skilldeck_tui`.

Begins without the garbage collector, which would look at what is being imported again and again: a tenth of the time
until the first paint. `cli` turns it on for commands, the TUI once it has painted.
"""

from __future__ import annotations

import gc


def main() -> None:
    gc.disable()
    from skilldeck_tui.cli import app

    app()


if __name__ == "__main__":
    main()
