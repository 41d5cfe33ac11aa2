"""Draws procedural aerial scenes at 10 m a pixel.

Covers fill a scene (`cropland`, `forest`, …), features lie on top of a cover (`highway`, `river`, `coast`). All
share their colours, light, haze and small distractors; structure alone tells the classes apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]

TONES = {  # reflectance: two ends of a range for each material
    "green": ((0.16, 0.23, 0.13), (0.38, 0.42, 0.25)),
    "dry": ((0.34, 0.33, 0.18), (0.58, 0.52, 0.33)),
    "soil": ((0.30, 0.24, 0.18), (0.58, 0.48, 0.37)),
    "paved": ((0.34, 0.34, 0.35), (0.60, 0.58, 0.55)),
    "roof": ((0.42, 0.24, 0.19), (0.72, 0.69, 0.66)),
    "water": ((0.07, 0.13, 0.17), (0.26, 0.29, 0.25)),
}


@dataclass(frozen=True)
class Pen:
    """The random numbers of one scene and its pixel coordinates, zero at the centre."""

    rng: np.random.Generator
    x: Array
    y: Array

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def turned(self, far: float = 99) -> tuple[Array, Array]:
        """Coordinates of a frame with a random direction; its origin lies up to `far` pixels away."""
        angle, du, dv = self.uniform(0, 2 * np.pi), self.uniform(0, far), self.uniform(0, far)
        cos, sin = np.cos(angle), np.sin(angle)
        return self.x * cos + self.y * sin + du, self.y * cos - self.x * sin + dv

    def noise(self, sigma: float) -> Array:
        """Smooth noise of zero mean and unit deviation; `sigma` is its grain in pixels."""
        raw = ndimage.gaussian_filter(self.rng.standard_normal(self.x.shape), sigma, mode="wrap", truncate=3)
        return np.asarray((raw - raw.mean()) / raw.std())

    def tone(self, *materials: str) -> Array:
        """One colour, (3, 1, 1), of a material drawn among those given."""
        low, high = np.array(TONES[materials[self.rng.integers(len(materials))]])
        colour = low + (high - low) * self.rng.random() + 0.025 * self.rng.standard_normal(3)
        return np.asarray(colour[:, None, None])


def edge(distance: Array) -> Array:
    """Coverage of a pixel by a shape, from its signed distance (positive inside)."""
    return np.clip(distance + 0.5, 0, 1)


def lay(below: Array, above: Array, cover: Array) -> Array:
    return below + (above - below) * cover


# ------------------------------------------------------------------------------------ covers


def meadow(pen: Pen) -> Array:
    """No class of its own: what lies around the others."""
    return pen.tone("green", "dry", "soil") * (1 + 0.07 * pen.noise(6) + 0.05 * pen.noise(1))


def cropland(pen: Pen) -> Array:
    """Parcels in strips, each with its own colour and its own rows."""
    u, v = pen.turned()
    strip = np.floor(u / pen.uniform(13, 24)).astype(int) % 64
    shift, length = pen.rng.uniform(0, 40, 64), pen.rng.uniform(14, 34, 64)
    parcel = (strip * 7 + np.floor((v + shift[strip]) / length[strip]).astype(int)) % 53
    angle = np.pi / 2 * pen.rng.integers(0, 2, 53) + 0.15 * pen.rng.standard_normal(53)
    angle, period = angle[parcel], pen.rng.uniform(3, 5.5, 53)[parcel]
    rows = np.sin(2 * np.pi * (u * np.cos(angle) + v * np.sin(angle)) / period)
    colours = np.concatenate([pen.tone("green", "dry", "soil") for _ in range(53)], axis=1)[:, parcel, 0]
    contrast = pen.rng.uniform(0.03, 0.16, 53)[parcel]
    return np.asarray(colours * (1 + contrast * rows + 0.03 * pen.noise(2)))


def forest(pen: Pen) -> Array:
    """Crowns of uneven size, lit from one side, with clearings."""
    clumps = pen.noise(pen.uniform(1.1, 1.9))
    light = ndimage.shift(clumps, pen.rng.uniform(-1.5, 1.5, 2), order=1, mode="wrap") - clumps
    canopy = pen.tone("green", "green", "dry") * (1 + 0.13 * clumps + 0.16 * light + 0.06 * pen.noise(6))
    return lay(canopy, meadow(pen), edge(2 * (pen.noise(4) - pen.uniform(1.4, 2.6))))


def orchard(pen: Pen) -> Array:
    """Trees at the corners of a regular lattice; a few are missing."""
    u, v = pen.turned()
    du, dv = pen.uniform(4.8, 6.6), pen.uniform(4.8, 6.6)
    i, j = np.floor(u / du).astype(int), np.floor(v / dv).astype(int)
    tree = pen.rng.random((32, 32)) > pen.uniform(0.02, 0.2)
    near = np.hypot(u - (i + 0.5) * du, v - (j + 0.5) * dv)
    cover = edge(pen.uniform(1.6, 2.3) - near) * tree[i % 32, j % 32] * pen.uniform(0.75, 1)
    ground = pen.tone("dry", "soil") * (1 + 0.06 * pen.noise(5) + 0.04 * pen.noise(1))
    return lay(ground, pen.tone("green") * (1 + 0.1 * pen.noise(1)), cover)


def boxes(pen: Pen, u: Array, v: Array, pitch: Array, side: Array, present: float) -> tuple[Array, Array]:
    """Coverage and colours of buildings, at most one in each cell of a grid; `side` gives (low, high)."""
    i, j = np.floor(u / pitch[0]).astype(int) % 32, np.floor(v / pitch[1]).astype(int) % 32
    half = pen.rng.uniform(side[0] / 2, side[1] / 2, (2, 32, 32))
    room = np.maximum(pitch[:, None, None] / 2 - half, 0)
    offset = pen.rng.uniform(-room, room)
    du = np.abs(u % pitch[0] - pitch[0] / 2 - offset[0][i, j]) - half[0][i, j]
    dv = np.abs(v % pitch[1] - pitch[1] / 2 - offset[1][i, j]) - half[1][i, j]
    cover = edge(-np.maximum(du, dv)) * (pen.rng.random((32, 32)) < present)[i, j]
    first, second = pen.tone("roof", "paved"), pen.tone("roof", "paved", "soil")
    blend = lay(first, second, pen.rng.random((32, 32)))
    ridge = 1 + 0.1 * np.where(u % pitch[0] - pitch[0] / 2 > offset[0][i, j], 1, -1)
    return cover, blend[:, i, j] * ridge


def residential(pen: Pen) -> Array:
    """Small roofs in gardens, in blocks between streets."""
    u, v = pen.turned()
    gardens = pen.tone("green", "dry", "soil") * (1 + 0.12 * pen.noise(1.2) + 0.06 * pen.noise(5))
    pitch = pen.rng.uniform(4.4, 6.2, 2)
    cover, roofs = boxes(pen, u, v, pitch, np.array([2.0, 3.8]), pen.uniform(0.7, 0.95))
    block = pitch * pen.rng.integers([2, 3], [4, 7])
    street = np.minimum(*(np.abs((w + b / 2) % b - b / 2) for w, b in zip((u, v), block, strict=True)))
    return lay(lay(gardens, roofs, cover), pen.tone("paved"), edge(0.8 - street))


def industrial(pen: Pen) -> Array:
    """Few large halls on paved aprons."""
    u, v = pen.turned()
    apron = lay(meadow(pen), pen.tone("paved"), edge(4 * (pen.noise(7) + pen.uniform(0, 1.5))))
    pitch = pen.rng.uniform(15, 24, 2)
    cover, roofs = boxes(pen, u, v, pitch, np.array([8.0, 18.0]), pen.uniform(0.7, 0.95))
    ribs = 1 + 0.05 * np.sin(2 * np.pi * u / pen.uniform(2.5, 5))
    return lay(apron * (1 + 0.04 * pen.noise(1)), roofs * ribs, cover)


# ---------------------------------------------------------------------------------- features


def band(pen: Pen, bend: float) -> Array:
    """Signed distance from a curve across the scene that swings by about `bend` pixels."""
    u, v = pen.turned(0)
    swing = np.sin(2 * np.pi * u / pen.uniform(38, 75) + pen.uniform(0, 6.3))
    ripple = np.sin(2 * np.pi * u / pen.uniform(18, 30) + pen.uniform(0, 6.3))
    return v - bend * swing - 0.3 * bend * ripple - pen.uniform(-14, 14)


def highway(pen: Pen, below: Array) -> Array:
    """One or two broad, even, nearly straight roads with a median strip."""
    for _ in range(pen.rng.integers(1, 3)):
        across, half = np.abs(band(pen, pen.uniform(0, 1.5))), pen.uniform(2.8, 4.2)
        road = pen.tone("paved") * 1.15 * (1 + 0.04 * pen.noise(1))
        verge = pen.uniform(1, 3)
        below = lay(below, pen.tone("soil", "dry", "green"), edge(half + verge - across) * 0.9)
        below = lay(below, road, edge(half - across))
        below = lay(below, pen.tone("green", "soil", "paved") * 0.8, edge(0.6 - across))
    return below


def river(pen: Pen, below: Array) -> Array:
    """A meandering band of water whose width changes."""
    across = np.abs(band(pen, pen.uniform(5, 10)))
    half = pen.uniform(3.5, 6) + 0.8 * pen.noise(6)
    below = lay(below, pen.tone("green", "soil"), edge(half + pen.uniform(0.5, 3) - across) * 0.9)
    return lay(below, pen.tone("water") * (1 + 0.03 * pen.noise(2)), edge(half - across))


def coast(pen: Pen, below: Array) -> Array:
    """Water on one side of an uneven shore."""
    into = band(pen, pen.uniform(1, 5)) + 1.5 * pen.noise(4)
    below = lay(below, pen.tone("soil", "dry"), edge(into + pen.uniform(0, 4)))
    return lay(below, pen.tone("water") * (1 + 0.03 * pen.noise(2)), edge(into))


# ------------------------------------------------------------------------- what all share


def houses(pen: Pen) -> tuple[Array, Array]:
    u, v = pen.turned()
    cover, roofs = boxes(pen, u, v, pen.rng.uniform(6, 16, 2), np.array([2.0, 7.0]), 0.4)
    return cover * edge(3 * (pen.noise(5) - 0.9)), roofs


DISTRACTORS: tuple[Callable[[Pen], tuple[Array, Array]], ...] = (
    houses,
    lambda pen: (edge(0.7 - np.abs(band(pen, pen.uniform(0, 2)))), pen.tone("paved", "soil")),  # a lane
    lambda pen: (edge(0.8 - np.abs(band(pen, pen.uniform(2, 7)))), pen.tone("water", "green")),  # a brook
    lambda pen: (edge(3 * (pen.noise(5) - pen.uniform(1.6, 2.4))), pen.tone("water")),  # a pond
    lambda pen: (edge(3 * (pen.noise(4) - 1.6)), pen.tone("green") * (1 + 0.15 * pen.noise(1.2))),  # a copse
)


def distract(pen: Pen, scene: Array) -> Array:
    """Small things that any class may show."""
    for distractor in DISTRACTORS:
        if pen.rng.random() < 0.15:
            cover, colour = distractor(pen)
            scene = lay(scene, colour, cover)
    return scene


def photograph(pen: Pen, scene: Array, difficulty: float) -> NDArray[np.uint8]:
    """Light, haze, blur and noise, then 8 bits."""
    gain = np.exp(0.2 * pen.rng.standard_normal() + 0.07 * pen.rng.standard_normal((3, 1, 1)))
    scene = scene * gain * (1 + 0.1 * difficulty * pen.noise(12))
    sky = np.array([0.55, 0.60, 0.66])[:, None, None] * pen.uniform(0.4, 1.1)
    scene = lay(scene, sky, np.asarray(pen.uniform(0, 0.3) * difficulty))
    sigma = pen.uniform(0.2, 0.3 + 0.3 * difficulty)
    scene = ndimage.gaussian_filter(scene, (0, sigma, sigma), truncate=3)
    scene = scene + pen.uniform(0.005, 0.02) * difficulty * pen.rng.standard_normal(scene.shape)
    return np.asarray(np.clip(np.rint(scene * 255), 0, 255), dtype=np.uint8)


COVERS: dict[str, Callable[[Pen], Array]] = {
    cover.__name__: cover for cover in (cropland, forest, industrial, orchard, residential)
}
FEATURES: dict[str, Callable[[Pen, Array], Array]] = {feature.__name__: feature for feature in (coast, highway, river)}
CLASSES = tuple(sorted([*COVERS, *FEATURES]))


def draw(label: str, rng: np.random.Generator, size: int, difficulty: float) -> NDArray[np.uint8]:
    """Draw one scene of a class; (3, size, size).

    Another cover may take up to 40 % of the scene (at difficulty 1); a feature lies on any cover.
    """
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    pen = Pen(rng, x, y)
    covers = [meadow, meadow, meadow, cropland, forest, orchard, *COVERS.values()]
    main = COVERS[label] if label in COVERS else covers[rng.integers(len(covers))]
    other = covers[rng.integers(len(covers))]
    scene, field = main(pen), pen.noise(size / 6)
    share = np.quantile(field, 1 - max(pen.uniform(-0.4, 0.4), 0) * difficulty)
    scene = distract(pen, lay(scene, other(pen), edge(4 * (field - share) - 0.5)))
    if label in FEATURES:
        scene = FEATURES[label](pen, scene)
    return photograph(pen, scene, difficulty)
