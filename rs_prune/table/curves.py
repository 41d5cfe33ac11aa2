"""What the whole accuracy-MACs curve of each arm says: `curves.md`, `curves.tex`, `curves.csv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.results.curves import AT_LOSS, Crossing, curves, said_crossing
from rs_prune.results.documents import documents, p_value, percent, points, word
from rs_prune.results.paired import parse
from rs_prune.results.show import NAMED, NAMES
from rs_prune.results.stats import varying

KEY = "table.curves.baseline"
HEADINGS = {
    **NAMES,
    "against": "baseline differs in",
    "range": "MACs from, to (%)",
    "area": "mean accuracy over the range (%) [95 %]",
    "difference": "difference (points) [95 %]",
    "p_holm": "p (Holm)",
}


class Curves:
    """Area under the accuracy-MACs curve, compared with a baseline's, and the MACs at a stated loss.

    Args:
        baseline: Words of the arm to compare with; its dense nets are what losses are counted from.
        interval: Shares of MACs between which areas are taken; None: the widest that all curves cover.
        loss: In points of accuracy.
        name: Of the files, without suffix.
    """

    def __init__(
        self,
        *,
        baseline: str | Mapping[str, object],
        interval: Sequence[float] | None = None,
        loss: float = 1.0,
        name: str = "curves",
    ) -> None:
        self.baseline = baseline
        self.interval = interval
        self.loss = loss
        self.name = name

    def __call__(self, summary: pd.DataFrame, runs: pd.DataFrame, folder: Path) -> list[Path]:
        baseline = parse(self.baseline, KEY)
        table = curves(runs, baseline, KEY, self._range(), self.loss / 100)
        if table.empty:
            raise DoesNotApply("table.curves: no arm has two budgets, and so none has a curve")
        shown = ["dataset", "net", "attention", "criterion", *varying(summary)]
        text = table[[*shown, "against", "seeds", "budgets"]].map(word)
        text["range"] = [
            "" if pd.isna(area) else f"{100 * low:.1f}, {100 * high:.1f}"
            for low, high, area in table[["from", "to", "area"]].to_numpy(float)
        ]
        text["area"] = [percent(*row) for row in table[["area", "area_low", "area_high"]].to_numpy(float)]
        text["difference"] = [points(*row) for row in table[["difference", "low", "high"]].to_numpy(float)]
        text["p_holm"] = table["p_holm"].map(p_value)
        text["verdict"] = table["verdict"].where(table["pairs"] > 0, "")
        at = f"MACs at {self.loss:g} points loss (%)" if self.loss != 1 else "MACs at 1 point loss (%)"
        text[at] = [said_crossing(Crossing(*row)) for row in table[list(AT_LOSS)].itertuples(index=False)]
        left = [HEADINGS.get(name, name) for name in (*NAMED, "against", "verdict")]
        said = [
            f"Baseline: {' '.join(f'{name}={value}' for name, value in baseline.items())}.",
            "Mean accuracy over the range: area under test accuracy against the share of the dense net's MACs that is "
            "left (trapezoids), over the width of the range; mean and 95 % t-interval over seeds with every budget.",
            "Difference: arm minus baseline of the same seed, paired t-test, adjusted after Holm over this table.",
            "MACs at a loss: where the mean over seeds, seen from the dense net and joined by straight lines, first "
            "loses so much of the accuracy of the baseline's dense net, and the measured shares on both sides; <: not "
            "down to that share; >: more at that share already.",
        ]
        return documents(
            text.rename(columns=HEADINGS), table, folder / self.name, left=left, caption=said, label="tab:curves"
        )

    def _range(self) -> tuple[float, float] | None:
        if self.interval is None:
            return None
        ends = list(self.interval)
        if len(ends) != 2 or not 0 <= ends[0] < ends[1] <= 1:
            raise RsPruneError(f"table.curves.interval={ends}: give two rising shares of MACs such as [0.15,0.7]")
        return float(ends[0]), float(ends[1])
