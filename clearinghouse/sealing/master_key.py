"""Finding the master key, and unlocking a database with it.

The key is in a file (by default in a folder of its own) or in the environment. During a rotation
(`clearinghouse.maintenance.key_rotation`) its successor is in a file next to it, and in the
database, sealed under the old key, so that workers on other machines can use both.
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

# Names of the facts about how a database is sealed.
KEY: Final = "key"  # the check value of its master key (`Vault.check`)
NEXT: Final = "next"  # the successor, sealed under the master key; during a rotation only
STEADY: Final = "steady"  # the steady key and the keys of the audit trail, sealed (`Vault.secrets`)
FACTS: Final = (KEY, NEXT, STEADY)


def key_file(settings: Settings) -> Path:
    """Return the path of the key file. Its folder must not be in a backup of the database."""
    if settings.key_file is not None:
        return settings.key_file
    if not settings.database.startswith("sqlite:"):
        return Path("clearinghouse-key") / "master"
    database = Path(make_url(settings.database).database or "")
    return database.with_name(database.name + "-key") / "master"


def successor_file(settings: Settings) -> Path:
    """Return the path of the file for the next key, during a rotation."""
    file = key_file(settings)
    return file.with_name(file.name + ".next")


def old_key_files(settings: Settings) -> list[Path]:
    """Return the paths of the files with replaced keys, oldest first."""
    file = key_file(settings)
    return sorted(file.parent.glob(f"{glob.escape(file.name)}.old.*"))


def read_master_keys(settings: Settings, *, create: bool) -> list[bytes]:
    """Read the master key, then its successor and its predecessors, if there are any.

    A database restored from an older backup is sealed under a predecessor.

    Args:
        settings: where the key is.
        create: create a key file if there is none.

    Raises:
        KeyMissing: there is no key, and `create` is false.
        SettingInvalid: what is there is not a key.
    """
    if settings.key is not None:
        keys = [parse_key(settings.key)]
    else:
        keys = [read_key(key_file(settings), create=create)]
    for file in (successor_file(settings), *old_key_files(settings)):
        with suppress(FileNotFoundError):
            keys.append(parse_key(file.read_text()))
    return keys


def has_old_key(settings: Settings, vault: Vault) -> bool:
    """Whether a database is sealed under a key that was replaced.

    That is the case after an older backup was restored, or after an attacker restored old facts to
    pass off a forged audit trail.
    """
    old = (parse_key(file.read_text()) for file in old_key_files(settings))
    return vault.masters[0] in old


def unlock(facts: Mapping[str, bytes], masters: Sequence[bytes]) -> Vault:
    """Return the vault of a database.

    Args:
        facts: of the database, those named in `FACTS`.
        masters: candidates for its master key.

    Raises:
        KeyMismatch: none of them is its master key.
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
        "The database is sealed under another master key. Set CLEARINGHOUSE_KEY_FILE to its file."
    )
