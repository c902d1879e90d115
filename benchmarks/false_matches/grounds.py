"""Draw grounds: what pictures of different people have behind them, from stripes to skies.

Each function draws one kind of ground; another seed is another ground of that kind, seen at another
scale and angle, in other colours and light. They are the strangers that resemble each other most.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
_Field: TypeAlias = NDArray[np.floating]

_HEIGHT, _WIDTH = 336, 448


def draw(kind: str, seed: int) -> Pixels:
    """Return a ground, uint8 (336, 448, 3).

    Args:
        kind: one of `KINDS`.
        seed: chooses scale, angle, colours, light and noise.
    """
    rng = np.random.default_rng((seed, sorted(KINDS).index(kind)))
    field = KINDS[kind](rng)
    low, high = rng.uniform(0, 90, 3), rng.uniform(130, 255, 3)
    pixels = low + (high - low) * field[..., None]
    x, y = _axes(rng)
    light = 1 + rng.uniform(0, 0.35) * (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1))
    pixels = pixels * light[..., None] + rng.normal(0, rng.uniform(0, 4), pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _axes(rng: np.random.Generator, turn: float = 0.0) -> tuple[_Field, _Field]:
    """Return coordinates from -1 to 1, rotated by up to `turn` degrees."""
    y, x = np.mgrid[-1 : 1 : _HEIGHT * 1j, -1 : 1 : _WIDTH * 1j]
    angle = np.radians(rng.uniform(-turn, turn))
    aspect = _WIDTH / _HEIGHT
    x = x * aspect
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _noise(rng: np.random.Generator, scales: tuple[tuple[int, float], ...]) -> _Field:
    """Return noise of several sizes, 0 to 1: (cells along the height, weight)."""
    field = np.zeros((_HEIGHT, _WIDTH), np.float32)
    for cells, weight in scales:
        values = rng.random((cells, max(2, cells * _WIDTH // _HEIGHT)), np.float32)
        field += weight * cv2.resize(values, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_CUBIC)
    low, high = field.min(), field.max()
    return np.asarray((field - low) / (high - low))


def _stripes(rng: np.random.Generator) -> _Field:
    x, _ = _axes(rng, 90 if rng.random() < 0.5 else 4)
    wave = np.sin(np.pi * rng.uniform(3, 40) * x + rng.uniform(0, 6))
    return np.asarray(0.5 + 0.5 * np.tanh(wave * rng.uniform(1, 8)))


def _checks(rng: np.random.Generator) -> _Field:
    x, y = _axes(rng, 45 if rng.random() < 0.5 else 4)
    period = rng.uniform(3, 20)
    wave = np.sin(np.pi * period * x) * np.sin(np.pi * period * rng.uniform(0.8, 1.2) * y)
    return np.asarray(0.5 + 0.5 * np.tanh(wave * rng.uniform(1, 8)))


def _plaid(rng: np.random.Generator) -> _Field:
    x, y = _axes(rng, 6)
    periods = rng.uniform(2, 16, 4)
    bands = [np.sin(np.pi * p * a + rng.uniform(0, 6)) for p, a in zip(periods, (x, x, y, y))]
    return np.asarray(np.clip(0.5 + 0.2 * sum(np.sign(b) for b in bands), 0, 1))


def _bricks(rng: np.random.Generator) -> _Field:
    x, y = _axes(rng, 5)
    rows = rng.uniform(3, 14)
    row = np.floor(y * rows)
    column = x * rows / rng.uniform(2, 3) + 0.5 * (row % 2)
    joint = (np.abs(y * rows - row - 0.5) > 0.44) | (np.abs(column % 1 - 0.5) > 0.46)
    tone = np.random.default_rng(int(rng.integers(1 << 30))).random((64, 64))
    bricks = tone[row.astype(int) % 64, np.floor(column).astype(int) % 64]
    return np.where(joint, 0.95, 0.3 + 0.3 * bricks)


def _tiles(rng: np.random.Generator) -> _Field:
    x, y = _axes(rng, 8)
    period = rng.uniform(2, 10)
    joint = (np.abs(x * period % 1 - 0.5) > 0.47) | (np.abs(y * period % 1 - 0.5) > 0.47)
    return np.where(joint, 0.1, 0.8 + 0.1 * _noise(rng, ((6, 1.0),)))


def _cloth(rng: np.random.Generator) -> _Field:
    x, y = _axes(rng, 90)
    folds = _noise(rng, ((3, 1.0), (6, 0.5)))
    weave = 0.08 * np.sin(np.pi * 80 * x) * np.sin(np.pi * 80 * y)
    return np.asarray(np.clip(folds + weave, 0, 1))


def _folds(rng: np.random.Generator) -> _Field:
    x, y = _axes(rng, 15)
    bend = 0.15 * (_noise(rng, ((3, 1.0),)) - 0.5)
    folds = [np.sin(np.pi * rng.uniform(2, 12) * (x + bend * (1 + y)) + rng.uniform(0, 6))]
    folds.append(0.4 * np.sin(np.pi * rng.uniform(6, 24) * (x + bend)))
    field = folds[0] + folds[1]
    return np.asarray((field - field.min()) / (field.max() - field.min()))


def _wood(rng: np.random.Generator) -> _Field:
    x, y = _axes(rng, 90)
    bend = _noise(rng, ((2, 1.0), (4, 0.5)))
    rings = np.sin(np.pi * rng.uniform(6, 24) * (y + 0.25 * bend) + 0.5 * x)
    return np.asarray(0.5 + 0.3 * rings + 0.1 * (_noise(rng, ((80, 1.0),)) - 0.5))


def _clouds(rng: np.random.Generator) -> _Field:
    return _noise(rng, ((3, 1.0), (7, 0.6), (15, 0.4), (31, 0.2)))


def _horizon(rng: np.random.Generator) -> _Field:
    x, y = _axes(rng, 8)
    edge = y < rng.uniform(-0.5, 0.5)
    sky = 0.8 + 0.2 * _noise(rng, ((3, 1.0), (7, 0.5)))
    ground = 0.05 + 0.15 * _noise(rng, ((8, 1.0), (40, 1.0)))
    return np.where(edge, sky, ground + 0.02 * x)


def _waves(rng: np.random.Generator) -> _Field:
    _, y = _axes(rng, 3)
    depth = 1 / (1.15 + y)
    wave = np.sin(np.pi * rng.uniform(6, 20) * depth + 4 * _noise(rng, ((10, 1.0), (24, 0.5))))
    return np.asarray(0.5 + 0.4 * wave)


def _grass(rng: np.random.Generator) -> _Field:
    return _noise(rng, ((60, 1.0), (120, 1.0), (4, 0.3)))


def _bokeh(rng: np.random.Generator) -> _Field:
    field = np.zeros((_HEIGHT, _WIDTH), np.float32)
    for _ in range(int(rng.integers(15, 60))):
        centre = int(rng.integers(_WIDTH)), int(rng.integers(_HEIGHT))
        cv2.circle(field, centre, int(rng.integers(8, 40)), float(rng.uniform(0.2, 1)), -1)
    return np.asarray(cv2.GaussianBlur(field, (0, 0), 3))


def _blinds(rng: np.random.Generator) -> _Field:
    _, y = _axes(rng, 4)
    phase = y * rng.uniform(4, 22) % 1
    return np.asarray(np.where(phase < rng.uniform(0.2, 0.5), 0.1, 0.5 + 0.5 * phase))


def _text(rng: np.random.Generator) -> _Field:
    field = np.ones((_HEIGHT, _WIDTH), np.float32)
    step = int(rng.integers(12, 40))
    for top in range(step, _HEIGHT - step, step):
        left = int(0.05 * _WIDTH)
        while left < 0.9 * _WIDTH:
            width = int(rng.integers(1, 5)) * step // 3
            field[top : top + step // 2, left : left + width] = rng.uniform(0, 0.4)
            left += width + step // 3
    return field


KINDS: Final[dict[str, Callable[[np.random.Generator], _Field]]] = {
    "stripes": _stripes,
    "checks": _checks,
    "plaid": _plaid,
    "bricks": _bricks,
    "tiles": _tiles,
    "cloth": _cloth,
    "folds": _folds,
    "wood": _wood,
    "clouds": _clouds,
    "horizon": _horizon,
    "waves": _waves,
    "grass": _grass,
    "bokeh": _bokeh,
    "blinds": _blinds,
    "text": _text,
}
