"""How seldom the terminal's process looks for garbage; it is off until all is loaded (`__main__`)."""

from __future__ import annotations

import gc


def collect_less() -> None:
    """What is there stays, and need not be looked at. What comes later is looked at less often: beside a fast stream
    there was a pass over all of it each second, of 20 to 100 ms."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()
