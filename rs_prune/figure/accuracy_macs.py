"""Accuracy against what a net costs: one panel per data set and net, one line per arm."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Affine2DBase, ScaledTranslation

from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.results.canvas import canvas, save, styled
from rs_prune.results.looks import AXES, GREY, Looks
from rs_prune.results.stats import ARM, dense, rows

BANDS = 4  # in a panel of more arms than this bands would hide each other: error bars alone


class AccuracyMacs:
    """Writes `accuracy_macs.png` and `.svg`: mean test accuracy, with the 95 % t-interval from two seeds on.

    Args:
        x: `macs`, `params` or `latency_ms`; the files are named after it.
        log_x: Whether the x axis is logarithmic.
        columns: How many panels stand side by side.
        width: Of one panel, in inches.
        height: Of one panel, in inches.
        dpi: Of the PNG.
        fan: Points over which the arms are fanned out where there are error bars to tell apart; the
            default stays within a marker's width, 0 draws every arm at its exact cost.
    """

    def __init__(
        self,
        *,
        x: str = "macs",
        log_x: bool = False,
        columns: int = 3,
        width: float = 4.8,
        height: float = 3.4,
        dpi: int = 200,
        fan: float = 4.0,
    ) -> None:
        self.x = x
        self.log_x = log_x
        self.columns = columns
        self.width = width
        self.height = height
        self.dpi = dpi
        self.fan = fan

    def __call__(self, summary: pd.DataFrame, runs: pd.DataFrame, folder: Path) -> list[Path]:
        if self.x not in AXES:
            raise RsPruneError(f"figure.accuracy_macs.x={self.x}: choose from {', '.join(AXES)}")
        if summary[self.x].isna().all():
            raise DoesNotApply(
                f"figure.accuracy_macs.x={self.x}: no run has a value for it; choose from {', '.join(AXES)}"
            )
        with styled(**{"axes.spines.right": False}):
            return save(self._draw(summary, dense(runs)), folder / f"accuracy_{self.x}", self.dpi)

    def _draw(self, summary: pd.DataFrame, nets: pd.DataFrame) -> Figure:
        panels = list(summary.groupby(["dataset", "net"], sort=True))
        down = math.ceil(len(panels) / self.columns)
        across = math.ceil(len(panels) / down)
        looks = Looks(summary, nets)
        width = max(across * self.width, looks.least_width())
        entries, columns = looks.legend(width)
        legend = 0.17 * math.ceil(len(entries) / columns) + 0.35
        figure = canvas(width, down * self.height + legend)
        axes = list(figure.subplots(down, across, squeeze=False).flat)
        for axis, ((dataset, net), mine) in zip(axes, panels, strict=False):
            here = nets[(nets["dataset"] == dataset) & (nets["net"] == net)]
            self._panel(axis, mine, here, looks, figure.dpi_scale_trans)
            axis.set_title(f"{net} on {dataset}", pad=6)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        figure.legend(
            handles=entries,
            loc="outside lower center",
            ncols=columns,
            title=looks.title,
            frameon=False,
            handlelength=3,
            columnspacing=2.5,
        )
        return figure

    def _panel(self, axis: Axes, summary: pd.DataFrame, nets: pd.DataFrame, looks: Looks, inches: Affine2DBase) -> None:
        title, short, unit = AXES[self.x]
        for net in rows(nets):
            look = looks.dense(net)
            axis.axhline(100 * net["accuracy"], color=GREY, linewidth=0.7, linestyle=look["linestyle"], zorder=1)
            axis.errorbar(net[self.x] / unit, 100 * net["accuracy"], yerr=_half(net), **look, zorder=4)
        arms = list(summary.groupby(list(ARM), dropna=False, sort=True))
        fan = self.fan if summary["accuracy_low"].notna().any() and len(arms) > 1 else 0.0
        asides = np.linspace(-fan / 2, fan / 2, len(arms)) / 72
        for aside, (_, line) in zip(asides, arms, strict=True):
            arm = line.sort_values(self.x)
            look = looks.arm(rows(line)[0])
            x, y = arm[self.x] / unit, 100 * arm["accuracy"]
            low, high = 100 * arm["accuracy_low"], 100 * arm["accuracy_high"]
            bars = axis.errorbar(x, y, yerr=[y - low, high - y], **look, zorder=3)
            bars.lines[0].set_gid(f"arm: {arm['attention'].iloc[0]}, {look['label']}")
            drawn = list(bars.get_children())
            if len(arms) <= BANDS:
                shade = {"color": look["color"], "alpha": 0.12, "linewidth": 0, "zorder": 2}
                drawn.append(axis.fill_between(x, low, high, **shade))
            for artist in drawn:  # only now: they have set the limits of the axes
                artist.set_transform(axis.transData + ScaledTranslation(aside, 0, inches))
        _frame(axis, 100 * pd.concat([summary["accuracy"], nets["accuracy"]]))
        axis.minorticks_on()
        axis.set_xlabel(title)
        axis.set_ylabel("test accuracy (%)")
        if self.log_x:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
        else:
            axis.set_xlim(left=0)
        axis.grid(which="major", color="#d9d9d9", linewidth=0.6)
        axis.grid(which="minor", color="#efefef", linewidth=0.4)
        axis.set_axisbelow(True)
        full = nets.loc[nets[self.x] > 0, self.x].unique()
        if len(full) == 1 and not self.log_x:
            share = float(full[0]) / unit / 100
            top = axis.secondary_xaxis("top", functions=(_times(1 / share), _times(share)))
            top.set_xlabel(f"% of the dense net's {short}", labelpad=3)


def _frame(axis: Axes, means: pd.Series[float]) -> None:
    """Limits of the y axis, in percent: intervals of few seeds can be wider than all that is to be seen."""
    low, high = axis.get_ylim()
    span = max(float(means.max() - means.min()), 1.0)
    axis.set_ylim(max(low, float(means.min()) - span, 0.0), min(high, float(means.max()) + span, 100.5))


def _times(factor: float) -> Callable[[Any], Any]:
    return lambda x: x * factor


def _half(net: dict[str, Any]) -> float | None:
    half = float(net["accuracy_high"] - net["accuracy"])
    return None if np.isnan(half) else 100 * half
