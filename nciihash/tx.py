"""The exchange extension for `threatexchange`: follows `/v1/feed`, withdrawals included.

    tx config extensions add nciihash.tx
    tx config collab edit nciihash --create NAME --server https://HOST
    TX_NCIIHASH_KEY=… tx fetch

The built-in exchange `stop_ncii` works with a clearinghouse too, but reads withdrawals from the
wrong field, so that it matches a fetched hash forever. This extension follows `/v1/feed` by cursor:
it stores each signal under its id in the feed, and a removal deletes that id. If the cursor has
expired (the log was restored, or the last fetch was too long ago), everything stored is dropped and
fetched again, so that nothing withdrawn remains.

The extension sends no acknowledgements, because it cannot know whether a fetch has reached the
index that `tx match` uses. The survivor sees this platform's state as unknown. `nciihash follow`
acknowledges.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self

from threatexchange.exchanges import auth
from threatexchange.exchanges.collab_config import CollaborationConfigWithDefaults
from threatexchange.exchanges.fetch_state import (
    FetchCheckpointBase,
    FetchDelta,
    FetchedSignalMetadata,
    SignalOpinion,
    SignalOpinionCategory,
)
from threatexchange.exchanges.signal_exchange_api import SignalExchangeAPI
from threatexchange.extensions.manifest import ThreatExchangeExtensionManifest
from threatexchange.signal_type.md5 import VideoMD5Signal
from threatexchange.signal_type.pdq.signal import PdqSignal
from threatexchange.signal_type.sha256 import VideoSHA256Signal
from threatexchange.signal_type.signal_base import SignalType as TxType

from nciihash.client.platform import PlatformClient
from nciihash.errors import CursorExpired
from nciihash.feed import Added, Removed
from nciihash.signals import Media, SignalType
from nciihash.wire import PAGE_MAX

NAME: Final = "nciihash"
# The types for which `threatexchange` has a matcher; others are skipped.
_TYPES: Final = {
    (SignalType.PDQ, Media.IMAGE): PdqSignal.get_name(),
    (SignalType.PDQ, Media.VIDEO): PdqSignal.get_name(),  # of the frames
    (SignalType.MD5, Media.VIDEO): VideoMD5Signal.get_name(),
    (SignalType.SHA256, Media.VIDEO): VideoSHA256Signal.get_name(),
}


@dataclass
class _Server:
    server: str = field(
        metadata={"help": "the address of the clearinghouse, such as https://HOST"},
    )


@dataclass
class Collaboration(CollaborationConfigWithDefaults, _Server):
    """The settings of this exchange: the clearinghouse to follow."""

    api: str = field(init=False, default=NAME)


@dataclass
class Credentials(auth.CredentialHelper):
    """The platform's key, with the scope `feed`."""

    ENV_VARIABLE: ClassVar[str] = "TX_NCIIHASH_KEY"
    FILE_NAME: ClassVar[str] = "~/.tx_nciihash_key"

    key: str = field(repr=False)

    @classmethod
    def _from_str(cls, s: str) -> Self:
        return cls(s.strip())

    def _are_valid(self) -> bool:
        return bool(self.key)


@dataclass
class Checkpoint(FetchCheckpointBase):
    """How far the feed was read.

    Attributes:
        cursor: the feed's cursor.
        fetched: when, in seconds since 1970.
        expired: whether everything stored must be dropped and fetched again.
    """

    cursor: str
    fetched: int
    expired: bool = False

    def is_stale(self) -> bool:
        """Whether to drop everything stored."""
        return self.expired


@dataclass
class SignalMetadata(FetchedSignalMetadata):
    """One signal of the feed."""

    id: str
    type: str  # the name in `threatexchange`
    value: str

    def get_as_opinions(self) -> Sequence[SignalOpinion]:
        """Return the opinion that somebody submitted it and that matches need investigation."""
        return [SignalOpinion(False, SignalOpinionCategory.INVESTIGATION_SEED, set())]  # noqa: FBT003 - theirs


