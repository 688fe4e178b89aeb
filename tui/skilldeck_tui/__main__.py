"""The `skilldeck` command, also `python -m skilldeck_tui`.

Begins without the garbage collector, which would look at what is being imported again and again: a tenth of the time
until the first paint. `cli` turns it on for commands, the TUI once it has painted. The command line's parser and the
commands take as long to import as a third of the TUI, so a start that only opens it goes past them.
"""

from __future__ import annotations

import gc
import sys


def main() -> None:
    gc.disable()
    from skilldeck_tui.opening import Opening, opens

    opening = Opening.read(sys.argv[1:])
    if opening is None:
        from skilldeck_shared.ending import ends_well
        from skilldeck_tui.cli.main import app

        with ends_well():
            app()
    else:
        sys.exit(opens(opening))


if __name__ == "__main__":
    main()
