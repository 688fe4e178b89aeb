"""Encodings of text files, and reading them by characters."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skilldeck_daemon.attachments.texts import encoding_of, read


@pytest.mark.parametrize(
    ("data", "more", "expected"),
    [
        (b"", False, "utf-8"),
        (b"plain\r\n", False, "utf-8"),
        ("ü".encode()[:1], True, "utf-8"),
        ("ü".encode()[:1], False, "windows-1252"),
        (b"\xef\xbb\xbfa", False, "utf-8-sig"),
        ("hé".encode("utf-16"), False, "utf-16"),
        ("hé".encode("utf-32"), False, "utf-32"),
        ("name;city\nAda;Köln\n".encode("utf-16-le"), False, "utf-16-le"),
        ("name;city\nAda;Köln\n".encode("utf-16-be"), False, "utf-16-be"),
        ("Größe – “gut”".encode("cp1252"), False, "windows-1252"),
        (b"\x1b[1mcolour\x1b[0m", False, "utf-8"),
        (b"PK\x03\x04\x00\x00", True, None),
        (b"\xff\xfe\x00", False, None),
        (b"\x01\x02\x03", False, None),
        (b"caf\x81", False, None),
        (bytes(range(256)) * 4, False, None),
        (b"\0" * 100, False, None),
    ],
)
def test_encodings_are_told_by_content(data: bytes, more: bool, expected: str | None) -> None:
    assert encoding_of(data, more) == expected


def test_pages_join_without_gap_or_overlap(tmp_path: Path) -> None:
    text = "".join(f"line {number} – ü\r\n" for number in range(500))
    expected = text.replace("\r\n", "\n")
    for encoding in ("utf-8", "utf-16", "windows-1252"):
        file = tmp_path / encoding
        file.write_bytes(text.encode(encoding))
        pages, more, offset = [], True, 0
        while more:
            page, more = read(file, encoding, offset, 777)
            pages.append(page)
            offset += len(page)
        assert "".join(pages) == expected
        assert read(file, encoding, offset, 10) == ("", False)
        assert read(file.read_bytes(), encoding, 5, 7) == read(expected, "", 5, 7) == (expected[5:12], True)


@given(st.text(), st.integers(0, 50), st.integers(0, 50))
def test_any_text_reads_as_it_was_written(text: str, offset: int, limit: int) -> None:
    text = text.replace("\r", "")
    assert read(text.encode("utf-8", "replace"), "utf-8", offset, limit) == read(
        text.encode("utf-8", "replace").decode(), "", offset, limit
    )
