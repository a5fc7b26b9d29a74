"""Which IP addresses are public.

Source: IANA's registries of special-purpose addresses (RFC 6890),
https://www.iana.org/assignments/iana-ipv4-special-registry and
https://www.iana.org/assignments/iana-ipv6-special-registry. The standard library's
`is_global` follows them differently from one Python release to the next.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

SPECIAL_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared by carriers; some clouds' metadata
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # Azure's own services, on an address that looks public
            "169.254.0.0/16",  # link-local; most clouds' metadata
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # IETF protocols
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # former 6to4 relays
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
GLOBAL_UNICAST = IPv6Network("2000::/3")
"""The only part of IPv6 that is assigned to public hosts."""
SPECIAL_IPV6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # IETF protocols: Teredo, benchmarks, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which holds any IPv4 address
            "3fff::/20",  # documentation
        ),
    )
)
NAT64 = IPv6Network("64:ff9b::/96")
"""Stands for the IPv4 address in its last 32 bits (RFC 6052)."""


def is_public(address: Address) -> bool:
    """Whether an address belongs to a host on the public Internet.

    Private, loopback, link-local, shared, multicast, reserved and documentation
    addresses are not, nor are IPv6 addresses that stand for IPv4 ones, but for NAT64 of
    a public address.
    """
    if isinstance(address, IPv6Address):
        if address in NAT64:
            return is_public(IPv4Address(address.packed[-4:]))
        return address in GLOBAL_UNICAST and not any(address in net for net in SPECIAL_IPV6)
    return not any(address in net for net in SPECIAL_IPV4)
