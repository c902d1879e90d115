"""Measure the recall of edited copies, and the distances between different pictures.

    .venv/bin/python -m benchmarks.recall.run --photos FOLDER --hard FOLDER --out benchmarks/results

Each photo is altered by each of the edits in `transformations.py`. A copy is found if it is within
31 bits of the hashes that a case would have (the plain hash, the standard set or the full set). The
query is the copy's plain hash, or that and the hash of the trimmed copy (`match`). Every copy is
also compared with every other photo, for false matches and the nearest distance. The sets were
selected on every second photo of the folder in the order of names, starting with the first; the
others are used here, unless `--all` is given. Without a folder, scikit-image's few photos are used.

Prints the tables, and writes `recall.md`, `recall.json` and plots.
"""

import os

# before NumPy is imported: one core
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

import argparse
import io
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import folders
from benchmarks.common.reporting import pyplot, save, write
from benchmarks.recall.transformations import ALL, HELD_OUT
from nciihash.hashing import jpeg
from nciihash.hashing.hasher import hash_image
from nciihash.hashing.variants import hash_variants
from nciihash.signals import Hashed

BANKS: Final = ("plain", "standard", "full")
QUERIES: Final = ("plain", "match")
RADIUS: Final = 31
# Names of groups in the results, where they are keys and stay as they are, and what is shown.
_SHOWN: Final = {"saved again": "re-encoded", "mirror and turn": "mirrored and rotated"}
# the photos in scikit-image's wheel, which need no download
_BUNDLED: Final = ("astronaut", "camera", "cat", "coffee", "rocket", "hubble_deep_field")

Hashes = NDArray[np.uint64]  # (n, 4)


def packed(hashes: Sequence[Hashed]) -> Hashes:
    """Pack the hashes that have enough detail."""
    fit = [hashed.signal.value for hashed in hashes if not hashed.plain]
    return np.frombuffer(b"".join(fit), np.uint64).reshape(-1, 4)


def nearest(queries: Hashes, bank: Hashes) -> int:
    """Return the smallest distance, or 256 if either side is empty."""
    if not len(queries) or not len(bank):
        return 256
    distances = np.bitwise_count(queries[:, None] ^ bank[None]).sum(axis=2)
    return int(distances.min())


def hash_set(rgb: NDArray[np.uint8], which: str) -> Hashes:
    """Hash pixels as `hash_file` hashes a file; `which` is a set of variants."""
    own = hash_image(rgb)
    return packed((own,) if which == "plain" else hash_variants(rgb, own, which))


def load(folder: Path | None, side: int, *, every: bool) -> list[tuple[str, Image.Image]]:
    """Read the photos, reduced for speed to `side` pixels, without the too plain ones."""
    found = []
    if folder is None:
        from skimage import data

        sources = [(name, np.asarray(getattr(data, name)())) for name in _BUNDLED]
        files = [(n, Image.fromarray(p).convert("RGB")) for n, p in sources]
    else:
        originals = (
            (path.name, Image.fromarray(pixels)) for path, pixels in folders.pictures(folder)
        )
        files = [one for number, one in enumerate(originals) if every or number % 2]
    for name, photo in files:
        photo.thumbnail((side, side), Image.Resampling.LANCZOS)
        if not hash_image(np.asarray(photo)).plain:
            found.append((name, photo))
    return found


def measure(photos: Sequence[tuple[str, Image.Image]]) -> tuple[dict, NDArray[np.uint16], list]:
    """Measure the distance of every copy to its own photo.

    Returns:
        Per name of a set, the hashes of each photo; the distances, uint16 (photos, edits, banks,
        queries); and for each photo the `match` queries of its copies.
    """
    banks = {b: [hash_set(np.asarray(photo), b) for _, photo in photos] for b in BANKS}
    own = np.full((len(photos), len(ALL), len(BANKS), len(QUERIES)), 256, np.uint16)
    queries: list[list[Hashes]] = []
    for i, (_, photo) in enumerate(photos):
        queries.append([])
        for t, transformation in enumerate(ALL):
            rgb = transformation.apply(photo)
            plain, match = hash_set(rgb, "plain"), hash_set(rgb, "match")
            queries[-1].append(match)
            for b, bank in enumerate(BANKS):
                for q, query in enumerate((plain, match)):
                    own[i, t, b, q] = nearest(query, banks[bank][i])
    return banks, own, queries


