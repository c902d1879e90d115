"""Tables and plots of the recall benchmark."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.reporting import pyplot, save
from benchmarks.recall.later_edits import LATER
from benchmarks.recall.measuring import BANKS, CAUSES, EDITS, LEVELS, QUERIES, Measured
from benchmarks.recall.photos import RADIUS
from benchmarks.recall.transformations import ALL, HELD_OUT

# Names of groups in the results, where they are keys and stay as they are, and what is shown.
_SHOWN: Final = {"saved again": "re-encoded", "mirror and turn": "mirrored and rotated"}
_MISSED: Final = 0.8  # edits of which less is found are listed as missed
_STANDARD: Final = BANKS.index("standard"), QUERIES.index("match")

_SIXTY: Final = range(len(ALL))
_HARD: Final = [i for i in _SIXTY if ALL[i].held_out]
_LATER: Final = range(len(ALL), len(EDITS))


def _group(*names: str, among: Sequence[int] = range(len(EDITS))) -> list[int]:
    return [i for i in among if EDITS[i].group in names]


# Groups of edits whose recall the table of levels has, each with the least that it should be.
GROUPS: Final[dict[str, tuple[Sequence[int], float | None]]] = {
    f"the {len(HELD_OUT)} held-out edits": (_HARD, 0.95),
    f"the first {len(ALL)} edits": (_SIXTY, 0.97),
    f"the {len(LATER)} later edits": (_LATER, 0.80),
    "collages and screens": (_group("screen", "collage"), 0.90),
    "crops of up to 30 % of one or two sides": (
        _group("crop of one side", "crop of two sides"),
        0.90,
    ),
    "crops of three or four sides": (_group("crop of three or four sides"), None),
    "stickers, words, hidden parts": (
        _group("text and stickers", "stickers and words", "hidden parts"),
        None,
    ),
}


def _percent(rate: float) -> str:
    return f"{100 * rate:.0f} %"


def sets(distances: NDArray[np.uint16]) -> tuple[str, dict[str, Any]]:
    """Return recall by set and query of the sixty edits, as Markdown and as values."""
    hit = (distances[:, : len(ALL)] <= RADIUS).mean(axis=0)  # (edits, banks, queries)
    heads = [f"{b}, {q}" for b in BANKS for q in QUERIES]
    lines = ["| | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    values: dict[str, Any] = {"edits": {}, "groups": {}}

    def row(name: str, rates: NDArray[np.floating]) -> dict[str, float]:
        flat = [float(r) for r in rates.ravel()]
        lines.append(f"| {name} | " + " | ".join(map(_percent, flat)) + " |")
        return {head: round(rate, 4) for head, rate in zip(heads, flat, strict=True)}

    for t, transformation in enumerate(ALL):
        group = transformation.group
        shown = f"{_SHOWN.get(group, group)}: {transformation.name}"
        key = f"{group}: {transformation.name}" + (
            " (held aside)" if transformation.held_out else ""
        )
        values["edits"][key] = row(
            shown + (" (held out)" if transformation.held_out else ""), hit[t]
        )
    for group in dict.fromkeys(t.group for t in ALL):
        members = _group(group, among=_SIXTY)
        values["groups"][group] = row(f"**{_SHOWN.get(group, group)}**", hit[members].mean(axis=0))
    values["held aside"] = row(f"**all {len(HELD_OUT)} held-out edits**", hit[_HARD].mean(axis=0))
    values["all"] = row(f"**all {len(ALL)} edits**", hit.mean(axis=0))
    return "\n".join(lines), values


def _by_level(measured: Measured) -> NDArray[np.bool_]:
    """Return what is found, bool (photos, edits, 1 + levels); the first column is today's."""
    today = measured.distances[:, :, *_STANDARD] <= RADIUS
    return np.concatenate((today[..., None], measured.found), axis=2)


def levels(measured: Measured) -> tuple[str, dict[str, Any]]:
    """Return recall by level of all edits and groups, as Markdown and as values."""
    hit = _by_level(measured)
    heads = ["standard, match", *(level.value for level in LEVELS)]
    lines = [
        "| | " + " | ".join(heads) + " | without review | in a million |",
        "| --- |" + " ---: |" * (len(heads) + 2),
    ]

    def row(name: str, members: Sequence[int]) -> dict[str, float]:
        rates = hit[:, members].mean(axis=(0, 1))
        sure = float(measured.sure[:, members, -1].mean())
        large = float(measured.large[:, members].mean())
        flat = [float(rate) for rate in rates]
        lines.append(f"| {name} | " + " | ".join(map(_percent, (*flat, sure, large))) + " |")
        return {
            **{head: round(rate, 4) for head, rate in zip(heads, flat, strict=True)},
            "without review": round(sure, 4),
            "in a million": round(large, 4),
        }

    values: dict[str, Any] = {"edits": {}, "groups": {}}
    for number, edit in enumerate(EDITS):
        name = f"{_SHOWN.get(edit.group, edit.group)}: {edit.name}"
        name += " (held out)" if number in _HARD else " (later)" if number in _LATER else ""
        values["edits"][name] = row(name, [number])
    for name, (members, _) in GROUPS.items():
        values["groups"][name] = row(f"**{name}**", members)
    return "\n".join(lines), values


