"""Secrets of domains: values reach their domain, and nothing else that a container or a person can look at."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from daemon.containers.support import needs_bwrap, sh
from skilldeck_daemon.containers import Container, Containers, ContainerSpec, InvalidContainerRequest, NetworkPolicy
from skilldeck_daemon.containers.network.intercept import Authority, Hider, Keeper
from skilldeck_daemon.containers.network.proxy import Proxy
from skilldeck_daemon.containers.spec import Secret

VALUE = "sk-the-value/of+the=key"
HELD = "skilldeck-secret-0123456789abcdef"
SECRET = Secret("localhost", "API_KEY", VALUE, HELD)
Start = Callable[..., Awaitable[Containers]]
GET = """
unset no_proxy NO_PROXY
python3 -c "
import os, sys, urllib.request
request = urllib.request.Request(sys.argv[1], data=sys.argv[2].encode() or None)
request.add_header('Authorization', os.environ.get('PREFIX', 'Bearer ') + os.environ['API_KEY'])
print(urllib.request.urlopen(request, timeout=10).read().decode())
" """


class Service:
    """An HTTPS server on loopback that answers with what it was sent; `heard` are whole requests."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            body = await reader.readexactly(int(length[0].split(b":")[1])) if length else b""
            self.heard.append(head + body)
            answer = head + body
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer))
            for at in range(0, len(answer), 7):  # a value comes in pieces
                writer.write(answer[at : at + 7])
                await writer.drain()
        writer.close()


@pytest_asyncio.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    internet = Authority()
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(internet.bundle())
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    made = Service()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=internet.context("localhost"))
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


async def box_of(start: Start, service: Service, *secrets: Secret, allowed: tuple[str, ...] = ()) -> Container:
    containers = await start(allow_private_hosts=["localhost", "127.0.0.1"])
    domains = (f"localhost:{service.port}", f"127.0.0.1:{service.port}", *allowed)
    return await containers.create(ContainerSpec("box", network=NetworkPolicy(domains, secrets=secrets)))


@needs_bwrap
async def test_the_domain_gets_the_value_and_the_container_does_not(start_containers: Start, service: Service) -> None:
    box = await box_of(start_containers, service, SECRET)
    assert (await sh(box, "echo $API_KEY")).stdout == f"{HELD}\n"
    url = f"https://localhost:{service.port}/a/{HELD}?key={HELD}"
    told = await sh(box, f"{GET} {url} body-of-{HELD}")
    assert told.exit_code == 0, told
    (heard,) = service.heard
    assert f"\r\nAuthorization: Bearer {VALUE}\r\n".encode() in heard
    assert heard.startswith(b"POST /a/sk-the-value%2Fof%2Bthe%3Dkey?key=sk-the-value%2Fof%2Bthe%3Dkey HTTP/1.1\r\n")
    assert heard.endswith(f"body-of-{HELD}".encode())
    # The server said all of it back.
    assert VALUE not in told.stdout + told.stderr
    assert f"Authorization: Bearer {'*' * len(VALUE)}" in told.stdout
    everything = await sh(
        box, "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null; grep -rs 'the-valu[e]' /run /etc /mnt"
    )
    assert VALUE not in everything.stdout


@needs_bwrap
async def test_basic_authorization_and_other_programs(start_containers: Start, service: Service) -> None:
    box = await box_of(start_containers, service, SECRET)
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    url = f"https://localhost:{service.port}/"
    told = await sh(box, f"curl --noproxy '' -sS -u user:$API_KEY -H 'X-Key: '$API_KEY {url}")
    assert told.exit_code == 0, told
    assert base64.b64encode(f"user:{VALUE}".encode()) in service.heard[0]
    assert f"X-Key: {VALUE}".encode() in service.heard[0]
    assert VALUE not in told.stdout


@needs_bwrap
async def test_other_hosts_and_plain_http_get_the_placeholder(start_containers: Start, service: Service) -> None:
    box = await box_of(start_containers, service, SECRET)
    # The same server under a name that has no secret is reached as ever: by TLS that nobody opens on the way.
    other = await sh(box, f"{GET} https://127.0.0.1:{service.port}/ ''")
    assert (other.exit_code, service.heard) == (1, [])
    plain = asyncio.StreamReader
    heard: list[bytes] = []

    async def serve(reader: plain, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    containers = await start_containers("plain", allow_private_hosts=["localhost"])
    policy = NetworkPolicy((f"localhost:{port}",), secrets=(SECRET,))
    open_box = await containers.create(ContainerSpec("plain", network=policy))
    assert (await sh(open_box, f"{GET} http://localhost:{port}/ ''")).exit_code == 0
    server.close()
    assert HELD.encode() in heard[0]
    assert VALUE.encode() not in heard[0]


@needs_bwrap
async def test_a_host_that_cannot_be_trusted_gets_nothing(
    start_containers: Start, service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nobody.pem").write_bytes(Authority().bundle())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nobody.pem"))
    box = await box_of(start_containers, service, SECRET)
    told = await sh(box, f"{GET} https://localhost:{service.port}/ ''")
    assert "502" in told.stderr
    assert service.heard == []


@needs_bwrap
async def test_a_tunnel_cannot_name_another_host_than_its_own(start_containers: Start, service: Service) -> None:
    box = await box_of(start_containers, service, SECRET)
    code = f"""
