"""A file with the results of many files, written during the run, so that a run can be continued.

A `.jsonl` file has a line of JSON for each file, and is readable up to its last whole line at any
time; the next run truncates a line that a crash has torn. A `.parquet` file cannot be read before
its footer is written. So lines go to `NAME.parquet.jsonl` in the same folder, and the table is
written from them atomically at the end of the run. After an interruption the lines remain, and the
next run adds to them. Files that are named in either are skipped.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

import typer

from nciihash.cli.interrupts import deferred_interrupt
from nciihash.durable import atomic_write, filename_in_errors
from nciihash.errors import ExtraMissing, ResultsInvalid
from nciihash.media.reading import path_of

if TYPE_CHECKING:
    import pyarrow as pa

ResultLine = Mapping[str, Any]

_START: Final = b'{"file": "'  # start of each line, by which a torn one is recognised
_FLUSH: Final = 64  # lines between flushes
_ROWS: Final = 50_000  # rows in a batch


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a table, and how a line becomes rows of it.

    Attributes:
        columns: the name of each column, and Arrow's name for its type.
        rows: returns the rows of a line, one for each hash or match.
    """

    columns: Mapping[str, str]
    rows: Callable[[ResultLine], Iterable[ResultLine]]


class ResultsFile:
    """A file of results; a context manager.

    When the block ends without an exception, the table is written if the path ends in `.parquet`.

    Attributes:
        path: the file.
        lines_path: the file of JSON lines; the same one if no table is written.
        done: names of the files whose results are stored.

    Args:
        path: ends in `.jsonl` or `.parquet`.
        layout: of the table.

    Raises:
        ValueError: the path ends in something else.
        ExtraMissing: the path ends in `.parquet`, and pyarrow is not installed.
        ResultsInvalid: the file exists, and holds something else.
        OSError: the file cannot be read or written.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        if path.suffix not in {".jsonl", ".parquet"}:
            raise ValueError("Name a file for the results that ends in .jsonl or .parquet.")
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
        with filename_in_errors(self.lines_path), self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        if self._table and kind is None:
            self._write_table()
            self.lines_path.unlink()

    def add(self, line: ResultLine) -> None:
        """Write the results of one file, whose name is in the fields of `name_fields`."""
        self.done.add(path_of(line))
        text = json.dumps({"file": line["file"], **line})  # begins with `_START`
        with filename_in_errors(self.lines_path), deferred_interrupt():
            self._file.write(text.encode() + b"\n")
            self._unflushed += 1
            if self._unflushed == _FLUSH:
                self._file.flush()
                self._unflushed = 0

    def _open(self) -> BinaryIO:
        """Open the file of lines for appending, and truncate a torn line."""
        # mode 0600: hashes are as private as the pictures
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
        """Read which files are done; return the offset at which the last whole line ends."""
        file.seek(0)
        end = 0
        for line in file:
            if line.endswith(b"\n"):
                self.done.add(_name(line, self.lines_path))
                end += len(line)
            elif not line.startswith(_START[: len(line)]):
                raise _invalid(self.lines_path)
        return end

    def _write_table(self) -> None:
        """Write a new table with the rows of the existing one, if any, and those of all lines."""
        import pyarrow as pa
        from pyarrow import parquet

        columns = self._layout.columns.items()
        schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns])
        with atomic_write(self.path) as file, parquet.ParquetWriter(file, schema) as writer:
            if self.path.exists():
                for batch in parquet.ParquetFile(self.path).iter_batches():
                    writer.write_batch(_with_columns(batch, schema))
            rows = self._rows()
            while batch_rows := list(islice(rows, _ROWS)):
                writer.write_table(pa.Table.from_pylist(batch_rows, schema))

    def _rows(self) -> Iterator[ResultLine]:
        with self.lines_path.open("rb") as file:
            for line in file:
                yield from self._layout.rows(json.loads(line))


def open_results(path: Path | None, layout: Layout, stack: ExitStack) -> ResultsFile | None:
    """Open the file that `--out` names, if any, until the stack is closed.

    Raises:
        typer.BadParameter: its name has another ending.
        ExtraMissing, ResultsInvalid, OSError: as `ResultsFile` does.
    """
    if path is None:
        return None
    try:
        return stack.enter_context(ResultsFile(path, layout))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _name(line: bytes, path: Path) -> str:
    try:
        return path_of(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        raise _invalid(path) from error


def _files_of_table(path: Path) -> Iterator[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        names = ["file", "file_bytes"]  # older versions did not write the latter
        for batch in parquet.ParquetFile(path).iter_batches(columns=names):
            yield from map(path_of, batch.to_pylist())
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise _invalid(path) from error


def _with_columns(batch: "pa.RecordBatch", schema: "pa.Schema") -> "pa.RecordBatch":
    """Return the batch with null columns for those that an older version did not write."""
    import pyarrow as pa

    columns = [
        batch.column(field.name)
        if field.name in batch.schema.names
        else pa.nulls(len(batch), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _invalid(path: Path) -> ResultsInvalid:
    return ResultsInvalid(
        f"{path} exists already and holds something else. Name another file, or move it away."
    )
