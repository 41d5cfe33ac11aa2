"""Which bands stay, and what fewer bands cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rs_prune.errors import RsPruneError
from rs_prune.results.canvas import canvas, save, styled
from rs_prune.results.heatmap import Panel, heat_maps
from rs_prune.results.looks import GREY, Looks
from rs_prune.results.stats import ARM, dense, rows, summarise


class BandRanking:
    """Writes `bands_accuracy` and `bands_kept` (`.png` and `.svg`) for each data set and net that lost bands.

    The first shows test accuracy over the number of bands kept, each seed as a dot and their mean as a line; the second
    the share of an arm's runs, over all numbers of bands and all seeds, that keep a band: where one arm was run with
    many numbers of bands, that is its ranking.

    Args:
        width: Of the first figure, in inches.
        height: Of the first figure, in inches.
    """

    def __init__(self, *, width: float = 5.6, height: float = 3.6) -> None:
        self.width = width
        self.height = height

    def __call__(self, summary: pd.DataFrame, runs: pd.DataFrame, folder: Path) -> list[Path]:
        mine = runs[runs["kept_bands"] != ""]
        if mine.empty:
            raise RsPruneError(
                "figure.band_ranking: no run has lost bands; first do: rs-prune run granularity=bands budget=bands"
            )
        panels = list(mine.groupby(["dataset", "net"], sort=True))
        paths = []
        for (dataset, net), part in panels:
            name = f"-{dataset}-{net}" if len(panels) > 1 else ""
            part = part.assign(count=[len(names.split()) for names in part["kept_bands"]])
            paths += self._accuracy(part, f"{net} on {dataset}", folder / f"bands_accuracy{name}")
            paths += _kept(part, f"{net} on {dataset}", folder / f"bands_kept{name}")
        return paths

    def _accuracy(self, runs: pd.DataFrame, title: str, stem: Path) -> list[Path]:
        nets = dense(runs)
        looks = Looks(summarise(runs), nets)
        entries, columns = looks.legend(self.width)
        with styled(**{"axes.spines.right": False, "axes.spines.top": False}):
            figure = canvas(self.width, self.height)
            axis = figure.subplots()
            for net in rows(nets):
                line = looks.dense(net)["linestyle"]
                axis.axhline(100 * net["accuracy"], color=GREY, linewidth=0.7, linestyle=line, zorder=1)
            for _, arm in runs.groupby(list(ARM), dropna=False, sort=True):
                _draw(axis, arm, looks)
            axis.set_xticks(range(1, int(runs["count"].max()) + 1))
            axis.set_xlabel("bands kept")
            axis.set_ylabel("test accuracy (%)")
            axis.set_title(title, pad=6)
            axis.grid(axis="y", color="#d9d9d9", linewidth=0.6)
            axis.set_axisbelow(True)
            figure.legend(handles=entries, loc="outside lower center", ncols=columns, title=looks.title, frameon=False)
            return save(figure, stem)


def _draw(axis: Axes, arm: pd.DataFrame, looks: Looks) -> None:
    look = looks.arm(rows(arm)[0])
    mean = 100 * arm.groupby("count")["accuracy"].mean()
    plain = {key: value for key, value in look.items() if key not in ("elinewidth", "capsize")}
    axis.plot(mean.index, mean, **plain, zorder=3)
    axis.plot(arm["count"], 100 * arm["accuracy"], ".", color=look["color"], alpha=0.4, markersize=4, zorder=2)


def _kept(runs: pd.DataFrame, title: str, stem: Path) -> list[Path]:
    """Bands in the rows, those that stay longest on top; arms in the columns."""
    shares = shares_kept(runs)
    panel = Panel(
        values=shares.to_numpy(float),
        title=title,
        label="share of runs that keep the band",
        limits=(0.0, 1.0),
        digits=2,
    )
    return heat_maps([panel], stem, rows=list(shares.index), columns=list(shares.columns), y="band")


def shares_kept(runs: pd.DataFrame) -> pd.DataFrame:
    """Share of each arm's runs that keep a band: (bands, arms), the longest kept first."""
    found = {}
    for (attention, criterion), arm in runs.groupby(["attention", "criterion"], sort=True):
        kept = [set(names.split()) for names in arm["kept_bands"]]
        bands = dict.fromkeys(band for names in arm["dense_bands"] for band in names.split())
        found[f"{attention}/{criterion}"] = {band: float(np.mean([band in names for names in kept])) for band in bands}
    table = pd.DataFrame(found)
    return table.loc[table.mean(axis=1).sort_values(ascending=False, kind="stable").index]
