"""Results as people read them: the cells of every table, and the table on the screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.console import Console

from rs_prune.results.documents import one_line
from rs_prune.results.paired import LEVEL
from rs_prune.results.stats import OPTIONAL, dense, rows, summarise, varying

NAMES = {
    "dataset": "data set",
    "finetune_epochs": "fine-tuning epochs",
    "variant": "options",
    "macs": "MACs (M)",
    "macs_share": "MACs (%)",
    "params": "params (M)",
    "accuracy": "accuracy (%)",
    "drop": "drop (points)",
    "raw": "after removal (%)",
    "recalibrated": "recalibrated (%)",
    "latency_ms": "latency (ms)",
}
"""Column -> its heading in a document."""
SIGNIFICANT = "†"
"""Behind the accuracy of an arm that is not only called best."""
SHORT = {
    "seeds": "n",
    "macs": "MACs M",
    "macs_share": "MACs %",
    "params": "params M",
    "accuracy": "accuracy %",
    "drop": "drop",
    "raw": "raw %",
    "recalibrated": "recal. %",
    "latency_ms": "ms",
    "variant": "options",
}
"""Column -> its heading on the screen."""


def cells(summary: pd.DataFrame, runs: pd.DataFrame) -> tuple[pd.DataFrame, list[bool]]:
    """The table as text, dense nets above what was pruned from them; and which rows are best."""
    nets = dense(runs).assign(criterion="dense", best=False, best_p=1.0)
    found: list[dict[str, Any]] = []
    for (dataset, net), pruned in summary.groupby(["dataset", "net"], sort=False):
        found += rows(nets[(nets["dataset"] == dataset) & (nets["net"] == net)]) + rows(pruned)
    named = ["dataset", "net", "attention", "criterion", *varying(summary), "keep"]
    text = pd.DataFrame([_texts(row, named) for row in found]).map(one_line)
    empty = [name for name in ("recalibrated", "raw", "latency_ms") if not text[name].any()]
    return text.drop(columns=empty), [bool(row["best"]) for row in found]


def caption(summary: pd.DataFrame) -> list[str]:
    """What a reader of the table must know, one sentence each."""
    said = [
        "Accuracy on the test set: mean ± half of the 95 % t-interval over seeds, from two seeds on that differ.",
        "Bold: the best mean accuracy on validation data among the arms of one data set, net and budget.",
        f"{SIGNIFICANT}: and on test data above each of the others (paired t-tests over seeds, Holm over the table, "
        "p < 0.05); bold without it: not significant, or not testable because an arm has one seed.",
        "MACs: multiply-adds of one image (1 MAC = 2 FLOPs). Drop: dense minus pruned, of the same seed.",
    ]
    if summary["latency_ms"].notna().any():
        said.append("Latency: median over the runs.")
    if summary["selection"].astype(str).str.startswith("test").any():
        said.append("Where epochs are chosen on test data there is nothing to choose an arm on: no bold.")
    same = [name for name in OPTIONAL if name not in varying(summary)]
    first = rows(summary)[0]
    common = [f"{name}={first[name]}" for name in same if first[name] != ""]
    return [*said, one_line(f"Common to all: {', '.join(common)}.")] if common else said


def print_table(console: Console, runs: pd.DataFrame) -> None:
    """Print the runs, averaged over seeds; what all rows share stands above the table."""
    if runs.empty:
        return
    summary = summarise(runs)
    text, best = cells(summary, runs)
    text["accuracy"] = [cell + "*" * mark for cell, mark in zip(text["accuracy"], best, strict=True)]
    text["drop"] = text["drop"].str.partition(" ")[0]
    shared = [name for name in ("dataset", "net", "attention", "seeds") if text[name].nunique() == 1]
    title = ", ".join(f"{name}={text[name].iloc[0]}" for name in shared)
    text = text.drop(columns=shared)
    headings = [str(name) for name in text.rename(columns=SHORT)]
    lines = [headings, *text.to_numpy().tolist()]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    signs = ["<" if name in NAMED else ">" for name in text]
    if title:
        console.print(title, markup=False, highlight=False, soft_wrap=True)
    for line, mark in zip(lines, [True, *best], strict=True):
        padded = (f"{cell:{sign}{width}}" for cell, sign, width in zip(line, signs, widths, strict=True))
        style = "bold" if mark else ""
        console.print("  ".join(padded).rstrip(), style=style, markup=False, highlight=False, soft_wrap=True)
    if any(best):
        console.print(
            f"* best of its budget on validation data; {SIGNIFICANT} significantly above all others on test data",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def print_skipped(console: Console, cells: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Print how many cells were skipped and why, with the choices in which they differ."""
    for reason in dict.fromkeys(reason for reason, _ in cells):
        mine = [choices for why, choices in cells if why == reason]
        console.print(f"skipped {len(mine)}: {reason}", markup=False, highlight=False, soft_wrap=True)
        words = dict.fromkeys(word for choices in mine for word in choices)
        values = {word: sorted({one_line(str(choices.get(word))) for choices in mine}) for word in words}
        told = [word for word in words if word in ("attention", "criterion") or len(values[word]) > 1]
        where = " ".join(f"{word}={','.join(values[word])}" for word in told)
        console.print(f"    {where}", markup=False, highlight=False, soft_wrap=True)


NAMED = ("dataset", "net", "attention", "criterion", *OPTIONAL)


def _texts(row: dict[str, Any], named: list[str]) -> dict[str, str]:
    texts = {name: _text(row.get(name, "")) for name in named}
    texts["seeds"] = _text(row["seeds"])
    texts["macs"] = _millions(row["macs"])
    texts["macs_share"] = _fixed(100 * row["macs"] / row["dense_macs"], 1)
    texts["params"] = _millions(row["params"])
    texts["accuracy"] = _interval(row, "accuracy") + SIGNIFICANT * (row["best_p"] < LEVEL)
    texts["drop"] = _interval(row, "drop")
    texts["raw"] = _fixed(100 * row["raw_accuracy"], 2)
    texts["recalibrated"] = _fixed(100 * row["recalibrated_accuracy"], 2)
    texts["latency_ms"] = _digits(row["latency_ms"])
    return texts


def _interval(row: dict[str, Any], name: str) -> str:
    middle, half = _fixed(100 * row[name], 2), _fixed(100 * (row[f"{name}_high"] - row[name]), 2)
    return f"{middle} ± {half}" if half else middle


def _millions(value: float) -> str:
    return _digits(value / 1e6)


def _digits(value: float) -> str:
    """Three digits that count, and never an exponent."""
    if math.isnan(value) or not value:
        return _fixed(value, 0)
    return _fixed(value, max(0, 2 - math.floor(math.log10(abs(value)))))


def _fixed(value: float, decimals: int) -> str:
    return "" if math.isnan(value) else f"{value:.{decimals}f}"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
