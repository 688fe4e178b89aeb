"""Secrets of domains: the proxy puts the value in, and the container holds a placeholder.

For a domain with secrets, and for no other, the proxy ends the container's TLS itself, with a certificate of an
authority that is made for this process, kept in memory and trusted in its containers alone; towards the domain it
speaks TLS as any client, checked against what the host trusts. Each connection carries one request. A placeholder in
its address or headers, also inside Basic authorization, becomes the value; in the answer the value becomes asterisks,
so that a server which repeats what it was sent shows the container nothing. Bodies are left as they are, and plain
HTTP carries no secret. Values are in memory and in what goes out: in no log, event or record.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import datetime
import functools
import ipaddress
import os
import ssl
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from skilldeck_daemon.containers.spec import CERTIFICATES, Secret

LEAST_HIDDEN = 8
"""Characters of a value from which it is looked for in answers: a shorter one is a word like any other."""
_DAYS = 365
_READ = 65_536
_IDLE_S = 300.0


@functools.cache
def authority() -> Authority:
    """The one of this process, made at its first use."""
    return Authority()


class Authority:
    """Signs the certificates that the proxy shows to containers. Nothing of it is ever on disk."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "skilldeck sandbox proxy")])
        self._certificate = self._sign(self._name, self._key.public_key(), [
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_usage(sign=True), True),
        ])  # fmt: skip
        self._contexts: dict[str, ssl.SSLContext] = {}

    def bundle(self) -> bytes:
        """What a container with secrets trusts: what the host does, and this."""
        theirs = b""
        with contextlib.suppress(OSError):
            theirs = Path(CERTIFICATES).read_bytes()
        return theirs + b"\n" + self._certificate.public_bytes(serialization.Encoding.PEM)

    def context(self, host: str) -> ssl.SSLContext:
        """The server side of a connection that takes the daemon for `host`."""
        if host not in self._contexts:
            key = ec.generate_private_key(ec.SECP256R1())
            named: x509.GeneralName = x509.DNSName(host)
            with contextlib.suppress(ValueError):
                named = x509.IPAddress(ipaddress.ip_address(host))
            certificate = self._sign(x509.Name([]), key.public_key(), [
                (x509.SubjectAlternativeName([named]), True),
                (x509.BasicConstraints(ca=False, path_length=None), True),
                (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
                (_usage(sign=False), True),
            ])  # fmt: skip
            pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            fd = os.memfd_create("certificate", os.MFD_CLOEXEC)  # the library takes files alone
            try:
                os.write(fd, pem)
                context.load_cert_chain(f"/proc/self/fd/{fd}")
            finally:
                os.close(fd)
            context.set_alpn_protocols(["http/1.1"])
            self._contexts[host] = context
        return self._contexts[host]

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, extensions: Sequence[tuple[x509.ExtensionType, bool]]
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=_DAYS))
        )
        # Python and OpenSSL 3 refuse, with strict checks, a chain whose keys are not named.
        own = x509.SubjectKeyIdentifier.from_public_key(key)
        made = made.add_extension(own, critical=False)
        made = made.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        for extension, critical in extensions:
            made = made.add_extension(extension, critical=critical)
        return made.sign(self._key, hashes.SHA256())


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=sign, crl_sign=sign, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Keeper:
    """The secrets of one domain."""

    secrets: tuple[Secret, ...]

    def target(self, text: str) -> str:
        """The request's address with the values in it."""
        for secret in self.secrets:
            text = text.replace(secret.placeholder, urllib.parse.quote(secret.value, safe=""))
        return text

    def header(self, line: str) -> str:
        """A header with the values in it."""
        name, colon, value = line.partition(":")
        scheme, _, packed = value.strip().partition(" ")
        if scheme.lower() == "basic":
            with contextlib.suppress(binascii.Error, ValueError):
                changed = self._put(base64.b64decode(packed.strip(), validate=True).decode())
                return f"{name}{colon} {scheme} {base64.b64encode(changed.encode()).decode()}"
        return name + colon + self._put(value)

    def _put(self, text: str) -> str:
        for secret in self.secrets:
            # Headers are bytes: each character of the line is one of them.
            text = text.replace(secret.placeholder, secret.value)
        return text


class Hider:
    """Takes the values out of an answer, piece by piece; its length stays."""

    def __init__(self, secrets: Sequence[Secret]) -> None:
        values = {secret.value.encode() for secret in secrets if len(secret.value) >= LEAST_HIDDEN}
        for value in list(values):
            values |= {base64.b64encode(value), urllib.parse.quote(value, safe="").encode()}
        self._values = sorted(values, key=len, reverse=True)
        self._held = max((len(value) for value in self._values), default=1) - 1
        self._rest = b""

    def take(self, piece: bytes) -> bytes:
        """What can be passed on by now; nothing more comes after an empty piece."""
        data = self._rest + piece
        for value in self._values:
            data = data.replace(value, b"*" * len(value))
        at = max(0, len(data) - self._held) if piece else len(data)
        if piece and not self._may_begin(data[at:]):
            at = len(data)
        self._rest = data[at:]
        return data[:at]

    def _may_begin(self, tail: bytes) -> bool:
        """Whether any end of the tail is the beginning of a value."""
        for value in self._values:
            start = tail.find(value[:1])
            while start >= 0:
                if value.startswith(tail[start:]):
                    return True
                start = tail.find(value[:1], start + 1)
        return False


async def relay_hidden(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secrets: Sequence[Secret]) -> None:
    """An answer on its way to the container."""
    hider = Hider(secrets)
    while True:
        piece = await asyncio.wait_for(reader.read(_READ), _IDLE_S)
        writer.write(hider.take(piece))
        await writer.drain()
        if not piece:
            return
