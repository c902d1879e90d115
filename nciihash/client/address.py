"""The server address of a clearinghouse."""

import ipaddress

import httpx

from nciihash.errors import InvalidRequest


def server_address(server: str) -> httpx.URL:
    """Parse and check the address of a clearinghouse.

    Args:
        server: `https://HOST[:PORT][/PATH]`; `http://` is accepted only for a loopback host.

    Returns:
        The URL, with no slash at the end of its path unless the path is `/`.

    Raises:
        InvalidRequest: not a URL, another scheme, plain HTTP to another machine, or a URL with
            credentials, a query or a fragment. The message never repeats the address.
    """
    try:
        url = httpx.URL(server.strip())
        # httpx parses the port when it is first read
        _ = url.port
    except (httpx.InvalidURL, ValueError):
        raise InvalidRequest(
            "The address of the clearinghouse is not a valid URL. Write it as https://HOST."
        ) from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise InvalidRequest(
            "The address of the clearinghouse must begin with https:// and a host name."
        )
    if url.userinfo or url.query or url.fragment:
        raise InvalidRequest(
            "The address of the clearinghouse may contain only a host, a port and a path. Remove "
            "the user name, the password, the query or the fragment."
        )
    if url.scheme == "http" and not _is_loopback(url.host):
        raise InvalidRequest(
            "Over plain http:// others on the network could read the hashes and the passphrase. "
            "Use https://. (http:// is accepted only for a service on this machine.)"
        )
    return url.copy_with(path=url.path.rstrip("/") or "/")


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
