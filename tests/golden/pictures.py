"""Pictures made by integer arithmetic alone, so that they are the same on every machine."""

import numpy as np
from numpy.typing import NDArray


def waves(height: int, width: int) -> NDArray[np.uint8]:
    """Overlay triangle waves, slow ones strong and quick ones weak, different in each channel."""
    y, x = np.mgrid[:height, :width]
    total = np.zeros((height, width, 3), np.int64)
    for n, (down, right, strength) in enumerate(
        ((3, 5, 90), (7, 2, 60), (11, 13, 40), (5, 17, 30), (19, 7, 20), (23, 29, 15))
    ):
        for channel in range(3):
            phase = (y * down * 997) // height + (x * right * 997) // width + 131 * n * channel
            total[..., channel] += abs(phase % 1994 - 997) * strength // 997
    return np.clip(total, 0, 255).astype(np.uint8)


def blocks(height: int, width: int) -> NDArray[np.uint8]:
    """Tile about 12 x 9 squares of colours that a multiplicative hash picks."""
    y, x = np.mgrid[:height, :width]
    cell = (y * 9 // height) * 12 + x * 12 // width
    channels = [(cell * 2654435761 + 40503 * c) // 4096 % 256 for c in (1, 2, 3)]
    return np.stack(channels, axis=2).astype(np.uint8)


def rings(height: int, width: int) -> NDArray[np.uint8]:
    """Draw rings about a point off the centre, finer outwards."""
    y, x = np.mgrid[:height, :width]
    y, x = y * 240 // height - 70, x * 320 // width - 190
    square = x * x + 2 * y * y + x * y
    return np.stack([square // d % 256 for d in (31, 47, 59)], axis=2).astype(np.uint8)


def haze(height: int, width: int) -> NDArray[np.uint8]:
    """Give waves in a third of the contrast: quality in the middle of its range."""
    return (waves(height, width) // 3 + 96).astype(np.uint8)


KINDS = {"waves": waves, "blocks": blocks, "rings": rings, "haze": haze}