def others(
    banks: Sequence[Hashes], queries: Sequence[Sequence[Hashes]]
) -> tuple[NDArray[np.int64], int, tuple[int, int, int]]:
    """Compare the copies of each picture with the sets of all others.

    Returns:
        A histogram of distances, int64 (257,); the number of copies within the radius of another
        picture's set; and the nearest pair as distance, index of the query, index in the bank.
    """
    histogram = np.zeros(257, np.int64)
    false = 0
    nearest_pair = (257, -1, -1)
    for i, copies in enumerate(queries):
        parts = [copy for copy in copies if len(copy)]
        if not parts:
            continue
        flat = np.concatenate(parts)
        owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        for j, bank in enumerate(banks):
            if i == j or not len(bank):
                continue
            distances = np.bitwise_count(flat[:, None] ^ bank[None]).sum(axis=2)
            histogram += np.bincount(distances.ravel(), minlength=257)
            false += len(np.unique(owner[(distances <= RADIUS).any(axis=1)]))
            nearest_pair = min(nearest_pair, (int(distances.min()), i, j))
    return histogram, false, nearest_pair


def table(own: NDArray[np.uint16]) -> tuple[str, dict]:
    """Return recall by edit, by group and over all edits, as Markdown and as values."""
    hit = (own <= RADIUS).mean(axis=0)  # (edits, banks, queries)
    heads = [f"{b}, {q}" for b in BANKS for q in QUERIES]
    lines = ["| | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    values: dict[str, dict] = {"edits": {}, "groups": {}}

    def row(name: str, rates: NDArray[np.floating]) -> dict[str, float]:
        flat = [float(r) for r in rates.ravel()]
        lines.append(f"| {name} | " + " | ".join(f"{100 * r:.0f} %" for r in flat) + " |")
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
        members = [i for i, t in enumerate(ALL) if t.group == group]
        values["groups"][group] = row(f"**{_SHOWN.get(group, group)}**", hit[members].mean(axis=0))
    held_out = [i for i, t in enumerate(ALL) if t.held_out]
    values["held aside"] = row(
        f"**all {len(HELD_OUT)} held-out edits**", hit[held_out].mean(axis=0)
    )
    values["all"] = row(f"**all {len(ALL)} edits**", hit.mean(axis=0))
    return "\n".join(lines), values


def cost(photo: Image.Image) -> dict[str, float]:
    """Time the sets of variants from a reduced decode, and one fast hash: processor time in ms."""
    big = np.asarray(photo.resize((4000, 3000), Image.Resampling.BICUBIC), np.float32)
    grain = np.random.default_rng(0).normal(0, 6, big.shape).astype(np.float32)
    out = io.BytesIO()
    Image.fromarray(np.clip(big + grain, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    data = out.getvalue()
    rgb = jpeg.decode_reduced(data, 500, 375)
    own = hash_image(rgb)

    def best(run: Callable[[], object]) -> float:
        seconds = []
        for _ in range(12):
            start = time.process_time()
            run()
            seconds.append(time.process_time() - start)
        return min(seconds) * 1000

    times = {"one fast hash, 12 megapixels": best(lambda: hash_image(data, fast=True))}
    for which in ("match", "standard", "full"):
        count = len(hash_variants(rgb, own, which)) - 1
        name = f"{which}, {count} additional hashes"
        times[name] = best(partial(hash_variants, rgb, own, which))
    return times


def hard_negatives(folder: Path) -> str:
    """Compare different pictures that look alike; return a table with a row per subfolder."""
    lines = [
        (
            "| pictures | usable | pairs | plain, plain: within 31 bits, nearest "
            "| standard, match: within 31 bits, nearest |"
        ),
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for kind in sorted(p for p in folder.iterdir() if p.is_dir()):
        sets = [
            [hash_set(rgb, which) for which in ("plain", "standard", "match")]
            for _, rgb in folders.pictures(kind)
            if not hash_image(rgb).plain
        ]
        cells = []
        for bank, query in ((0, 0), (1, 2)):
            distances = [nearest(a[query], b[bank]) for a in sets for b in sets if a is not b]
            within = sum(d <= RADIUS for d in distances)
            cells.append(f"{within}, {min(distances, default=256)}")
        pairs = len(sets) * (len(sets) - 1)
        lines.append(f"| {kind.name} | {len(sets)} | {pairs} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def plot(own: NDArray[np.uint16], other: NDArray[np.int64], out: Path) -> None:
    """Plot recall by edit, recall by threshold, and distances to other pictures."""
    plt = pyplot()
    if plt is None:
        return
    hit = (own <= RADIUS).mean(axis=0)
    figure, axes = plt.subplots(figsize=(9, 14), layout="constrained")
    ys = np.arange(len(ALL))
    for k, bank in enumerate(BANKS):
        axes.barh(ys + 0.27 * (k - 1), 100 * hit[:, k, 1], 0.27, label=bank)
    axes.set_yticks(ys, [f"{t.name}{' *' if t.held_out else ''}" for t in ALL], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("copies found, %, query match (* held out)")
    axes.legend()
    save(figure, out / "recall-by-edit")

    held_out = [i for i, t in enumerate(ALL) if t.held_out]
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for k, bank in enumerate(BANKS):
        for q, query in enumerate(QUERIES):
            found = [100 * (own[:, held_out, k, q] <= r).mean() for r in range(81)]
            axes.plot(range(81), found, "-" if q else ":", color=f"C{k}", label=f"{bank}, {query}")
    axes.axvline(RADIUS, color="grey", lw=0.8)
    axes.set_xlabel("threshold, bits")
    axes.set_ylabel("copies of held-out edits found, %")
    axes.legend()
    save(figure, out / "recall-by-threshold")

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    same = np.bincount(own[:, :, 1, 1].ravel(), minlength=257)[:257]
    axes.semilogy(same / same.sum(), label="copies and their own photo, standard")
    axes.semilogy(other / max(other.sum(), 1), label="copies and other photos, full")
    axes.axvline(RADIUS, color="grey", lw=0.8)
    axes.set_xlabel("distance, bits")
    axes.set_ylabel("share of pairs")
    axes.legend()
    save(figure, out / "distances")


def main() -> None:
    """Run the benchmark, print and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, help="a folder of photos")
    parser.add_argument("--hard", type=Path, help="a folder of folders of pictures that look alike")
    parser.add_argument(
        "--all", action="store_true", help="also use the photos that the sets were selected on"
    )
    parser.add_argument("--side", type=int, default=512, help="longer side of the photos, pixels")
    parser.add_argument("--most", type=int, default=10_000, help="maximum number of photos")
    parser.add_argument("--out", type=Path, help="where to write results")
    options = parser.parse_args()
    cv2.setNumThreads(1)

    photos = load(options.photos, options.side, every=options.all)
    photos = photos[:: -(-len(photos) // options.most)]
    banks, own, queries = measure(photos)
    recall, values = table(own)
    counts = {b: float(np.mean([len(s) for s in banks[b]])) for b in BANKS}
    parts = [
        f"# Recall on {len(photos)} photos of at most {options.side} pixels\n",
        (
            "Share of the copies that are found within 31 bits. Columns: set of hashes in the "
            "bank, query (`match`: also the hash of the trimmed copy). Held-out edits were not "
            "used to select the sets.\n"
        ),
        recall,
        "\n## Mean number of hashes per photo\n",
        "\n".join(f"- {bank}: {count:.1f}" for bank, count in counts.items()),
        "\n## Copies compared with other photos, query `match`\n",
    ]
    values |= {"photos": len(photos), "side": options.side, "hashes": counts, "others": {}}
    histogram = np.zeros(257, np.int64)
    for bank in BANKS:
        histogram, false, (bits, i, j) = others(banks[bank], queries)
        pairs = int(histogram.sum())
        names = f"{photos[i][0]} and {photos[j][0]}" if i >= 0 else "none"
        parts.append(
            f"- {bank}: {pairs:,} pairs of hashes, {false} copies matched another photo, nearest "
            f"{bits} bits ({names})"
        )
        values["others"][bank] = {"pairs": pairs, "false": false, "closest": bits}
    if options.hard:
        parts += ["\n## Different pictures that look alike\n", hard_negatives(options.hard)]
    times = cost(photos[0][1])
    fast = next(iter(times.values()))
    parts.append("\n## Processor time to compute the sets from one reduced decode\n")
    parts += [f"- {name}: {ms:.1f} ms, {ms / fast:.2f}x" for name, ms in times.items()]
    values["cost"] = times
    text = "\n".join(parts) + "\n"
    print(text)
    if options.out:
        write(options.out / "recall", values, text)
        plot(own, histogram, options.out)


if __name__ == "__main__":
    main()
