"""Each arm against a baseline at every budget, on the same seeds: `paired.md`, `paired.tex`, `paired.csv`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from rs_prune.errors import DoesNotApply
from rs_prune.results.documents import documents, p_value, percent, points, word
from rs_prune.results.paired import differences, parse
from rs_prune.results.show import NAMED, NAMES
from rs_prune.results.stats import varying

KEY = "table.paired.baseline"
HEADINGS = {
    **NAMES,
    "against": "baseline differs in",
    "pairs": "pairs",
    "baseline_accuracy": "baseline (%)",
    "difference": "difference (points) [95 %]",
    "p": "p",
    "p_holm": "p (Holm)",
    "same_start": "same start",
}


class Paired:
    """Mean paired differences of test accuracy, with t-interval and p over seeds, Holm-adjusted over the table.

    Args:
        baseline: Words of the arm to compare with; see `differences`.
        name: Of the files, without suffix.
    """

    def __init__(self, *, baseline: str | Mapping[str, object], name: str = "paired") -> None:
        self.baseline = baseline
        self.name = name

    def table(self, runs: pd.DataFrame) -> pd.DataFrame:
        """What `paired.csv` holds."""
        return differences(runs, parse(self.baseline, KEY), KEY)

    def __call__(self, summary: pd.DataFrame, runs: pd.DataFrame, folder: Path) -> list[Path]:
        table = self.table(runs)
        if table.empty:
            raise DoesNotApply(f"{KEY}={self.baseline}: no arm stands beside its baseline at one budget")
        shown = ["dataset", "net", "attention", "criterion", *varying(summary), "keep"]
        text = table[[*shown, "against", "pairs"]].map(word)
        text["accuracy"] = table["accuracy"].map(percent)
        text["baseline_accuracy"] = table["baseline_accuracy"].map(percent)
        text["difference"] = [points(*row) for row in table[["difference", "low", "high"]].to_numpy(float)]
        text["p"], text["p_holm"] = table["p"].map(p_value), table["p_holm"].map(p_value)
        text["verdict"] = table["verdict"]
        text["same_start"] = table["same_start"].map({True: "yes", False: "no"})
        left = [HEADINGS.get(name, name) for name in (*NAMED, "against", "verdict", "same_start")]
        said = [
            f"Baseline: {' '.join(f'{name}={value}' for name, value in parse(self.baseline, KEY).items())}.",
            "Test accuracy, arm minus baseline of the same seed and split: mean, 95 % t-interval and paired t-test "
            "over seeds, which say what training again would give on these test images.",
            f"Holm: adjusted over the {int(table['p'].notna().sum())} tests of this table; better, worse: below 0.05. "
            "Not tested: fewer than two pairs, or no spread among them.",
        ]
        return documents(
            text.rename(columns=HEADINGS), table, folder / self.name, left=left, caption=said, label="tab:paired"
        )
