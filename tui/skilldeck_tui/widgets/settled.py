"""What is laid out once when its size changes, not twice.

Textual lays a screen out again whenever a widget was given another virtual size, which follows from the layout that was
just made. A transcript that grows by a line had two layouts in each frame, the second without effect.
"""

from __future__ import annotations

from textual.geometry import Size
from textual.reactive import Reactive


def settled() -> Reactive[Size]:
    """For a class's `virtual_size`. A scroll view still lays out again when its scrollbar comes or goes."""
    return Reactive(Size(0, 0), layout=False, repaint=False)
