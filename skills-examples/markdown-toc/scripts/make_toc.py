#!/usr/bin/env python3
"""Make a table of contents from a Markdown document's headings, linked as GitHub links them.

Reads ATX (`## Title`) and underlined headings; code blocks, HTML comments and front matter are passed over. The table
starts at the level below a lone title. With --output, a copy of the document is written with the table between
`<!-- toc -->` and `<!-- /toc -->` (put in after the title when the marks are missing); the copy replaces an older file
in one step.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from typing import NamedTuple

sys.dont_write_bytecode = True  # a run leaves the skill folder as it was
from textfile import BadInput, read_text, run, short  # noqa: E402

ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))??(?:[ \t]+#+)?[ \t]*$")
UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
NO_PARAGRAPH = re.compile(r"\s*$| {4}|\t| {0,3}(?:>|[-*+] |\d+[.)] |\|)")
OPEN, CLOSE = "<!-- toc -->", "<!-- /toc -->"


class Heading(NamedTuple):
    """A heading: its line number (from 1), the line after it, its level and its text."""

    line: int
    after: int
    level: int
    text: str


def plain(markdown: str) -> str:
    """A heading's text without links, images, emphasis and code marks."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|<!--.*?-->|</?[a-zA-Z][^>]*>", "", markdown)
    text = re.sub(r"\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", text)
    text = re.sub(r"(?<!\\)(\*{1,3}|`+)(.+?)\1", r"\2", text)
    text = re.sub(r"(?<![\w\\])(_{1,3})(\S.*?)\1(?!\w)", r"\2", text)
    return re.sub(r"\\([^\w\s])", r"\1", text).strip()


def headings(text: str) -> list[Heading]:
    """The headings of a document, in order."""
    lines = text.splitlines()
    found: list[Heading] = []
    start = 0
    if lines and lines[0].rstrip() == "---":
        ends = [n for n, line in enumerate(lines[1:], 1) if line.rstrip() in ("---", "...")]
        start = ends[0] + 1 if ends else 0
    fence = ""
    comment = False
    for number, line in enumerate(lines[start:], start):
        if fence:
            closing = line.strip()
            if set(closing) == {fence[0]} and len(closing) >= len(fence):
                fence = ""
            continue
        if comment or line.lstrip().startswith("<!--"):
            comment = "-->" not in line
            continue
        opening = FENCE.match(line)
        if opening:
            fence = opening[1]
            continue
        atx = ATX.match(line) if len(line) < 2000 else None
        if atx:
            found.append(Heading(number + 1, number + 2, len(atx[1]), plain(atx[2] or "")))
            continue
        under = UNDERLINE.match(line) if number > start else None
        above = lines[number - 1] if under else ""
        if under and not NO_PARAGRAPH.match(above) and not ATX.match(above[:2000]) and not FENCE.match(above):
            found.append(Heading(number, number + 2, 1 if under[1][0] == "=" else 2, plain(above[:2000])))
    return [heading for heading in found if heading.text]


def anchors(titles: list[str]) -> list[str]:
    """The link targets GitHub gives these headings: lower case, no punctuation, -1, -2 for repeated ones."""
    seen: dict[str, int] = {}
    result = []
    for title in titles:
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        anchor = slug
        while anchor in seen:
            seen[slug] += 1
            anchor = f"{slug}-{seen[slug]}"
        seen[anchor] = 0
        result.append(anchor)
    return result


def table(found: list[Heading], depth: int) -> list[str]:
    """The table's lines: `depth` levels from the top, without the title when only one heading stands that high."""
    targets = anchors([heading.text for heading in found])
    top = min(heading.level for heading in found)
    if len(found) > 1 and sum(heading.level == top for heading in found) == 1 and found[0].level == top:
        top = min(heading.level for heading in found[1:])
    lines = []
    for number, heading in enumerate(found):
        if top <= heading.level < top + depth:
            label = short(heading.text, 120).replace("[", "\\[").replace("]", "\\]")
            lines.append(f"{'  ' * (heading.level - top)}- [{label}](#{targets[number]})")
    return lines


def with_table(text: str, found: list[Heading], lines: list[str]) -> str:
    """The document with the table between its marks."""
    block = "\n".join([OPEN, *lines, CLOSE])
    begin, end = text.find(OPEN), text.find(CLOSE)
    if 0 <= begin < end:
        return text[:begin] + block + text[end + len(CLOSE) :]
    if begin >= 0 or end >= 0:
        raise BadInput(f"the document has only one of the marks {OPEN} and {CLOSE}")
    rows = text.splitlines(keepends=True)
    place = found[0].after - 1
    before = "".join(rows[:place])
    return before + ("" if before.endswith("\n") else "\n") + f"\n{block}\n" + "".join(rows[place:])


def replace_file(path: str, text: str) -> None:
    """Write `text` to `path` so that a reader sees the old file or the new one, never a part."""
    folder = os.path.dirname(os.path.abspath(path))
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=".toc-", dir=folder)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as problem:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise BadInput(f"--output {short(path)} cannot be written: {problem.strerror}") from None


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a linked table of contents from a Markdown document.")
    parser.add_argument("file", help="the Markdown document")
    parser.add_argument(
        "--depth", type=int, default=2, metavar="N", help="levels of headings to list, 1 to 6 (default 2)"
    )
    parser.add_argument(
        "--output", metavar="PATH", help="write the document with the table in it to PATH, print the table too"
    )
    options = parser.parse_args()
    if not 1 <= options.depth <= 6:
        parser.error("--depth takes 1 to 6")
    text = read_text(options.file)
    found = headings(text)
    if not found:
        raise BadInput("the document has no headings")
    lines = table(found, options.depth)
    if options.output:
        replace_file(options.output, with_table(text, found, lines))
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    run(main)
