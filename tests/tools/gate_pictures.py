"""Draw the pictures with which an administrator tests a gate, and write the hashes of their bank.

    python tests/tools/gate_pictures.py

Writes docs/gate/*.jpg and nciihash/gate/test_bank.json. A test checks that the gate decides about
each picture as its name says.
"""

import json
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nciihash.hashing.hasher import hash_file

ROOT: Final = Path(__file__).parents[2]
PICTURES: Final = ROOT / "docs" / "gate"
BANK: Final = ROOT / "nciihash" / "gate" / "test_bank.json"
SIZE: Final = (960, 720)
_QUALITY: Final = 85


def draw(seed: int, text: str) -> Image.Image:
    """Draw hills, a sky with clouds and some trees, and a text."""
    rng = np.random.default_rng(seed)
    sky = rng.integers(120, 240, (5, 7, 3), np.uint8)
    picture = Image.fromarray(sky).resize(SIZE, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    width, height = SIZE
    for layer in range(4):
        base = height * (0.4 + 0.13 * layer)
        waves = rng.uniform(0.5, 3.0, 4), rng.uniform(0, 6.3, 4), rng.uniform(10, 45, 4)
        x = np.arange(0, width + 8, 8)
        y = base + sum(
            size * np.sin(x / width * 6.3 * wave + phase)
            for wave, phase, size in zip(*waves, strict=True)
        )
        color = tuple(int(c) for c in rng.integers(20, 150, 3))
        pen.polygon(
            [(0, height), *zip(x.tolist(), y.tolist(), strict=True), (width, height)], color
        )
        for column in rng.integers(0, len(x), 6 + 4 * layer):
            left, top = float(x[column]), float(y[column])
            size = float(rng.uniform(12, 60))
            leaf = tuple(int(c) for c in rng.integers(10, 250, 3))
            pen.polygon([(left, top - 2 * size), (left - size, top), (left + size, top)], leaf)
            pen.ellipse((left - size / 3, top - size / 3, left + size / 3, top + size / 3), "white")
    # as in a photo, hardly any area is flat: windows need detail
    grain = rng.normal(0, 14, (height // 6, width // 6, 1))
    texture = Image.fromarray(np.clip(grain + 128, 0, 255).astype(np.uint8)[:, :, 0])
    light = np.asarray(texture.resize(SIZE, Image.Resampling.BICUBIC), np.float32)[:, :, None] - 128
    picture = Image.fromarray(np.clip(np.asarray(picture) + light, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    if text:
        pen.rectangle((0, height - 44, width, height), "white")
    pen.text((12, height - 38), text, "black", ImageFont.load_default(28))
    return picture


def main() -> None:
    """Write the pictures and the bank."""
    PICTURES.mkdir(exist_ok=True)
    bank = {}
    block = draw(1, "nciihash gate: a test picture to be blocked")
    block.save(PICTURES / "block.jpg", quality=_QUALITY)
    bank["test picture: block"] = PICTURES / "block.jpg"
    # of this one the bank has the whole, and an administrator uploads a part
    whole = PICTURES / "whole.jpg"
    draw(2, "").save(whole, quality=_QUALITY)
    bank["test picture: review"] = whole
    part = Image.open(whole).crop((0, 0, SIZE[0] * 3 // 5, SIZE[1]))
    pen = ImageDraw.Draw(part)
    pen.text((12, 8), "nciihash gate: to be reviewed", "black", ImageFont.load_default(24))
    part.save(PICTURES / "review.jpg", quality=_QUALITY)
    draw(3, "nciihash gate: a test picture to be cleared").save(
        PICTURES / "clear.jpg", quality=_QUALITY
    )
    data = (PICTURES / "clear.jpg").read_bytes()
    (PICTURES / "unreadable.jpg").write_bytes(data[: len(data) // 3])
    hashes = {
        name: [
            [hashed.signal.hex, hashed.quality, hashed.variant.value]
            for hashed in hash_file(path, variants="thorough").hashes
            if not hashed.plain
        ]
        for name, path in bank.items()
    }
    whole.unlink()
    BANK.write_text(json.dumps(hashes, indent=1) + "\n")


if __name__ == "__main__":
    main()
