"""Which differences between arms exceed what training with another seed does: `spread.md` and `spread.csv`.

Arms of one block start from dense nets that were trained alike, one a seed, and are compared at one budget. An arm's
accuracy is taken to be arm + seed + noise; the noise is estimated over the whole block, (arms - 1)(seeds - 1) degrees
of freedom, and two arms are told apart where their means differ by more than Tukey's honestly significant difference
(J. W. Tukey 1949, Biometrics 5), at 0.05 within the block.

    python experiments/methods_eurosat/spread.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import studentized_range

from rs_prune.results.records import read

HERE = Path(__file__).parent
LEVEL = 0.05


def blocks(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name and table (arms x seeds, test accuracy in percent) of every block of two or more arms."""
    one = runs.schedule == "one_shot"
    channels = (runs.granularity == "channels") & (runs.net == "resnet_narrow")
    parts = {
        "criteria, nets without SE gates": (
            channels & one & (runs.attention != "se"),
            ["attention", "criterion", "variant"],
        ),
        "criteria, nets with SE gates": (channels & one & (runs.attention == "se"), ["criterion"]),
        "schedules, plain net, l1": (channels & (runs.attention == "none") & (runs.criterion == "l1"), ["schedule"]),
        "schedules, SE net, attention": (channels & (runs.criterion == "attention"), ["schedule"]),
        "single weights": (runs.granularity == "weights", ["criterion", "keep"]),
        "blocks, two a stage": (runs.net == "resnet_narrow2", ["granularity", "variant"]),
    }
    for name, (chosen, words) in parts.items():
        rows = runs[chosen]
        if rows.empty:
            continue
        rows = rows.assign(arm=rows[words].astype(str).agg(" ".join, axis=1).str.strip())
        for keep, arms in rows.groupby(rows.keep if "keep" not in words else [""] * len(rows)):
            table = 100 * arms.pivot(index="arm", columns="seed", values="accuracy").dropna()
            if len(table) > 1:
                yield f"{name}, {keep:.0%} of the MACs" if keep else name, table


def honest(table: pd.DataFrame) -> tuple[float, float]:
    """The noise of one run (standard deviation) and the honestly significant difference of two means, in points."""
    arms, seeds = table.shape
    rest = table.sub(table.mean(axis=1), axis=0).sub(table.mean() - table.to_numpy().mean(), axis=1).to_numpy()
    degrees = (arms - 1) * (seeds - 1)
    if degrees == 0:
        return float("nan"), float("nan")
    noise = float(np.sqrt((rest**2).sum() / degrees))
    return noise, float(studentized_range.ppf(1 - LEVEL, arms, degrees)) * noise / float(np.sqrt(seeds))


def main() -> None:
    lines, rows = [__doc__.partition("\n")[0], ""], []
    for name, table in blocks(read(HERE / "runs.csv")):
        noise, least = honest(table)
        mean = table.mean(axis=1).sort_values(ascending=False)
        lines += [
            f"**{name}**: noise of one run {noise:.2f} points, told apart from {least:.2f} points on "
            f"({table.shape[1]} seeds).",
            "",
            "| arm | test accuracy (%) | of each seed | told apart from |",
            "|---|---:|---|---|",
        ]
        for arm, value in mean.items():
            apart = [other for other, its in mean.items() if abs(value - its) > least]
            each = [f"{one:.2f}" for one in table.loc[arm]]
            lines.append(f"| {arm} | {value:.2f} | {', '.join(each)} | {', '.join(apart) or 'none'} |")
            rows.append({"block": name, "arm": arm, "mean": value, "seeds": len(each), "noise": noise, "least": least})
        lines.append("")
    (HERE / "spread.md").write_text("\n".join(lines))
    pd.DataFrame(rows).round(4).to_csv(HERE / "spread.csv", index=False)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