import os, socket, ssl
def ask(request):
    raw = socket.create_connection(("127.0.0.1", 3128))
    raw.sendall(b"CONNECT localhost:{service.port} HTTP/1.1\\r\\n\\r\\n")
    raw.recv(4096)
    tls = ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")
    tls.sendall(request)
    print(tls.recv(65536).split(b"\\r\\n")[0].decode())
ask(b"GET / HTTP/1.1\\r\\nHost: elsewhere.example\\r\\nX-Key: " + os.environ["API_KEY"].encode() + b"\\r\\n\\r\\n")
ask(b"GET http://elsewhere.example/ HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
ask(b"GET / HTTP/1.1\\r\\nA: b\\nHost: elsewhere.example\\r\\n\\r\\n")
ask(b"POST / HTTP/1.1\\r\\nContent-Length: 1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n")
"""
    await box.put("ask.py", code.encode())
    told = await sh(box, "python3 ask.py")
    assert [line.split()[1] for line in told.stdout.splitlines()] == ["200", "400", "400", "400"], told
    (heard,) = service.heard
    assert f"\r\nHost: localhost:{service.port}\r\n".encode() in heard
    assert b"elsewhere" not in heard


@needs_bwrap
async def test_a_container_without_secrets_trusts_what_the_host_does(start_containers: Start, service: Service) -> None:
    box = await box_of(start_containers, service)
    assert "skilldeck" not in (await sh(box, "env; ls /run")).stdout
    told = await sh(box, f"export API_KEY=x; {GET} https://localhost:{service.port}/ ''")
    assert "CERTIFICATE_VERIFY_FAILED" in told.stderr  # the tunnel is not opened here


def test_the_domain_of_a_secret_must_be_allowed() -> None:
    allowed = ["example.org", "*.example.net", "other.example:8443"]
    for domain in ("example.org", "*.example.net", "api.example.net", "other.example", "other.example:8443"):
        Proxy.check(allowed, [Secret(domain, "K", "v")])
    for domain in ("www.example.org", "example.net", "*.example.org", "other.example:443", "https://example.org", "*"):
        with pytest.raises(InvalidContainerRequest) as caught:
            Proxy.check(allowed, [Secret(domain, "K", "v")])
        assert caught.value.param == "network_policy.domain_secrets[0].domain"


async def test_without_a_sandbox_there_is_nobody_to_put_them_in(start_containers: Start) -> None:
    containers = await start_containers(sandbox="none")
    with pytest.raises(InvalidContainerRequest) as caught:
        containers.validate(ContainerSpec("x", network=NetworkPolicy(("localhost",), secrets=(SECRET,))))
    assert caught.value.param == "network_policy.domain_secrets"


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_a_value_is_hidden_wherever_an_answer_is_cut(step: int) -> None:
    encoded = base64.b64encode(VALUE.encode())
    text = b"x sk-the " + VALUE.encode() + b" " + encoded + b" sk-the-value/of+the=ke" + VALUE.encode() * 2 + b"sk-the"
    hider = Hider([SECRET])
    out = b"".join([*(hider.take(text[at : at + step]) for at in range(0, len(text), step)), hider.take(b"")])
    stars = b"*" * len(VALUE)
    assert out == b"x sk-the " + stars + b" " + b"*" * len(encoded) + b" sk-the-value/of+the=ke" + stars * 2 + b"sk-the"


def test_a_secret_does_not_show_itself() -> None:
    assert VALUE not in repr(SECRET)
    assert VALUE not in repr(NetworkPolicy(("localhost",), secrets=(SECRET,)))
    assert Keeper((SECRET,)).header("Authorization: Basic !") == "Authorization: Basic !"
    assert isinstance(Authority().context("127.0.0.1"), ssl.SSLContext)
    assert os.environ.get("API_KEY") is None
