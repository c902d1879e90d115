"""The hosts from which a dialect may fetch files, and the addresses that they may have.

Without such a list, a dialect that takes URLs would be a way into the platform's own network
(server-side request forgery, CWE-918).
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

import httpx

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

SCHEMES: Final = {"http": 80, "https": 443}
URL_MOST: Final = 8192  # characters; signed URLs of object stores have some 2,000

# IANA IPv4 Special-Purpose Address Registry, and multicast (RFC 5771). 192.88.99.0/24 was the
# anycast of 6to4 relays (RFC 7526).
_SPECIAL_V4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# Global unicast is 2000::/3 (RFC 4291), without the IETF's assignments (Teredo and ORCHID among
# them), documentation (RFC 3849, RFC 9637), and 6to4 (RFC 3056), which embeds an IPv4 address. What
# is outside 2000::/3 is not public: IPv4-mapped addresses, NAT64 (RFC 6052, RFC 8215), link-local,
# unique local and multicast addresses, and ::.
_UNICAST_V6: Final = ipaddress.IPv6Network("2000::/3")
_SPECIAL_V6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
# The networks that an operator may name: loopback, private use (RFC 1918), shared address space
# (RFC 6598), unique local (RFC 4193).
_PRIVATE: Final[tuple[IPNetwork, ...]] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "::1/128",
        "fc00::/7",
    )
)
# The metadata services of clouds, which hand out credentials, as far as they are within _PRIVATE:
# AWS over IPv6, Alibaba, and Oracle's first.
_METADATA: Final = frozenset(
    ipaddress.ip_address(address) for address in ("fd00:ec2::254", "100.100.100.200", "192.0.0.192")
)
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


@dataclass(frozen=True, slots=True)
class Host:
    """A host from which files may be fetched.

    Attributes:
        name: in ASCII and lower case (IDNA), or an IP address.
        port: the only port; None for 80 with http and 443 with https.
        network: the private network that all its addresses must be in; None if they must be public.
    """

    name: str
    port: int | None = None
    network: IPNetwork | None = None

    def has(self, url: httpx.URL) -> bool:
        """Whether a URL names this host and its port."""
        default = SCHEMES.get(url.scheme)
        port = default if url.port is None else url.port
        return host_name(url) == self.name and port == (self.port or default)

    def permits(self, address: IPAddress) -> bool:
        """Whether the host may have an address."""
        if self.network is None:
            return is_public(address)
        return address in self.network and address not in _METADATA


def parse_host(text: str) -> Host:
    """Parse a host as the configuration names it.

    - `media.example.org`: port 80 or 443, and public addresses.
    - `media.example.org:8443`: this port only.
    - `minio.internal:9000@10.1.0.0/16`: a host of the platform's own network. The part after the
      `@` is a private address or network, and all addresses of the host must be in it.

    Raises:
        ValueError: it is none of these; the message says what to change.
    """
    authority, at, network = text.partition("@")
    try:
        url = httpx.URL(f"https://{authority}/")
        name, port = host_name(url), url.port
    except (httpx.InvalidURL, ValueError):
        url, name, port = httpx.URL(), "", None
    if authority.endswith(":443"):
        port = 443  # which httpx drops
    plain = url.path == "/" and not (url.userinfo or url.query or url.fragment)
    if not plain or not is_host_name(name) or (port is not None and not 0 < port < 65536):
        raise ValueError("Write a host as NAME, NAME:PORT or NAME:PORT@NETWORK, without a path.")
    return Host(name, port, _parse_network(network) if at else None)


def _parse_network(text: str) -> IPNetwork:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            "After the @ of a host comes an IP address, or a network such as 10.1.0.0/16."
        ) from None
    if not any(
        network.version == private.version and network.subnet_of(private)  # type: ignore[arg-type]
        for private in _PRIVATE
    ):
        raise ValueError(
            "The network after the @ of a host must be a private one. Write only the host if it "
            "has public addresses."
        )
    return network


def host_name(url: httpx.URL) -> str:
    """Return the host of a URL in ASCII: IDNA for a name, the canonical form of an IP address."""
    name = url.raw_host.decode("ascii").lower()
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def is_host_name(name: str) -> bool:
    """Whether a name is an IP address or a DNS name without a dot at its end.

    A name whose last label is a number is not: some resolvers read `127.1` and `0x7f000001` as IPv4
    addresses.
    """
    try:
        ipaddress.ip_address(name)
    except ValueError:
        labels = name.split(".")
        if not 0 < len(name) <= 253 or not all(_LABEL.fullmatch(label) for label in labels):
            return False
        return re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]) is None
    return "%" not in name


def is_public(address: IPAddress) -> bool:
    """Whether an address is a unicast address of the Internet."""
    if not address.is_global:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    return address in _UNICAST_V6 and not any(address in network for network in _SPECIAL_V6)
