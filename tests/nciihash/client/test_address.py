import pytest

from nciihash.client.address import server_address
from nciihash.errors import (
    InvalidRequest,
)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://example.org", "https://example.org/"),
        (" https://example.org:8443/hashes/ ", "https://example.org:8443/hashes"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/"),
        ("http://127.8.9.1", "http://127.8.9.1/"),
        ("http://[::1]:8000", "http://[::1]:8000/"),
        ("http://localhost:8000", "http://localhost:8000/"),
    ],
)
def test_addresses_that_can_be_right(given, read):
    assert str(server_address(given)) == read


@pytest.mark.parametrize(
    "given",
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
def test_addresses_that_cannot_be_right(given):
    with pytest.raises(InvalidRequest) as caught:
        server_address(given)
    assert "secret" not in str(caught.value)
