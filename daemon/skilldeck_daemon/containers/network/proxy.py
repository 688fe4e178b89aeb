"""The only way out of a container with an allowlist: an HTTP proxy in the daemon.

The supervisor inside binds 127.0.0.1:3128 in its own network namespace and hands the listening socket out, so nothing
else can reach it and the container has no other route. Allowed: `CONNECT host:port` for TLS whose server name is
that host, and plain HTTP requests with an absolute URL. Names are resolved here, and addresses that are not global
are refused unless the daemon's owner lists the host: a name an attacker controls must not lead into the local
network. For a domain with secrets TLS ends here (`intercept.py`). Refusals are answered 403 with the reason, so that a
model can read why.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from urllib.parse import urlsplit

from skilldeck_daemon.containers.errors import InvalidContainerRequest
from skilldeck_daemon.containers.network.tls import server_name
from skilldeck_daemon.containers.spec import Secret
from skilldeck_shared.addresses import is_public

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
MAX_HEAD = 65_536
HEAD_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 30.0
IDLE_TIMEOUT_S = 300.0
PORTS = (80, 443)
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_METHOD = re.compile(r"[A-Z]{1,32}")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(;[\t\x20-\x7e]*)?\r\n")
_NOT_PASSED = {"connection", "proxy-connection", "keep-alive", "te", "upgrade", "host", "accept-encoding"}
_HOP_BY_HOP = {"connection", "proxy-connection", "keep-alive", "proxy-authorization", "te", "upgrade", "host"}


class Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def normal(host: str) -> str:
    """Lower case, no final dot, international names in their ASCII form. Raises `ValueError`."""
    host = host.strip().lower().removesuffix(".")
    if not host.isascii():
        host = host.encode("idna").decode()
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise ValueError(host)
    return host


class Proxy:
    """Serves one container's listening socket with one allowlist."""

    def __init__(
        self,
        allowed: Sequence[str],
        *,
        private: Collection[str] = (),
        secrets: Sequence[Secret] = (),
        refused: Callable[[str], None] = lambda host: None,
    ) -> None:
        """
        Args:
            allowed: host names, `*.name` for subdomains only; `name:port` opens another port than 80 and 443.
            private: hosts that may resolve to addresses which are not global.
            secrets: put into what goes to their domains over TLS.
            refused: called with each host that no rule allows.
        """
        self._rules = [_rule(item) for item in allowed]
        self._private = {host.strip().lower().removesuffix(".") for host in private}
        self._secrets = [(_rule(secret.domain), secret) for secret in secrets]
        self._refused = refused
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._starting: asyncio.Task[None] | None = None
        self._closed = False

    @staticmethod
    def check(allowed: Sequence[str], secrets: Sequence[Secret] = ()) -> None:
        """Raises `InvalidContainerRequest` naming the entry that is not a host."""
        for index, item in enumerate(allowed):
            try:
                _rule(item)
            except ValueError as error:
                raise InvalidContainerRequest(
                    f"{item!r} is not a host name.",
                    "Write names like example.org, *.example.org or example.org:8443; no scheme and no path.",
                    param=f"network_policy.allowed_domains[{index}]",
                ) from error
        rules = [_rule(item) for item in allowed]
        for index, secret in enumerate(secrets):
            if not _within(secret.domain, rules):
                raise InvalidContainerRequest(
                    f"{secret.domain[:80]!r} is not among the allowed domains.",
                    "A secret is for a domain that allowed_domains names, or one below its wildcard.",
                    param=f"network_policy.domain_secrets[{index}].domain",
                )

    def serve(self, listener: socket.socket) -> None:
        """Takes the listening socket over."""
        listener.setblocking(False)
        self._starting = asyncio.get_running_loop().create_task(self._start(listener))

    async def _start(self, listener: socket.socket) -> None:
        self._server = await asyncio.start_server(self._accept, sock=listener, limit=MAX_HEAD)

    async def close(self) -> None:
        """Ends the listener and every connection."""
        self._closed = True
        if self._starting is not None:
            await self._starting
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def allows(self, host: str, port: int) -> bool:
        return any(_fits(rule, host) and (port == rule[2] if rule[2] else port in PORTS) for rule in self._rules)

    def _secrets_of(self, host: str, port: int) -> tuple[Secret, ...]:
        return tuple(secret for rule, secret in self._secrets if _fits(rule, host) and rule[2] in (None, port))

    # -- one connection ----------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= MAX_CONNECTIONS or self._closed:
            writer.close()
            return
        self._tasks.add(task)
        try:
            await self._handle(reader, writer)
        except Refused as refusal:
            with contextlib.suppress(OSError):
                text = f"skilldeck: {refusal.reason}\n".encode()
                writer.write(
                    f"HTTP/1.1 {refusal.status} {'Forbidden' if refusal.status == 403 else 'Error'}\r\n"
                    f"Content-Type: text/plain\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode()
                    + text
                )
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass
        except asyncio.CancelledError:
            if not self._closed:
                raise
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words, lines = await self._head(reader)
        if words[0] == "CONNECT":
            await self._tunnel(words[1], reader, writer)
        else:
            await self._forward(words, lines, reader, writer)

    async def _head(self, reader: asyncio.StreamReader) -> tuple[list[str], list[str]]:
        """The words of a request's first line, and its headers."""
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_TIMEOUT_S)
        except asyncio.LimitOverrunError:
            raise Refused(431, "the request head is too long") from None
        lines = head[:-4].decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        # A server may take a bare line feed for the end of a line: what follows it would be a header, or a whole
        # request, that was not looked at here.
        if any(_CONTROL.search(line) for line in lines):
            raise Refused(400, "control characters in the request's head")
        if len(words) != 3 or not _METHOD.fullmatch(words[0]) or not words[2].startswith("HTTP/1."):
            raise Refused(400, "not an HTTP/1 request")
        return words, lines[1:]

    async def _tunnel(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name, _, port = target.rpartition(":")
        host, upstream = await self._open(name, port)
        up_reader, up_writer = upstream
        secrets = self._secrets_of(host, int(port))
        if secrets:
            return await self._intercepted(host, int(port), secrets, (reader, writer), upstream)
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.drain()
            hello = await asyncio.wait_for(self._hello(reader, host), HEAD_TIMEOUT_S)
            if hello is None:
                return
            up_writer.write(hello)
            async with asyncio.TaskGroup() as group:
                group.create_task(_relay(reader, up_writer))
                group.create_task(_relay(up_reader, writer))
        except* (OSError, TimeoutError):
            pass
        finally:
            up_writer.close()

    async def _intercepted(
        self,
        host: str,
        port: int,
        secrets: tuple[Secret, ...],
        inner: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        outer: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """One request over TLS that ends here and begins anew; see `intercept.py`."""
        from skilldeck_daemon.containers.network.intercept import Keeper, authority, relay_hidden

        (reader, writer), (up_reader, up_writer) = inner, outer
        try:
            try:
                theirs = await asyncio.to_thread(ssl.create_default_context)
                theirs.set_alpn_protocols(["http/1.1"])
                await asyncio.wait_for(up_writer.start_tls(theirs, server_hostname=host), CONNECT_TIMEOUT_S)
            except (OSError, TimeoutError) as error:
                raise Refused(502, f"{host} cannot be reached over TLS: {error}") from None
            ours = await asyncio.to_thread(lambda: authority().context(host))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            # At once: what the client says next must be read as TLS.
            await writer.start_tls(ours, ssl_handshake_timeout=HEAD_TIMEOUT_S)
            words, lines = await self._head(reader)
            if not words[1].startswith("/"):
                raise Refused(400, "a request inside a tunnel names a path")
            body, keeper = _body_of(lines), Keeper(secrets)
            kept = [line for line in lines if line.partition(":")[0].strip().lower() not in _NOT_PASSED]
            head = [f"{words[0]} {keeper.target(words[1])} HTTP/1.1"]
            head.append(f"Host: {host}" + (f":{port}" if port != 443 else ""))
            head += [keeper.header(line) for line in kept]
            # The answer must be readable here: values that it repeats are taken out.
            head += ["Accept-Encoding: identity", "Connection: close", "", ""]
            up_writer.write("\r\n".join(head).encode("latin-1"))
            await _exchange(_read_body(reader, body), up_writer, relay_hidden(up_reader, writer, secrets))
        except* (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            up_writer.close()

    async def _hello(self, reader: asyncio.StreamReader, host: str) -> bytes | None:
        """The first bytes of the tunnel when they are a TLS hello for `host`; None refuses."""
        data = b""
        while True:
            piece = await reader.read(16_384)
            data += piece
            try:
                name = server_name(data)
            except ValueError as error:
                log.info("container network: tunnel to %s refused: %s", host, error)
                return None
            if name is not None:
                if name.lower().removesuffix(".") == host:
                    return data
                log.info("container network: tunnel to %s refused: its server name is %r", host, name)
                return None
            if not piece or len(data) > MAX_HEAD:
                return None

    async def _forward(
        self, words: list[str], lines: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One plain HTTP request; the connection ends with its answer, so that no second one can name another host."""
        url = urlsplit(words[1])
        if url.scheme != "http" or not url.hostname:
            raise Refused(400, "only http:// URLs and CONNECT are served")
        port = url.port or 80
        body = _body_of(lines)
        _, upstream = await self._open(url.hostname, str(port))
        up_reader, up_writer = upstream
        try:
            path = (url.path or "/") + (f"?{url.query}" if url.query else "")
            head = [f"{words[0]} {path} HTTP/1.1"]
            head.append(f"Host: {url.hostname}" + (f":{port}" if port != 80 else ""))
            head += [line for line in lines if line.partition(":")[0].strip().lower() not in _HOP_BY_HOP]
            head += ["Connection: close", "", ""]
            up_writer.write("\r\n".join(head).encode("latin-1"))
            await _exchange(_read_body(reader, body), up_writer, _relay(up_reader, writer))
        except* (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            up_writer.close()

    async def _open(self, name: str, port_text: str) -> tuple[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Checks the host, resolves it here, and connects to one of its addresses."""
        try:
            host = normal(name)
            port = int(port_text)
        except (ValueError, UnicodeError):
            raise Refused(403, f"{name!r} is not a host name that can be allowed") from None
        if not self.allows(host, port):
            self._refused(host if port in PORTS else f"{host}:{port}")
            raise Refused(403, f"{host}:{port} is not in this container's allowed_domains")
        loop = asyncio.get_running_loop()
        try:
            found = await asyncio.wait_for(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), CONNECT_TIMEOUT_S)
        except OSError as error:
            raise Refused(502, f"{host} cannot be resolved: {error}") from error
        addresses = [entry[4][0] for entry in found]
        if host not in self._private:
            addresses = [one for one in addresses if is_public(str(one))]
            if not addresses:
                raise Refused(403, f"{host} resolves to an address that is not public, and is none of private_hosts")
        for address in addresses:
            try:
                return host, await asyncio.wait_for(
                    asyncio.open_connection(str(address), port, limit=MAX_HEAD), CONNECT_TIMEOUT_S
                )
            except (OSError, TimeoutError):
                continue
        raise Refused(502, f"{host} cannot be reached")


Rule = tuple[bool, str, int | None]


def _fits(rule: Rule, host: str) -> bool:
    wild, name, _ = rule
    return host.endswith("." + name) if wild else host == name


def _within(domain: str, rules: Sequence[Rule]) -> bool:
    """Whether all hosts of a secret's domain are allowed."""
    try:
        wild, name, port = _rule(domain)
    except ValueError:
        return False
    return any(
        (rule == (wild, name, rule[2]) or (rule[0] and name.endswith("." + rule[1]))) and port in (None, rule[2])
        for rule in rules
    )


def _rule(item: str) -> Rule:
    """(subdomains only, host, port or None). Raises `ValueError`."""
    wild = item.startswith("*.")
    name = item.removeprefix("*.")
    host, colon, port = name.partition(":")
    number = int(port) if colon else None
    if number is not None and not 0 < number < 65536:
        raise ValueError(item)
    return wild, normal(host), number


def _body_of(lines: list[str]) -> int | None:
    """The body's length in bytes, None for chunked. Ambiguous framing is refused: it smuggles requests."""
    lengths: set[str] = set()
    chunked = False
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip() or not name:
            raise Refused(400, "malformed header")
        if name.lower() == "content-length":
            lengths.add(value.strip())
        elif name.lower() == "transfer-encoding":
            chunked = True
            if value.strip().lower() != "chunked":
                raise Refused(400, "unknown transfer encoding")
    if (chunked and lengths) or len(lengths) > 1 or any(not (v.isascii() and v.isdigit()) for v in lengths):
        raise Refused(400, "ambiguous body length")
    return None if chunked else int(lengths.pop()) if lengths else 0


async def _read_body(reader: asyncio.StreamReader, length: int | None) -> AsyncIterator[bytes]:
    """Exactly the request's body. Chunks are framed anew: their extensions and trailers are dropped, and whatever two
    readers could take for different lengths ends the connection."""
    while length:
        piece = await asyncio.wait_for(reader.read(min(length, 65_536)), IDLE_TIMEOUT_S)
        if not piece:
            return
        length -= len(piece)
        yield piece
    while length is None:
        line = _CHUNK.fullmatch(await asyncio.wait_for(reader.readuntil(b"\r\n"), IDLE_TIMEOUT_S))
        if line is None:
            raise ValueError("malformed chunk")
        size = int(line[1], 16)
        if size == 0:
            while await asyncio.wait_for(reader.readuntil(b"\r\n"), IDLE_TIMEOUT_S) != b"\r\n":
                pass
            yield b"0\r\n\r\n"
            return
        yield b"%x\r\n" % size
        async for piece in _read_body(reader, size):
            yield piece
        if await asyncio.wait_for(reader.readexactly(2), IDLE_TIMEOUT_S) != b"\r\n":
            raise ValueError("malformed chunk")
        yield b"\r\n"


async def _exchange(body: AsyncIterator[bytes], to: asyncio.StreamWriter, answer: Coroutine[None, None, None]) -> None:
    """Send a request's body while its answer is passed on; ends with the answer."""
    async with asyncio.TaskGroup() as group:
        passing = group.create_task(answer)
        async for piece in body:
            to.write(piece)
            await to.drain()
        await to.drain()
        await passing


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await asyncio.wait_for(reader.read(65_536), IDLE_TIMEOUT_S):
        writer.write(piece)
        await writer.drain()
    with contextlib.suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()
