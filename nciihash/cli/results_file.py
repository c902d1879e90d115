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
from typing import Any, BinaryIO, Final, Self

from nciihash.durable import replacing
from nciihash.errors import ExtraMissing, ResultsInvalid

Line = Mapping[str, Any]

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
    rows: Callable[[Line], Iterable[Line]]


class Ledger:
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
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        if self._table and kind is None:
            self._make_table()
            self.lines_path.unlink()

    def add(self, line: Line) -> None:
        """Write the results of one file down; `line["file"]` is its name."""
        self.done.add(line["file"])
        text = json.dumps({"file": line["file"], **line})  # begins with `_START`
        self._file.write(text.encode() + b"\n")
        self._unflushed += 1
        if self._unflushed == _FLUSH:
            self._file.flush()
            self._unflushed = 0

    def _open(self) -> BinaryIO:
        """Open the lines, cut off what is no whole line, and go to the end."""
        file = self.lines_path.open("a+b")
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
                    writer.write_batch(batch)
            rows = self._rows()
            while part := list(islice(rows, _ROWS)):
                writer.write_table(pa.Table.from_pylist(part, schema))

    def _rows(self) -> Iterator[Line]:
        with self.lines_path.open("rb") as file:
            for line in file:
                yield from self._layout.rows(json.loads(line))


def _name(line: bytes, path: Path) -> str:
    try:
        return str(json.loads(line)["file"])
    except (ValueError, KeyError, TypeError) as error:
        raise _foreign(path) from error


def _files_of_table(path: Path) -> Iterator[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        for batch in parquet.ParquetFile(path).iter_batches(columns=["file"]):
            yield from batch.column("file").to_pylist()
    except (pa.ArrowException, KeyError) as error:
        raise _foreign(path) from error


def _foreign(path: Path) -> ResultsInvalid:
    return ResultsInvalid(
        f"{path} is there already and holds no such results. Name another file, or move it away."
    )
