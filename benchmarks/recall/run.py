"""Measure which edited copies are found, and how near different pictures come.

    .venv/bin/python -m benchmarks.recall.run --photos FOLDER --hard FOLDER --out benchmarks/results

For each photo and each of the edits in `transformations.py`: is the copy within 31 bits of what a
case would hold (the plain hash, the standard set or the full set), looked for by its plain hash,
and by that and the trimmed one? Then every copy against every other photo: false matches, and the
closest distance. The sets were chosen on every second photo of a folder in the order of names, from
the first on; here the others are used, unless `--all` is given. Without a folder scikit-image's
photos serve, of which there are few.

It prints tables and writes `recall.md`, `recall.json` and plots.
"""

import os

# before NumPy is loaded: one core, as every device has
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

import argparse
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import folders
from benchmarks.common.reporting import save
from benchmarks.recall.transformations import ALL, HELD
from nciihash.hashing import jpeg
from nciihash.hashing.hasher import hash_image
from nciihash.hashing.variants import hash_variants
from nciihash.signals import Hashed

BANKS: Final = ("plain", "standard", "full")
QUERIES: Final = ("plain", "match")
RADIUS: Final = 31
# those that are in its wheel, and need not be fetched
_BUNDLED: Final = ("astronaut", "camera", "cat", "coffee", "rocket", "hubble_deep_field")

Hashes = NDArray[np.uint64]  # (n, 4)


def packed(hashes: Sequence[Hashed]) -> Hashes:
    """Pack the hashes that are fit to be used."""
    fit = [hashed.signal.value for hashed in hashes if not hashed.plain]
    return np.frombuffer(b"".join(fit), np.uint64).reshape(-1, 4)


def nearest(queries: Hashes, bank: Hashes) -> int:
    """Give the smallest distance, or 256 where there is nothing to compare."""
    if not len(queries) or not len(bank):
        return 256
    apart = np.bitwise_count(queries[:, None] ^ bank[None]).sum(axis=2)
    return int(apart.min())


def hash_set(rgb: NDArray[np.uint8], which: str) -> Hashes:
    """Hash a picture as `hash_file` does, from pixels."""
    own = hash_image(rgb)
    return packed((own,) if which == "plain" else hash_variants(rgb, own, which))


def load(folder: Path | None, side: int, *, every: bool) -> list[tuple[str, Image.Image]]:
    """Read the photos, small enough that the edits go fast, without the plain ones."""
    found = []
    if folder is None:
        from skimage import data

        sources = [(name, np.asarray(getattr(data, name)())) for name in _BUNDLED]
        files = [(n, Image.fromarray(p).convert("RGB")) for n, p in sources]
    else:
        whole = ((path.name, Image.fromarray(pixels)) for path, pixels in folders.pictures(folder))
        files = [one for number, one in enumerate(whole) if every or number % 2]
    for name, photo in files:
        photo.thumbnail((side, side), Image.Resampling.LANCZOS)
        if not hash_image(np.asarray(photo)).plain:
            found.append((name, photo))
    return found


