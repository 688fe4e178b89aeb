"""The `skilldeckd` command, also `python -m skilldeck_daemon`.

Begins without the garbage collector, which would look at what is being imported again and again; what is there when
the command is known stays.
"""

from __future__ import annotations

import gc


def main() -> None:
    gc.disable()
    from skilldeck_daemon import cli

    gc.freeze()
    gc.enable()
    cli.main()


if __name__ == "__main__":
    main()
