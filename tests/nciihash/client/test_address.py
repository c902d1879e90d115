import pytest

from nciihash.client.address import server_address
from nciihash.errors import InvalidRequest


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://example.org", "https://example.org/"),
        (" https://example.org:8443/hashes/ ", "https://example.org:8443/hashes"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/"),
        ("http://127.8.9.1", "http://127.8.9.1/"),
        ("http://[::1]:8000", "http://[::1]:8000/"),
        ("http://localhost:8000", "http://localhost:8000/"),
    ],
)
def test_valid_addresses(address, expected):
    assert str(server_address(address)) == expected


@pytest.mark.parametrize(
    "address",
    [
        "",
        "example.org",
        "http://example.org",
        "http://192.168.1.1",
        "http://0.0.0.0",
        "http://localhost.example.org",
        "http://127.0.0.1.example.org",
        "https://",
        "https://user:secret@example.org",
        "https://example.org/?key=secret",
        "https://example.org/#secret",
        "https://example.org:port",
        "ftp://example.org",
        "file:///etc/passwd",
        "https://exa\nmple.org",
    ],
)
def test_invalid_addresses(address):
    with pytest.raises(InvalidRequest) as caught:
        server_address(address)
    assert "secret" not in str(caught.value)
