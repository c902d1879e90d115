import ipaddress

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nciihash.gate.config.hosts import Host, host_name, is_host_name, is_public, parse_host


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("media.example.org", Host("media.example.org")),
        ("MEDIA.Example.org", Host("media.example.org")),
        ("Bücher.example", Host("xn--bcher-kva.example")),
        ("media.example.org:443", Host("media.example.org", 443)),
        ("media.example.org:8443", Host("media.example.org", 8443)),
        ("192.88.98.1", Host("192.88.98.1")),
        ("minio@10.0.0.7", Host("minio", None, ipaddress.ip_network("10.0.0.7"))),
        ("minio:9000@172.16.0.0/12", Host("minio", 9000, ipaddress.ip_network("172.16.0.0/12"))),
        ("[::1]:9000@::1", Host("::1", 9000, ipaddress.ip_network("::1"))),
    ],
)
def test_the_forms_of_a_host(text, expected):
    assert parse_host(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "*.example.org",
        "example.org.",
        ".example.org",
        "a..b",
        "https://example.org",
        "example.org/path",
        "example.org?query",
        "example.org#fragment",
        "example.org:0",
        "example.org:65536",
        "example.org:port",
        "user:password@example.org",
        "a b",
        "a\\b",
        "127.1",
        "0x7f000001",
        "2130706433",
        "[fe80::1%25eth0]",
        "minio@",
        "minio@10.0.0.7/8",
        "minio@8.8.8.8",
        "minio@0.0.0.0/0",
        "minio@10.0.0.0/7",
        "minio@::/0",
        "minio@169.254.169.254",
        "minio@fe80::1",
        "minio@10.0.0.7@10.0.0.8",
    ],
)
def test_other_hosts_are_refused(text):
    with pytest.raises(ValueError, match=r"host"):
        parse_host(text)


PUBLIC = ["1.1.1.1", "93.184.215.14", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001::200e"]
REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:1.1.1.1",
    "::ffff:0:1.1.1.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::1.1.1.1",
    "64:ff9b:1::1.1.1.1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:0a00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", REFUSED)
def test_other_addresses_are_not_public(address):
    assert not is_public(ipaddress.ip_address(address))


v4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)


@given(v4, st.sampled_from(["::ffff:0:0", "64:ff9b::", "64:ff9b:1::", "::"]))
def test_no_ipv6_form_of_an_ipv4_address_is_public(inner, prefix):
    outer = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(inner))
    assert not is_public(outer)


@given(v4, st.integers(0, 2**80 - 1))
def test_no_6to4_address_is_public(inner, rest):
    assert not is_public(ipaddress.IPv6Address(0x2002 << 112 | int(inner) << 80 | rest))


@given(st.integers(0, 2**96 - 1))
def test_no_teredo_address_is_public(rest):
    assert not is_public(ipaddress.IPv6Address(0x20010000 << 96 | rest))


@given(st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address) | v4)
def test_what_is_public_is_global_unicast(address):
    """What Python counts as special is never public, and this list only adds to it."""
    special = (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
        or address.is_unspecified
    )
    assert not (is_public(address) and special)


def test_a_private_host_has_no_address_outside_its_network():
    host = parse_host("minio:9000@10.1.0.0/16")

    def permits(address):
        return host.permits(ipaddress.ip_address(address))

    assert permits("10.1.2.3")
    assert not any(map(permits, ["10.2.0.1", "1.1.1.1", "127.0.0.1", "::ffff:10.1.2.3"]))


def test_the_metadata_services_of_clouds_are_never_permitted():
    for host in ("x@fd00::/8", "x@fd00:ec2::254", "x@100.64.0.0/10", "x@100.100.100.200"):
        assert not parse_host(host).permits(ipaddress.ip_address("fd00:ec2::254"))
        assert not parse_host(host).permits(ipaddress.ip_address("100.100.100.200"))


@pytest.mark.parametrize(
    ("host", "url", "named"),
    [
        ("a.test", "http://a.test/x", True),
        ("a.test", "https://A.TEST/x", True),
        ("a.test", "https://a.test:443/x", True),
        ("a.test", "http://a.test:443/x", False),
        ("a.test", "http://a.test:8080/x", False),
        ("a.test", "http://a.test:0/x", False),
        ("a.test", "http://a.test./x", False),
        ("a.test", "http://b.a.test/x", False),
        ("a.test", "http://a.test.b/x", False),
        ("a.test:443", "https://a.test/x", True),
        ("a.test:443", "http://a.test/x", False),
        ("a.test:8080", "http://a.test:8080/x", True),
        ("a.test:8080", "http://a.test/x", False),
        ("bücher.test", "http://xn--bcher-kva.test/x", True),
        ("xn--bcher-kva.test", "http://BÜCHER.test/x", True),
        ("[::1]@::1", "http://[0:0:0:0:0:0:0:1]/x", True),
    ],
)
def test_which_urls_name_a_host(host, url, named):
    assert parse_host(host).has(httpx.URL(url)) is named


@given(st.text(max_size=40))
def test_any_text_is_a_host_or_refused(text):
    try:
        host = parse_host(text)
    except ValueError:
        return
    assert is_host_name(host.name)
    if ":" not in host.name:
        assert host_name(httpx.URL(f"http://{host.name}/")) == host.name
