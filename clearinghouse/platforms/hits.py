"""Select the hits of a query that are reported to a platform, and their order.

Neither may depend on a distance within a band. Otherwise an attacker who submits files at known
distances from a query could infer another file's distance from its rank among them, and a hash from
some 256 distances (hill climbing). So both depend on the band, the ids and the cases alone:

- Hits are ordered by band, `strong` first, then by id. Ids are row numbers encrypted under the
  platform's secret (`clearinghouse.sealing.platform_ids`), a pseudorandom function.
- At most `FILES_MAX` files per query: those with a strong hit first; within a band the first file
  of each case before the second of any, so that no single case crowds out the others; then by id.
- At most `SIGNALS_MAX` signals per file, and `REPLY_MAX` hits per reply.

All arrays have one row per hit, sorted by query and then by distance, as `nciihash.search.Index`
returns them. The hits of a query that has more than `_MANY` are first reduced, in linear time, to
those that can be among the selected ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from clearinghouse.abuse.oracle import edges
from clearinghouse.sealing.platform_ids import PlatformIds
from nciihash.signals import SignalType

FILES_MAX: Final = 20  # per query
SIGNALS_MAX: Final = 8  # per file and query
REPLY_MAX: Final = 40_000  # hits per reply
_MANY: Final = 2048  # hits of a query that are sorted without being reduced
_FIRST: Final = 512  # hits of each kind to which a larger query is reduced at first

_Ints = NDArray[np.int64]
_Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class NearSignals:
    """The signals near some queries: one row per hit, sorted by query and then by distance.

    Attributes:
        query: int64 (n,), index of the query in its request.
        signal: int64 (n,), row numbers of the signals.
        item: int64 (n,), row numbers of the signals' files.
        case: int64 (n,), row numbers of the files' cases.
        distance: int64 (n,), in bits.
    """

    query: _Ints
    signal: _Ints
    item: _Ints
    case: _Ints
    distance: _Ints

    def __len__(self) -> int:
        """Return the number of hits."""
        return len(self.query)

    def take(self, rows: _Mask | NDArray[np.intp] | slice) -> Self:
        """Return a selection of the rows."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def strong(self, type: SignalType) -> _Mask:
        """Return which hits are in the band `strong` (`nciihash.signals.band`), bool (n,)."""
        found: _Mask = self.distance * 2 <= type.threshold + 1
        return found

    def pairs(self) -> tuple[_Ints, _Ints, _Ints]:
        """Return each pair of query and file once, with the least distance of the file.

        Returns:
            Queries, files and distances, int64 (p,) each, sorted by query.
        """
        # rows are sorted by distance, and a stable sort keeps the nearest signal of a file first
        by = np.lexsort((self.item, self.query))
        first = _starts(self.query[by], self.item[by])
        rows = by[first]
        return self.query[rows], self.item[rows], self.distance[rows]


@dataclass(frozen=True, slots=True)
class ChosenHits:
    """The selected hits of some queries, one row per hit.

    Attributes:
        query: int64 (n,), ascending.
        signal: int64 (n,), row numbers.
        item: int64 (n,), row numbers.
        likely: bool (n,), whether the hit is in the band `likely`.
        rank: int64 (n,), rank of the hit within its query: the lowest are kept if a reply would be
            too long.
        cut: int64 (c,), indexes of the queries of which hits were omitted.
    """

    query: _Ints
    signal: _Ints
    item: _Ints
    likely: _Mask
    rank: _Ints
    cut: _Ints


def _starts(*keys: NDArray[np.generic]) -> _Mask:
    """Return which rows differ from the previous one in any of some sorted keys."""
    first = np.ones(len(keys[0]), dtype=np.bool_)
    if len(first) > 1:
        changes = [key[1:] != key[:-1] for key in keys]
        first[1:] = np.logical_or.reduce(changes)
    return first


def _ranks(first: _Mask) -> NDArray[np.intp]:
    """Return the position of each row in its run, from 0, given where runs start."""
    rows = np.arange(len(first))
    return rows - np.maximum.accumulate(np.where(first, rows, 0))


# --- reducing the hits of large queries --------------------------------------------------------


def reduce(
    near: NearSignals, type: SignalType, ids: PlatformIds
) -> tuple[NearSignals, NearSignals, _Ints]:
    """Split hits into those that may be reported and those that the oracle detector counts.

    Of a query with more than `_MANY` hits, both are reduced.

    Args:
        near: the signals near the queries, up to `clearinghouse.abuse.oracle.REACH` bits beyond
            the threshold.
        type: of the queries.
        ids: of the platform.

    Returns:
        The matches that may be reported; the hits to count, which include matches that are not
        reported and signals just beyond the threshold; and the queries of which matches were
        dropped, int64 (c,).
    """
    report = near.distance <= type.threshold
    count = np.ones(len(near), dtype=np.bool_)
    starts = np.flatnonzero(_starts(near.query))
    ends = np.append(starts[1:], len(near))
    cut = []
    for run in np.flatnonzero(ends - starts > _MANY).tolist():
        rows = slice(int(starts[run]), int(ends[run]))
        part = near.take(rows)
        order = ids.order(PlatformIds.ITEM, part.item)
        matching = int(np.count_nonzero(report[rows]))  # the first rows, since they are the nearest
        files = _files(part.take(slice(matching)), order[:matching], type)
        report[rows] &= np.isin(part.item, files)
        count[rows] = report[rows]
        count[rows][_smallest(order, np.flatnonzero(edges(type)[part.distance]), _FIRST)] = True
        if np.count_nonzero(report[rows]) < matching:
            cut.append(int(part.query[0]))
    return near.take(report), near.take(count), np.array(cut, dtype=np.int64)


