"""The allowlist: what gets out, what does not, and that nothing but the proxy leads anywhere."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from daemon.containers.support import needs_bwrap, sh
from skilldeck_daemon.containers import Container, Containers, ContainerSpec, InvalidContainerRequest, NetworkPolicy
from skilldeck_daemon.containers.network import proxy
from skilldeck_daemon.containers.network.proxy import Proxy, normal
from skilldeck_daemon.containers.network.tls import server_name
from skilldeck_shared.addresses import is_public

Start = Callable[..., Awaitable[Containers]]
OPEN = "exec 3<>/dev/tcp/127.0.0.1/3128; "


# -- rules -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "host", "port", "answer"),
    [
        ("example.org", "example.org", 443, True),
        ("example.org", "example.org", 80, True),
        ("example.org", "example.org", 22, False),
        ("example.org", "www.example.org", 443, False),
        ("example.org", "example.org.evil.net", 443, False),
        ("example.org", "notexample.org", 443, False),
        ("*.example.org", "www.example.org", 443, True),
        ("*.example.org", "a.b.example.org", 443, True),
        ("*.example.org", "example.org", 443, False),
        ("*.example.org", "notexample.org", 443, False),
        ("example.org:8443", "example.org", 8443, True),
        ("example.org:8443", "example.org", 443, False),
        ("Example.ORG.", "example.org", 443, True),
        ("bücher.example", "xn--bcher-kva.example", 443, True),
    ],
)
def test_which_hosts_a_rule_allows(allowed: str, host: str, port: int, answer: bool) -> None:
    Proxy.check([allowed])
    assert Proxy([allowed]).allows(normal(host), port) is answer


def test_no_rules_allow_nothing() -> None:
    assert not Proxy([]).allows("example.org", 443)


@pytest.mark.parametrize(
    "bad", ["", "*", "*.", "https://example.org", "example.org/x", "a b", "x:99999", "*.*.org", "[::1]"]
)
def test_a_domain_that_is_none_is_named(bad: str) -> None:
    with pytest.raises(InvalidContainerRequest) as caught:
        Proxy.check(["example.org", bad])
    assert caught.value.param == "network_policy.allowed_domains[1]"


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("::127.0.0.1", False),
        ("2001:0:7f00:1::", False),
        ("192.88.99.1", False),
        ("fec0::1", False),
        ("febf::1", False),
        ("5f00::1", False),
        ("3fff::1", False),
        ("64:ff9b:1::1", False),
        ("168.63.129.16", False),
        ("::ffff:168.63.129.16", False),
        ("192.0.0.192", False),
        ("100.100.100.200", False),
        ("168.63.129.17", True),
        ("2001:4860:4860::8888", True),
    ],
)
def test_which_addresses_are_public(address: str, answer: bool) -> None:
    assert is_public(address) is answer


def hello(name: str | None) -> bytes:
    """A real ClientHello, from the standard library's TLS."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_the_server_name_is_read_from_every_prefix_of_a_hello() -> None:
    data = hello("www.example.org")
    assert server_name(data) == "www.example.org"
    for end in range(len(data)):
        assert server_name(data[:end]) is None
    one, two = data[5:105], data[105:]
    split = b"".join(data[:3] + len(part).to_bytes(2, "big") + part for part in (one, two))
    assert server_name(split) == "www.example.org"


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"SSH-2.0-x", b"\x16\x03\x01\x00\x00", b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"]
)
def test_what_is_not_a_hello_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="TLS"):
        server_name(data)


def test_a_hello_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no server name"):
        server_name(hello(None))


# -- from inside a container -----------------------------------------------------------------------------


@dataclass
class Web:
    """Two servers on the host, and every request head the plain one saw."""

    http: int
    https: int
    certificate: Path
    heads: list[str] = field(default_factory=list)


