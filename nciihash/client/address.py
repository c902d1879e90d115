"""Addresses of a clearinghouse: which may be spoken to."""

import ipaddress

import httpx

from nciihash.errors import InvalidRequest


def server_address(server: str) -> httpx.URL:
    """Read the address of a clearinghouse: `https://HOST`, or `http://` on this machine alone.

    Raises:
        InvalidRequest: another scheme, credentials in the address, or no address at all.
    """
    try:
        url = httpx.URL(server.strip())
        # Raises for a port that is none; the port itself is not needed here.
        _ = url.port
    except (httpx.InvalidURL, ValueError):
        raise InvalidRequest(
            "The address of the clearinghouse cannot be read: write it as https://HOST."
        ) from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise InvalidRequest("The address of the clearinghouse begins with https:// and a host.")
    if url.userinfo or url.query or url.fragment:
        raise InvalidRequest(
            "The address of the clearinghouse holds more than a host, a port and a path: leave out "
            "names, passwords, question marks and what follows them."
        )
    if url.scheme == "http" and not _is_loopback(url.host):
        raise InvalidRequest(
            "Plain http:// would let others on the network read the hashes and the passphrase: "
            "use https://. (Only a service on this machine may be reached without.)"
        )
    return url.copy_with(path=url.path.rstrip("/") or "/")


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
