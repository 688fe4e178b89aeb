"""Text that only this daemon can read or have written: what clients keep for it and hand back.

Encrypted reasoning and compacted conversations go out as `sd2.` and base64 of nonce and ChaCha20-Poly1305 ciphertext.
The key is a file in the data directory, made at the first start, so that what was sealed outlives a restart; text
sealed under another key, or changed by a byte, does not open. Before a key was opened one of this process serves.
"""

from __future__ import annotations

import base64
import functools
import os
import secrets
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

PREFIX = "sd2."
MAX_TEXT = 64 * 1024 * 1024
"""Bytes that sealed text may have; more does not open (it was compressed, so little could become much)."""
_NONCE = 12
_KEY = 32
_keys: list[bytes] = [secrets.token_bytes(_KEY)]  # the newest seals, all open


@functools.cache
def _cipher(key: bytes) -> ChaCha20Poly1305:
    """Imported at its first use: no start seals anything."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key)


def open_key(path: Path) -> None:
    """Use the key at `path` from now on; it is made, for the owner's eyes only, when it is missing.

    Raises:
        OSError: it cannot be read or made. ValueError: it is no key.
    """
    if not path.exists():
        # Whole or not at all: a key cut short by a crash would make all that was sealed unreadable.
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            try:
                os.write(handle, new_key())
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(partial, path)
        except OSError:
            partial.unlink()
            raise
    use_key(path.read_bytes())


def use_key(key: bytes) -> None:
    """Use this key (32 bytes) from now on: that of all daemons that share a database. Raises ValueError: it is none."""
    if len(key) != _KEY:
        raise ValueError(f"A key has {_KEY} bytes, not {len(key)}")
    _keys.insert(0, key)


def new_key() -> bytes:
    return secrets.token_bytes(_KEY)


def seal(text: str) -> str:
    """Opaque ASCII; a little longer than the text compressed."""
    nonce = secrets.token_bytes(_NONCE)
    sealed = nonce + _cipher(_keys[0]).encrypt(nonce, zlib.compress(text.encode()), None)
    return PREFIX + base64.b64encode(sealed).decode()


def unseal(sealed: str) -> str:
    """The text `seal` made; empty when it comes from elsewhere or was changed."""
    if not sealed.startswith(PREFIX):
        return ""
    try:
        data = base64.b64decode(sealed[len(PREFIX) :], validate=True)
    except ValueError:
        return ""
    from cryptography.exceptions import InvalidTag

    for key in _keys:
        try:
            packed = _cipher(key).decrypt(data[:_NONCE], data[_NONCE:], None)
        except (InvalidTag, ValueError):
            continue
        opener = zlib.decompressobj()
        text = opener.decompress(packed, MAX_TEXT)
        return text.decode() if opener.eof else ""
    return ""
