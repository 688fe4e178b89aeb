"""Fetching a URL that somebody else chose (file_url, web pages), without being led inside the network.

http and https only; every hop of a redirect is checked again; the name is resolved once, here, and the connection
goes to the very address that was checked (a second look-up could answer differently); bytes are counted after decoding,
as they arrive. Blocks nothing: all waiting is on the event loop. Nothing is kept.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from email.message import Message
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from skilldeck_shared.addresses import allowed
from skilldeck_shared.coding import ACCEPTED, decoded
from skilldeck_shared.errors import BadRequest
from skilldeck_shared.version import __version__

if TYPE_CHECKING:
    import httpx

MAX_REDIRECTS = 5
TIMEOUT_SECONDS = 20.0


class FetchRefused(BadRequest):
    """The URL leads where the daemon does not go, or its answer is not usable."""

    code = "invalid_file_url"


@dataclass(frozen=True)
class Fetched:
    """A whole answer: decoded `content`, the final `url`, `media_type` without parameters, a `filename`."""

    url: str
    content: bytes
    media_type: str
    charset: str | None
    filename: str


async def checked_address(host: str, port: int, exceptions: Collection[str], timeout: float | None = None) -> str:
    """The address to connect to. Raises FetchRefused when any address of the host is neither public nor excepted."""
    loop = asyncio.get_running_loop()
    try:
        found = await asyncio.wait_for(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), timeout)
    except OSError as error:
        raise FetchRefused(f"The host {host!r} could not be resolved.", "Check the address.") from error
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    for address in addresses:
        if not allowed(address, host, port, exceptions):
            raise FetchRefused(
                f"The host {host!r} leads to {address}, which is not a public address.",
                "Upload the content to /v1/files instead, or have the operator except this host.",
            )
    return addresses[0]


class _Url(Protocol):
    @property
    def scheme(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int | None: ...
    def copy_with(self, **changed: Any) -> Any: ...


class _Request(Protocol):
    """A request of httpx, or of httpx2."""

    method: str
    headers: Any
    stream: Any
    extensions: Any

    @property
    def url(self) -> _Url: ...


R = TypeVar("R", bound=_Request)


async def addressed(request: R, exceptions: Collection[str]) -> R:
    """The same request to the checked address of its host, under the host's name (Host header, certificate).

    Raises FetchRefused. A connection to it may only be used again for the same host: certificates are checked when it
    is made.
    """
    url = request.url
    port = url.port or (443 if url.scheme == "https" else 80)
    timeout = request.extensions.get("timeout", {}).get("connect")
    address = await checked_address(url.host, port, exceptions, timeout)
    extensions = {**request.extensions, "sni_hostname": url.host}
    make: Any = type(request)
    there: R = make(
        request.method,
        url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions=extensions,
    )
    return there


def _guarded(library: Any, exceptions: Collection[str]) -> Any:
    """A transport of httpx to checked addresses; a connection for each hop, since two hosts may have one address."""
    limits = library.Limits(max_connections=4, max_keepalive_connections=0)

    class Guarded(library.AsyncHTTPTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            answer: httpx.Response = await super().handle_async_request(await addressed(request, exceptions))
            return answer

    return Guarded(trust_env=False, limits=limits)


async def fetch(
    url: str,
    *,
    max_bytes: int,
    param: str = "file_url",
    exceptions: Collection[str] = (),
    timeout: float = TIMEOUT_SECONDS,
    permit: Callable[[str], None] | None = None,
) -> Fetched:
    """GET `url` and return its whole decoded body of at most `max_bytes`.

    Args:
        url: http or https; credentials in it are refused.
        param: the request field named in errors.
        exceptions: hosts or addresses (optionally `:port`) the operator allows although they are not public.
        timeout: seconds for everything together, redirects included.
        permit: raises FetchRefused for a URL that must not be fetched; asked for each hop of a redirect as well.

    Raises FetchRefused for all that goes wrong.
    """
    # It takes a fourteenth of the daemon's start to import, and maybe nobody ever asks for a URL.
    library = await asyncio.to_thread(import_module, "httpx")
    try:
        async with asyncio.timeout(timeout):
            return await _fetch(library, url, max_bytes, exceptions, permit)
    except FetchRefused as error:
        error.param = param
        raise
    except TimeoutError:
        raise FetchRefused(f"{url!r} did not answer within {timeout:g} s.", param=param) from None
    except (library.HTTPError, library.InvalidURL, ValueError, OSError) as error:
        raise FetchRefused(f"{url!r} could not be fetched: {error or type(error).__name__}.", param=param) from error


async def _fetch(
    library: Any, url: str, max_bytes: int, exceptions: Collection[str], permit: Callable[[str], None] | None
) -> Fetched:
    headers = {"User-Agent": f"skilldeck/{__version__}", "Accept": "*/*", "Accept-Encoding": ACCEPTED}
    async with library.AsyncClient(
        transport=_guarded(library, exceptions), trust_env=False, headers=headers, follow_redirects=False
    ) as client:
        for _ in range(MAX_REDIRECTS + 1):
            check_url(url)
            if permit is not None:
                permit(url)
            async with client.stream("GET", url) as response:
                if response.has_redirect_location:
                    url = str(response.url.join(response.headers["location"]))
                    continue
                if response.status_code != 200:
                    raise FetchRefused(f"{url!r} answered {response.status_code}, not 200.")
                content = await _read(response, max_bytes)
                media_type, charset = _content_type(response.headers.get("content-type", ""))
                name = _filename(response.headers.get("content-disposition", ""), url)
                return Fetched(url, content, media_type, charset, name)
    raise FetchRefused(f"More than {MAX_REDIRECTS} redirects.")


def check_url(url: str) -> None:
    """Raises FetchRefused for what is no http(s) URL of a host, or holds credentials."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise FetchRefused(f"Only http and https URLs are fetched, not {parts.scheme or 'a relative one'!r}.")
    if not parts.hostname:
        raise FetchRefused(f"{url!r} has no host.")
    if parts.username is not None or parts.password is not None:
        raise FetchRefused("A URL with credentials is not fetched.", "Leave out `user:password@`.")


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    declared = response.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise FetchRefused(f"The answer has {declared} bytes; at most {max_bytes} are fetched.")
    body = bytearray()
    async for chunk in decoded(response.aiter_raw(), response.headers.get("content-encoding", "")):
        body += chunk
        if len(body) > max_bytes:
            raise FetchRefused(f"The answer is larger than {max_bytes} bytes.")
    return bytes(body)


def _content_type(header: str) -> tuple[str, str | None]:
    message = Message()
    message["content-type"] = header
    charset = message.get_content_charset()
    return (message.get_content_type() if header else "application/octet-stream"), charset


def _filename(disposition: str, url: str) -> str:
    message = Message()
    message["content-disposition"] = disposition
    name = message.get_filename() or unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2])
    name = re.sub(r"[\x00-\x1f/\\]", "_", name).strip(". ")
    return name[:200] or "download"
