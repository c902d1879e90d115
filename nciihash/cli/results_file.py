"""Results of many files, written to one file as they come, so that a run can be taken up again.

A `.jsonl` file has a line of JSON for each file, and is complete up to its last line at any moment;
what a crash left of a line is cut off at the next opening. A `.parquet` file cannot be read before
its end is written, so lines go to `NAME.parquet.jsonl` beside it, and it is made of them, in one
step, when the run is over; after an interruption the lines are there, and the next run adds to
them. The files that are named in either are not done again.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

from nciihash.cli.interrupts import held_off
from nciihash.durable import naming, replacing
from nciihash.errors import ExtraMissing, ResultsInvalid
from nciihash.media.reading import path_of

if TYPE_CHECKING:
    import pyarrow as pa

ResultLine = Mapping[str, Any]

_START: Final = b'{"file": "'  # of each line, by which a torn one is known
_FLUSH: Final = 64  # lines
_ROWS: Final = 50_000  # at a time


@dataclass(frozen=True, slots=True)
class Layout:
    """How lines become rows of a table.

    Attributes:
        columns: the name of each column and Arrow's name of its type.
        rows: gives the rows of a line, one for each hash or match.
    """

    columns: Mapping[str, str]
    rows: Callable[[ResultLine], Iterable[ResultLine]]


class ResultsFile:
    """A file of results; use it as a context manager.

    When the block ends without an exception, a table is made if one was asked for.

    Args:
        path: ends in `.jsonl` or `.parquet`.
        layout: of the table.

    Raises:
        ValueError: another ending.
        ExtraMissing: a table is asked for, and pyarrow is not there.
        ResultsInvalid: the file is there, and holds something else.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        if path.suffix not in {".jsonl", ".parquet"}:
            raise ValueError("Results go to a file that ends in .jsonl or .parquet.")
        self.path = path
        self._layout = layout
        self._table = path.suffix == ".parquet"
        if self._table and find_spec("pyarrow") is None:
            raise ExtraMissing(
                "Parquet files need pyarrow, which is not installed. Name a file that ends in "
                '.jsonl, or install it: pip install "nciihash[parquet]"'
            )
        self.lines_path = path.with_name(f"{path.name}.jsonl") if self._table else path
        self.done: set[str] = set()
        if self._table and path.exists():
            self.done.update(_files_of_table(path))
        self._file = self._open()
        self._unflushed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with naming(self.lines_path), self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        if self._table and kind is None:
            self._make_table()
            self.lines_path.unlink()

    def add(self, line: ResultLine) -> None:
        """Write the results of one file down; its name is in the fields of `name_fields`."""
        self.done.add(path_of(line))
        text = json.dumps({"file": line["file"], **line})  # begins with `_START`
        with naming(self.lines_path), held_off():
            self._file.write(text.encode() + b"\n")
            self._unflushed += 1
            if self._unflushed == _FLUSH:
                self._file.flush()
                self._unflushed = 0

    def _open(self) -> BinaryIO:
        """Open the lines, cut off what is no whole line, and go to the end."""
        # of mode 0600: hashes are to be kept as the pictures are
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        flags |= getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(self.lines_path, flags, 0o600), "a+b")
        try:
            file.truncate(self._read(file))
        except BaseException:
            file.close()
            raise
        return file

    def _read(self, file: BinaryIO) -> int:
        """Read which files are done; tell where the last whole line ends."""
        file.seek(0)
        end = 0
        for line in file:
            if line.endswith(b"\n"):
                self.done.add(_name(line, self.lines_path))
                end += len(line)
            elif not line.startswith(_START[: len(line)]):
                raise _foreign(self.lines_path)
        return end

    def _make_table(self) -> None:
        """Put the rows of the table that is there, and then those of all lines, into a new one."""
        import pyarrow as pa
        from pyarrow import parquet

        columns = self._layout.columns.items()
        schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns])
        with replacing(self.path) as file, parquet.ParquetWriter(file, schema) as writer:
            if self.path.exists():
                for batch in parquet.ParquetFile(self.path).iter_batches():
                    writer.write_batch(_with_columns(batch, schema))
            rows = self._rows()
            while part := list(islice(rows, _ROWS)):
                writer.write_table(pa.Table.from_pylist(part, schema))

    def _rows(self) -> Iterator[ResultLine]:
        with self.lines_path.open("rb") as file:
            for line in file:
                yield from self._layout.rows(json.loads(line))


def _name(line: bytes, path: Path) -> str:
    try:
        return path_of(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        raise _foreign(path) from error


def _files_of_table(path: Path) -> Iterator[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        names = ["file", "file_bytes"]  # of the latter an older version wrote no column
        for batch in parquet.ParquetFile(path).iter_batches(columns=names):
            yield from map(path_of, batch.to_pylist())
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise _foreign(path) from error


def _with_columns(batch: "pa.RecordBatch", schema: "pa.Schema") -> "pa.RecordBatch":
    """Add the columns that an older version did not write, without values."""
    import pyarrow as pa

    columns = [
        batch.column(field.name)
        if field.name in batch.schema.names
        else pa.nulls(len(batch), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _foreign(path: Path) -> ResultsInvalid:
    return ResultsInvalid(
        f"{path} is there already and holds no such results. Name another file, or move it away."
    )
