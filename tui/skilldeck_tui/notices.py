"""A notice of the operating system, through the terminal: works over SSH and needs no program."""

from __future__ import annotations

from skilldeck_tui.format import one_line


def notice(title: str, text: str) -> str:
    """A bell, OSC 9 (iTerm2, Windows Terminal, kitty) and OSC 777 (foot, WezTerm, urxvt)."""
    title, text = one_line(title, 80).replace(";", ","), one_line(text, 160).replace(";", ",")
    return f"\a\x1b]9;{title}: {text}\x1b\\\x1b]777;notify;{title};{text}\x1b\\"
