"""Where each kind of input goes, and what must hold of whatever comes of it.

Over the network: an answer, or a closed connection, within `PATIENCE_S`; no status 5xx. In this process (text for a
terminal): nothing is left that a terminal acts on. `Broken` says what did not hold.
"""

from __future__ import annotations

import asyncio
import base64
import re
from dataclasses import dataclass

import httpx

from skilldeck_shared.terminal import acts, clean
from skilldeck_tui.text.ansi import Colours

PATIENCE_S = 60.0
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Broken(Exception):
    """An input did what none may do."""


@dataclass
class Targets:
    """A daemon at `url`, which is `http://127.0.0.1:PORT`."""

    url: str
    http: httpx.AsyncClient

    async def send(self, kind: str, data: bytes) -> str:
        """What came of it, in a word. Raises Broken."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                match kind:
                    case "tools" | "body":
                        return await self._post("/v1/responses", data, {"content-type": "application/json"})
                    case "zip":
                        return await self._zip(data)
                    case "head":
                        return await self._raw(data)
                    case "frames":
                        return await self._frames(data)
                    case _:
                        return terminal(data)
        except TimeoutError:
            raise Broken(f"no answer within {PATIENCE_S:g} s") from None

    async def alive(self) -> None:
        """Raises Broken when /health does not answer, or not with 200."""
        try:
            answer = await self.http.get("/health", timeout=PATIENCE_S)
        except httpx.HTTPError as error:
            raise Broken(f"/health: {error or type(error).__name__}") from None
        if answer.status_code != 200:
            raise Broken(f"/health answers {answer.status_code}: {answer.text[:300]}")

    async def _post(self, path: str, data: bytes, headers: dict[str, str]) -> str:
        try:
            answer = await self.http.post(path, content=data, headers=headers, timeout=PATIENCE_S)
        except httpx.HTTPError as error:
            raise Broken(f"{path}: {error or type(error).__name__}") from None
        return _judged(answer.status_code, answer.text)

    async def _zip(self, data: bytes) -> str:
        form = (
            b'--b\r\nContent-Disposition: form-data; name="files"; filename="s.zip"\r\n\r\n' + data + b"\r\n--b--\r\n"
        )
        return await self._post("/v1/skills", form, {"content-type": "multipart/form-data; boundary=b"})

    async def _raw(self, data: bytes) -> str:
        reader, writer = await self._connect()
        try:
            writer.write(data)
            if writer.can_write_eof():
                writer.write_eof()
            said = await reader.read(1 << 16)
        except OSError:
            return "closed"
        finally:
            writer.close()
        found = _STATUS.match(said)
        return _judged(int(found[1]), said.decode(errors="replace")) if found else "closed"

    async def _frames(self, data: bytes) -> str:
        reader, writer = await self._connect()
        try:
            key = base64.b64encode(b"skilldeck-fuzzer")
            head = b"GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            writer.write(head + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n")
            said = await reader.readuntil(b"\r\n\r\n")
            if b" 101 " not in said:
                raise Broken(f"no WebSocket: {said[:200]!r}")
            writer.write(data)
            if writer.can_write_eof():
                writer.write_eof()
            while await reader.read(1 << 16):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
        return "closed"

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.url.removeprefix("http://").split(":")
        try:
            return await asyncio.open_connection(host, int(port))
        except OSError as error:
            raise Broken(f"nobody listens: {error}") from None


def _judged(status: int, said: str) -> str:
    if status >= 500 and status != 501:
        raise Broken(f"answered {status}: {said[:500]}")
    return str(status)


def terminal(data: bytes) -> str:
    """Text for a terminal, whole and in pieces."""
    text = data.decode("utf-8", "surrogatepass") if _decodes(data) else data.decode("utf-8", "replace")
    if acts(clean(text)):
        raise Broken(f"{clean(text)[:200]!a} acts on a terminal")
    colours = Colours()
    pieces = [colours.feed(text[at : at + 7]) for at in range(0, len(text), 7)]
    if acts(_COLOURS.sub("", "".join(pieces))):
        raise Broken(f"{''.join(pieces)[:200]!a} acts on a terminal")
    return "harmless"


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True
