"""Drawn bodies and other smooth pictures: different seeds are different people and scenes.

Bodies are smooth shapes with few edges on a plain ground, of which photos contain few and which
resemble each other most. A figure is a tree of capsules, limbs with rounded ends whose radius
changes from one end to the other, and ellipsoids, shaded by one lamp and a little light from
everywhere, with a soft shadow on the ground.

A series shows one person several times with small changes, as photos of one evening do. Pictures
of one series are not strangers' pictures.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

GROUNDS: Final = ("plain", "gradient", "striped", "cloth", "corner")
SMOOTH: Final = ("sky", "horizon", "gradient", "blob", "sunset")

# Skin in linear light, from light to dark; the colours between neighbours are used as well.
_SKIN: Final = np.array(
    [
        (0.82, 0.60, 0.48),
        (0.70, 0.46, 0.34),
        (0.52, 0.31, 0.21),
        (0.32, 0.18, 0.11),
        (0.16, 0.09, 0.06),
    ],
    np.float32,
)
_HAIR: Final = np.array([(0.02, 0.015, 0.01), (0.10, 0.05, 0.02), (0.45, 0.30, 0.12)], np.float32)


@dataclass(frozen=True, slots=True)
class Capsule:
    """A limb: two ends (x, y), the radius at each, all in units of the picture's shorter side."""

    start: tuple[float, float]
    end: tuple[float, float]
    radii: tuple[float, float]
    depth: float
    hair: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that determines a picture of a person; angles in radians.

    Attributes:
        seed: of the ground's texture.
        size: height and width in pixels.
        ground: one of `GROUNDS`.
        tones: the ground's two colours, linear light.
        skin: linear light.
        hair: linear light.
        pose: angles of torso, head, arms, forearms, thighs and calves.
        build: lengths and radii of the same, relative to an average body's.
        middle: of the hips, (x, y) in units of the shorter side.
        scale: length of the torso in the same units.
        lamp: direction of the light, a unit vector (x, y, z).
        ambient: light from everywhere, 0 to 1.
        blur: standard deviation of the lens blur in pixels.
        noise: standard deviation of the noise, in levels of 255.
    """

    seed: int
    size: tuple[int, int]
    ground: str
    tones: tuple[tuple[float, float, float], tuple[float, float, float]]
    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    pose: tuple[float, ...]
    build: tuple[float, ...]
    middle: tuple[float, float]
    scale: float
    lamp: tuple[float, float, float]
    ambient: float
    blur: float
    noise: float


def person(seed: int, ground: str | None = None) -> Scene:
    """Return the scene of a person; another seed is another person, pose, light and ground.

    Args:
        seed: determines everything.
        ground: one of `GROUNDS`; any by default.
    """
    rng = np.random.default_rng((41, seed))
    size = [(288, 216), (216, 288), (256, 256), (300, 192)][rng.integers(4)]
    tone = rng.uniform(0, len(_SKIN) - 1)
    skin = _between(_SKIN, tone) * rng.uniform(0.85, 1.15, 3)
    hair = _between(_HAIR, rng.uniform(0, len(_HAIR) - 1))
    base = rng.uniform(0.03, 0.9) * rng.uniform(0.75, 1.0, 3)
    second = np.clip(base * rng.uniform(0.4, 1.6) + rng.normal(0, 0.04, 3), 0.01, 1)
    close = rng.random() < 0.5  # half show a part of the body only
    scale = rng.uniform(0.5, 1.1) if close else rng.uniform(0.25, 0.42)
    lying = rng.random() < 0.3
    torso = rng.normal(math.pi / 2 if lying else 0, 0.3) * rng.choice((-1, 1))
    pose = (torso, rng.normal(0, 0.3), *rng.normal(0, 0.7, 2), *rng.normal(0, 0.8, 2),
            *rng.normal(0, 0.35, 2), *rng.normal(0, 0.4, 2))  # fmt: skip
    light = np.array([rng.normal(0, 0.7), rng.normal(-0.5, 0.5), rng.uniform(0.3, 1.0)])
    light /= np.linalg.norm(light)
    spread = 0.35 if close else 0.15
    return Scene(
        seed=seed,
        size=size,
        ground=ground or GROUNDS[rng.integers(len(GROUNDS))],
        tones=(_triple(base), _triple(second)),
        skin=_triple(skin),
        hair=_triple(hair),
        pose=tuple(float(angle) for angle in pose),
        build=tuple(float(x) for x in rng.uniform(0.8, 1.25, 10)),
        middle=(
            float(0.5 + rng.uniform(-spread, spread)),
            float(0.55 + rng.uniform(-spread, spread)),
        ),
        scale=float(scale),
        lamp=_triple(light),
        ambient=float(rng.uniform(0.1, 0.5)),
        blur=float(rng.uniform(0.4, 1.5)),
        noise=float(rng.uniform(0.5, 4.0)),
    )


def series(seed: int, count: int, ground: str | None = None) -> list[Scene]:
    """Return scenes of one person with small changes: an arm moved, the light, the camera."""
    first = person(seed, ground)
    rng = np.random.default_rng((43, seed))
    scenes = [first]
    for _ in range(count - 1):
        lamp = np.array(first.lamp) + rng.normal(0, 0.12, 3)
        pose = np.array(first.pose) + rng.normal(0, 0.04, len(first.pose))
        moved = rng.integers(2, len(pose))
        pose[moved] += rng.normal(0, 0.4)
        scenes.append(
            replace(
                first,
                pose=tuple(float(angle) for angle in pose),
                lamp=_triple(lamp / np.linalg.norm(lamp)),
                ambient=first.ambient * float(rng.uniform(0.85, 1.15)),
                middle=(
                    first.middle[0] + float(rng.normal(0, 0.02)),
                    first.middle[1] + float(rng.normal(0, 0.02)),
                ),
            )
        )
    return scenes


def draw(scene: Scene) -> Pixels:
    """Return the picture of a scene, uint8 (h, w, 3)."""
    height, width = scene.size
    unit = min(scene.size)
    ground = _ground(scene)
    parts = _figure(scene)
    x, y = (
        axis.astype(np.float32) / unit for axis in np.meshgrid(np.arange(width), np.arange(height))
    )
    covered = np.zeros((height, width), np.float32)
    colour = np.zeros((height, width, 3), np.float32)
    nearest = np.full((height, width), -np.inf, np.float32)
    lamp = np.array(scene.lamp, np.float32)
    for part in parts:
        inside, normal, depth = _surface(part, x, y)
        light = scene.ambient + (1 - scene.ambient) * np.clip(normal @ lamp, 0, 1)
        shade = np.array(scene.hair if part.hair else scene.skin, np.float32) * light[..., None]
        front = inside & (depth > nearest)
        colour[front], nearest[front], covered[front] = shade[front], depth[front], 1.0
    # limbs merge into each other, as flesh does, and keep their own creases
    merged = cv2.GaussianBlur(colour, (0, 0), 0.012 * unit)
    weight = cv2.GaussianBlur(covered, (0, 0), 0.012 * unit)[..., None]
    colour = np.where(
        covered[..., None] > 0, 0.5 * colour + 0.5 * merged / np.maximum(weight, 0.05), 0
    )
    shift = np.array([[1, 0, -lamp[0] * 0.08 * unit], [0, 1, -lamp[1] * 0.08 * unit]], np.float32)
    shadow = cv2.warpAffine(covered, shift, (width, height))
    shadow = cv2.GaussianBlur(shadow, (0, 0), 0.04 * unit)
    ground = ground * (1 - 0.55 * (1 - scene.ambient) * shadow[..., None])
    alpha = cv2.GaussianBlur(covered, (0, 0), 0.8)[..., None]
    return _developed(ground * (1 - alpha) + colour * alpha, scene.blur, scene.noise, scene.seed)


def smooth(seed: int, kind: str | None = None) -> Pixels:
    """Return a smooth picture without a person, uint8 (h, w, 3): see `SMOOTH`."""
    rng = np.random.default_rng((47, seed))
    kind = kind or SMOOTH[rng.integers(len(SMOOTH))]
    height, width = [(216, 288), (288, 216), (240, 240)][rng.integers(3)]
    x, y = (
        a.astype(np.float32) / s
        for a, s in zip(
            np.meshgrid(np.arange(width), np.arange(height)), (width, height), strict=True
        )
    )
    low, high = (np.float32(rng.uniform(0.02, 0.9, 3)) for _ in range(2))
    angle = rng.uniform(0, 2 * math.pi)
    if kind == "blob":
        radius = rng.uniform(0.2, 0.42)
        around = np.arctan2(y - 0.5, x - 0.5)
        edge = radius * (
            1
            + sum(
                rng.normal(0, 0.12 / n) * np.cos(n * around + rng.uniform(0, 6.3))
                for n in range(1, 6)
            )
        )
        far = np.hypot(x - 0.5, y - 0.5)
        height_of = np.sqrt(np.clip(1 - (far / edge) ** 2, 0, 1))
        light = 0.3 + 0.7 * np.clip(
            height_of + 0.5 * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)), 0, 1
        )
        skin = light * (1 + 0.15 * _texture(rng, height, width, 0.03))
        image = np.where((far < edge)[..., None], high * skin[..., None], np.float32(0.002))
    elif kind in ("horizon", "sunset"):
        line = rng.uniform(0.25, 0.75) + rng.uniform(0, 0.03) * _texture(rng, 1, width, 0.1)[0]
        above = (y < line[None, :])[..., None]
        sky = (
            high * (0.5 + 0.5 * y[..., None])
            if kind == "horizon"
            else low + (high - low) * y[..., None] ** 2
        )
        land = (
            low
            * (0.5 + 0.5 * (1 - y[..., None]))
            * (1 + 0.1 * _texture(rng, height, width, 0.02)[..., None])
        )
        image = np.where(above, sky, land)
    else:
        ramp = np.cos(angle) * x + np.sin(angle) * y
        ramp = (ramp - ramp.min()) / np.ptp(ramp)
        image = low + (high - low) * ramp[..., None]
        if kind == "sky":
            clouds = np.clip(
                _texture(rng, height, width, rng.uniform(0.08, 0.3)) - rng.uniform(0, 1), 0, 1
            )
            image = image + (0.95 - image) * clouds[..., None] * 0.8
    return _developed(image.astype(np.float32), rng.uniform(0.3, 1.0), rng.uniform(0.3, 3.0), seed)


def _between(colours: Floats, position: float) -> NDArray[np.float64]:
    index = min(int(position), len(colours) - 2)
    return colours[index] + (colours[index + 1] - colours[index]) * (position - index)


def _triple(values: NDArray[np.floating]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _figure(scene: Scene) -> list[Capsule]:
    """Return the body of a scene, the hips first."""
    torso, head, *limbs = scene.pose
    build, size = scene.build, scene.scale

    def along(start: tuple[float, float], angle: float, length: float) -> tuple[float, float]:
        return start[0] + math.sin(angle) * length * size, start[1] - math.cos(
            angle
        ) * length * size

    def capsule(start: tuple[float, float], end: tuple[float, float], first: float, last: float,
                wide: float, depth: float, *, hair: bool = False) -> Capsule:  # fmt: skip
        return Capsule(start, end, (first * wide * size, last * wide * size), depth, hair)

    hips = scene.middle
    chest = along(hips, torso, 0.75 * build[0])
    neck = along(hips, torso, 1.02 * build[0])
    skull = along(neck, torso + head, 0.28)
    across = torso + math.pi / 2
    parts = [
        capsule(hips, chest, 0.25, 0.29, build[1], 0.02),
        capsule(along(hips, across, -0.12), along(hips, across, 0.12), 0.2, 0.2, build[2], 0.01),
        capsule(along(chest, across, -0.24), along(chest, across, 0.24), 0.13, 0.13, build[1],
                0.015),
        capsule(chest, skull, 0.1, 0.1, 1, 0.0),
        capsule(skull, along(skull, torso + head, 0.1), 0.17, 0.15, build[3] ** 0.3, 0.03),
        capsule(along(skull, torso + head, 0.1), along(skull, torso + head, 0.14), 0.2, 0.18,
                build[3] ** 0.3, 0.0, hair=True),
    ]  # fmt: skip
    for side, arm, forearm, thigh, calf in zip(
        (-1, 1), limbs[0:2], limbs[2:4], limbs[4:6], limbs[6:8], strict=True
    ):
        shoulder = along(chest, across, 0.29 * side * build[1])
        elbow = along(shoulder, torso + math.pi - side * (0.3 + abs(arm)), 0.55 * build[4])
        hand = along(elbow, torso + math.pi - side * (0.1 + arm + forearm), 0.5 * build[4])
        parts += [
            capsule(shoulder, elbow, 0.11, 0.085, build[5], 0.04 * side),
            capsule(elbow, hand, 0.085, 0.055, build[5], 0.06 * side),
            capsule(
                hand,
                along(hand, torso + math.pi - side * forearm, 0.08),
                0.06,
                0.05,
                1,
                0.06 * side,
            ),
        ]
        joint = along(hips, across, 0.14 * side)
        knee = along(joint, torso + math.pi - side * (0.1 + thigh), 0.85 * build[6])
        foot = along(knee, torso + math.pi - side * (thigh + calf), 0.8 * build[6])
        parts += [
            capsule(joint, knee, 0.18, 0.115, build[7], 0.03 * side),
            capsule(knee, foot, 0.115, 0.065, build[7], 0.02 * side),
        ]
    return parts


def _surface(part: Capsule, x: Floats, y: Floats) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Return where a capsule is seen, its normals (h, w, 3) and its height towards the camera."""
    (ax, ay), (bx, by) = part.start, part.end
    dx, dy = bx - ax, by - ay
    squared = max(dx * dx + dy * dy, 1e-9)
    share = np.clip(((x - ax) * dx + (y - ay) * dy) / squared, 0, 1)
    radius = part.radii[0] + (part.radii[1] - part.radii[0]) * share
    nx, ny = (x - ax - share * dx) / radius, (y - ay - share * dy) / radius
    flat = nx * nx + ny * ny
    nz = np.sqrt(np.clip(1 - flat, 0, 1))
    normal = np.stack([nx, ny, nz], axis=-1).astype(np.float32)
    return flat < 1, normal, (part.depth + radius * nz).astype(np.float32)


