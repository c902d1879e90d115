"""How the values of a gate's configuration are written. Each reader raises ValueError."""

import ipaddress
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeAlias

from nciihash.gate.config.hosts import parse_host

Reader: TypeAlias = Callable[[object], Any]

_UNITS: Final = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
}
_SIZE: Final = re.compile(r"(\d{1,15})\s*([KMG]?i?B)", re.IGNORECASE)
_HOST: Final = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)
_BANK: Final = re.compile(r"[A-Z0-9_]{1,255}")
_HOST_MAX: Final = 253  # characters, RFC 1035 2.3.4
_SOCKET_MAX: Final = 100  # bytes of a Unix socket's path; the systems allow 104 to 108


def text(value: object) -> str:
    """Read a string that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError('Write a text in quotation marks, such as "text".')
    return value.strip()


def boolean(value: object) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError("Write true or false, without quotation marks.")  # noqa: TRY004 - a value
    return value


def integer(least: int, most: int) -> Reader:
    """Return a reader of whole numbers from `least` to `most`."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"Write a whole number from {least:_} to {most:_}.")
        return value

    return read


def number(least: float, most: float) -> Reader:
    """Return a reader of numbers from `least` to `most`."""

    def read(value: object) -> float:
        allowed = isinstance(value, int | float) and not isinstance(value, bool)
        if not allowed or not least <= value <= most:  # type: ignore[operator]
            raise ValueError(f"Write a number from {least:_g} to {most:_g}.")
        return float(value)  # type: ignore[arg-type]

    return read


def size(least: int, most: int) -> Reader:
    """Return a reader of sizes in bytes: a whole number, or a text such as "64 MiB"."""

    def read(value: object) -> int:
        count = value if isinstance(value, int) and not isinstance(value, bool) else None
        if isinstance(value, str) and (parsed := _SIZE.fullmatch(value.strip())):
            count = int(parsed[1]) * _UNITS[parsed[2].upper()]
        if count is None or not least <= count <= most:
            raise ValueError(
                f"Write a size from {shown_size(least)} to {shown_size(most)}, such as "
                f'"{shown_size(least)}", or a whole number of bytes.'
            )
        return count

    return read


def shown_size(count: int) -> str:
    """Return a size as it is written in a configuration."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit and count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count} B"


def choice(*members: StrEnum) -> Reader:
    """Return a reader of one of several words."""

    def read(value: object) -> StrEnum:
        for member in members:
            if value == member.value:
                return member
        words = [f'"{member.value}"' for member in members]
        raise ValueError(f"Write {', '.join(words[:-1])} or {words[-1]}.")

    return read


def path(value: object) -> Path:
    """Read a path. A relative one begins at the folder of the configuration."""
    try:
        written = text(value)
    except ValueError:
        raise ValueError('Write a path in quotation marks, such as "/etc/file".') from None
    if "\0" in written:
        raise ValueError("A path has no zero bytes.")
    return Path(written)


def address(value: object) -> tuple[str, int, Path | None]:
    """Read where to listen; return the host and the port, or the path of a Unix socket."""
    written = value if isinstance(value, str) else ""
    if written.startswith("unix:"):
        return "", 0, _socket(written.removeprefix("unix:"))
    host, _, port = written.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    valid = _is_ipv6(host[1:-1]) if bracketed else _is_host(host)
    if not valid or not (port.isascii() and port.isdigit()) or int(port) > 0xFFFF:
        raise ValueError(
            'Write "HOST:PORT", such as "127.0.0.1:8480" or "[::1]:8480", or "unix:/PATH" for a '
            "Unix socket. For all interfaces, write 0.0.0.0 or [::] as the host."
        )
    return host.strip("[]"), int(port), None


def _socket(written: str) -> Path:
    found = Path(written)
    if not found.is_absolute() or "\0" in written or len(written.encode()) > _SOCKET_MAX:
        raise ValueError(
            'Write the path of a Unix socket from the root, such as "unix:/run/nciihash/gate.sock",'
            f" with at most {_SOCKET_MAX} bytes."
        )
    return found


def hosts(value: object) -> frozenset[str]:
    """Read hosts as `nciihash.gate.config.hosts.parse_host` does."""
    written: list[Any] = value if isinstance(value, list) else [None]
    if not all(isinstance(name, str) for name in written):
        raise ValueError('Write a list of hosts, such as ["media.example.org"].')
    names = frozenset(str(name).lower().removesuffix(".") for name in written)
    for name in names:
        parse_host(name)
    return names


def bank_names(value: object) -> tuple[str, ...]:
    """Read names of banks."""
    written = value if isinstance(value, list) and value else [None]
    names = [name for name in written if isinstance(name, str) and _BANK.fullmatch(name)]
    if len(names) < len(written) or len(set(names)) < len(names):
        raise ValueError(
            "Write a list of different names of capital letters, digits and underscores, such as "
            '["NCII"].'
        )
    return tuple(names)


def _is_host(name: str) -> bool:
    return len(name) <= _HOST_MAX and _HOST.fullmatch(name) is not None


def _is_ipv6(written: str) -> bool:
    try:
        return ipaddress.ip_address(written).version == 6
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach a host."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(value: object) -> str:
    """Return a value from a TOML file as it is written there, shortened, on one line."""
    written = str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, str):
        written = f'"{value}"'
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in written)
    return printable if len(printable) <= 60 else f"{printable[:57]}..."
