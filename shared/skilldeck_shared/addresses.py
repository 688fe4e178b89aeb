"""Which network addresses a request from outside may make the daemon connect to: public unicast ones only.

Source of the special ranges: IANA's special-purpose address registries, as `ipaddress` has them, and the ranges that
carry an IPv4 address inside an IPv6 one (mapped, NAT64, 6to4, Teredo), which would otherwise lead back inside. Of IPv6
only what IANA allocates as global unicast is public: `ipaddress` calls every range global that it has no entry for,
fec0::/10 (site-local, still routed by some) among them. Of IPv4 also not what clouds answer their machines' secrets at.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_UNICAST6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "2002::/16",  # 6to4
        "2001::/32",  # Teredo
        "3fff::/20",  # documentation, newer than some versions of `ipaddress`
        "192.88.99.0/24",  # 6to4 relay anycast
        "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is a cloud's metadata server
        "168.63.129.16/32",  # the wire server of another cloud, in a public range
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
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _UNICAST6:
        return False
    if any(ip in network for network in _SPECIAL if network.version == ip.version):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_loopback)


def allowed(address: str, host: str, port: int, exceptions: Collection[str] = ()) -> bool:
    """Public, or excepted by the operator as `host`, `address`, `host:port` or `address:port`."""
    names = {host.lower(), address, f"{host.lower()}:{port}", f"{address}:{port}"}
    return is_public(address) or not names.isdisjoint(exceptions)