def missed(measured: Measured) -> tuple[str, dict[str, Any]]:
    """Return the edits of which many copies are missed at `thorough`, and the causes."""
    found = measured.found[:, :, -1].mean(axis=0)
    few = [i for i in np.argsort(found, kind="stable") if found[i] < _MISSED]
    lines = ["| edit | found | most common cause |", "| --- | ---: | --- |"]
    values = {}
    for i in few:
        causes = Counter(measured.causes[:, i].tolist())
        del causes[-1]
        (most, count), *_ = causes.most_common(1)
        name = f"{_SHOWN.get(EDITS[i].group, EDITS[i].group)}: {EDITS[i].name}"
        of = sum(causes.values())
        lines.append(f"| {name} | {_percent(found[i])} | {CAUSES[most]} ({count} of {of}) |")
        values[name] = {
            "found": round(float(found[i]), 4),
            "causes": {CAUSES[cause]: n for cause, n in causes.most_common()},
        }
    if not few:
        lines = [f"Of each edit, at least {_percent(_MISSED)} of the copies are found."]
    causes = Counter(measured.causes[measured.causes >= 0].tolist())
    total = sum(causes.values())
    lines += [
        "",
        f"Causes of all {total:,} missed copies: "
        + "; ".join(f"{CAUSES[cause]}: {n:,}" for cause, n in causes.most_common())
        + ".",
    ]
    return "\n".join(lines), values


def strangers(measured: Measured, bank: int) -> tuple[str, dict[str, Any]]:
    """Return the false matches of each level, and how many there could have been."""
    photos = len(measured.found)
    pairs = photos * len(EDITS) * (bank - 1)
    lines = [
        "| level | pairs of a copy and another photo | false matches |",
        "| --- | ---: | ---: |",
    ]
    values: dict[str, Any] = {"pairs": pairs, "levels": {}, "matches": []}
    for level in LEVELS:
        false = [one for one in measured.false if one.level is level]
        lines.append(f"| {level} | {pairs:,} | {len(false)} |")
        values["levels"][level.value] = len(false)
    lines.append("")
    for one in measured.false:
        aligned = "" if one.aligned is None else f", aligned {one.aligned}"
        lines.append(
            f"- {one.level}: {one.edit} of {one.photo} matched {one.other}, {one.distance} bits"
            + aligned
        )
        values["matches"].append(
            {
                "level": one.level.value,
                "edit": one.edit,
                "photo": one.photo,
                "other": one.other,
                "distance": one.distance,
                "aligned": one.aligned,
            }
        )
    return "\n".join(lines), values


