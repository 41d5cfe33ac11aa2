"""Draws multispectral scenes whose label lies in the brightness of a few bands alone.

The structures are those of procedural aerial scenes, of any kind, and say nothing of the label: each class is one
pattern of dark and bright over three informative bands. All other bands are dark or bright by chance, so that no
band by itself looks unlike another.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import product

import numpy as np
from numpy.typing import NDArray

from rs_prune.scenes import drawing

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A")
LEVELS = {"bright": 1.25, "dark": 0.75}  # factors of reflectance
SIGNATURES = tuple("_".join(levels) for levels in product(LEVELS, repeat=3))
"""The classes: the levels of the three informative bands, in the order of `BANDS`."""


def draw(
    label: str, rng: np.random.Generator, size: int, difficulty: float, informative: Collection[str]
) -> NDArray[np.uint16]:
    """Draw one scene of a class; (13, size, size), reflectance times 10,000.

    Args:
        label: One of `SIGNATURES`.
        rng: Decides all else.
        size: Side in pixels.
        difficulty: 0 to 2: of the structures, and how much the levels of a band vary.
        informative: The three bands whose levels are the class.
    """
    kind = drawing.CLASSES[rng.integers(len(drawing.CLASSES))]
    colours = drawing.draw(kind, rng, size, difficulty) / 255
    told = dict(zip((band for band in BANDS if band in informative), label.split("_"), strict=True))
    levels = np.array([LEVELS[told.get(band, tuple(LEVELS)[rng.integers(2)])] for band in BANDS])
    levels = levels * np.exp(0.05 * difficulty * rng.standard_normal(len(BANDS)))
    scene = np.stack([colours[place % 3] for place in range(len(BANDS))]) * levels[:, None, None]
    scene = scene + 0.01 * rng.standard_normal(scene.shape)
    return np.asarray(np.clip(np.rint(scene * 10_000), 0, 65_535), dtype=np.uint16)
