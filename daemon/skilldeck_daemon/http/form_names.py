"""The names in a form's part: what browsers, mail libraries and .NET put into Content-Disposition.

A name comes plain (UTF-8, else Latin-1), as an RFC 2047 word (`=?utf-8?B?…?=`, what .NET sends), or as `filename*`
(RFC 8187), which wins where both are there. Browsers write `"` and line ends as %22, %0D and %0A.
"""

from __future__ import annotations

import email.header
import re
from urllib.parse import unquote_to_bytes

from python_multipart.multipart import parse_options_header

_EXTENDED = re.compile(rb"""filename\*\s*=\s*"?([A-Za-z0-9_-]{0,40})'[A-Za-z0-9-]{0,40}'([^;"\s]*)""", re.IGNORECASE)
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
_ESCAPED = {"%22": '"', "%0D": "\r", "%0A": "\n", "%0d": "\r", "%0a": "\n"}
_WORD = re.compile(r"=\?[A-Za-z0-9_-]{1,40}\?[BbQq]\?[^?\s]*\?=")


def disposition_names(header: bytes) -> tuple[str | None, str | None]:
    """(the field's name, the file's name), None for what is not given."""
    _, options = parse_options_header(header)
    name, filename = options.get(b"name"), options.get(b"filename")
    extended = _extended(header)
    if extended is None and filename is not None:
        extended = _plain(filename)
    return (None if name is None else _plain(name)), extended


def _extended(header: bytes) -> str | None:
    """The value of `filename*`; None where there is none that can be read."""
    found = _EXTENDED.search(_QUOTED.sub(_only_extended, header))
    if found is None:
        return None
    try:
        return unquote_to_bytes(found[2]).decode(found[1].decode() or "utf-8")
    except (UnicodeDecodeError, LookupError):
        return None


def _only_extended(quoted: re.Match[bytes]) -> bytes:
    """A quoted value as it is when it may be an extended one; others could hold anything, `filename*=` included."""
    return quoted[0] if b"''" in quoted[0] and b"=" not in quoted[0] else b'""'


def _plain(value: bytes) -> str:
    text = decode(value)
    if _WORD.search(text):
        text = _words(text)
    for escape, meant in _ESCAPED.items():
        text = text.replace(escape, meant)
    return text


def _words(text: str) -> str:
    try:
        return str(email.header.make_header(email.header.decode_header(text)))
    except (ValueError, LookupError, email.errors.HeaderParseError):
        return text


def decode(data: bytes) -> str:
    """Text of a form: UTF-8, or else Latin-1."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
