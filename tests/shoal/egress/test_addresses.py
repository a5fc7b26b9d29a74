"""The guard's verdict on an address, against IANA's registries transcribed here."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.egress.addresses import is_public

# The registries of 2026: a block, and whether it is "Globally Reachable". Where they
# say N/A, what is embedded decides, and the platform refuses all of the block.
REGISTRY = {
    "0.0.0.0/8": False,
    "0.0.0.0/32": False,
    "10.0.0.0/8": False,
    "100.64.0.0/10": False,
    "127.0.0.0/8": False,
    "169.254.0.0/16": False,
    "172.16.0.0/12": False,
    "192.0.0.0/24": False,
    "192.0.0.0/29": False,
    "192.0.0.8/32": False,
    "192.0.0.170/32": False,
    "192.0.0.171/32": False,
    "192.0.2.0/24": False,
    "192.31.196.0/24": True,
    "192.52.193.0/24": True,
    "192.88.99.0/24": False,
    "192.168.0.0/16": False,
    "192.175.48.0/24": True,
    "198.18.0.0/15": False,
    "198.51.100.0/24": False,
    "203.0.113.0/24": False,
    "240.0.0.0/4": False,
    "255.255.255.255/32": False,
    "::1/128": False,
    "::/128": False,
    "::ffff:0:0/96": False,
    "64:ff9b::/96": True,
    "64:ff9b:1::/48": False,
    "100::/64": False,
    "100:0:0:1::/64": False,
    "2001::/23": False,
    "2001::/32": False,  # Teredo, N/A
    "2001:2::/48": False,
    "2001:10::/28": False,
    "2001:db8::/32": False,
    "2002::/16": False,  # 6to4, N/A
    "2620:4f:8000::/48": True,
    "3fff::/20": False,
    "5f00::/16": False,
    "fc00::/7": False,
    "fe80::/10": False,
}
# IANA's tables of the whole spaces: multicast, and in IPv6 what is no global unicast.
REGISTRY |= {"224.0.0.0/4": False, "ff00::/8": False, "fec0::/10": False, "::/96": False}
REGISTRY |= {"168.63.129.16/32": False}  # Microsoft: "a virtual public IP address"
BLOCKS = [(ip_network(block), reachable) for block, reachable in REGISTRY.items()]
UNICAST = ip_network("2000::/3")

IPV4 = st.integers(0, 2**32 - 1).map(IPv4Address)
EDGES = [
    ip_address(int(end) + step)
    for block, _ in BLOCKS
    if block.version == 4
    for end in (block.network_address, block.broadcast_address)
    for step in (-1, 0, 1)
    if 0 <= int(end) + step < 2**32
] + [
    IPv6Address(int(end) + step)
    for block, _ in BLOCKS
    if block.version == 6
    for end in (block.network_address, block.broadcast_address)
    for step in (-1, 0, 1)
    if 0 <= int(end) + step < 2**128
]
IN_BLOCKS = st.sampled_from([b for b, _ in BLOCKS]).flatmap(
    lambda b: st.integers(0, b.num_addresses - 1).map(lambda n: b[n])
)
ADDRESSES = st.one_of(
    IPV4,
    st.integers(0, 2**128 - 1).map(IPv6Address),
    st.integers(0, 2**125 - 1).map(lambda n: IPv6Address((1 << 125) + n)),
    IN_BLOCKS,
    st.sampled_from(EDGES),
    IPV4.map(lambda a: IPv6Address(b"\0\x64\xff\x9b" + bytes(8) + a.packed)),
    IPV4.map(lambda a: IPv6Address(bytes(10) + b"\xff\xff" + a.packed)),
    IPV4.map(lambda a: IPv6Address(bytes(12) + a.packed)),
    IPV4.map(lambda a: IPv6Address(b"\x20\x02" + a.packed + bytes(10))),
)


def is_reachable(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """What the registries say: the smallest block that has the address decides."""
    found = [(block.prefixlen, reachable) for block, reachable in BLOCKS if address in block]
    if address.version == 6 and address in ip_network("64:ff9b::/96"):
        return is_reachable(IPv4Address(int(address) & 0xFFFFFFFF))
    if found:
        return max(found)[1]
    return address.version == 4 or address in UNICAST


@given(ADDRESSES)
def test_the_verdict_is_that_of_the_registries(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert is_public(address) == is_reachable(address)


@given(ADDRESSES)
def test_nothing_is_public_that_python_calls_private(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if not address.is_global and address not in ip_network("64:ff9b::/96"):
        assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",  # AWS, Google, Azure
        "fd00:ec2::254",  # AWS by IPv6
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "168.63.129.16",  # Azure
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "2001:0:a9fe:a9fe::",
    ],
)
def test_no_clouds_metadata_is_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_ordinary_hosts_are_public(address: str) -> None:
    assert is_public(ip_address(address))
