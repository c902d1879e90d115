"""Checks of a gate's configuration that need more than a value: secrets and addresses."""

import ssl
import stat
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nciihash.client.address import server_address
from nciihash.client.base import authorization_header
from nciihash.errors import InvalidRequest, describe_os_error
from nciihash.gate.config.keys import HTTP_DIALECTS
from nciihash.gate.outcome import Dialect

if TYPE_CHECKING:
    from nciihash.gate.config.settings import Address

_SECRET_MAX: Final = 4096  # bytes of a file with a secret


def read_secret(path: Path) -> str:
    """Return the content of a file with a secret.

    Raises:
        ValueError: it cannot be read, other users can read it, or it holds something else.
    """
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            data = file.read(_SECRET_MAX + 1)
    except OSError as error:
        raise ValueError(describe_os_error(error)) from None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise ValueError(f"Every user of this machine can read it. Run `chmod o= {path}`.")
    if len(data) > _SECRET_MAX or not data.isascii() or len(data.split()) != 1:
        raise ValueError(f"{path} must hold one secret, on one line, and nothing else.")
    return data.decode().strip()


def server_faults(server: str) -> Iterator[str]:
    """Check the address of a clearinghouse."""
    try:
        server_address(server)
    except InvalidRequest as error:
        yield f"server: {error}"


def key_faults(key: str, where: str) -> Iterator[str]:
    """Check the form of the platform's key.

    Args:
        key: the key.
        where: where the key was found.
    """
    try:
        authorization_header(key)
    except InvalidRequest as error:
        yield f"{where}: {error}"


def address_faults(dialect: Dialect, address: "Address", *, token: bool) -> Iterator[str]:
    """Check that an address is safe to listen on.

    Args:
        dialect: that listens there.
        address: where.
        token: whether requests must carry a token.
    """
    if (address.certificate is None) != (address.key is None):
        yield (f"{dialect}.certificate: certificate and certificate_key belong together: add both.")
    elif address.certificate is not None and address.key is not None:
        if address.path is not None:
            yield f"{dialect}.certificate: Remove it: a Unix socket needs no TLS."
        yield from _certificate_faults(dialect, address.certificate, address.key)
    elif not address.local and not address.private:
        yield (
            f'{dialect}.listen = "{address}": Other machines may reach this address, and uploads '
            "would cross the network unencrypted. Add certificate and certificate_key, or listen "
            "on 127.0.0.1 or a Unix socket; or write private = true if only machines of this "
            "platform reach it."
        )
    # pict-rs and PieFed cannot send a token, and few callers of HMA do
    excused = address.local or (address.private and dialect is not Dialect.HTTP)
    if dialect in HTTP_DIALECTS and not token and not excused:
        yield (
            f"{dialect}.token_file: It is required, since other machines reach {address}. Name a "
            "file with a secret, or listen on 127.0.0.1 or a Unix socket."
        )


def _certificate_faults(dialect: Dialect, certificate: Path, key: Path) -> Iterator[str]:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError:
        yield (
            f"{dialect}.certificate: certificate and certificate_key must be PEM files that belong "
            "together, and the key must have no password."
        )
    except OSError:  # it does not say which file
        for path in (certificate, key):
            try:
                path.read_bytes()
            except OSError as error:
                yield f"{dialect}.certificate: {describe_os_error(error)}"


def shared_address_faults(addresses: Mapping[Dialect, "Address"]) -> Iterator[str]:
    """Check that dialects at the same address can share it."""
    for (one, first), (other, second) in combinations(addresses.items(), 2):
        same = (first.host, first.port, first.path) == (second.host, second.port, second.path)
        if not same or (first.path is None and not first.port):
            continue
        if not {one, other} <= HTTP_DIALECTS:
            yield f'{other}.listen = "{second}": {one} has the same address: use another one.'
        elif first != second:
            yield (
                f'{other}.listen = "{second}": {one} has the same address, so both need the same '
                "certificate, certificate_key and private."
            )
