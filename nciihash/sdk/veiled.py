"""Match against a veiled bank: find candidates here, and have the clearinghouse confirm them.

Beside a veiled bank named FILE lie, of mode 0600 as well,

    FILE-veil      which bits of a hash it holds, and the key of exact ones: it makes a bank veiled
    FILE-waiting   candidates that nobody could confirm yet: a line of JSON for each file with its
                   name and whole hashes, and lines that say how many are done

No picture is ever in them. Lines are added at the end and fsynced; the file is emptied when all are
done.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from pydantic import ValidationError

from nciihash.bank.bank import Bank
from nciihash.durable import naming, replacing
from nciihash.errors import BankCorrupt, BankError, InvalidSignal, ServiceError
from nciihash.signals import Signal, SignalType
from nciihash.veil import Veil
from nciihash.wire import Hits
from nciihash.wire.veil import VeilReply

WAITING_MAX: Final = 1 << 30  # bytes of candidates that may wait

Ask: TypeAlias = Callable[[Sequence[Signal]], list[Hits]]


def keep_veil(bank: Path, veil: Veil) -> None:
    """Note, durably, that a bank is veiled, and how.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(_beside(bank, "veil")) as file:
        file.write(VeilReply.of(veil).model_dump_json().encode())


def kept_veil(bank: Path) -> Veil | None:
    """Tell how a bank is veiled; None for one that holds whole hashes.

    Raises:
        BankCorrupt: the note is damaged.
    """
    path = _beside(bank, "veil")
    try:
        return VeilReply.model_validate_json(path.read_bytes()).veil
    except FileNotFoundError:
        return None
    except ValidationError:
        raise BankCorrupt(f"{path} is damaged. Follow the veiled feed once more.") from None


def _beside(bank: Path, what: str) -> Path:
    bank = bank.resolve()  # as the bank itself is named
    return bank.with_name(f"{bank.name}-{what}")


class Confirmer:
    """Finds what matches in two steps; its `find` takes the place of a bank's `query`.

    A clearinghouse that does not answer is not asked again: `unanswered` holds the signals of the
    last call that are candidates and could not be confirmed, and `trouble` says why.
    """

    def __init__(self, bank: Bank, veil: Veil, ask: Ask) -> None:
        self._bank = bank
        self._veil = veil
        self._ask = ask
        self.asked = 0
        self.unanswered: frozenset[Signal] = frozenset()
        self.trouble: ServiceError | None = None

    def find(self, signals: Sequence[Signal]) -> list[Hits]:
        """Give what each signal matches. Only candidates leave this machine.

        Raises:
            ServiceError: the key is wrong, or an answer makes no sense.
        """
        parts = self._veil.over(signals)
        places = [place for place, part in enumerate(parts) if part is not None]
        near = self._bank.query([part for part in parts if part is not None])
        chosen = [place for place, found in zip(places, near, strict=True) if found]
        hits = [Hits()] * len(signals)
        self.unanswered = frozenset()
        if not chosen:
            return hits
        if self.trouble is None:
            try:
                answers = self._ask([signals[place] for place in chosen])
            except ServiceError as error:
                if not error.passing:
                    raise
                self.trouble = error
            else:
                self.asked += len(chosen)
                for place, answer in zip(chosen, answers, strict=True):
                    hits[place] = answer
                return hits
        self.unanswered = frozenset(signals[place] for place in chosen)
        return hits


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file whose hashes wait to be confirmed."""

    file: str
    signals: tuple[Signal, ...]


class WaitingFull(BankError):
    """More candidates wait than may: confirm them first."""


class PendingCandidates:
    """The candidates of a bank that wait; several processes may add, and one confirms."""

    def __init__(self, bank: Path) -> None:
        self.path = _beside(bank, "waiting")

    def add(self, candidate: Candidate) -> None:
        """Let a file wait, durably.

        Raises:
            WaitingFull: too many wait already.
            OSError: the file cannot be written.
        """
        signals = [[signal.type.value, signal.hex] for signal in candidate.signals]
        with self._locked() as file:
            if os.fstat(file).st_size > WAITING_MAX:
                raise WaitingFull(
                    "Too many candidates wait to be confirmed. Run `nciihash confirm` first."
                )
            _append(file, {"file": candidate.file, "signals": signals})

    def read(self) -> list[Candidate]:
        """Give those that wait, oldest first."""
        found, done = self._entries()
        return found[done:]

    def drop(self, count: int) -> None:
        """Forget the oldest ones, and empty the file when none is left.

        Raises:
            OSError: the file cannot be written.
        """
        with self._locked() as file:
            found, done = self._entries()
            if done + count < len(found):
                _append(file, {"done": done + count})
                return
            os.ftruncate(file, 0)
            os.fsync(file)

    def _entries(self) -> tuple[list[Candidate], int]:
        """Read all lines; one that a crash cut short was never said to wait, and is passed over."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return [], 0
        found: list[Candidate] = []
        done = 0
        for line in lines:
            try:
                entry = json.loads(line)
                if "done" in entry:
                    done = int(entry["done"])
                    continue
                signals = [Signal.from_hex(SignalType(t), v) for t, v in entry["signals"]]
                found.append(Candidate(str(entry["file"]), tuple(signals)))
            except (ValueError, KeyError, TypeError, InvalidSignal):
                continue
        return found, done

    @contextmanager
    def _locked(self) -> Iterator[int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        file = os.open(self.path, flags, 0o600)
        try:
            with naming(self.path):
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
        finally:
            os.close(file)


def _append(file: int, entry: dict[str, object]) -> None:
    size = os.fstat(file).st_size
    torn = size and os.pread(file, 1, size - 1) != b"\n"
    rest = b"\n" * bool(torn) + json.dumps(entry).encode() + b"\n"
    try:
        while rest:  # a disk that is nearly full takes a part without a word
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
    except OSError:
        os.ftruncate(file, size)
        raise
