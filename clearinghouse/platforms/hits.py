"""Choose which hits of a query a platform is told, and in which order.

Neither may depend on a distance within a band: whoever adds files at known distances from a query
could read another file's distance from its place among them, and from some 256 distances a hash.
So both follow from the band, the ids and the cases alone:

- Hits come by band, `strong` first, and within a band by their ids. These are row numbers encrypted
  under the platform's secret (`clearinghouse.sealing.platform_ids`), a pseudorandom function.
- A query is told of `FILES_MAX` files: those with a strong hit first; within a band one file of
  each case before a second of the same, so that no single case can crowd out others; then by id.
- Of each file it is told `SIGNALS_MAX` signals, and a whole request of `REPLY_MAX`.

Everything here works on arrays with a row a hit, sorted by query and then by distance, as
`nciihash.search.Index` gives them. A query that meets more than `_MANY` signals is first reduced to
those that can be among the chosen ones, in time linear in its hits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from clearinghouse.abuse.oracle import edges
from clearinghouse.sealing.platform_ids import PlatformIds
from nciihash.signals import SignalType

FILES_MAX: Final = 20  # a query
SIGNALS_MAX: Final = 8  # a file of a query
REPLY_MAX: Final = 40_000  # hits in one answer
_MANY: Final = 2048  # hits of a query that are sorted as they are
_FIRST: Final = 512  # hits that a larger query is reduced to at first, of each kind

_Ints = NDArray[np.int64]
_Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class NearSignals:
    """What some queries met: a row a hit, by query and then by distance.

    Attributes:
        query: int64 (n,), the query's place in its request.
        signal: int64 (n,), row numbers.
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
        """Count the hits."""
        return len(self.query)

    def take(self, rows: _Mask | NDArray[np.intp] | slice) -> Self:
        """Return some of the rows, in their order."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def strong(self, type: SignalType) -> _Mask:
        """Tell which hits are in the band `strong` (`nciihash.signals.band`)."""
        found: _Mask = self.distance * 2 <= type.threshold + 1
        return found

    def pairs(self) -> tuple[_Ints, _Ints, _Ints]:
        """Return each query and file once, with the file's least distance.

        Returns:
            Queries, files and distances, int64 (p,) each, by query.
        """
        # rows come by distance, and a stable sort keeps the nearest of a file first
        by = np.lexsort((self.item, self.query))
        first = _starts(self.query[by], self.item[by])
        rows = by[first]
        return self.query[rows], self.item[rows], self.distance[rows]


@dataclass(frozen=True, slots=True)
class ChosenHits:
    """Chosen hits of some queries, a row a hit; `cut` names queries that met more.

    Attributes:
        query: int64 (n,), ascending.
        signal: int64 (n,), row numbers.
        item: int64 (n,), row numbers.
        likely: bool (n,), whether the hit is in the band `likely`.
        turn: int64 (n,), in which order the hits of a query are kept where all cannot be.
        cut: int64 (c,), places of queries.
    """

    query: _Ints
    signal: _Ints
    item: _Ints
    likely: _Mask
    turn: _Ints
    cut: _Ints


def _starts(*keys: NDArray[np.generic]) -> _Mask:
    """Tell which rows differ from the one before in any of some sorted keys."""
    first = np.ones(len(keys[0]), dtype=np.bool_)
    if len(first) > 1:
        changes = [key[1:] != key[:-1] for key in keys]
        first[1:] = np.logical_or.reduce(changes)
    return first


def _ranks(first: _Mask) -> NDArray[np.intp]:
    """Count the rows of each run from 0, given where runs start."""
    places = np.arange(len(first))
    return places - np.maximum.accumulate(np.where(first, places, 0))


# --- reducing what a query met -----------------------------------------------------------------


def reduce(
    met: NearSignals, type: SignalType, names: PlatformIds
) -> tuple[NearSignals, NearSignals, _Ints]:
    """Separate what can be told from what is watched alone, and leave out what is neither.

    Args:
        met: what the queries met, to a few bits beyond the threshold
            (`clearinghouse.abuse.oracle.REACH`).
        type: of the queries.
        names: of the platform.

    Returns:
        The matches, or of a query with very many hits those of the files that it is told; all hits,
        or of such a query those and the first at an edge; and the queries of which matches were
        left out, int64 (c,).
    """
    tell = met.distance <= type.threshold
    watch = np.ones(len(met), dtype=np.bool_)
    starts = np.flatnonzero(_starts(met.query))
    ends = np.append(starts[1:], len(met))
    cut = []
    for run in np.flatnonzero(ends - starts > _MANY).tolist():
        rows = slice(int(starts[run]), int(ends[run]))
        part = met.take(rows)
        order = names.order(PlatformIds.ITEM, part.item)
        matching = int(np.count_nonzero(tell[rows]))  # they come first
        files = _files(part.take(slice(matching)), order[:matching], type)
        tell[rows] &= np.isin(part.item, files)
        watch[rows] = tell[rows]
        watch[rows][_smallest(order, np.flatnonzero(edges(type)[part.distance]), _FIRST)] = True
        if np.count_nonzero(tell[rows]) < matching:
            cut.append(int(part.query[0]))
    return met.take(tell), met.take(watch), np.array(cut, dtype=np.int64)


def _files(met: NearSignals, order: NDArray[np.uint64], type: SignalType) -> _Ints:
    """Return the files that one query is told."""
    strong = met.strong(type)
    rows = _first_files(order, met.case, np.flatnonzero(strong))
    near = np.unique(met.item[rows])
    if len(near) < FILES_MAX:  # then these are all of its files with a strong hit
        others = np.flatnonzero(~np.isin(met.item, near))
        rows = np.append(rows, _first_files(order, met.case, others))
    rows = rows[np.unique(met.item[rows], return_index=True)[1]]
    turns = _turns(met.query[rows], ~strong[rows], met.case[rows], order[rows])
    chosen: _Ints = met.item[rows][turns < FILES_MAX]
    return chosen


def _first_files(
    order: NDArray[np.uint64], cases: _Ints, rows: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return rows among which are the first files by case and id: a prefix by id that is enough.

    Once the prefix holds files of `FILES_MAX` cases, the first file of each of them is in it, and
    no other case's first file has a smaller id.
    """
    count = _FIRST
    while count < len(rows):
        chosen = _smallest(order, rows, count)
        if len(np.unique(cases[chosen])) >= FILES_MAX:
            return chosen
        count *= 8
    return rows


