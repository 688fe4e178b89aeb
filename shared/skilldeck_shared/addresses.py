"""Which network addresses a request from outside may make the daemon connect to: public unicast ones only.

Source of the special ranges: IANA's special-purpose address registries, as `ipaddress` has them, and the ranges that
carry an IPv4 address inside an IPv6 one (mapped, NAT64, 6to4, Teredo), which would otherwise lead back inside.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_EMBEDDING = tuple(
    ipaddress.ip_network(network)
    for network in (
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64, local use
        "2002::/16",  # 6to4
        "2001::/32",  # Teredo
        "::/96",  # IPv4-compatible, deprecated
        "192.88.99.0/24",  # 6to4 relay anycast
    )
)


def is_public(address: str | Address) -> bool:
    """True for a public unicast address. A scope id (`fe80::1%eth0`) or anything unparsable is not public."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if any(ip in network for network in _EMBEDDING if network.version == ip.version):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_loopback)


def allowed(address: str, host: str, port: int, exceptions: Collection[str] = ()) -> bool:
    """Public, or excepted by the operator as `host`, `address`, `host:port` or `address:port`."""
    names = {host.lower(), address, f"{host.lower()}:{port}", f"{address}:{port}"}
    return is_public(address) or not names.isdisjoint(exceptions)
