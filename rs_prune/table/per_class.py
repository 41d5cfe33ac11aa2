"""Which scene classes pruning hurts first: `per_class.md`, `.tex`; and `per_class.csv`, one row per run and class."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rs_prune.results.classes import drops, hurt_first, read
from rs_prune.results.curves import Crossing, said_crossing
from rs_prune.results.documents import documents, points, word
from rs_prune.results.show import NAMED, NAMES
from rs_prune.results.stats import varying


class PerClass:
    """Accuracy that each class loses, dense minus pruned net of the same seed, at every budget.

    Args:
        out: Where the records lie.
        runs: A runs.csv that is reported instead; `per_class.csv` is then read beside it.
        name: Of the files, without suffix.
    """

    def __init__(self, *, out: str, runs: str | None = None, name: str = "per_class") -> None:
        self.out = out
        self.runs = runs
        self.name = name

    def __call__(self, summary: pd.DataFrame, runs: pd.DataFrame, folder: Path) -> list[Path]:
        classes = read(self.out, self.runs)
        table = drops(runs, classes)
        first = hurt_first(table)
        shown = ["dataset", "net", "attention", "criterion", *varying(summary)]
        text = first[[*shown, "class"]].map(word)
        text["first point lost at MACs (%)"] = [
            said_crossing(Crossing(*row)) for row in first[["share", "sign", "left", "right"]].itertuples(index=False)
        ]
        for keep in sorted(table["keep"].unique(), reverse=True):
            text[f"lost at {keep:g} (points)"] = [points(*known.get(keep, (float("nan"),))) for known in first["drops"]]
        said = [
            "Test accuracy of a class that the dense net of the same seed has and the pruned net has not: mean and, "
            "from two seeds on that differ, 95 % t-interval; by the share of MACs that is kept. Not adjusted for their "
            "number.",
            "Each arm's classes in the order in which they lose their first point, on the way down from the dense net, "
            "interpolated between the measured shares in brackets. Arms without a dense net are left out.",
        ]
        left = [NAMES.get(name, name) for name in (*NAMED, "class")]
        data = classes[classes["digest"].isin(runs["digest"])]
        return documents(
            text.rename(columns=NAMES), data, folder / self.name, left=left, caption=said, label="tab:per_class"
        )
