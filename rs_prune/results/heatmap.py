"""Tables of numbers as pictures: colour and figure in every cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from rs_prune.results.canvas import canvas, save, styled

CELL, MARGIN = (0.42, 0.22), 1.5  # inches
LETTER = 0.07


class Panel:
    """One matrix of a figure.

    Args:
        values: (rows, columns); nan leaves a cell empty.
        title: What stands above it.
        label: What the colours mean.
        limits: The values at the ends of the colour scale.
        colours: A matplotlib colour map; `cividis` for amounts, `PuOr` for what has a sign.
        digits: Decimals in the cells.
    """

    def __init__(
        self,
        *,
        values: NDArray[np.float64],
        title: str,
        label: str,
        limits: tuple[float, float],
        colours: str = "cividis",
        digits: int = 1,
    ) -> None:
        self.values = values
        self.title = title
        self.label = label
        self.limits = limits
        self.colours = colours
        self.digits = digits


def heat_maps(
    panels: Sequence[Panel],
    stem: Path,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    x: str = "",
    y: str = "",
    title: str = "",
) -> list[Path]:
    """Draws matrices of the same rows and columns side by side, as `<stem>.png` and `<stem>.svg`.

    The same input gives the same bytes.

    Args:
        panels: The matrices.
        stem: Path of the files without their suffix.
        rows: Names of the rows; the first is on top.
        columns: Names of the columns.
        x: What the columns are.
        y: What the rows are.
        title: What stands above all.
    """
    upright = max(len(name) for name in columns) <= 6
    longest = max(len(name) for name in rows) * LETTER
    cells = CELL[0] * max(len(columns), 4)
    foot = 0.3 if upright else max(len(name) for name in columns) * LETTER
    size = (len(panels) * (cells + MARGIN) + longest, CELL[1] * len(rows) + foot + 1.1)
    with styled():
        figure = canvas(*size)
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axis, panel in zip(axes, panels, strict=True):
            _draw(axis, panel)
            axis.set_xticks(range(len(columns)), columns, rotation=0 if upright else 90)
            axis.set_xlabel(x)
        axes[0].set_yticks(range(len(rows)), rows)
        axes[0].set_ylabel(y)
        if title:
            figure.suptitle(title, fontsize=9)
        return save(figure, stem)


def _draw(axis: Axes, panel: Panel) -> None:
    low, high = panel.limits
    image = axis.imshow(panel.values, cmap=panel.colours, vmin=low, vmax=max(high, low + 1e-9), aspect="auto")
    for (row, column), value in np.ndenumerate(panel.values):
        if not np.isnan(value):
            red, green, blue, _ = image.to_rgba(np.array([value]))[0]
            bright = 0.299 * red + 0.587 * green + 0.114 * blue > 0.4
            text = f"{round(value, panel.digits) + 0.0:.{panel.digits}f}"  # no -0.00
            axis.text(column, row, text, ha="center", va="center", fontsize=6, color="black" if bright else "white")
    axis.set_title(panel.title, pad=6)
    axis.tick_params(length=0)
    axis.figure.colorbar(image, ax=axis, label=panel.label, shrink=min(1.0, 2.5 / (CELL[1] * len(panel.values))))
