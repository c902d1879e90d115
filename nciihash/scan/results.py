"""The folder of a scan: what it looks in and for, and a Parquet file for each finished block.

    DIR/manifest.json         what bank and what source this is about, and how it is cut
    DIR/bank/                 the bank as it was at the start (nciihash.bank.frozen), until all is
                              done
    DIR/matches/NUMBER.parquet   the matches of a block, if only an empty table
    DIR/refused.jsonl         what was not scanned and why, written at the end of each run
    DIR/lock                  held by the process that scans; otherwise without meaning

A block's file appears whole, under its name, or not at all, and holds the block's counts as well:
that it is there is the checkpoint. Only one process writes, wherever blocks are scanned, so that a
block which was scanned twice, since its machine was lost, is still written once.
"""

import fcntl
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from nciihash.bank.frozen import BankState, FrozenBank, fingerprint, freeze, pin_index
from nciihash.bank.snapshot import Snapshot
from nciihash.durable import naming, replacing
from nciihash.errors import ExtraMissing, ResultsInvalid
from nciihash.media.reading import file_name, name_fields
from nciihash.scan.plan import FileRefusal, Plan
from nciihash.scan.worker import BlockResult
from nciihash.search.index_file import MAGIC

_FORMAT: Final = 2
_META: Final = b"nciihash"  # the key of a block's counts in its file's metadata
_READERS: Final = 8
_OWN: Final = {"manifest.json", "bank", ".bank.tmp", "matches", "refused.jsonl", "lock"}


@dataclass(slots=True)
class Totals:
    """What became of a source, over all runs."""

    scanned: int
    matches: int
    foreign: int
    failed: Counter[str]

    def add(self, counts: dict[str, Any]) -> None:
        """Add a block's counts."""
        self.scanned += counts["scanned"]
        self.matches += counts["matches"]
        self.foreign += counts["foreign"]
        self.failed.update(counts["failed"])