@pytest_asyncio.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    await asyncio.to_thread(
        subprocess.run,
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    web = Web(0, 0, certificate)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        web.heads.append(head)
        length = next((int(x.split(":")[1]) for x in head.split("\r\n") if x.lower().startswith("content-length")), 0)
        body = b"hello " + await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    plain = await asyncio.start_server(answer, "127.0.0.1", 0)
    secure = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    web.http = plain.sockets[0].getsockname()[1]
    web.https = secure.sockets[0].getsockname()[1]
    yield web
    plain.close()
    secure.close()


async def opened(start: Start, web: Web, private: tuple[str, ...] = ("localhost",)) -> Container:
    containers = await start(allow_private_hosts=private)
    policy = NetworkPolicy((f"localhost:{web.http}", f"localhost:{web.https}"))
    container = await containers.create(ContainerSpec("c", network=policy))
    await container.put("cert.pem", web.certificate)
    return container


@needs_bwrap
async def test_allowed_hosts_are_reached_over_http_and_https(start_containers: Start, web: Web) -> None:
    container = await opened(start_containers, web)
    plain = await sh(
        container, f"curl -sS --noproxy '' http://localhost:{web.http}/a?b=c -d body -H 'Host: evil.example'"
    )
    assert plain.stdout == "hello body", plain
    assert web.heads[0].startswith("POST /a?b=c HTTP/1.1\r\n")
    assert f"Host: localhost:{web.http}" in web.heads[0]
    assert "evil" not in web.heads[0]
    secure = await sh(container, f"curl -sS --noproxy '' --cacert cert.pem https://localhost:{web.https}/x")
    assert secure.stdout == "hello ", secure
    script = (
        "import urllib.request, ssl\n"
        f"context = ssl.create_default_context(cafile='cert.pem')\n"
        "import os; os.environ.pop('no_proxy'); os.environ.pop('NO_PROXY')\n"
        f"print(urllib.request.urlopen('https://localhost:{web.https}/', context=context).read())"
    )
    await container.put("get.py", script.encode())
    assert (await sh(container, "python3 get.py")).stdout == "b'hello '\n"


@needs_bwrap
@pytest.mark.parametrize(
    "command",
    [
        pytest.param("curl -sS --noproxy '' http://localhost:{other}/", id="another port"),
        pytest.param("curl -sS --noproxy '' http://127.0.0.1:{http}/", id="its address"),
        pytest.param("curl -sS --noproxy '' http://[::1]:{http}/", id="its IPv6 address"),
        pytest.param("curl -sS --noproxy '' http://localhost.evil.example:{http}/", id="a longer name"),
        pytest.param("curl -sS --noproxy '' http://example.org/", id="another host"),
        pytest.param("curl -sS -p --noproxy '' http://example.org/", id="another host by CONNECT"),
        pytest.param(
            OPEN + r"printf 'GET http://localhost:{http}@example.org/ HTTP/1.1\r\n\r\n' >&3; cat <&3",
            id="user info",
        ),
        pytest.param(
            OPEN + r"printf 'CONNECT localhost\x00.example.org:{http} HTTP/1.1\r\n\r\n' >&3; cat <&3",
            id="NUL in the name",
        ),
    ],
)
async def test_everything_else_is_refused_with_a_reason(start_containers: Start, web: Web, command: str) -> None:
    container = await opened(start_containers, web)
    for key, value in (("{http}", web.http), ("{https}", web.https), ("{other}", web.http - 1)):
        command = command.replace(key, str(value))
    result = await sh(container, command, timeout_ms=10_000)
    assert "skilldeck:" in result.stdout or "403" in result.stderr, result
    assert web.heads == []
    assert (await sh(container, "echo next")).stdout == "next\n"


@needs_bwrap
@pytest.mark.parametrize(
    "attack",
    [
        pytest.param("s.sendall(b'GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')", id="no TLS in the tunnel"),
        pytest.param("tls('evil.example')", id="another server name"),
        pytest.param("tls(None)", id="no server name"),
    ],
)
async def test_a_tunnel_carries_only_tls_for_its_host(start_containers: Start, web: Web, attack: str) -> None:
    container = await opened(start_containers, web)
    script = f"""
import socket, ssl
s = socket.create_connection(('127.0.0.1', 3128))
s.sendall(b'CONNECT localhost:{web.https} HTTP/1.1\\r\\n\\r\\n')
print(s.recv(12))
def tls(name):
    context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(s, server_hostname=name)
try:
    {attack}
    s.recv(999)
    print('ended', s.recv(10))
except OSError as error:
    print('ended')
"""
    await container.put("attack.py", script.encode())
    result = await sh(container, "python3 attack.py", timeout_ms=10_000)
    assert result.stdout.startswith("b'HTTP/1.1 200'\nended"), result
    assert web.heads == []


@needs_bwrap
async def test_a_second_request_cannot_ride_on_the_first(start_containers: Start, web: Web) -> None:
    container = await opened(start_containers, web)
    url = f"http://localhost:{web.http}"
    script = """
import socket, sys
with socket.create_connection(('127.0.0.1', 3128)) as s:
    s.sendall(sys.argv[1].encode().decode('unicode_escape').encode())
    try:
        while data := s.recv(9999):
            print(data.decode())
    except OSError:
        pass
"""
    await container.put("send.py", script.encode())
    two = rf"POST {url}/one HTTP/1.1\r\nContent-Length: 4\r\n\r\nbodyGET /two HTTP/1.1\r\nHost: inside\r\n\r\n"
    result = await sh(container, f"python3 send.py '{two}'")
    assert "hello body" in result.stdout
    assert len(web.heads) == 1
    both = rf"POST {url}/ HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert "400" in (await sh(container, f"python3 send.py '{both}'")).stdout
    assert len(web.heads) == 1


@needs_bwrap
async def test_a_name_that_leads_to_a_private_address_is_refused(start_containers: Start, web: Web) -> None:
    container = await opened(start_containers, web, private=())
    result = await sh(container, f"curl -sS --noproxy '' http://localhost:{web.http}/")
    assert "not public" in result.stdout
    assert web.heads == []


@needs_bwrap
async def test_too_many_connections_are_turned_away_and_later_ones_work(start_containers: Start, web: Web) -> None:
    container = await opened(start_containers, web)
    script = """
import socket
held = []
for _ in range(80):
    s = socket.create_connection(('127.0.0.1', 3128)); s.settimeout(2); held.append(s)
closed = 0
for s in held[64:]:
    try: closed += s.recv(1) == b''
    except OSError: pass
print(closed)
"""
    await container.put("many.py", script.encode())
    assert (await sh(container, "python3 many.py")).stdout == "16\n"
    assert (await sh(container, f"curl -sS --noproxy '' http://localhost:{web.http}/")).stdout == "hello "


@needs_bwrap
async def test_the_proxy_survives_a_new_sandbox_on_the_same_container(start_containers: Start, web: Web) -> None:
    container = await opened(start_containers, web)
    assert container.init_pid is not None
    os.kill(container.init_pid, signal.SIGKILL)
    command = f"curl -sS --noproxy '' http://localhost:{web.http}/"
    await sh(container, "true")
    assert (await sh(container, command)).stdout == "hello "
    assert container.restarts == 1


@needs_bwrap
async def test_without_a_policy_there_is_no_proxy(start_containers: Start) -> None:
    container = await (await start_containers()).create(ContainerSpec("c"))
    result = await sh(container, "env | grep -ic proxy; exec 3<>/dev/tcp/127.0.0.1/3128")
    assert result.stdout == "0\n"
    assert "refused" in result.stderr


@needs_bwrap
@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(r"GET {url}/ HTTP/1.1\r\nX: a\nHost: evil.example\r\n\r\n", id="header after a bare line feed"),
        pytest.param(r"GET {url}/ HTTP/1.1\r\nX: a\n\nGET /two HTTP/1.1\r\n\r\n", id="request after a bare line feed"),
        pytest.param(r"GET\nX:a {url}/ HTTP/1.1\r\n\r\n", id="header in the method"),
        pytest.param(r"GET {url}/\x0b HTTP/1.1\r\n\r\n", id="control character in the path"),
        pytest.param(r"GET {url}/ HTTP/1.1\r\nX: a\rHost: evil.example\r\n\r\n", id="bare carriage return"),
    ],
)
async def test_nothing_hides_in_a_requests_head(start_containers: Start, web: Web, request_: str) -> None:
    container = await opened(start_containers, web)
    text = request_.replace("{url}", f"http://localhost:{web.http}")
    result = await sh(container, OPEN + f"printf '{text}' >&3; cat <&3", timeout_ms=20_000)
    assert result.stdout.startswith("HTTP/1.1 400 "), result
    assert web.heads == []
    assert (await sh(container, "echo next")).stdout == "next\n"


async def framed(body: bytes) -> bytes:
    """A chunked body as the proxy passes it on."""
    reader = asyncio.StreamReader()
    reader.feed_data(body)
    reader.feed_eof()
    return b"".join([piece async for piece in proxy._read_body(reader, None)])


async def test_chunks_are_framed_anew() -> None:
    assert (
        await framed(b"05;a=b\r\nhello\r\n0\r\nHost: evil\r\n\r\nGET / HTTP/1.1\r\n\r\n") == b"5\r\nhello\r\n0\r\n\r\n"
    )
    assert await framed(b"1A\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n") == b"1a\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("size", [b"0x5", b"+5", b"-5", b"0_5", b" 5", b"5 ", b"5\n", b"5;a\nGET /", b"", b"f" * 20])
async def test_a_chunk_whose_length_two_readers_could_read_differently_is_refused(size: bytes) -> None:
    with pytest.raises(ValueError, match="chunk"):
        await framed(size + b"\r\nhello\r\n0\r\n\r\n")


async def test_a_chunk_that_does_not_end_where_it_says_is_refused() -> None:
    with pytest.raises(ValueError, match="chunk"):
        await framed(b"5\r\nhello, and more\r\n0\r\n\r\n")
