"""Figures that look alike and come out as the same bytes on every machine."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rs_prune.results.files import write

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "svg.hashsalt": "rs_prune",
    "svg.fonttype": "path",
    "text.parse_math": False,  # a name may hold dollars
}


@contextmanager
def styled(**further: Any) -> Iterator[None]:
    """Our style over matplotlib's defaults, whatever the user's own settings are, while inside.

    A letter that the font lacks is drawn as a box, without a warning.
    """
    defaults = {name: value for name, value in mpl.rcParamsDefault.items() if "backend" not in name}
    with mpl.rc_context({**defaults, **STYLE, **further}), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"Glyph \d+ .* missing from|Matplotlib currently does not support \w+ natively"
        )
        yield


def canvas(width: float, height: float) -> Figure:
    """An empty figure of that size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, stem: Path, dpi: int = 200) -> list[Path]:
    """Writes `<stem>.png` and `<stem>.svg`; without dates and versions in them."""
    paths = []
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
        paths.append(write(stem.with_name(f"{stem.name}.{kind}"), buffer.getvalue()))
    return paths
