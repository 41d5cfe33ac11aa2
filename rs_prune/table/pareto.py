"""The Pareto front of accuracy against MACs, per criterion: `pareto.md`, `pareto.tex`, `pareto.csv`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rs_prune.results.curves import fronts
from rs_prune.results.documents import documents, percent, word
from rs_prune.results.show import NAMED, NAMES
from rs_prune.results.stats import varying

HEADINGS = {**NAMES, "val_accuracy": "validation (%)", "macs_share": "MACs (%)", "overall": "on the front of all"}


class Pareto:
    """Arms that no other arm of their criterion beats: chosen on validation data, reported on test data.

    Args:
        name: Of the files, without suffix.
    """

    def __init__(self, *, name: str = "pareto") -> None:
        self.name = name

    def __call__(self, summary: pd.DataFrame, runs: pd.DataFrame, folder: Path) -> list[Path]:
        table = fronts(summary)
        shown = ["dataset", "net", "criterion", "attention", *varying(summary), "keep", "seeds"]
        text = table[shown].map(word)
        text["macs_share"] = (100 * table["macs"] / table["dense_macs"]).map("{:.1f}".format)
        text["val_accuracy"] = table["val_accuracy"].map(percent)
        text["accuracy"] = [
            percent(*row) for row in table[["accuracy", "accuracy_low", "accuracy_high"]].to_numpy(float)
        ]
        text["overall"] = table["overall"].map({True: "yes", False: ""})
        said = [
            "Arms and budgets of each criterion that none of its others beats in mean validation accuracy at the same "
            "MACs or fewer; on the front of all: nor any of another criterion.",
            "Accuracy: on test data, mean and 95 % t-interval over seeds. A mean over fewer seeds is less sure; "
            "table=paired says which differences are significant.",
        ]
        left = [HEADINGS.get(name, name) for name in (*NAMED, "overall")]
        return documents(
            text.rename(columns=HEADINGS), table, folder / self.name, left=left, caption=said, label="tab:pareto"
        )
