"""Which IP addresses are on the open internet, by a table of our own. Pure.

The interpreter's `is_global` differs between its versions. It knows addresses, and neither names nor URLs.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

# Whatever stands in IANA's registries of special-purpose addresses (RFC 6890 and its successors), also what
# they call reachable: relays and name servers live there, and nobody's files.
SPECIAL_IPV4 = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # behind a carrier's NAT
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # not in the registry: a cloud's own services, from inside its machines
            "169.254.0.0/16",  # link-local, and most clouds' metadata
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
# Everything else of IPv6 (loopback, mapped and compatible IPv4, local NAT64, ULA, site- and link-local,
# segment routing, multicast) lies outside of this.
GLOBAL_UNICAST = IPv6Network("2000::/3")
SPECIAL_IPV6 = tuple(
    map(
        ip_network,
        (
            "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks …
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4
            "2620:4f:8000::/48",  # AS112
            "3ffe::/16",  # not in the registry: the 6bone's, given back
            "3fff::/20",  # documentation
        ),
    )
)
# An IPv4 address in the last 32 bits of these is where the connection leads.
MAPPED = IPv6Network("::ffff:0:0/96")
NAT64 = IPv6Network("64:ff9b::/96")
ISATAP = (0x00005EFE, 0x02005EFE)  # bits 64 to 95, before an IPv4 address that a router of theirs tunnels to


def is_public(text: str) -> bool:
    """Whether an IP address is on the open internet, in whatever way it is written or wrapped."""
    address = ip_address(text.split("%", 1)[0])
    if isinstance(address, IPv4Address):
        return not any(address in network for network in SPECIAL_IPV4)
    if address in MAPPED or address in NAT64:
        return is_public(_last_bits(address))
    if address not in GLOBAL_UNICAST or any(address in network for network in SPECIAL_IPV6):
        return False
    return int(address) >> 32 & 0xFFFFFFFF not in ISATAP or is_public(_last_bits(address))


def _last_bits(address: IPv6Address) -> str:
    return str(IPv4Address(int(address) & 0xFFFFFFFF))
