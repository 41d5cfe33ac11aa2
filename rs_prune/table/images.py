"""Single nets, image by image: `images.md`, `images.tex`, `images.csv`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from rs_prune.results.documents import documents, p_value, percent, points, word
from rs_prune.results.images import images, read
from rs_prune.results.paired import parse
from rs_prune.results.show import NAMED, NAMES
from rs_prune.results.stats import varying

KEY = "table.images"
HEADINGS = {
    **NAMES,
    "against": "baseline differs in",
    "accuracy": "accuracy (%) [95 %]",
    "only_arm": "only this right",
    "only_baseline": "only baseline right",
    "difference": "difference (points) [95 %]",
    "p_holm": "p (Holm)",
}


class Images:
    """Bootstrap intervals over test images, and McNemar's test of each net against the baseline's of the same seed.

    Args:
        baseline: Words of the arm to compare with; see `table=paired`.
        predictions: The folder in which runs kept them.
        name: Of the files, without suffix.
    """

    def __init__(self, *, baseline: str | Mapping[str, object], predictions: str, name: str = "images") -> None:
        self.baseline = baseline
        self.predictions = predictions
        self.name = name

    def __call__(self, summary: pd.DataFrame, runs: pd.DataFrame, folder: Path) -> list[Path]:
        baseline = parse(self.baseline, f"{KEY}.baseline")
        kept = read(Path(self.predictions), runs, f"{KEY}.predictions")
        table = images(runs, kept, baseline, f"{KEY}.baseline")
        shown = ["dataset", "net", "attention", "criterion", *varying(summary), "keep", "seed"]
        text = table[[*shown, "against"]].map(word)
        accuracy = table[["accuracy", "accuracy_low", "accuracy_high"]].to_numpy(float)
        text["accuracy"] = [percent(*row) for row in accuracy]
        for name in ("only_arm", "only_baseline"):
            text[name] = table[name].astype("Int64").map(word)
        text["difference"] = [points(*row) for row in table[["difference", "low", "high"]].to_numpy(float)]
        text["p"], text["p_holm"] = table["p"].map(p_value), table["p_holm"].map(p_value)
        text["verdict"] = table["verdict"].where(table["difference"].notna(), "")
        left = [HEADINGS.get(name, name) for name in (*NAMED, "against", "verdict")]
        said = [
            f"Baseline: {' '.join(f'{name}={value}' for name, value in baseline.items())}.",
            "One net a row: 95 % percentile bootstrap over test images, exact McNemar test against the baseline's net "
            "of the same seed. They speak of these very nets, not of the methods: training again is not in them.",
            "Seed all: mean over seeds, interval and p over seeds and images together.",
            f"Holm: over the {int(table['p'].notna().sum())} tests of this table. "
            f"Runs without predictions, left out: {int((~runs['digest'].isin(list(kept))).sum())}.",
        ]
        return documents(
            text.rename(columns=HEADINGS), table, folder / self.name, left=left, caption=said, label="tab:images"
        )