def _texture(rng: np.random.Generator, height: int, width: int, scale: float) -> Floats:
    """Return smooth noise of mean 0 and deviation 1; `scale` is relative to the longer side."""
    sigma = max(scale * max(height, width), 0.5)
    noise = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), sigma)
    return np.asarray((noise - noise.mean()) / max(float(noise.std()), 1e-6), np.float32)


def _ground(scene: Scene) -> Floats:
    """Return the ground of a scene in linear light, float32 (h, w, 3)."""
    rng = np.random.default_rng((53, scene.seed))
    height, width = scene.size
    first, second = (np.array(tone, np.float32) for tone in scene.tones)
    x, y = (
        a.astype(np.float32) / min(scene.size)
        for a in np.meshgrid(np.arange(width), np.arange(height))
    )
    angle = rng.uniform(0, math.pi)
    ramp = np.cos(angle) * x + np.sin(angle) * y
    patterns: dict[str, Callable[[], Floats]] = {
        "plain": lambda: np.zeros((height, width), np.float32),
        "gradient": lambda: ramp / max(float(ramp.max()), 1e-3),
        "striped": lambda: 0.5 + 0.5 * np.tanh(3 * np.sin(2 * math.pi * ramp * rng.uniform(4, 14))),
        "cloth": lambda: np.clip(0.5 + 0.25 * _folds(rng, height, width), 0, 1),
        "corner": lambda: (y > rng.uniform(0.5, 1.0)) * 0.7 + (x > rng.uniform(0.1, 1.2)) * 0.3,
    }
    share = np.asarray(patterns[scene.ground](), np.float32)[..., None]
    falloff = 1 - 0.3 * np.clip(np.hypot(x - rng.uniform(0, 1.2), y - rng.uniform(0, 1)), 0, 1.5)
    grain = 1 + 0.02 * _texture(rng, height, width, 0.004)
    return np.asarray((first + (second - first) * share) * (falloff * grain)[..., None], np.float32)


def _folds(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Return folds of cloth: smooth noise, stretched along one direction and rotated."""
    side = 2 * max(height, width)
    noise = rng.normal(0, 1, (side, side)).astype(np.float32)
    wide, long = rng.uniform(5, 16), rng.uniform(40, 120)
    folded = cv2.GaussianBlur(noise, (0, 0), sigmaX=wide, sigmaY=long)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(0, 180), 1)
    turned = cv2.warpAffine(folded, turn, (side, side))
    top, left = (side - height) // 2, (side - width) // 2
    folds = turned[top : top + height, left : left + width]
    return np.asarray((folds - folds.mean()) / folds.std(), np.float32)


def _developed(linear: Floats, blur: float, noise: float, seed: int) -> Pixels:
    """Return linear light as 8-bit sRGB levels, with lens blur and noise."""
    rng = np.random.default_rng((59, seed))
    seen = cv2.GaussianBlur(np.clip(linear, 0, 1).astype(np.float32), (0, 0), blur)
    levels = 255 * np.power(np.clip(seen, 0, 1), 1 / 2.2)
    return np.clip(np.rint(levels + rng.normal(0, noise, levels.shape)), 0, 255).astype(np.uint8)
