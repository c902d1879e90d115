"""The operator's settings: one immutable object, from the environment or created in code."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Self

from clearinghouse.errors import SettingInvalid
from nciihash.signals import ALWAYS_MATCHED, FILE_SIGNAL_TYPES, SignalType

_PREFIX = "CLEARINGHOUSE_"
# variables that commands read, and that are not settings of the service
_OF_COMMANDS = frozenset({"CLEARINGHOUSE_FOLLOW_KEY", "CLEARINGHOUSE_NEXT_KEY"})
_OF_TESTS = "CLEARINGHOUSE_TEST_"
_CONNECTIONS_MIN = 4
_RELEASE_MAX = 24 * 60  # minutes
_DRAIN_MAX = 600  # seconds
_AT_LEAST_ONE = (
    *("case_months", "retention_days", "quiet_openings", "quiet_signals"),
    *("match_hour", "match_day", "oracle_edge", "oracle_any", "flag_platforms"),
    *("clients_max", "contributions_max", "body_max", "body_seconds"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a clearinghouse. Each is read from the variable `CLEARINGHOUSE_<FIELD>`.

    Attributes:
        database: `sqlite:///FILE` (a relative path), `sqlite:////FILE` (an absolute path) or
            `postgresql+psycopg://USER:PASSWORD@HOST/NAME`.
        key_file: path of the master key, created on first start with mode 0600. By default in a
            folder of its own: next to the SQLite file, so that a copy of the database does not
            include the key, or `clearinghouse-key` in the working directory. Every worker needs
            the same key.
        notes: folder for the state that must survive a restore of the database: the journal of
            withdrawals, and the last position in the log. By default that of the key.
        key: the master key itself as 64 hexadecimal digits, instead of a file.
        case_months: how long a case stays open after its last visit.
        retention_days: how long a closed case, and the log of its removals, is kept.
        quiet_openings: cases that may be opened in a minute without proof of work. Beyond it, the
            work increases to about a second on a phone.
        quiet_signals: hashes that survivors may submit in an hour without proof of work for cases
            of up to 1,024 hashes.
        match_hour: hashes that one key may look up in an hour (UTC).
        match_day: hashes that one key may look up in a day (UTC).
        oracle_edge: different queries at a band's edge that one key may send around one file in a
            day before the operator is alerted.
        oracle_any: different queries in all that one key may send around one file in a day before
            the operator is alerted.
        flag_platforms: number of platforms that match a file on its first day from which the
            operator is asked to review it.
        clients_max: open connections at a time; fewer if the system's limit is lower.
        match_types: types to match in addition to `pdq`, `md5` and `sha256`, comma-separated:
            `phash`, `dhash`. Both also match pictures that are merely similar, so that neither is
            on by default (docs/operating.md has the rates).
        contributions_max: active hashes that one platform may have contributed, or that may be
            imported from one other clearinghouse.
        release_every: interval in minutes at which new hashes are published to feeds, together
            instead of case by case; 0 publishes at once. A removal publishes all entries before it.
        body_max: largest body of a request, in bytes.
        body_seconds: seconds without data, or below 4 KiB a second, after which a request's body
            times out.
        argon2_memory: KiB of memory for one passphrase check (the second recommended option of
            RFC 9106). It takes effect when a database is created, and is fixed afterwards.
        metrics_key: the bearer token for `GET /metrics`; without it the path does not exist.
        poll_interval: seconds between checks for writes by the command line or another worker,
            where there are no notifications.
        connections: connections of one worker to PostgreSQL, in addition to one for notifications.
        drain_seconds: how long the service continues after SIGTERM while `/health/ready` returns
            503, so that a load balancer stops using it first; 0 to end at once.
    """

    # may hold a password
    database: str = field(default="sqlite:///clearinghouse.sqlite3", repr=False)
    key_file: Path | None = None
    notes: Path | None = None
    key: str | None = field(default=None, repr=False)
    case_months: int = 24
    retention_days: int = 400
    quiet_openings: int = 60
    quiet_signals: int = 20_000
    match_hour: int = 10_000_000
    match_day: int = 100_000_000
    oracle_edge: int = 8
    oracle_any: int = 250
    flag_platforms: int = 3
    clients_max: int = 10_000
    match_types: str = ""
    contributions_max: int = 2**17
    release_every: int = 0
    body_max: int = 2 * 2**20
    body_seconds: float = 20.0
    argon2_memory: int = 64 * 1024
    metrics_key: str | None = field(default=None, repr=False)
    poll_interval: float = 0.2
    connections: int = 20
    drain_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not self.database.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise SettingInvalid(
                f"{_PREFIX}DATABASE must be sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME."
            )
        if self.database.removeprefix("sqlite:///") in {"", ":memory:"}:
            raise SettingInvalid(
                f"{_PREFIX}DATABASE must name a file, as in sqlite:///clearinghouse.sqlite3."
            )
        if self.connections < _CONNECTIONS_MIN:
            raise SettingInvalid(f"{_PREFIX}CONNECTIONS must be at least {_CONNECTIONS_MIN}.")
        if not set(_split(self.match_types)) <= {type.value for type in FILE_SIGNAL_TYPES}:
            raise SettingInvalid(
                f"{_PREFIX}MATCH_TYPES must be phash, dhash, or both separated by a comma."
            )
        if not 0 <= self.release_every <= _RELEASE_MAX:
            raise SettingInvalid(
                f"{_PREFIX}RELEASE_EVERY must be from 0 to {_RELEASE_MAX} minutes."
            )
        if not 0 <= self.drain_seconds <= _DRAIN_MAX:
            raise SettingInvalid(f"{_PREFIX}DRAIN_SECONDS must be from 0 to {_DRAIN_MAX}.")
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise SettingInvalid(f"{_PREFIX}{name.upper()} must be at least 1.")

    @property
    def matched(self) -> frozenset[SignalType]:
        """The types of hashes to match."""
        return ALWAYS_MATCHED | {SignalType(name) for name in _split(self.match_types)}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Return the settings, with those in the environment replacing the defaults.

        Raises:
            SettingInvalid: a variable is not a number, its value is not allowed, or no setting has
                its name.
        """
        _refuse_unknown(environ, {_PREFIX + setting.name.upper() for setting in fields(cls)})
        readers: dict[str, type] = {
            "key_file": Path,
            "notes": Path,
            "case_months": int,
            "retention_days": int,
            "quiet_openings": int,
            "quiet_signals": int,
            "match_hour": int,
            "match_day": int,
            "oracle_edge": int,
            "oracle_any": int,
            "flag_platforms": int,
            "clients_max": int,
            "contributions_max": int,
            "release_every": int,
            "body_max": int,
            "body_seconds": float,
            "argon2_memory": int,
            "poll_interval": float,
            "connections": int,
            "drain_seconds": float,
        }
        values = {}
        for setting in fields(cls):
            if text := environ.get(_PREFIX + setting.name.upper()):
                try:
                    values[setting.name] = readers.get(setting.name, str)(text)
                except ValueError:
                    # not echoed: it may be a secret in the wrong variable
                    raise SettingInvalid(
                        f"{_PREFIX}{setting.name.upper()} must be a number."
                    ) from None
        return cls(**values)


def _refuse_unknown(environ: Mapping[str, str], known: set[str]) -> None:
    """Refuse a variable with a misspelt name, which would otherwise have no effect.

    Raises:
        SettingInvalid: with the most similar name.
    """
    for name in environ:
        if not name.startswith(_PREFIX) or name in known | _OF_COMMANDS:
            continue
        if name.startswith(_OF_TESTS):
            continue
        similar = get_close_matches(name, known, 1)
        advice = f" Did you mean {similar[0]}?" if similar else ""
        raise SettingInvalid(f"{name} is not a setting.{advice} docs/operating.md lists them.")


def _split(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]
