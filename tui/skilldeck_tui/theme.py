"""The house themes: quiet, one accent, the same roles in dark and light. ANSI keeps the terminal's colours."""

from __future__ import annotations

from textual.color import Color
from textual.theme import BUILTIN_THEMES, Theme

DARK = Theme(
    name="skilldeck-dark",
    primary="#7aa2c9",
    secondary="#8f9bb3",
    accent="#8fb8de",
    success="#8fbf8f",
    warning="#d9b36c",
    error="#d98080",
    foreground="#d4d8df",
    background="#14171c",
    surface="#191d23",
    panel="#21262e",
    dark=True,
    luminosity_spread=0.12,
    variables={
        "border": "#3c4654",
        "border-blurred": "#2a303a",
        "block-cursor-background": "#2b3b4d",
        "block-cursor-foreground": "#e8ecf2",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#20262e",
        "footer-background": "#14171c",
        "footer-key-foreground": "#8fb8de",
        "footer-description-foreground": "#7d8694",
        "input-selection-background": "#35506b",
        "scrollbar": "#2c333d",
        "scrollbar-background": "#14171c",
        "scrollbar-corner-color": "#14171c",
        "markdown-h1-color": "#b5d0ea",
        "markdown-h2-color": "#b5d0ea",
        "markdown-h3-color": "#a3b8cc",
    },
)
LIGHT = Theme(
    name="skilldeck-light",
    primary="#35648f",
    secondary="#5d6b7e",
    accent="#2d6796",
    success="#3f7d45",
    warning="#96690f",
    error="#b03a3a",
    foreground="#23282f",
    background="#fbfaf7",
    surface="#f4f2ed",
    panel="#eae7e0",
    dark=False,
    luminosity_spread=0.1,
    variables={
        "border": "#b9c0c9",
        "border-blurred": "#d9d6ce",
        "block-cursor-background": "#d5e2ee",
        "block-cursor-foreground": "#15191e",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#e9e6df",
        "footer-background": "#fbfaf7",
        "footer-key-foreground": "#2d6796",
        "footer-description-foreground": "#737a85",
        "scrollbar": "#d3cfc6",
        "scrollbar-background": "#fbfaf7",
        "scrollbar-corner-color": "#fbfaf7",
    },
)
THEMES = (DARK, LIGHT)
CYCLE = (DARK.name, LIGHT.name, "ansi-dark")
NAMES = (*CYCLE, *sorted(name for name in BUILTIN_THEMES if name not in CYCLE))


def shades(theme: Theme) -> dict[str, str]:
    """`muted` and `faint`: the text's colour, mixed into the background."""
    if theme.ansi:
        return {"muted": "ansi_default", "faint": "ansi_bright_black"}
    back = Color.parse(theme.background or ("#121212" if theme.dark else "#efefef"))
    front = Color.parse(theme.foreground) if theme.foreground else back.inverse
    return {"muted": back.blend(front, 0.68).hex, "faint": back.blend(front, 0.45).hex}
