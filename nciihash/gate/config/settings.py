"""The configuration of a gate: a TOML file, checked completely before the gate starts."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nciihash.errors import ConfigInvalid
from nciihash.gate.config import keys
from nciihash.gate.config.checks import (
    address_faults,
    key_faults,
    read_secret,
    server_faults,
    shared_address_faults,
)
from nciihash.gate.config.keys import Key
from nciihash.gate.config.readers import is_loopback, shown
from nciihash.gate.outcome import Dialect
from nciihash.gate.policy import STRICTNESS, Action, MediaPolicy, Policy
from nciihash.signals import Level, SignalType


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

    def __str__(self) -> str:
        """Return it as it is written in the configuration."""
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether only programs on this machine reach it."""
        return self.path is not None or is_loopback(self.host)


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
            `nciihash.gate.config.hosts.parse_host` reads them; none to fetch nothing.
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
        pictures: more than how many unlike pictures; at least 40, which copies of one picture never
            exceed.
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


def load(path: Path, environ: Mapping[str, str], *, with_key: bool = True) -> GateConfig:
    """Read a configuration and check all of it.

    Args:
        path: the file; relative paths in it begin at its folder.
        environ: the environment; NCIIHASH_KEY is the platform's key unless `key_file` names one.
        with_key: whether the platform's key is needed; `key` is empty otherwise.

    Raises:
        ConfigInvalid: something is wrong; the error names all of it.
        OSError: the file cannot be read.
    """
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(path, [f"It is not valid TOML: {error}."]) from None
    loader = _Loader(path.resolve().parent, environ, with_key=with_key)
    config = loader.config(raw)
    if loader.faults or config is None:
        raise ConfigInvalid(path, loader.faults)
    return config