def measure(photos: Sequence[tuple[str, Image.Image]]) -> tuple[dict, NDArray[np.uint16], list]:
    """Find the distances of every copy to its own photo, and to the others.

    Returns:
        Sets by name; own distances, (photos, edits, banks, queries); and for each photo the hashes
        that its copies are looked for by.
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
    """Count distances between the hashes of different pictures.

    Returns:
        A histogram, (257,); how many copies came within the radius of another picture's set; and
        the closest pair as distance, picture looked for, picture in the bank.
    """
    histogram = np.zeros(257, np.int64)
    false = 0
    closest = (257, -1, -1)
    for i, copies in enumerate(queries):
        parts = [copy for copy in copies if len(copy)]
        if not parts:
            continue
        flat = np.concatenate(parts)
        of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        for j, bank in enumerate(banks):
            if i == j or not len(bank):
                continue
            apart = np.bitwise_count(flat[:, None] ^ bank[None]).sum(axis=2)
            histogram += np.bincount(apart.ravel(), minlength=257)
            false += len(np.unique(of[(apart <= RADIUS).any(axis=1)]))
            closest = min(closest, (int(apart.min()), i, j))
    return histogram, false, closest


def table(own: NDArray[np.uint16]) -> tuple[str, dict]:
    """Write recall by edit, by group and in all as Markdown, and as values."""
    hit = (own <= RADIUS).mean(axis=0)  # (edits, banks, queries)
    heads = [f"{b}, {q}" for b in BANKS for q in QUERIES]
    lines = ["| | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    values: dict[str, dict] = {"edits": {}, "groups": {}}

    def row(name: str, rates: NDArray[np.floating]) -> dict[str, float]:
        flat = [float(r) for r in rates.ravel()]
        lines.append(f"| {name} | " + " | ".join(f"{100 * r:.0f} %" for r in flat) + " |")
        return {head: round(rate, 4) for head, rate in zip(heads, flat, strict=True)}

    for t, transformation in enumerate(ALL):
        star = " (held aside)" if transformation.held else ""
        name = f"{transformation.group}: {transformation.name}{star}"
        values["edits"][name] = row(name, hit[t])
    for group in dict.fromkeys(t.group for t in ALL):
        places = [i for i, t in enumerate(ALL) if t.group == group]
        values["groups"][group] = row(f"**{group}**", hit[places].mean(axis=0))
    held = [i for i, t in enumerate(ALL) if t.held]
    values["held aside"] = row(f"**the {len(HELD)} held aside**", hit[held].mean(axis=0))
    values["all"] = row(f"**all {len(ALL)}**", hit.mean(axis=0))
    return "\n".join(lines), values


def cost(photo: Image.Image) -> dict[str, float]:
    """Time sets of variants from a reduced decode against one fast hash, in ms of the processor."""
    big = np.asarray(photo.resize((4000, 3000), Image.Resampling.BICUBIC), np.float32)
    grain = np.random.default_rng(0).normal(0, 6, big.shape).astype(np.float32)
    out = io.BytesIO()
    Image.fromarray(np.clip(big + grain, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    data = out.getvalue()
    rgb = jpeg.decode_reduced(data, 500, 375)
    own = hash_image(rgb)

    def best(run: Callable[[], object]) -> float:
        times = []
        for _ in range(12):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
        return min(times) * 1000

    told = {"one fast hash, 12 megapixels": best(lambda: hash_image(data, fast=True))}
    for which in ("match", "standard", "full"):
        count = len(hash_variants(rgb, own, which)) - 1
        name = f"{which}, {count} hashes besides the own"
        told[name] = best(lambda which=which: hash_variants(rgb, own, which))
    return told


def hard_negatives(folder: Path) -> str:
    """Compare different pictures that look alike, folder by folder; a line of Markdown each."""
    lines = [
        "| pictures | fit | pairs | plain: within 31 bits, closest | standard, match: the same |",
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
            apart = [nearest(a[query], b[bank]) for a in sets for b in sets if a is not b]
            within = sum(d <= RADIUS for d in apart)
            cells.append(f"{within}, {min(apart, default=256)}")
        pairs = len(sets) * (len(sets) - 1)
        lines.append(f"| {kind.name} | {len(sets)} | {pairs} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def plot(own: NDArray[np.uint16], apart: NDArray[np.int64], out: Path) -> None:
    """Draw recall by edit, recall against the threshold, and distances to other pictures."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    hit = (own <= RADIUS).mean(axis=0)
    figure, axes = plt.subplots(figsize=(9, 14), layout="constrained")
    places = np.arange(len(ALL))
    for k, bank in enumerate(BANKS):
        axes.barh(places + 0.27 * (k - 1), 100 * hit[:, k, 1], 0.27, label=bank)
    axes.set_yticks(places, [f"{t.name}{' *' if t.held else ''}" for t in ALL], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("copies found, %, looked for with the trimmed hash too (* held aside)")
    axes.legend()
    save(figure, out / "recall-by-edit")

    held = [i for i, t in enumerate(ALL) if t.held]
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for k, bank in enumerate(BANKS):
        for q, query in enumerate(QUERIES):
            found = [100 * (own[:, held, k, q] <= r).mean() for r in range(81)]
            axes.plot(range(81), found, "-" if q else ":", color=f"C{k}", label=f"{bank}, {query}")
    axes.axvline(RADIUS, color="grey", lw=0.8)
    axes.set_xlabel("threshold, bits")
    axes.set_ylabel("of the edits held aside found, %")
    axes.legend()
    save(figure, out / "recall-by-threshold")

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    same = np.bincount(own[:, :, 1, 1].ravel(), minlength=257)[:257]
    axes.semilogy(same / same.sum(), label="copies to their own photo, standard")
    axes.semilogy(apart / max(apart.sum(), 1), label="copies to other photos, full")
    axes.axvline(RADIUS, color="grey", lw=0.8)
    axes.set_xlabel("distance, bits")
    axes.set_ylabel("share of pairs")
    axes.legend()
    save(figure, out / "distances")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, help="a folder of photos")
    parser.add_argument("--hard", type=Path, help="a folder of folders of pictures that look alike")
    parser.add_argument("--all", action="store_true", help="use the photos of the choice as well")
    parser.add_argument("--side", type=int, default=512, help="longer side of the photos, pixels")
    parser.add_argument("--most", type=int, default=10_000, help="how many photos at most")
    parser.add_argument("--out", type=Path, help="where to write results")
    asked = parser.parse_args()
    cv2.setNumThreads(1)

    photos = load(asked.photos, asked.side, every=asked.all)
    photos = photos[:: -(-len(photos) // asked.most)]
    banks, own, queries = measure(photos)
    recall, values = table(own)
    counts = {b: float(np.mean([len(s) for s in banks[b]])) for b in BANKS}
    parts = [
        f"# Recall on {len(photos)} photos of at most {asked.side} pixels\n",
        "Found within 31 bits; by what the bank holds, and by what is looked for.\n",
        recall,
        "\n## Hashes a photo, on average\n",
        "\n".join(f"- {bank}: {count:.1f}" for bank, count in counts.items()),
        "\n## Copies against other photos, looked for with the trimmed hash too\n",
    ]
    values |= {"photos": len(photos), "side": asked.side, "hashes": counts, "others": {}}
    histogram = np.zeros(257, np.int64)
    for bank in BANKS:
        histogram, false, (bits, i, j) = others(banks[bank], queries)
        pairs = int(histogram.sum())
        names = f"{photos[i][0]} and {photos[j][0]}" if i >= 0 else "none"
        parts.append(
            f"- {bank}: {pairs:,} pairs of hashes, {false} copies matched another photo, closest "
            f"{bits} bits ({names})"
        )
        values["others"][bank] = {"pairs": pairs, "false": false, "closest": bits}
    if asked.hard:
        parts += ["\n## Different pictures that look alike\n", hard_negatives(asked.hard)]
    times = cost(photos[0][1])
    fast = next(iter(times.values()))
    parts.append("\n## Cost, from one reduced decode\n")
    parts += [f"- {name}: {ms:.1f} ms, {ms / fast:.2f}x" for name, ms in times.items()]
    values["cost"] = times
    text = "\n".join(parts) + "\n"
    print(text)
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "recall.md").write_text(text, encoding="utf-8")
        (asked.out / "recall.json").write_text(
            json.dumps(values, indent=1) + "\n", encoding="utf-8"
        )
        plot(own, histogram, asked.out)


if __name__ == "__main__":
    main()
