"""Which network addresses are the public internet's, also where an IPv4 address lies in another."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

__all__ = ["is_public", "without_mapping"]

Address = IPv4Address | IPv6Address

GIVEN_OUT = ip_network(
    "2000::/3"
)  # all that is anybody's (RFC 4291); fec0::1 and ::10.0.0.1 aren't
NAT64 = ip_network("64:ff9b::/96")  # its last 32 bits are an IPv4 address (RFC 6052)
REFUSED = (
    ip_network("2001::/32"),  # Teredo: through a tunnel, to an IPv4 address that it holds
    ip_network("2002::/16"),  # 6to4, likewise
    ip_network("3fff::/20"),  # examples (RFC 9637)
)


def is_public(address: Address) -> bool:
    """Return whether an address is public, and so is the IPv4 address that it leads to."""
    real = _embedded(without_mapping(address))
    if not real.is_global or real.is_multicast:
        return False
    if isinstance(real, IPv4Address):
        return True
    return real in GIVEN_OUT and not any(real in network for network in REFUSED)


def without_mapping(address: Address) -> Address:
    """Return the IPv4 address that IPv6 sockets write as ::ffff:a.b.c.d; any other as it is."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _embedded(address: Address) -> Address:
    """Return the IPv4 address that a NAT64 gateway reaches for this one; any other as it is. Hosts
    without IPv4 reach all of its hosts so.
    """
    return IPv4Address(int(address) & 0xFFFF_FFFF) if address in NAT64 else address
