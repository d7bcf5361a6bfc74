"""Which addresses a link may lead to: the whole table of IANA's registries, and every way to wrap one."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest

from mediapipe.addresses import is_public
from mediapipe.url_safety import UnsafeUrl, check_url

# iana-ipv4-special-registry and iana-ipv6-special-registry, whole, and what else is no unicast of the
# internet.
IPV4 = """
0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
192.0.0.0/29 192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24
192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 192.175.48.0/24
198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4 255.255.255.255/32 224.0.0.0/4
168.63.129.16/32
""".split()  # noqa: SIM905
IPV6 = """
::1/128 ::/128 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128
2001:1::2/128 2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28
2001:30::/28 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10
fec0::/10 ff00::/8 3ffe::/16 4000::/3 ::/96 ::ffff:0:0:0/96
""".split()  # noqa: SIM905
OPEN = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.88.98.255 192.88.100.0
192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 203.0.112.255 203.0.114.0 223.255.255.255
2001:200:: 2001:4860:4860::8888 2001:db7:ffff:: 2001:db9:: 2003:: 2606:4700::1111
2a00:1450:4001::200e 3fff:1000:: ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2606:4700::5efe:8.8.8.8
""".split()  # noqa: SIM905


def low(address: str) -> str:
    """The last 32 bits, as IPv6 writes them."""
    number = int(IPv4Address(address))
    return f"{number >> 16:x}:{number & 0xFFFF:x}"


def teredo(address: str) -> str:
    """A Teredo address whose client is *address*: its bits are inverted."""
    return f"2001:0:4136:e378:8000:63bf:{low(str(IPv4Address(int(IPv4Address(address)) ^ 0xFFFFFFFF)))}"


WRAPPED = {
    "mapped": lambda a: f"::ffff:{low(a)}",
    "compatible": lambda a: f"::{low(a)}",
    "translated": lambda a: f"::ffff:0:{low(a)}",
    "NAT64": lambda a: f"64:ff9b::{low(a)}",
    "local NAT64": lambda a: f"64:ff9b:1::{low(a)}",
    "6to4": lambda a: f"2002:{low(a)}::1",
    "Teredo": teredo,
    "ISATAP": lambda a: f"2606:4700::5efe:{low(a)}",
    "ISATAP with the global bit": lambda a: f"2606:4700::200:5efe:{low(a)}",
    "link-local ISATAP": lambda a: f"fe80::5efe:{low(a)}",
}


def edges(text: str) -> list[str]:
    """The first, the last and one of the middle of a network."""
    network = ip_network(text)
    first, last = int(network[0]), int(network[-1])
    kind = IPv4Address if network.version == 4 else IPv6Address
    return [str(kind(number)) for number in (first, (first + last) // 2, last)]


@pytest.mark.parametrize("network", [*IPV4, *IPV6])
def test_no_address_of_the_special_registries_is_public(network):
    assert [each for each in edges(network) if is_public(each)] == []


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_no_special_address_becomes_public_by_being_wrapped_in_ipv6(wrap):
    assert [each for network in IPV4 for each in edges(network) if is_public(wrap(each))] == []


@pytest.mark.parametrize("address", OPEN)
def test_an_address_of_the_open_internet_is_public_up_to_the_edges_of_the_table(address):
    assert is_public(address) and str(ip_address(address))


def test_a_zone_does_not_hide_an_address():
    assert not is_public("fe80::1%eth0")


@pytest.mark.parametrize(
    "host",
    [
        *("192.0.0.192", "[64:ff9b:1::7f00:1]", "[fec0::1]", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]"),
        *("[5f00::1]", "[3fff::1]", "192.88.99.1", "localhost", "no-such-host.invalid", "10.0.0.1"),
    ],
)
def test_a_private_address_and_a_name_that_is_not_there_are_refused_in_the_same_words(host, settings):
    settings.ALLOW_PRIVATE_SOURCES = False
    with pytest.raises(UnsafeUrl) as caught:
        check_url(f"http://{host}/a.mp4")
    said = str(caught.value).replace(host.strip("[]"), "NAME")
    assert said == (
        "Can’t find NAME on the public internet. Check the link for typos, or upload the file instead."
    )