class ClearinghouseExchange(
    auth.SignalExchangeWithAuth[Collaboration, Credentials],
    SignalExchangeAPI[Collaboration, Checkpoint, SignalMetadata, str, SignalMetadata],
):
    """A clearinghouse's feed."""

    def __init__(self, collab: Collaboration, key: str) -> None:
        super().__init__()
        self._server = collab.server
        self._key = key

    @classmethod
    def get_name(cls) -> str:
        """Return the name of this exchange on the command line."""
        return NAME

    @staticmethod
    def get_config_cls() -> type[Collaboration]:
        """Return the class of the settings."""
        return Collaboration

    @staticmethod
    def get_checkpoint_cls() -> type[Checkpoint]:
        """Return the class of the checkpoints."""
        return Checkpoint

    @staticmethod
    def get_record_cls() -> type[SignalMetadata]:
        """Return the class of the stored records."""
        return SignalMetadata

    @staticmethod
    def get_credential_cls() -> type[Credentials]:
        """Return the class of the credentials."""
        return Credentials

    @classmethod
    def for_collab(cls, collab: Collaboration, credentials: Credentials | None = None) -> Self:
        """Return an exchange for these settings, with the key from the environment or its file."""
        return cls(collab, (credentials or Credentials.get(cls)).key)

    def fetch_iter(
        self, supported_signal_types: Sequence[type[TxType]], checkpoint: Checkpoint | None
    ) -> Iterator[FetchDelta[str, SignalMetadata, Checkpoint]]:
        """Yield the feed from the checkpoint to its end, page by page.

        Raises:
            CursorExpired: the next fetch starts over; an expired checkpoint is yielded first.
            ServiceError: a wrong key, or no response. What was yielded is valid, and a later fetch
                continues after it.
        """
        del supported_signal_types  # store all, so that a type enabled later is complete
        cursor = checkpoint.cursor if checkpoint else None
        with PlatformClient(self._server, self._key) as client:
            more = True
            while more:
                try:
                    page = client.feed(cursor, limit=PAGE_MAX)
                except CursorExpired:
                    yield FetchDelta({}, Checkpoint("", int(time.time()), expired=True))
                    raise
                updates: dict[str, SignalMetadata | None] = {}
                for entry in page.entries:
                    match entry:
                        case Added():
                            name = _TYPES.get((entry.signal.type, entry.media))
                            if name is not None:
                                updates[entry.id] = SignalMetadata(entry.id, name, entry.signal.hex)
                        case Removed():
                            updates[entry.id] = None
                cursor, more = page.cursor, page.more
                yield FetchDelta(updates, Checkpoint(cursor, int(time.time())))

    @classmethod
    def naive_convert_to_signal_type(
        cls,
        signal_types: Sequence[type[TxType]],
        collab: Collaboration,
        fetched: Mapping[str, SignalMetadata],
    ) -> dict[type[TxType], dict[str, SignalMetadata]]:
        """Return the stored signals by type and value; a value stays as long as any id has it."""
        del collab
        by_name = {type_.get_name(): type_ for type_ in signal_types}
        signals: dict[type[TxType], dict[str, SignalMetadata]] = {}
        for record in fetched.values():
            if record.type in by_name:
                signals.setdefault(by_name[record.type], {}).setdefault(record.value, record)
        return signals


def _patch_index_store() -> None:
    """Patch `tx` so that it deletes the index of a type whose last signal was removed.

    `CliIndexStore.clear` of threatexchange 1.2.17 compares the types' names with whole paths, so
    that the index of a type without signals stays, and the last withdrawn hash would still match.
    Only the command line has this class.
    """
    module: Any = sys.modules.get("threatexchange.cli.cli_state")
    store: Any = getattr(module, "CliIndexStore", None)
    if store is None or not (hasattr(store, "clear") and hasattr(store, "_index_file")):
        return
    clear = store.clear

    def clear_types(self: Any, only_types: Sequence[type[TxType]] | None = None) -> None:  # noqa: ANN401 - theirs
        if only_types is None:
            clear(self)
            return
        for type_ in only_types:
            self._index_file(type_).unlink(missing_ok=True)

    store.clear = clear_types


_patch_index_store()

TX_MANIFEST: Final = ThreatExchangeExtensionManifest(apis=(ClearinghouseExchange,))
