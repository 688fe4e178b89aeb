"""The pictures that the README shows can be drawn where nothing but they themselves is at hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from readme.fonts import covered, shown

ROOT = Path(__file__).parents[2]
PICTURES = re.findall(r"!\[[^\]]+\]\((docs/[^)]+\.svg)\)", (ROOT / "README.md").read_text())


@pytest.mark.parametrize("path", PICTURES)
def test_a_picture_holds_a_font_with_every_character_it_shows(path: str) -> None:
    picture = (ROOT / path).read_text()
    assert len(shown(picture)) > 30
    assert shown(picture) <= covered(picture)
    assert "https://cdn" not in picture
