"""Differences between budgeted gates and each L1 arm, paired by seed: reads runs.csv, prints a Markdown table.

Usage: python experiments/budgeted_eurosat/paired.py
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rs_prune.results.records import read
from rs_prune.results.stats import mean_interval

ARM = ["attention", "criterion", "schedule", "scope"]


def main() -> None:
    runs = read(Path(__file__).parent / "runs.csv")
    print("| keep | arm | seeds | validation | test | budgeted minus arm, test points [95 %] |")
    print("|---|---|---:|---:|---:|---:|")
    for keep, here in runs.groupby("keep"):
        ours = here[here["attention"] == "budgeted"].set_index("seed")
        for words, arm in here.groupby(ARM):
            arm = arm.set_index("seed")
            cells = [f"{keep:g}", " ".join(words), str(len(arm))]
            cells += [f"{arm[name].mean():.2%}" for name in ("val_accuracy", "accuracy")]
            mean, low, high = mean_interval(100 * (ours["accuracy"] - arm["accuracy"]))
            interval = "" if pd.isna(low) else f" [{low:+.2f}, {high:+.2f}]"  # one seed has none
            cells.append("" if words[0] == "budgeted" else f"{mean:+.2f}{interval}")
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
