"""A contact sheet: a few scenes of every class side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rs_prune.results.canvas import canvas, styled
from rs_prune.results.files import write

TRUE_COLOUR = (("red", "green", "blue"), ("B04", "B03", "B02"), ("B4", "B3", "B2"))
PERCENT = (2, 98)  # of the values shown: where the stretch begins and ends
SIDE, TITLE = 0.9, 0.28  # inches


def true_colour(bands: Sequence[str]) -> tuple[int, ...]:
    """Which bands are red, green and blue; without such names the first three, or the first one as grey."""
    for names in TRUE_COLOUR:
        if set(names) <= set(bands):
            return tuple(bands.index(name) for name in names)
    return (0, 1, 2) if len(bands) >= 3 else (0, 0, 0)


def stretch(scenes: Sequence[NDArray[np.generic]]) -> list[NDArray[np.uint8]]:
    """Brings (3, H, W) scenes to bytes: those of uint8 stay, others are stretched together, the same for each channel.

    One stretch for all keeps a dark class dark; one for each channel would turn colours.
    """
    if all(scene.dtype == np.uint8 for scene in scenes):
        return [np.asarray(scene, np.uint8) for scene in scenes]
    values = np.concatenate([np.ravel(scene[:, ::4, ::4]) for scene in scenes]).astype(np.float64)
    low, high = np.percentile(values[values != 0] if (values != 0).any() else values, PERCENT)
    span = max(float(high - low), 1e-12)
    return [np.clip((scene.astype(np.float64) - low) / span * 255, 0, 255).astype(np.uint8) for scene in scenes]


def contact_sheet(path: Path, rows: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]], title: str) -> Path:
    """Draws one row for every class, as a PNG.

    Args:
        path: Of the PNG.
        rows: Class and its (3, H, W) scenes; a class may have fewer than others, or none.
        title: What stands above.
    """
    columns = max(1, *(len(scenes) for _, scenes in rows))
    with styled():
        figure = canvas(columns * SIDE + 1.6, len(rows) * SIDE + 2 * TITLE)
        figure.suptitle(title, fontsize=9)
        axes = figure.subplots(len(rows), columns, squeeze=False)
        for line, (name, scenes) in zip(axes, rows, strict=True):
            for axis in line:
                axis.set_axis_off()
            line[0].text(-0.08, 0.5, name, transform=line[0].transAxes, ha="right", va="center")
            for axis, scene in zip(line, scenes, strict=False):
                axis.imshow(np.moveaxis(scene, 0, -1), interpolation="antialiased")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return write(path, buffer.getvalue())
