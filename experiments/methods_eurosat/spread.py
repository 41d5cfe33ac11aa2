"""Which differences between arms exceed what training with another seed does: `spread.md`, `.csv`, `.png`, `.svg`.

Arms of one block start from dense nets that were trained alike, one a seed, and are compared at one budget. An arm's
accuracy is taken to be arm + seed + noise; the noise is estimated over the whole block, (arms - 1)(seeds - 1) degrees
of freedom, and two arms are told apart where their means differ by more than Tukey's honestly significant difference
(J. W. Tukey 1949, Biometrics 5), at 0.05 within the block. The schedule `soft` is left out: it collapses, and its noise
is another.

    python experiments/methods_eurosat/spread.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import studentized_range

from rs_prune.results.canvas import canvas, save, styled
from rs_prune.results.records import read

HERE = Path(__file__).parent
LEVEL = 0.05


def _name(words: pd.Series[str]) -> str:
    return " ".join(word for text in words for word in text.split() if word not in ("none", "penalty=none"))


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
        "schedules, plain net, l1": (
            channels & (runs.attention == "none") & (runs.criterion == "l1") & (runs.schedule != "soft"),
            ["schedule"],
        ),
        "schedules, SE net, attention": (
            channels & (runs.criterion == "attention") & (runs.schedule != "soft"),
            ["schedule"],
        ),
        "single weights": (runs.granularity == "weights", ["criterion", "keep"]),
        "blocks, two a stage": (runs.net == "resnet_narrow2", ["granularity", "variant"]),
    }
    for name, (chosen, words) in parts.items():
        rows = runs[chosen]
        if rows.empty:
            continue
        rows = rows.assign(arm=rows[words].astype(str).agg(_name, axis=1))
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


def draw(found: list[tuple[str, pd.DataFrame]]) -> None:
    """A panel per block: every seed a dot, arms by their mean, which is a line; a bar as long as what tells apart."""
    columns = 2
    heights = [max(len(table) for _, table in found[i : i + columns]) + 3 for i in range(0, len(found), columns)]
    with styled(**{"axes.spines.right": False, "axes.spines.top": False}):
        figure = canvas(10, 0.19 * sum(heights))
        axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights).flat
        for axis, (name, table) in zip(axes, found, strict=False):
            table = table.loc[table.mean(axis=1).sort_values().index]
            for place, (_, row) in enumerate(table.iterrows()):
                axis.plot(row, [place] * len(row), "o", color="#0072b2", markersize=4, alpha=0.7)
                axis.plot([row.mean()] * 2, [place - 0.3, place + 0.3], color="black", linewidth=1)
            _, least = honest(table)
            left = float(table.to_numpy().min())
            axis.plot([left, left + least], [len(table) - 0.2] * 2, color="#d55e00", linewidth=2)
            axis.text(left, len(table), f"told apart: {least:.2f} points", color="#d55e00", va="bottom", fontsize=7)
            axis.set_yticks(range(len(table)), table.index)
            axis.set_ylim(-0.7, len(table) + 1.2)
            axis.set_title(name, loc="right")
            axis.set_xlabel("test accuracy (%)")
            axis.grid(axis="x", color="#d9d9d9", linewidth=0.6)
        for axis in list(figure.axes)[len(found) :]:
            axis.set_visible(False)
        save(figure, HERE / "spread")


def main() -> None:
    lines, rows = [__doc__.partition("\n")[0], ""], []
    found = list(blocks(read(HERE / "runs.csv")))
    for name, table in found:
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
    draw(found)
    (HERE / "spread.md").write_text("\n".join(lines))
    pd.DataFrame(rows).round(4).to_csv(HERE / "spread.csv", index=False)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
