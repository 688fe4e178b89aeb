"""The modes of the TUI, in the order of their tabs."""

MODES = ("chat", "skills", "files", "daemon")
