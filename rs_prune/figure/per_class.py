"""What each scene class loses by pruning: one heat map per budget, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rs_prune.results.classes import ARM, drops, read
from rs_prune.results.heatmap import Panel, heat_maps
from rs_prune.results.stats import rows, varying


class PerClassMap:
    """Writes `per_class_<data set>_<net>.png` and `.svg`: classes down, arms across, the most hurt class on top.

    Args:
        out: Where the records lie.
        runs: A runs.csv that is reported instead; `per_class.csv` is then read beside it.
    """

    def __init__(self, *, out: str, runs: str | None = None) -> None:
        self.out = out
        self.runs = runs

    def __call__(self, summary: pd.DataFrame, runs: pd.DataFrame, folder: Path) -> list[Path]:
        table = drops(runs, read(self.out, self.runs))
        paths = []
        for (dataset, net), mine in table.groupby(["dataset", "net"], sort=True):
            named = ["criterion", *(["attention"] if mine["attention"].nunique() > 1 else []), *varying(mine)]
            paths += self._draw(mine, named, f"{net} on {dataset}", folder / f"per_class_{dataset}_{net}")
        return paths

    def _draw(self, table: pd.DataFrame, named: list[str], title: str, stem: Path) -> list[Path]:
        table = table.assign(arm=[self._label(row, named) for row in rows(table)])
        lost = 100 * table.pivot(index="class", columns=["keep", "arm"], values="drop")
        classes = list(lost.mean(axis=1).sort_values(ascending=False, kind="stable").index)
        arms = list(dict.fromkeys(table.sort_values(ARM, kind="stable")["arm"]))
        limit = float(np.nanmax(np.abs(lost.to_numpy(float))))
        panels = [
            Panel(
                values=lost[keep].reindex(index=classes, columns=arms).to_numpy(float),
                title=f"keep {keep:g}",
                label="lost test accuracy (points)",
                limits=(-limit, limit),
                colours="PuOr_r",
            )
            for keep in sorted(table["keep"].unique(), reverse=True)
        ]
        seeds = table["seeds"]
        count = f"{seeds.min()}" if seeds.nunique() == 1 else f"{seeds.min()} to {seeds.max()}"
        said = f"{title}: dense minus pruned net, mean over seeds ({count})"
        return heat_maps(panels, stem, rows=classes, columns=arms, x=", ".join(named), y="class", title=said)

    @staticmethod
    def _label(row: dict[str, Any], named: list[str]) -> str:
        return ", ".join(str(row[name]) for name in named if str(row[name]))
