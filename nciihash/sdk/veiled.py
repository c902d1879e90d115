"""Match against a veiled bank: find candidates locally, and confirm them at the clearinghouse.

Two further files of mode 0600 belong to a veiled bank named FILE:

    FILE-veil      which bits of a hash the bank has, and the key of its exact hashes, as JSON; this
                   file is what makes a bank veiled
    FILE-waiting   candidates that could not be confirmed yet, as JSON lines: for each file its
                   name, its whole hashes, and the indices of those with little detail, {"file":
                   ..., "signals": [[TYPE, HEX], ...], "plain": [INDEX, ...]}, and lines {"done": N}
                   with the number of candidates confirmed so far; earlier versions wrote no "plain"

Neither ever contains a picture. Lines are appended and fsynced; the file is emptied when all
candidates are confirmed.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import ValidationError

from nciihash.bank.bank import Bank
from nciihash.durable import atomic_write, filename_in_errors
from nciihash.errors import BankCorrupt, BankError, InvalidSignal, ServiceError
from nciihash.signals import Signal, SignalType
from nciihash.veil import Veil
from nciihash.wire import Hits
from nciihash.wire.veil import VeilReply

WAITING_MAX: Final = 1 << 30  # bytes of FILE-waiting

Ask: TypeAlias = Callable[[Sequence[Signal]], list[Hits]]


def save_veil(bank: Path, veil: Veil) -> None:
    """Store the veil of a bank durably.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_write(_companion(bank, "veil")) as file:
        file.write(VeilReply.of(veil).model_dump_json().encode())


def load_veil(bank: Path) -> Veil | None:
    """Load the veil of a bank; None for a bank of whole hashes.

    Raises:
        BankCorrupt: the file is damaged.
    """
    path = _companion(bank, "veil")
    try:
        return VeilReply.model_validate_json(path.read_bytes()).veil
    except FileNotFoundError:
        return None
    except ValidationError:
        raise BankCorrupt(f"{path} is damaged. Follow the veiled feed into a new bank.") from None


def _companion(bank: Path, suffix: str) -> Path:
    bank = bank.resolve()  # links are resolved for the bank itself, too
    return bank.with_name(f"{bank.name}-{suffix}")


class Confirmer:
    """A matcher for a veiled bank; its `find` can be used in place of `Bank.query`.

    After a transient error it does not query the clearinghouse again: use a new one then.

    Args:
        bank: the veiled bank.
        veil: its veil.
        ask: queries the clearinghouse, as `PlatformClient.match` does.

    Attributes:
        asked: how many candidates the clearinghouse has answered.
        unanswered: the signals of the last call that are candidates and could not be confirmed.
        error: why they could not be; None if there was no error.
    """

    def __init__(self, bank: Bank, veil: Veil, ask: Ask) -> None:
        self._bank = bank
        self._veil = veil
        self._ask = ask
        self.asked = 0
        self.unanswered: frozenset[Signal] = frozenset()
        self.error: ServiceError | None = None

    def candidates(self, signals: Sequence[Signal]) -> list[int]:
        """Return the indices of the signals that resemble something in the bank."""
        veiled = self._veil.over(signals)
        rows = [row for row, part in enumerate(veiled) if part is not None]
        matches = self._bank.query([part for part in veiled if part is not None])
        return [row for row, found in zip(rows, matches, strict=True) if found]

    def find(self, signals: Sequence[Signal]) -> list[Hits]:
        """Return the hits of each signal. Only the hashes of candidates leave this machine.

        Raises:
            ServiceError: the key is wrong, or a response is invalid. Transient errors are stored in
                `error` instead.
        """
        candidates = self.candidates(signals)
        hits = [Hits()] * len(signals)
        self.unanswered = frozenset()
        if not candidates:
            return hits
        if self.error is None:
            try:
                replies = self._ask([signals[row] for row in candidates])
            except ServiceError as error:
                if not error.transient:
                    raise
                self.error = error
            else:
                self.asked += len(candidates)
                for row, reply in zip(candidates, replies, strict=True):
                    hits[row] = reply
                return hits
        self.unanswered = frozenset(signals[row] for row in candidates)
        return hits


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file with hashes that have to be confirmed.

    Attributes:
        file: its name.
        signals: the hashes.
        plain: those of pictures with little detail, whose matches need a review; None if unknown.
    """

    file: str
    signals: tuple[Signal, ...]
    plain: frozenset[Signal] | None = None


class WaitingFull(BankError):
    """Too many candidates are stored: confirm them first."""


class PendingCandidates:
    """The stored candidates of a bank; several processes may add, one may confirm."""

    def __init__(self, bank: Path) -> None:
        self.path = _companion(bank, "waiting")

    def add(self, candidate: Candidate) -> None:
        """Store a candidate durably.

        Raises:
            WaitingFull: too many candidates are stored.
            OSError: the file cannot be written.
        """
        signals = candidate.signals
        entry: dict[str, object] = {
            "file": candidate.file,
            "signals": [[signal.type.value, signal.hex] for signal in signals],
        }
        if candidate.plain is not None:
            entry["plain"] = [n for n, signal in enumerate(signals) if signal in candidate.plain]
        with self._locked() as file:
            if os.fstat(file).st_size > WAITING_MAX:
                raise WaitingFull(
                    "Too many candidates are waiting to be confirmed. Run `nciihash confirm` first."
                )
            _append(file, entry)

    def read(self) -> list[Candidate]:
        """Return the stored candidates, oldest first."""
        candidates, done = self._parse()
        return candidates[done:]

    def drop(self, count: int) -> None:
        """Remove the oldest candidates, and empty the file if none is left.

        Raises:
            OSError: the file cannot be written.
        """
        with self._locked() as file:
            candidates, done = self._parse()
            if done + count < len(candidates):
                _append(file, {"done": done + count})
                return
            os.ftruncate(file, 0)
            os.fsync(file)

    def _parse(self) -> tuple[list[Candidate], int]:
        """Return all candidates in the file, and how many of them are done.

        A line torn by a crash is skipped, since `add` never returned for it.
        """
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return [], 0
        candidates: list[Candidate] = []
        done = 0
        for line in lines:
            try:
                entry = json.loads(line)
                if "done" in entry:
                    done = int(entry["done"])
                    continue
                candidates.append(_candidate(entry))
            except (LookupError, ValueError, TypeError, InvalidSignal):
                continue
        return candidates, done

    @contextmanager
    def _locked(self) -> Iterator[int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        file = os.open(self.path, flags, 0o600)
        try:
            with filename_in_errors(self.path):
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
        finally:
            os.close(file)


def _candidate(entry: dict[str, Any]) -> Candidate:
    signals = tuple(Signal.from_hex(SignalType(type), value) for type, value in entry["signals"])
    plain = frozenset(signals[n] for n in entry["plain"]) if "plain" in entry else None
    return Candidate(str(entry["file"]), signals, plain)


def _append(file: int, entry: dict[str, object]) -> None:
    size = os.fstat(file).st_size
    torn = size and os.pread(file, 1, size - 1) != b"\n"
    data = b"\n" * bool(torn) + json.dumps(entry).encode() + b"\n"
    try:
        while data:  # on a nearly full disk, `write` may write only a part and report no error
            data = data[os.write(file, data) :]
        os.fsync(file)
    except OSError:
        os.ftruncate(file, size)
        raise
