"""The folder of a scan: its bank and source, and a Parquet file for each finished block.

    DIR/manifest.json            which bank and which source are scanned, and how it is split
    DIR/bank/                    the bank as it was at the start (nciihash.bank.frozen); deleted
                                 when the scan is complete
    DIR/matches/NUMBER.parquet   the matches of a block; an empty table if there are none
    DIR/refused.jsonl            what was not scanned, and why; written at the end of each run
    DIR/lock                     locked by the process that scans; it has no content

The file of a block is written atomically. It also holds the block's counts, so its existence is the
checkpoint. Only one process writes, wherever blocks are scanned: a block that was scanned twice,
because its machine was lost, is written once.
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

from nciihash.bank.frozen import BankVersion, FrozenBank, fingerprint, freeze, index_file_version
from nciihash.bank.snapshot import Snapshot
from nciihash.durable import atomic_write, filename_in_errors
from nciihash.errors import ExtraMissing, ResultsInvalid
from nciihash.media.reading import file_name, name_fields
from nciihash.scan.plan import FileRefusal, Plan
from nciihash.scan.worker import BlockResult
from nciihash.search.index_file import MAGIC

_FORMAT: Final = 3
_META: Final = b"nciihash"  # the key of a block's counts in its file's metadata
_READERS: Final = 8
_OWN: Final = {"manifest.json", "bank", ".bank.tmp", "matches", "refused.jsonl", "lock"}


@dataclass(slots=True)
class Totals:
    """Counts of a scan, over all its runs."""

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
    """The folder of a scan, locked by this process; a context manager.

    Attributes:
        path: the folder.
        totals: counts of all finished blocks.
        done: numbers of the finished blocks.

    Args:
        path: the folder; it is created if it does not exist.

    Raises:
        ResultsInvalid: the folder holds something else, or another process scans into it.
        ExtraMissing: pyarrow is not installed.
        OSError: the folder cannot be created or written.
    """

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow  # noqa: F401, ICN001 - to check that it is installed
        except ImportError:
            raise ExtraMissing(
                "Results are Parquet files, which need pyarrow. It is not installed: "
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
            with filename_in_errors(self.path / "lock"):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, BlockingIOError):
                raise ResultsInvalid(
                    f"Another process is scanning into {path}. Wait for it to end, or name another "
                    "folder."
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
    ) -> tuple[Path, BankVersion]:
        """Start a scan, or continue it.

        Args:
            source: its path or URL.
            plan: of the source as it is now.
            bank: a bank that `follow` keeps up to date, or an index file.
            how: all other options that change results.

        Returns:
            The path of the bank to match against, and its state when the scan started.

        Raises:
            ResultsInvalid: the scan in the folder has another bank, source or options, or the
                source or the bank has changed.
            BankError, BankCorrupt, IndexFileInvalid: the bank cannot be opened.
            OSError: the disk is full or failing.
        """
        listing = {
            "source": file_name(source),
            "kind": plan.kind.value,
            "files": plan.files,
            "count": plan.count,
            "blocks": len(plan.blocks),
            "fingerprint": plan.fingerprint,
        }
        if not self._manifest.exists():
            try:
                state = self._freeze(bank)
                self._matches.mkdir(mode=0o700, exist_ok=True)
                self._write_manifest(
                    {"format": _FORMAT, "bank": asdict(state), "listing": listing, "how": how}
                )
            except BaseException:
                self._delete_bank()
                raise
            return self._bank(state, bank), state
        manifest = self._read_manifest()
        state = BankVersion(**manifest["bank"])
        earlier = manifest["listing"]
        if earlier["source"] != listing["source"]:
            raise self._mismatch(f"a scan of {earlier['source']}")
        if earlier != listing:
            raise self._mismatch("a scan of this source as it was before it changed")
        if manifest["how"] != how:
            raise self._mismatch("a scan with other options")
        self._read_done(len(plan.blocks))
        if len(self.done) < len(plan.blocks):
            self._check_bank(state, bank)
        return self._bank(state, bank), state

    def write(self, result: BlockResult) -> None:
        """Write a block's result durably, unless it is written already.

        Raises:
            OSError: the disk is full or failing.
        """
        from pyarrow import parquet

        if result.number in self.done:
            return
        counts = {
            "scanned": result.scanned,
            "matches": len(result.matches),
            "foreign": result.foreign,
            "failed": dict(result.failed),
            "refused": [asdict(refused) for refused in result.refused],
        }
        table = result.matches.replace_schema_metadata({_META: json.dumps(counts)})
        with atomic_write(self._matches / f"{result.number:08}.parquet") as file:
            parquet.write_table(table, file)
        self.done.add(result.number)
        self.totals.add(counts)

    def finish(self, refused: Sequence[FileRefusal], *, complete: bool) -> None:
        """Write the list of what was refused; if the scan is complete, delete the bank's copy.

        Raises:
            OSError: the disk is full or failing.
        """
        with atomic_write(self.path / "refused.jsonl") as file:
            for refusal in (*refused, *self.refused()):
                file.write(json.dumps(_refusal_line(refusal)).encode() + b"\n")
        if complete:
            self._delete_bank()

    def refused(self) -> Iterator[FileRefusal]:
        """Yield what was refused in all finished blocks."""
        for number in sorted(self.done):
            if (counts := self._counts(number)) is not None:
                yield from (FileRefusal(**refused) for refused in counts["refused"])

    @property
    def _manifest(self) -> Path:
        return self.path / "manifest.json"

    def _bank(self, state: BankVersion, bank: Path) -> Path:
        return bank.resolve() if state.bank is None else self.path / "bank"

    def _freeze(self, bank: Path) -> BankVersion:
        if is_index_file(bank):
            return index_file_version(bank)
        self._delete_bank()  # of a run that crashed here
        return freeze(bank, self.path / "bank")

    def _delete_bank(self) -> None:
        """Delete the copy: it may hold hashes that have been withdrawn since."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.path / "bank")

    def _check_bank(self, state: BankVersion, bank: Path) -> None:
        """Check that the bank is the one in the manifest, and that its copy is not damaged.

        Raises:
            ResultsInvalid: it is another one.
            BankError, BankCorrupt, IndexFileInvalid: it is damaged, or cannot be opened.
        """
        if state.bank is not None:
            lineage = (
                None if is_index_file(bank) else Snapshot.open(bank, verify=False).lineage.hex()
            )
            if lineage != state.bank:
                raise self._mismatch("a scan against another bank")
        if fingerprint(self._bank(state, bank)) != state.fingerprint:
            raise self._mismatch("a scan against another bank")
        FrozenBank.open(self._bank(state, bank))

    def _mismatch(self, contents: str) -> ResultsInvalid:
        return ResultsInvalid(
            f"{self.path} holds {contents}, which this command cannot continue. Name another "
            "folder."
        )

    def _read_manifest(self) -> dict[str, Any]:
        try:
            manifest: dict[str, Any] = json.loads(self._manifest.read_bytes())
            if manifest["format"] == _FORMAT:
                return manifest
        except (ValueError, KeyError, TypeError):
            pass
        raise ResultsInvalid(
            f"{self._manifest} is damaged, or written by another version of nciihash. Name another "
            "folder."
        )

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        with atomic_write(self._manifest) as file:
            file.write(json.dumps(manifest, indent=1).encode() + b"\n")

    def _read_done(self, blocks: int) -> None:
        """Count the finished blocks, and delete temporary files that a crash has left."""
        for leftover in self._matches.glob(".*.tmp"):
            leftover.unlink()
        numbers = [int(path.stem) for path in self._matches.glob("*.parquet")]
        with ThreadPoolExecutor(_READERS) as pool:
            for number, counts in zip(numbers, pool.map(self._counts, numbers), strict=True):
                if counts is not None and number < blocks:
                    self.done.add(number)
                    self.totals.add(counts)

    def _counts(self, number: int) -> dict[str, Any] | None:
        """Return a block's counts; None if its file is damaged, so that it is scanned again."""
        import pyarrow as pa
        from pyarrow import parquet

        try:
            metadata = parquet.read_schema(self._matches / f"{number:08}.parquet").metadata
            counts: dict[str, Any] = json.loads(metadata[_META])
        except (pa.ArrowInvalid, KeyError, TypeError, ValueError):
            return None
        return counts


def _refusal_line(refusal: FileRefusal) -> dict[str, str]:
    """Return `name`, `code`, `reason`, and `file_bytes` if `name_fields` has it."""
    fields = name_fields(refusal.name)
    line = {"name": fields.pop("file"), "code": refusal.code, "reason": refusal.reason}
    return line | fields


def is_index_file(bank: Path) -> bool:
    """Whether a path is that of an index file rather than of a bank."""
    try:
        with bank.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except FileNotFoundError:
        return False  # opening it as a bank reports that it is missing