class ScanFolder:
    """A scan's folder, opened for scanning; use it as a context manager.

    Args:
        path: the folder; made when absent.

    Raises:
        ResultsInvalid: it holds something else, or another process scans into it.
        ExtraMissing: pyarrow is not installed.
        OSError: it cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow  # noqa: F401, ICN001 - to see that it is there
        except ImportError:
            raise ExtraMissing(
                "Results are Parquet files, for which pyarrow is not installed: "
                'pip install "nciihash[parquet]"'
            ) from None
        self.path = path.resolve()
        self._matches = self.path / "matches"
        self.totals = Totals(0, 0, 0, Counter())
        self.done: set[int] = set()
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if foreign := {entry.name for entry in self.path.iterdir()} - _OWN:
            raise ResultsInvalid(
                f"{path} holds something else ({min(foreign)}). Name a new folder for the results."
            )
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with naming(self.path / "lock"):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, BlockingIOError):
                raise ResultsInvalid(
                    f"Another process scans into {path}. Wait for it, or name another folder."
                ) from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._lock)

    def begin(
        self, source: str, plan: Plan, bank: Path, how: dict[str, Any]
    ) -> tuple[Path, BankState]:
        """Begin a scan, or take it up again.

        Args:
            source: the path or URL.
            plan: of the source as it is now.
            bank: a bank that `follow` keeps, or an index file.
            how: whatever else changes results.

        Returns:
            Where the bank lies that is to be looked in, and what it is.

        Raises:
            ResultsInvalid: the folder is about another bank or source, or they have changed.
            BankError, BankCorrupt, IndexFileInvalid: the bank cannot be opened.
            OSError: the disk refuses.
        """
        listed = {
            "source": file_name(source),
            "kind": plan.kind.value,
            "files": plan.files,
            "count": plan.count,
            "blocks": len(plan.blocks),
            "fingerprint": plan.fingerprint,
        }
        if not self._manifest.exists():
            try:
                pin = self._pin(bank)
                self._matches.mkdir(mode=0o700, exist_ok=True)
                self._write_manifest(
                    {"format": _FORMAT, "bank": asdict(pin), "listing": listed, "how": how}
                )
            except BaseException:
                self._delete_bank()
                raise
            return self._bank(pin, bank), pin
        manifest = self._read_manifest()
        pin = BankState(**manifest["bank"])
        before = manifest["listing"]
        if before["source"] != listed["source"]:
            raise self._other(f"a scan of {before['source']}")
        if before != listed:
            raise self._other("a scan of this source as it was before it changed")
        if manifest["how"] != how:
            raise self._other("a scan with other options")
        self._read_done(len(plan.blocks))
        if len(self.done) < len(plan.blocks):
            self._check_bank(pin, bank)
        return self._bank(pin, bank), pin

    def write(self, done: BlockResult) -> None:
        """Keep a block's result, durably; one that is kept already is passed over.

        Raises:
            OSError: the disk refuses.
        """
        from pyarrow import parquet

        if done.number in self.done:
            return
        counts = {
            "scanned": done.scanned,
            "matches": len(done.matches),
            "foreign": done.foreign,
            "failed": dict(done.failed),
            "refused": [asdict(refused) for refused in done.refused],
        }
        table = done.matches.replace_schema_metadata({_META: json.dumps(counts)})
        with replacing(self._matches / f"{done.number:08}.parquet") as file:
            parquet.write_table(table, file)
        self.done.add(done.number)
        self.totals.add(counts)

    def finish(self, refused: Sequence[FileRefusal], *, complete: bool) -> None:
        """Write down what was refused; when all is done, delete the copy of the bank.

        Raises:
            OSError: the disk refuses.
        """
        with replacing(self.path / "refused.jsonl") as file:
            for each in (*refused, *self.refused()):
                file.write(json.dumps(_described(each)).encode() + b"\n")
        if complete:
            self._delete_bank()

    def refused(self) -> Iterator[FileRefusal]:
        """Go through what was refused in all finished blocks."""
        for number in sorted(self.done):
            if (counts := self._counts(number)) is not None:
                yield from (FileRefusal(**refused) for refused in counts["refused"])

    @property
    def _manifest(self) -> Path:
        return self.path / "manifest.json"

    def _bank(self, pin: BankState, bank: Path) -> Path:
        return bank.resolve() if pin.bank is None else self.path / "bank"

    def _pin(self, bank: Path) -> BankState:
        if _is_index(bank):
            return pin_index(bank)
        self._delete_bank()  # of a run that died right here
        return freeze(bank, self.path / "bank")

    def _delete_bank(self) -> None:
        """Delete the copy: it may hold hashes that were withdrawn since."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.path / "bank")

    def _check_bank(self, pin: BankState, bank: Path) -> None:
        """See that a bank is the one of the manifest, and that what is looked in is unharmed."""
        if pin.bank is not None:
            lineage = None if _is_index(bank) else Snapshot.open(bank, verify=False).lineage.hex()
            if lineage != pin.bank:
                raise self._other("a scan against another bank")
        if fingerprint(self._bank(pin, bank)) != pin.fingerprint:
            raise self._other("a scan against another bank")
        FrozenBank.open(self._bank(pin, bank))

    def _other(self, what: str) -> ResultsInvalid:
        return ResultsInvalid(
            f"{self.path} holds {what}, which cannot be gone on with here. Name another folder."
        )

    def _read_manifest(self) -> dict[str, Any]:
        try:
            manifest: dict[str, Any] = json.loads(self._manifest.read_bytes())
            if manifest["format"] == _FORMAT:
                return manifest
        except (ValueError, KeyError, TypeError):
            pass
        raise ResultsInvalid(
            f"{self._manifest} is damaged, or of another version of nciihash. Name another folder."
        )

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        with replacing(self._manifest) as file:
            file.write(json.dumps(manifest, indent=1).encode() + b"\n")

    def _read_done(self, blocks: int) -> None:
        """Count the blocks that are done; delete what a crash left, and what cannot be read."""
        for remains in self._matches.glob(".*.tmp"):
            remains.unlink()
        numbers = [int(path.stem) for path in self._matches.glob("*.parquet")]
        with ThreadPoolExecutor(_READERS) as pool:
            for number, counts in zip(numbers, pool.map(self._counts, numbers), strict=True):
                if counts is not None and number < blocks:
                    self.done.add(number)
                    self.totals.add(counts)

    def _counts(self, number: int) -> dict[str, Any] | None:
        """Read a block's counts; None if its file is damaged, so that it is done again."""
        import pyarrow as pa
        from pyarrow import parquet

        try:
            metadata = parquet.read_schema(self._matches / f"{number:08}.parquet").metadata
            counts: dict[str, Any] = json.loads(metadata[_META])
        except (pa.ArrowInvalid, KeyError, TypeError, ValueError):
            return None
        return counts


def _described(refused: FileRefusal) -> dict[str, str]:
    """Write down a refusal: `name`, `code`, `reason`, and `file_bytes` as `name_fields` does."""
    named = name_fields(refused.name)
    told = {"name": named.pop("file"), "code": refused.code, "reason": refused.reason}
    return told | named


def _is_index(bank: Path) -> bool:
    try:
        with bank.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except FileNotFoundError:
        return False  # as a bank it is told to be missing
