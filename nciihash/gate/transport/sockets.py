"""Sockets of servers: Unix sockets, and the TLS configuration of an address."""

import socket
import ssl
import stat
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

from nciihash.gate.config import Address

SOCKET_MODE: Final = 0o660  # of Unix sockets
BACKLOG: Final = 1024  # connections that the kernel keeps until they are accepted


def tls_context(address: Address) -> ssl.SSLContext | None:
    """Return the TLS configuration of an address; None if it has no certificate.

    Raises:
        OSError: the certificate or its key cannot be read, or is invalid.
    """
    if address.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(address.certificate, address.key)
    return context


def unix_listener(path: Path) -> socket.socket:
    """Return a socket that listens at a path, with mode 0660.

    A socket that a killed process left is replaced. The new one is bound to another name and then
    renamed, so that it never has the permissions of the umask under its own name.

    Raises:
        OSError: the path is something else, or another process listens there.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise FileExistsError(f"{path} exists, and is not a socket.")
        with socket.socket(socket.AF_UNIX) as client, suppress(ConnectionRefusedError):
            client.settimeout(0)
            client.connect(str(path))
            raise OSError(f"Another process listens at {path}.")
    listener = socket.socket(socket.AF_UNIX)
    temporary = path.with_name(f".{token_hex(4)}")
    try:
        listener.bind(str(temporary))
        temporary.chmod(SOCKET_MODE)
        listener.listen(BACKLOG)
        temporary.replace(path)
    except OSError:
        listener.close()
        temporary.unlink(missing_ok=True)
        raise
    listener.settimeout(0)
    return listener


def inode(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file, which identify it; None if it is absent."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