def _files(matches: NearSignals, order: NDArray[np.uint64], type: SignalType) -> _Ints:
    """Return the files to report for a single query."""
    strong = matches.strong(type)
    rows = _first_files(order, matches.case, np.flatnonzero(strong))
    files = np.unique(matches.item[rows])
    if len(files) < FILES_MAX:  # these are all files with a strong hit
        others = np.flatnonzero(~np.isin(matches.item, files))
        rows = np.append(rows, _first_files(order, matches.case, others))
    rows = rows[np.unique(matches.item[rows], return_index=True)[1]]
    ranks = _file_ranks(matches.query[rows], ~strong[rows], matches.case[rows], order[rows])
    chosen: _Ints = matches.item[rows][ranks < FILES_MAX]
    return chosen


def _first_files(
    order: NDArray[np.uint64], cases: _Ints, rows: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return rows that include the first file, by id, of each of the first `FILES_MAX` cases.

    They are a prefix of the rows by id. Once the prefix has files of `FILES_MAX` cases, it has the
    first file of each, and no other case has a file with a smaller id.
    """
    count = _FIRST
    while count < len(rows):
        chosen = _smallest(order, rows, count)
        if len(np.unique(cases[chosen])) >= FILES_MAX:
            return chosen
        count *= 8
    return rows


def _smallest(order: NDArray[np.uint64], rows: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Return about `count` rows with the smallest ids: all rows of a file or none."""
    if len(rows) <= count:
        return rows
    values = order[rows]
    chosen: NDArray[np.intp] = rows[values <= np.partition(values, count - 1)[count - 1]]
    return chosen


# --- selecting -----------------------------------------------------------------------------------


def choose(matches: NearSignals, type: SignalType, ids: PlatformIds) -> ChosenHits:
    """Select the hits of each query to report.

    Args:
        matches: the signals within the threshold.
        type: of the queries.
        ids: of the platform.
    """
    order = ids.order(PlatformIds.ITEM, matches.item)
    likely = ~matches.strong(type)
    by = np.lexsort((likely, order, matches.query))
    first = _starts(matches.query[by], matches.item[by])
    file_of = np.empty(len(matches), dtype=np.int64)
    file_of[by] = np.cumsum(first) - 1
    file_rows = by[first]  # the nearest hit of each file of each query
    queries = matches.query[file_rows]
    ranks = _file_ranks(queries, likely[file_rows], matches.case[file_rows], order[file_rows])
    kept = np.flatnonzero((ranks < FILES_MAX)[file_of])
    signals = ids.order(PlatformIds.SIGNAL, matches.signal[kept])
    by = np.lexsort((signals, likely[kept], file_of[kept]))
    files = file_of[kept][by]
    in_file = _ranks(_starts(files))
    few = in_file < SIGNALS_MAX
    rows, rank = kept[by][few], in_file[few] * FILES_MAX + ranks[files][few]
    cut = np.union1d(queries[ranks >= FILES_MAX], matches.query[kept][by][~few])
    last = np.lexsort((signals[by][few], order[rows], likely[rows], matches.query[rows]))
    rows, rank = rows[last], rank[last]
    return ChosenHits(
        matches.query[rows], matches.signal[rows], matches.item[rows], likely[rows], rank, cut
    )


def _file_ranks(queries: _Ints, likely: _Mask, cases: _Ints, order: NDArray[np.uint64]) -> _Ints:
    """Return the rank of each file among those of its query."""
    by = np.lexsort((order, cases, likely, queries))
    in_case = np.empty(len(queries), dtype=np.int64)
    in_case[by] = _ranks(_starts(queries[by], likely[by], cases[by]))
    by = np.lexsort((order, in_case, likely, queries))
    ranks = np.empty(len(queries), dtype=np.int64)
    ranks[by] = _ranks(_starts(queries[by]))
    return ranks


def merge(parts: Sequence[ChosenHits]) -> ChosenHits:
    """Join the selected hits of a request's queries, reduced to at most `REPLY_MAX`."""
    hits = ChosenHits(
        *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(ChosenHits))
    )
    if len(hits.query) <= REPLY_MAX:
        return hits
    by = np.lexsort((hits.rank, hits.query))
    rank = np.empty(len(by), dtype=np.int64)
    rank[by] = _ranks(_starts(hits.query[by]))
    # the largest number of hits per query with which the total is within the limit
    counts = np.cumsum(np.bincount(rank))
    share = max(int(np.searchsorted(counts, REPLY_MAX, side="right")), 1)
    keep = rank < share
    cut = np.union1d(hits.cut, hits.query[~keep])
    return ChosenHits(
        hits.query[keep], hits.signal[keep], hits.item[keep], hits.likely[keep],
        hits.rank[keep], cut,
    )  # fmt: skip


def rows_by_query(hits: ChosenHits) -> Iterator[tuple[int, int, int]]:
    """Yield each query that has hits, with the start and the end of its rows."""
    starts = np.flatnonzero(_starts(hits.query))
    ends = np.append(starts[1:], len(hits.query))
    yield from zip(hits.query[starts].tolist(), starts.tolist(), ends.tolist(), strict=True)
