"""A picture of a terminal with the characters that it shows, as a font within it.

A page that shows an SVG as an image loads nothing for it: without this, box drawing and signs are drawn with whatever
monospaced font the reader has, in another width. `unicode-range` tells which characters there are (`covered`).
"""

from __future__ import annotations

import base64
import html
import re
import subprocess
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

FAMILY = "Picture Mono"
_FACES = re.compile(r"\s*@font-face \{.*?\}", re.S)
_TEXTS = re.compile(r"<text[^>]*>(.*?)</text>", re.S)
CELL = 12.2
"""Width of a character in the pictures, in their units."""


class Fonts(NamedTuple):
    regular: Path
    bold: Path


def regular_and_bold(name: str = "DejaVu Sans Mono") -> Fonts:
    """The files of a font that is installed, as fontconfig knows them."""
    found = []
    for style in ("Book", "Bold"):
        command = ["fc-match", "--format", "%{family}\t%{file}", f"{name}:style={style}"]
        family, _, file = subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("\t")
        if name not in family:
            raise SystemExit(f"The font {name} is not installed (Debian: fonts-dejavu-core).")
        found.append(Path(file))
    return Fonts(*found)


def shown(picture: str) -> set[str]:
    """The characters that a picture writes."""
    return set(html.unescape("".join(_TEXTS.findall(picture)))) - {"\n"}


def embedded(picture: str, fonts: Fonts) -> str:
    """The picture with its characters embedded in place of the fonts it named. Ends when the font lacks one."""
    from fontTools.subset import Options, Subsetter
    from fontTools.ttLib import TTFont

    characters = sorted(shown(picture))
    faces, width = [], CELL
    for file, weight in ((fonts.regular, 400), (fonts.bold, 700)):
        font = TTFont(file)
        known = font.getBestCmap()
        lacking = [f"{character} (U+{ord(character):04X})" for character in characters if ord(character) not in known]
        if lacking:
            raise SystemExit(f"{file.name} lacks {', '.join(lacking)}.")
        width = font["hmtx"][known[ord("a")]][0] / font["head"].unitsPerEm
        subset = Subsetter(Options(layout_features=[], hinting=False, notdef_outline=True))
        subset.populate(unicodes=[ord(character) for character in characters])
        subset.subset(font)
        font.flavor = "woff2"
        made = BytesIO()
        font.save(made)
        source = f"url(data:font/woff2;base64,{base64.b64encode(made.getvalue()).decode()}) format('woff2')"
        codes = ", ".join(f"U+{ord(character):X}" for character in characters)
        faces.append(
            f"@font-face {{ font-family: '{FAMILY}'; font-weight: {weight}; src: {source}; unicode-range: {codes}; }}"
        )
    picture = _FACES.sub("", picture)
    picture = picture.replace("<style>", "<style>\n" + "\n".join(faces), 1)
    picture = re.sub(
        r"font-family: (Fira Code, monospace|arial);",
        f"font-family: '{FAMILY}', 'DejaVu Sans Mono', Menlo, Consolas, monospace;",
        picture,
    )
    # A character as wide as its cell, so that lines of box drawing have no gaps.
    picture = picture.replace("font-size: 20px;", f"font-size: {CELL / width:.2f}px;")
    return "\n".join(line.rstrip() for line in picture.splitlines()) + "\n"


def covered(picture: str) -> set[str]:
    """The characters that every font embedded in a picture has."""
    ranges = re.findall(rf"font-family: '{FAMILY}'; .*?unicode-range: ([^;]+);", picture)
    each = [{chr(int(code.removeprefix("U+"), 16)) for code in codes.split(", ")} for codes in ranges]
    return set.intersection(*each) if each else set()
