"""The configuration of a gate: a TOML file, checked completely before the gate starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nciihash.gate.outcome import Dialect
from nciihash.gate.policy import Policy
from nciihash.signals import Level


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host and a port, or the path of a Unix socket.

    Attributes:
        host: a host name or an IP address; empty for a Unix socket.
        port: 0 for any free one.
        path: of a Unix socket; None for TCP.
        private: whether the operator says that only this platform's own machines reach it, so that
            it needs no TLS although it is not loopback.
        certificate: the path of a TLS certificate chain in PEM; None for no TLS.
        key: the path of its private key.
    """

    host: str = "127.0.0.1"
    port: int = 0
    path: Path | None = None
    private: bool = False
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class DialectConfig:
    """How one dialect is served.

    Attributes:
        listen: where. `http`, `pictrs`, `hma` and `piefed` may share an address.
        policy: what it does about matches.
        level: how thoroughly pictures are searched for. Videos are searched at `fast`.
        share: the share of uploads that are checked, from 0 to 1.
        dry_run: whether all uploads are accepted, and what would have been stopped is counted.
        obeyed: whether the caller must do as the gate answers, so that a block is reported to the
            clearinghouse as `blocked`; otherwise as `pending`, until it is confirmed.
        hosts: the hosts from which URLs may be fetched (`hma` and `piefed`), as
            `nciihash.gate.hosts.parse_host` reads them; none to fetch nothing.
        banks: the names under which `hma` shows its bank: capital letters, digits and underscores.
        token: a secret that requests must carry as `Authorization: Bearer`; None for none. Only
            dialects over HTTP.
    """

    listen: Address
    policy: Policy
    level: Level = Level.WINDOWS
    share: float = 1.0
    dry_run: bool = False
    obeyed: bool = True
    hosts: frozenset[str] = frozenset()
    banks: tuple[str, ...] = ("NCII",)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits on uploads.

    Attributes:
        image_bytes: of a picture.
        video_bytes: of a video.
        pixels: of a picture, or of a frame of a video.
        image_seconds: of work on a picture.
        video_seconds: of work on a video.
        memory: bytes that all uploads that are being received or checked may take.
        queue: pictures that may wait to be hashed; and videos, counted by themselves.
        connections: open connections of each dialect.
        idle_seconds: without a byte within a request, after which a connection is closed.
        request_seconds: for receiving one upload.
    """

    image_bytes: int = 64 << 20
    video_bytes: int = 1 << 30
    pixels: int = 100_000_000
    image_seconds: float = 10.0
    video_seconds: float = 120.0
    memory: int = 2 << 30
    queue: int = 64
    connections: int = 10_000
    idle_seconds: float = 30.0
    request_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class FloodConfig:
    """When many unlike pictures match one item, block becomes review: see `nciihash.gate.flood`.

    Attributes:
        pictures: how many unlike pictures.
        seconds: within what time; at most an hour.
    """

    pictures: int = 40
    seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class GateConfig:
    """The configuration of a gate.

    Attributes:
        server: the address of the clearinghouse.
        data: the folder of the bank, the references and the waiting verdicts.
        key: the platform's key; from the file that `key_file` names, or from NCIIHASH_KEY.
        veiled: whether the bank holds only a part of each hash.
        max_age: seconds after which a bank that had no news of the feed is too old to rely on.
        jobs: child processes for pictures; None for one for each core.
        video_jobs: child processes for videos.
        reference_days: days for which references are kept.
        dialects: those that are switched on.
        limits: on uploads.
        flood: the flood stop.
    """

    server: str
    data: Path
    key: str = field(repr=False)
    dialects: Mapping[Dialect, DialectConfig]
    veiled: bool = False
    max_age: float = 600.0
    jobs: int | None = None
    video_jobs: int = 1
    reference_days: int = 90
    limits: UploadLimits = field(default_factory=UploadLimits)
    flood: FloodConfig = field(default_factory=FloodConfig)
