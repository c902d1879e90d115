"""Where the master key lies, and which one a database is sealed with.

The key is in a file (by default in a folder of its own) or in the environment. While it is being
changed (`clearinghouse.maintenance.key_rotation`) its successor lies beside it, and is in the
database too, sealed under the old one, so that workers on other machines can go on.
"""

import glob
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from sqlalchemy import make_url

from clearinghouse.errors import KeyMismatch
from clearinghouse.sealing.vault import Vault, parse_key, read_key, read_secrets
from clearinghouse.settings import Settings

# facts of a database that say how it is sealed
KEY: Final = "key"  # by which it knows its master key
NEXT: Final = "next"  # the successor, sealed under the master key; while it is being changed
STEADY: Final = "steady"  # sealed: what finds again that which is not kept, and the trail's keys
FACTS: Final = (KEY, NEXT, STEADY)


def key_file(settings: Settings) -> Path:
    """Give the place of the key's file; in its folder lies what no backup may hold."""
    if settings.key_file is not None:
        return settings.key_file
    if not settings.database.startswith("sqlite:"):
        return Path("clearinghouse-key") / "master"
    database = Path(make_url(settings.database).database or "")
    return database.with_name(database.name + "-key") / "master"


def successor_file(settings: Settings) -> Path:
    """Give the place of the next key's file."""
    file = key_file(settings)
    return file.with_name(file.name + ".next")


def old_files(settings: Settings) -> list[Path]:
    """Give the places of the keys that were changed for others, oldest first."""
    file = key_file(settings)
    return sorted(file.parent.glob(f"{glob.escape(file.name)}.old.*"))


def read_masters(settings: Settings, *, create: bool) -> list[bytes]:
    """Read the master key, made if `create`, and beside it its successor and its predecessors.

    A database that is put back from an older backup is sealed with one of the latter.

    Raises:
        KeyMissing: there is none, and `create` is false.
        SettingInvalid: it is no key.
    """
    if settings.key is not None:
        masters = [parse_key(settings.key)]
    else:
        masters = [read_key(key_file(settings), create=create)]
    for file in (successor_file(settings), *old_files(settings)):
        with suppress(FileNotFoundError):
            masters.append(parse_key(file.read_text()))
    return masters


def is_old(settings: Settings, vault: Vault) -> bool:
    """Whether a database is sealed with a key that was changed for another one.

    So it is after an older backup was put back, and after somebody put back old facts to pass off
    a trail of their own.
    """
    old = (parse_key(file.read_text()) for file in old_files(settings))
    return vault.masters[0] in old


def unlock(facts: Mapping[str, bytes], masters: Sequence[bytes]) -> Vault:
    """Make the vault of a database.

    Args:
        facts: those of the database.
        masters: keys that may be its own.

    Raises:
        KeyMismatch: none is.
    """
    keys = list(dict.fromkeys(masters))
    if NEXT in facts:
        with suppress(KeyMismatch):
            successor = Vault(keys[0], others=keys[1:]).open(facts[NEXT], "facts", NEXT)
            keys = list(dict.fromkeys([*keys, successor]))
    for key in keys:
        if secrets.compare_digest(Vault(key).check(), facts[KEY]):
            others = [other for other in keys if other != key]
            sealed = facts.get(STEADY)
            if sealed is None:
                return Vault(key, others=others)
            steady, trail = read_secrets(Vault(key, others=others).open(sealed, "facts", STEADY))
            return Vault(key, others=others, steady=steady, trail=trail)
    raise KeyMismatch(
        "This key does not belong to this database. Name the right file in CLEARINGHOUSE_KEY_FILE."
    )
