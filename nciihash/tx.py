"""The exchange extension for `threatexchange`, in which a withdrawal is one.

    tx config extensions add nciihash.tx
    tx config collab edit nciihash --create NAME --server https://HOST
    TX_NCIIHASH_KEY=… tx fetch

The exchange `stop_ncii` of `threatexchange` works with a clearinghouse as it is, but looks for
withdrawals in the wrong field, so that a hash once fetched is matched for ever. This one follows
`/v1/feed` instead, by cursor: it keeps what it fetched under the feed's ids, and a removal takes
its id out. Where the cursor has expired (the log was restored, or the last fetch is too long ago),
what was kept is dropped and fetched anew, and with it goes whatever is no longer held.

It confirms nothing to the clearinghouse: whether a fetch has reached the index that is matched
against is not known here. A survivor then reads that it is not known. `nciihash follow` confirms.
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
# What `threatexchange` has a matcher for. Further types of ours are passed over.
_TYPES: Final = {
    (SignalType.PDQ, Media.IMAGE): PdqSignal.get_name(),
    (SignalType.PDQ, Media.VIDEO): PdqSignal.get_name(),  # of its frames
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
    """Which clearinghouse is followed."""

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
    """How far the feed was read. `expired`: what was kept must be dropped and fetched anew."""

    cursor: str
    fetched: int  # seconds since 1970
    expired: bool = False

    def is_stale(self) -> bool:
        """Tell whether to drop what was kept."""
        return self.expired


@dataclass
class SignalMetadata(FetchedSignalMetadata):
    """One signal of the feed."""

    id: str
    type: str  # as `threatexchange` names it
    value: str

    def get_as_opinions(self) -> Sequence[SignalOpinion]:
        """Say that somebody submitted it, and that a match is to be looked at."""
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
        """Give the name for the command line."""
        return NAME

    @staticmethod
    def get_config_cls() -> type[Collaboration]:
        """Give the class of the settings."""
        return Collaboration

    @staticmethod
    def get_checkpoint_cls() -> type[Checkpoint]:
        """Give the class of the checkpoints."""
        return Checkpoint

    @staticmethod
    def get_record_cls() -> type[SignalMetadata]:
        """Give the class of what is kept."""
        return SignalMetadata

    @staticmethod
    def get_credential_cls() -> type[Credentials]:
        """Give the class of the credentials."""
        return Credentials

    @classmethod
    def for_collab(cls, collab: Collaboration, credentials: Credentials | None = None) -> Self:
        """Make one for these settings, with the key from the environment or its file."""
        return cls(collab, (credentials or Credentials.get(cls)).key)

    def fetch_iter(
        self, supported_signal_types: Sequence[type[TxType]], checkpoint: Checkpoint | None
    ) -> Iterator[FetchDelta[str, SignalMetadata, Checkpoint]]:
        """Read the feed from the checkpoint to its end, page by page.

        Raises:
            CursorExpired: the next fetch starts over. A checkpoint that says so is yielded before.
            ServiceError: a wrong key, or no answer. What was yielded is right, and a later fetch
                goes on from there.
        """
        del supported_signal_types  # all are kept, so that a type that is added later has its part
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
        """Give what is kept by type and value: a value stays as long as one id holds it."""
        del collab
        by_name = {type_.get_name(): type_ for type_ in signal_types}
        found: dict[type[TxType], dict[str, SignalMetadata]] = {}
        for held in fetched.values():
            if held.type in by_name:
                found.setdefault(by_name[held.type], {}).setdefault(held.value, held)
        return found


def _mend_index_store() -> None:
    """Let `tx` drop the index of a type whose last signal was removed.

    `CliIndexStore.clear` of threatexchange 1.2.17 compares the types' names with whole paths, so
    that the index of a type with no signal left stays, and the last hash withdrawn would be
    matched on. Elsewhere than in the command line there is nothing to mend.
    """
    module: Any = sys.modules.get("threatexchange.cli.cli_state")
    store: Any = getattr(module, "CliIndexStore", None)
    if store is None or not (hasattr(store, "clear") and hasattr(store, "_index_file")):
        return
    clear = store.clear

    def mended(self: Any, only_types: Sequence[type[TxType]] | None = None) -> None:  # noqa: ANN401 - theirs
        if only_types is None:
            clear(self)
            return
        for type_ in only_types:
            self._index_file(type_).unlink(missing_ok=True)

    store.clear = mended


_mend_index_store()

TX_MANIFEST: Final = ThreatExchangeExtensionManifest(apis=(ClearinghouseExchange,))
