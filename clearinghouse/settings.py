"""What an operator can set: one frozen value, read from the environment or built by hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

from clearinghouse.errors import SettingInvalid
from nciihash.signals import MADE, MATCHED, SignalType

_PREFIX = "CLEARINGHOUSE_"
_CONNECTIONS_MIN = 4
_RELEASE_MAX = 24 * 60  # minutes


@dataclass(frozen=True, slots=True)
class Settings:
    """How one clearinghouse runs. Each field is also the variable `CLEARINGHOUSE_<FIELD>`.

    Attributes:
        database: `sqlite:///FILE` (a relative path) or `sqlite:////FILE` (an absolute one); or
            `postgresql+psycopg://USER:PASSWORD@HOST/NAME`.
        key_file: where the master key lies; made on first start, mode 0600. By default in a folder
            of its own: beside the SQLite file, so that a copy of the database holds no key, or
            `clearinghouse-key` where the service is started. Every worker needs the same key.
        notes: the folder for what must outlive a database that is put back from a backup: the
            journal of withdrawals, and how far the log had got. By default the key's.
        key: the master key itself as 64 hexadecimal digits, instead of a file.
        case_months: how long a case stays open after its last visit.
        retention_days: how long a closed case and the log of its removals are kept.
        quiet_openings: cases opened in a minute for which no proof of work is asked; beyond it, up
            to about a second's worth of a phone.
        quiet_signals: hashes that survivors send in an hour for which no proof of work is asked of
            cases of up to 1,024 hashes.
        match_hour: hashes that one key may look for in an hour (UTC).
        match_day: hashes that one key may look for on a day (UTC).
        oracle_edge: different queries of one key in a day that meet one file and lie at the edge of
            an answer, beyond which the operator is warned.
        oracle_any: the same for all that meet it.
        flag_platforms: platforms at which a file is met on its first day, from which on the
            operator is asked to look at it.
        clients_max: connections that are open at a time; less where the system allows less.
        match_types: types besides `pdq`, `md5` and `sha256` to match by, comma-separated: `phash`,
            `dhash`. Both match pictures that only look alike, so that none is by default
            (docs/operating.md has the rates).
        contributions_max: hashes that one platform may have contributed at a time, and that may be
            imported from one other clearinghouse.
        release_every: minutes; feeds are given new hashes once in so many, all at once, and not
            one case after the other. 0 for at once. A removal releases all that came before it.
        body_max: bytes that a request may have.
        body_seconds: in which a request's body may bring nothing.
        argon2_memory: KiB of memory for one passphrase check (RFC 9106's second choice); counts
            when a database is made, and stays for its life.
        metrics_key: the bearer token for `GET /metrics`; without one that address does not exist.
        poll_interval: seconds between looks at what the command line or another worker wrote to
            the database, where no notification comes.
        connections: how many one worker may hold open to PostgreSQL, and one more to listen.
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

    def __post_init__(self) -> None:
        if not self.database.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise SettingInvalid(
                "The database must be sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME."
            )
        if self.database.removeprefix("sqlite:///") in {"", ":memory:"}:
            raise SettingInvalid("The database must be a file: use sqlite:///FILE.")
        if self.connections < _CONNECTIONS_MIN:
            raise SettingInvalid(f"A worker needs at least {_CONNECTIONS_MIN} connections.")
        if not set(_words(self.match_types)) <= {type.value for type in MADE}:
            raise SettingInvalid("The types to match by are phash and dhash, comma-separated.")
        counts = (
            *(self.case_months, self.retention_days),
            *(self.quiet_openings, self.quiet_signals),
            *(self.match_hour, self.match_day, self.clients_max),
            *(self.oracle_edge, self.oracle_any, self.flag_platforms),
            *(self.contributions_max, self.body_max, self.body_seconds),
        )
        if not 0 <= self.release_every <= _RELEASE_MAX:
            raise SettingInvalid(
                f"New hashes may be kept for at most {_RELEASE_MAX} minutes before their release."
            )
        if min(counts) < 1:
            raise SettingInvalid("Every number but the memory and the interval must be at least 1.")

    @property
    def matched(self) -> frozenset[SignalType]:
        """The types of hashes that are matched by."""
        return MATCHED | {SignalType(word) for word in _words(self.match_types)}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings whose variables are set.

        Raises:
            SettingInvalid: a variable is not of its field's type.
        """
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
        }
        values = {}
        for setting in fields(cls):
            if text := environ.get(_PREFIX + setting.name.upper()):
                try:
                    values[setting.name] = readers.get(setting.name, str)(text)
                except ValueError:
                    # the value may be a secret put into the wrong variable: name, don't echo
                    raise SettingInvalid(
                        f"{_PREFIX}{setting.name.upper()} is not a number."
                    ) from None
        return cls(**values)


def _words(text: str) -> list[str]:
    return [word for part in text.split(",") if (word := part.strip())]
