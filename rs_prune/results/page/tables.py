"""The page's tables as text; what a cell says is what the other reports say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from rs_prune.results.page.words import arm, dense_net, named, number, word
from rs_prune.results.show import NAMED, NAMES, cells
from rs_prune.results.stats import rows

PERCENT = ("accuracy", "val_accuracy", "dense_accuracy", "folded_accuracy", "raw_accuracy", "recalibrated_accuracy")
MILLIONS = ("macs", "params")
HEADINGS = {
    **NAMES,
    "val_accuracy": "validation (%)",
    "dense_accuracy": "dense (%)",
    "folded_accuracy": "dense, folded (%)",
    "raw_accuracy": "after removal (%)",
    "recalibrated_accuracy": "recalibrated (%)",
    "mask_error": "mask error",
    "wall_s": "time (s)",
    "method": "method",
    "macs_printed": "MACs",
    "params_printed": "params",
    "accuracy_printed": "accuracy (%)",
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: what it is called in `runs.csv`, its heading, and whether its cells are words or numbers."""

    name: str
    heading: str
    text: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """Cells of one row, the words by which filters find it, and whether it stands out."""

    cells: list[str]
    words: dict[str, str]
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the page.

    Attributes:
        name: Its id.
        title: Its heading.
        columns: From left to right.
        rows: In the order in which they stand before anyone sorts.
        note: What must be known to read it.
    """

    name: str
    title: str
    columns: list[Column]
    rows: list[Row] = field(default_factory=list)
    note: str = ""


def summary_table(summary: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Means over seeds, as in `table.md`, dense nets among them."""
    text, best = cells(summary, runs)
    shown = text[[name for name in text if str(name) not in _constant(summary)]]
    words = rows(text[[name for name in text if name in NAMED]])
    found = [
        Row(cells=list(row), words=_words(mine), best=mark)
        for row, mine, mark in zip(shown.to_numpy().tolist(), words, best, strict=True)
    ]
    return Table(name="summary", title="Means over seeds", columns=_columns(list(shown)), rows=found)


def runs_table(summary: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """Every run on a line of its own."""
    values = [*PERCENT[:1], "macs", "params", "latency_ms", *PERCENT[1:], "mask_error", "wall_s"]
    there = [name for name in values if bool(runs[name].notna().any())]
    columns = [name for name in named(summary) if name not in _constant(summary)]
    columns += ["keep", "seed", *there, "digest"]
    found = [Row(cells=[_cell(name, row[name]) for name in columns], words=arm(row)) for row in rows(_with_seeds(runs))]
    return Table(name="runs", title="Single runs", columns=_columns(columns), rows=found)


def paper_table(paper: pd.DataFrame, summary: pd.DataFrame) -> Table:
    """The printed numbers, letter by letter; those of what was not run, too."""
    printed = {name: f"{name}_printed" for name in ("params", "macs", "accuracy")}
    columns = [printed.get(str(name), str(name)) for name in paper]
    found = [
        Row(cells=[str(row[name]) for name in paper], words={name: str(row[name]) for name in ("dataset", "net")})
        for row in paper.to_dict("records")
    ]
    texts = [name for name in columns if name not in (*printed.values(), "keep")]
    note = "As printed; a number that is not printed is left empty. No run of this project."
    run = set(zip(summary["dataset"], summary["net"], strict=True))
    others = sum((row.words["dataset"], row.words["net"]) not in run for row in found)
    if others:
        note += f" Rows of data sets or nets that were not run, which no plot shows: {others} of {len(found)}."
    return Table(name="paper", title="The paper's numbers", columns=_columns(columns, texts), rows=found, note=note)


def _constant(summary: pd.DataFrame) -> list[str]:
    """Data set and net, where there is but one: the page's heading names it."""
    return [name for name in ("dataset", "net") if summary[name].nunique() == 1]


def _words(row: Mapping[str, str]) -> dict[str, str]:
    return dense_net(row) if row["criterion"] == "dense" else dict(row)


def _with_seeds(runs: pd.DataFrame) -> pd.DataFrame:
    return runs.assign(seed=runs["seed"].astype(object).where(runs["seed"].notna(), ""))


def _columns(names: list[Any], texts: list[str] | tuple[str, ...] = ()) -> list[Column]:
    text = (*NAMED, *texts, "digest")
    return [Column(name=name, heading=HEADINGS.get(name, name), text=name in text) for name in map(str, names)]


def _cell(name: str, value: Any) -> str:
    if name in (*PERCENT, *MILLIONS, "latency_ms", "mask_error", "wall_s"):
        known = number(value)
        if known is None:
            return ""
        if name in PERCENT:
            return f"{100 * known:.2f}"
        if name in MILLIONS:
            return f"{known / 1e6:.4g}"
        return f"{known:.0f}" if name == "wall_s" else f"{known:.3g}"
    return word(value)