class _Loader:
    """Reads the tables of a configuration, and collects all faults.

    Args:
        folder: of the file.
        environ: the environment.
        with_key: whether the platform's key is needed.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str], *, with_key: bool) -> None:
        self.faults: list[str] = []
        self._folder = folder
        self._environ = environ
        self._with_key = with_key

    def config(self, raw: Mapping[str, Any]) -> GateConfig | None:
        """Return the configuration; None, or with wrong values, if there are faults."""
        tables = ("limits", "flood", "policy", *Dialect)
        top = self._table("", raw, keys.TOP, tables)
        veiled = bool(top.get("veiled", False))
        limits = UploadLimits(**self._table("limits", raw.get("limits", {}), keys.LIMITS))
        if limits.memory < max(limits.image_bytes, limits.video_bytes):
            self._fault(
                "limits.memory", "It must be at least as large as image_bytes and video_bytes."
            )
        flood = FloodConfig(**self._table("flood", raw.get("flood", {}), keys.FLOOD))
        base = self._policy_tables("policy", raw.get("policy", {}))
        dialects = {
            dialect: self._dialect(dialect, raw[dialect], base, veiled=veiled)
            for dialect in Dialect
            if dialect in raw
        }
        if not dialects:
            names = ", ".join(f"[{dialect}]" for dialect in Dialect)
            self.faults.append(f"No protocol is switched on. Add at least one of {names}.")
        self.faults += shared_address_faults({d: c.listen for d, c in dialects.items()})
        if "server" in top:
            self.faults += server_faults(top["server"])
        key = self._platform_key(top)
        if self.faults:
            return None
        top["data"] = self._folder / top["data"]
        return GateConfig(**top, key=key, dialects=dialects, limits=limits, flood=flood)

    def _table(
        self, name: str, raw: object, table: Sequence[Key], tables: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return the values of a table that are written in it and valid.

        Args:
            name: of the table, with those around it; empty for the whole file.
            raw: its keys and values.
            table: its keys.
            tables: the names of tables in it.
        """
        prefix = f"{name}." if name else ""
        if not isinstance(raw, Mapping):
            self.faults.append(f"{name} must be a table: write its keys below a line [{name}].")
            return {}
        known = {key.name: key for key in table}
        for unknown in raw.keys() - known.keys() - set(tables):
            near = get_close_matches(unknown, [*known, *tables], 1)
            hint = f"Did you mean {prefix}{near[0]}?" if near else "`--print-config` has all keys."
            self._fault(f"{prefix}{shown(unknown)[1:-1]}", f"There is no such key. {hint}")
        read = {}
        for key in table:
            if key.name not in raw:
                if key.required:
                    self._fault(f"{prefix}{key.name}", f"It is required. {key.text}")
                continue
            try:
                read[key.name] = key.read(raw[key.name])
            except ValueError as error:
                self._fault(f"{prefix}{key.name} = {shown(raw[key.name])}", str(error))
        return read

    def _fault(self, where: str, text: str) -> None:
        self.faults.append(f"{where}: {text}")

    def _policy_tables(self, name: str, raw: object) -> dict[str, dict[str, Any]]:
        """Return the written values of a policy: those of itself, of `image` and of `video`."""
        own = self._table(name, raw, keys.POLICY, ("image", "video"))
        inner = raw if isinstance(raw, Mapping) else {}
        image = self._table(f"{name}.image", inner.get("image", {}), keys.MEDIA_POLICY)
        video = self._table(f"{name}.video", inner.get("video", {}), keys.VIDEO_POLICY)
        return {"own": own, "image": image, "video": video}

    def _dialect(
        self,
        dialect: Dialect,
        raw: object,
        base: Mapping[str, Mapping[str, Any]],
        *,
        veiled: bool,
    ) -> DialectConfig:
        decides = dialect is not Dialect.PIEFED
        read = self._table(dialect, raw, keys.dialect_keys(dialect), ("policy",) * decides)
        policy = Policy()
        if decides:
            inner = raw.get("policy", {}) if isinstance(raw, Mapping) else {}
            own = self._policy_tables(f"{dialect}.policy", inner)
            policy = self._policy(
                dialect,
                {part: {**base[part], **own[part]} for part in own},
                read.pop("review_as", None),
                veiled=veiled,
            )
        read.setdefault("obeyed", keys.default_obeyed(dialect))
        level = read.setdefault("level", Level.FAST if veiled else Level.WINDOWS)
        if veiled and level is not Level.FAST:
            self._fault(
                f'{dialect}.level = "{level}"',
                'Write "fast", or use a key for the whole feed: a veiled bank has only a part of '
                "each hash, and parts of pictures cannot be aligned with that.",
            )
        if dialect is Dialect.PIEFED and not read.get("hosts"):
            self._fault("piefed.hosts", "It is required: PieFed sends nothing but URLs.")
        token_file = read.pop("token_file", None)
        read["token"] = self._secret(f"{dialect}.token_file", token_file)
        read["listen"] = address = self._address(read)
        self.faults += address_faults(dialect, address, token=token_file is not None)
        return DialectConfig(**read, policy=policy)

    def _policy(
        self,
        dialect: Dialect,
        tables: Mapping[str, Mapping[str, Any]],
        review_as: Action | None,
        *,
        veiled: bool,
    ) -> Policy:
        media: dict[str, Any] = {}
        for name in ("image", "video"):
            media[name] = policy = MediaPolicy(**tables[name])
            where = f"{dialect}.policy.{name}"
            if STRICTNESS[policy.strong] < STRICTNESS[policy.likely]:
                self._fault(
                    f'{where}.strong = "{policy.strong}"',
                    "A close match must not be treated more mildly than the others: set likely "
                    "too.",
                )
            if veiled and policy.radius < SignalType.PDQ.threshold:
                self._fault(
                    f"{where}.radius = {policy.radius}",
                    "Remove it: a veiled bank has no distances. To look only for close matches, "
                    'write likely = "clear".',
                )
        return Policy(**media, **tables["own"], review_as=review_as)

    def _address(self, read: dict[str, Any]) -> Address:
        """Return where a dialect listens; takes its keys out of the table."""
        host, port, socket = read.pop("listen", ("127.0.0.1", 0, None))
        certificate, key = (
            None if name is None else self._folder / name
            for name in (read.pop("certificate", None), read.pop("certificate_key", None))
        )
        return Address(host, port, socket, read.pop("private", False), certificate, key)

    def _platform_key(self, top: dict[str, Any]) -> str:
        """Return the platform's key, checked; takes `key_file` out of the table."""
        where = "key_file"
        if not self._with_key:
            top.pop(where, None)
            return ""
        key = self._secret(where, top.get(where))
        if top.pop(where, None) is None:
            where = "NCIIHASH_KEY"
            key = self._environ.get(where, "").strip()
            if not key:
                self._fault(
                    "key_file",
                    "Name a file with the platform's key, or put the key into NCIIHASH_KEY. The "
                    "operator of the clearinghouse issues it.",
                )
        if key:
            self.faults += key_faults(key, where)
        return key or ""

    def _secret(self, where: str, path: Path | None) -> str | None:
        """Return a secret; None without a file, or if there is a fault."""
        if path is None:
            return None
        try:
            return read_secret(self._folder / path)
        except ValueError as error:
            self._fault(where, str(error))
            return None