def interval(found: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the mean over photos and edits, and the half of its 95 % interval over photos."""
    by_photo = found.mean(axis=1)
    return float(by_photo.mean()), float(1.96 * by_photo.std() / len(by_photo) ** 0.5)


def bars(
    measured: Measured, false: dict[str, Any], most: int, cost: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return what was to be reached, what was, and whether it is enough.

    Args:
        measured: the copies.
        false: as `strangers` returns it.
        most: the largest number of hashes of a photo in the set `thorough`.
        cost: as `benchmarks.recall.cost.measure` returns it.
    """
    about = (
        f"With detail: of the {measured.detailed.sum()} photos of {len(measured.detailed)} whose "
        "own hash needs no review. Windows of the others are mostly too plain to match."
    )
    lines = [
        about,
        "",
        "| | least or most | measured | |",
        "| --- | ---: | ---: | --- |",
    ]
    values: dict[str, Any] = {}

    def row(name: str, wanted: str, shown: str, *, reached: bool) -> None:
        lines.append(f"| {name} | {wanted} | {shown} | {'reached' if reached else 'missed'} |")
        values[name] = {"wanted": wanted, "measured": shown, "reached": bool(reached)}

    for name, (members, least) in GROUPS.items():
        if least is not None:
            mean, half = interval(measured.large[:, members])
            detailed = measured.large[measured.detailed][:, members].mean()
            shown = f"{100 * mean:.1f} ± {100 * half:.1f} %; with detail {100 * detailed:.1f} %"
            row(
                f"found in a million, {name}", f">= {_percent(least)}", shown, reached=mean >= least
            )
    count = false["levels"]["thorough"]
    row(f"false matches of {false['pairs']:,} pairs", "0", str(count), reached=count == 0)
    stock = (measured.distances[:, : len(ALL), :, 0] <= RADIUS).mean(axis=(0, 1))
    standard, thorough = (float(stock[BANKS.index(bank)]) for bank in ("standard", "thorough"))
    row(
        "plain queries in the set thorough, the first 60 edits",
        f">= {100 * standard:.1f} % (standard)",
        f"{100 * thorough:.1f} %",
        reached=thorough >= standard,
    )
    row("hashes of a photo, thorough", "<= 42", str(most), reached=most <= 42)
    large = cost["12 megapixels"]
    decode = large["decode"]["Pillow, scaled"]
    for level in ("windows", "thorough"):
        ms = large[level]["with three alignments"]
        row(
            f"query {level}, 12 megapixels",
            f"<= {decode:.1f} ms (scaled decode)",
            f"{ms:.1f} ms, {ms / decode:.2f}x",
            reached=ms <= decode,
        )
    for level in ("windows", "thorough"):
        ms = cost["1 megapixel"][level]["with three alignments"]
        row(f"query {level}, 1 megapixel", "<= 25 ms", f"{ms:.1f} ms", reached=ms <= 25)
    exact = large["bank"]["exact hash of the file"]
    made = next(ms for name, ms in large["bank"].items() if name.startswith("thorough"))
    row(
        "set thorough, 12 megapixels",
        f"<= {exact:.1f} ms (exact hash)",
        f"{made:.1f} ms, {made / exact:.2f}x",
        reached=made <= exact,
    )
    return "\n".join(lines), values


def costs(cost: dict[str, Any]) -> str:
    """Return the times by part as Markdown."""
    lines = ["| | " + " | ".join(cost) + " |", "| --- |" + " ---: |" * len(cost)]
    first, *_ = cost.values()
    for part, times in first.items():
        for name in times:
            cells = [f"{_like(of[part], name):.1f} ms" for of in cost.values()]
            lines.append(f"| {part}: {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _like(times: dict[str, float], name: str) -> float:
    """Return the time of this name; its count of hashes may differ."""
    start = name.split(":")[0].split(",")[0]
    return next(ms for other, ms in times.items() if other == name or other.startswith(start))


def plot(measured: Measured, other: NDArray[np.int64], out: Path) -> None:
    """Plot recall by edit, recall by threshold, recall by level, and distances to other photos."""
    plt = pyplot()
    if plt is None:
        return
    own = measured.distances[:, : len(ALL)]
    hit = (own <= RADIUS).mean(axis=0)
    figure, axes = plt.subplots(figsize=(9, 14), layout="constrained")
    ys = np.arange(len(ALL))
    for k, bank in enumerate(BANKS):
        axes.barh(ys + 0.2 * (k - 1.5), 100 * hit[:, k, 1], 0.2, label=bank)
    axes.set_yticks(ys, [f"{t.name}{' *' if t.held_out else ''}" for t in ALL], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("copies found, %, query match (* held out)")
    axes.legend()
    save(figure, out / "recall-by-edit")

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for k, bank in enumerate(BANKS):
        for q, query in enumerate(QUERIES):
            found = [100 * (own[:, _HARD, k, q] <= r).mean() for r in range(81)]
            axes.plot(range(81), found, "-" if q else ":", color=f"C{k}", label=f"{bank}, {query}")
    axes.axvline(RADIUS, color="grey", lw=0.8)
    axes.set_xlabel("threshold, bits")
    axes.set_ylabel("copies of held-out edits found, %")
    axes.legend()
    save(figure, out / "recall-by-threshold")

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    same = np.bincount(own[:, :, *_STANDARD].ravel(), minlength=257)[:257]
    axes.semilogy(same / same.sum(), label="copies and their own photo, standard")
    axes.semilogy(other / max(other.sum(), 1), label="copies and other photos, full")
    axes.axvline(RADIUS, color="grey", lw=0.8)
    axes.set_xlabel("distance, bits")
    axes.set_ylabel("share of pairs")
    axes.legend()
    save(figure, out / "distances")

    plot_levels(_by_level(measured).mean(axis=0), plt, out)


def plot_levels(hit: NDArray[np.floating], plt: ModuleType, out: Path) -> None:
    """Plot recall by edit of today's query and of each level.

    Args:
        hit: the share of copies that are found, float (edits, 1 + levels); the first is today's.
        plt: Matplotlib's pyplot.
        out: the folder to write to.
    """
    figure, columns = plt.subplots(1, 2, figsize=(13, 12), layout="constrained")
    heads = ("today: standard, match", *(f"level {level}" for level in LEVELS))
    for axes, members in zip(columns, (_SIXTY, _LATER), strict=True):
        ys = np.arange(len(members))
        for k, head in enumerate(heads):
            axes.barh(ys + 0.2 * (k - 1.5), 100 * hit[members, k], 0.2, label=head)
        marks = [f"{EDITS[i].name}{' *' if i in _HARD else ''}" for i in members]
        axes.set_yticks(ys, marks, fontsize=7)
        axes.invert_yaxis()
        axes.margins(y=0.01)
        axes.set_title(f"the first {len(ALL)} (* held out)" if members is _SIXTY else "later edits")
        axes.set_xlabel("copies found, %")
    handles, labels = columns[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(heads))
    save(figure, out / "recall-by-level")