def _smallest(order: NDArray[np.uint64], rows: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Return the rows with the smallest ids, all rows of a file or none."""
    if len(rows) <= count:
        return rows
    values = order[rows]
    chosen: NDArray[np.intp] = rows[values <= np.partition(values, count - 1)[count - 1]]
    return chosen


# --- choosing ------------------------------------------------------------------------------------


def choose(met: NearSignals, type: SignalType, names: PlatformIds) -> ChosenHits:
    """Choose what each query is told.

    Args:
        met: what the queries met.
        type: of the queries.
        names: of the platform.
    """
    order = names.order(PlatformIds.ITEM, met.item)
    likely = ~met.strong(type)
    by = np.lexsort((likely, order, met.query))
    first = _starts(met.query[by], met.item[by])
    file_of = np.empty(len(met), dtype=np.int64)
    file_of[by] = np.cumsum(first) - 1
    file_rows = by[first]  # the nearest hit of each file of each query
    turns = _turns(met.query[file_rows], likely[file_rows], met.case[file_rows], order[file_rows])
    kept = np.flatnonzero((turns < FILES_MAX)[file_of])
    ids = names.order(PlatformIds.SIGNAL, met.signal[kept])
    by = np.lexsort((ids, likely[kept], file_of[kept]))
    files = file_of[kept][by]
    rank = _ranks(_starts(files))
    few = rank < SIGNALS_MAX
    rows, turn = kept[by][few], rank[few] * FILES_MAX + turns[files][few]
    cut = np.union1d(met.query[file_rows][turns >= FILES_MAX], met.query[kept][by][~few])
    last = np.lexsort((ids[by][few], order[rows], likely[rows], met.query[rows]))
    rows, turn = rows[last], turn[last]
    return ChosenHits(met.query[rows], met.signal[rows], met.item[rows], likely[rows], turn, cut)


def _turns(queries: _Ints, likely: _Mask, cases: _Ints, order: NDArray[np.uint64]) -> _Ints:
    """Return the place of each file among those of its query."""
    by = np.lexsort((order, cases, likely, queries))
    rank = np.empty(len(queries), dtype=np.int64)
    rank[by] = _ranks(_starts(queries[by], likely[by], cases[by]))
    by = np.lexsort((order, rank, likely, queries))
    turns = np.empty(len(queries), dtype=np.int64)
    turns[by] = _ranks(_starts(queries[by]))
    return turns


def together(parts: Sequence[ChosenHits]) -> ChosenHits:
    """Join what the queries of one request are told, cut to what an answer holds."""
    told = ChosenHits(
        *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(ChosenHits))
    )
    if len(told.query) <= REPLY_MAX:
        return told
    by = np.lexsort((told.turn, told.query))
    place = np.empty(len(by), dtype=np.int64)
    place[by] = _ranks(_starts(told.query[by]))
    # the largest number of hits a query that keeps the whole within its bound
    counts = np.cumsum(np.bincount(place))
    share = max(int(np.searchsorted(counts, REPLY_MAX, side="right")), 1)
    keep = place < share
    cut = np.union1d(told.cut, told.query[~keep])
    return ChosenHits(
        told.query[keep], told.signal[keep], told.item[keep], told.likely[keep],
        told.turn[keep], cut,
    )  # fmt: skip


def rows_by_query(told: ChosenHits) -> Iterator[tuple[int, int, int]]:
    """Give each query that is told something, with the start and end of its rows."""
    starts = np.flatnonzero(_starts(told.query))
    ends = np.append(starts[1:], len(told.query))
    yield from zip(told.query[starts].tolist(), starts.tolist(), ends.tolist(), strict=True)
