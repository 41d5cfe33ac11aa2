"""The results for programs: `runs.csv`, one row a run, and `table.csv`, one row per arm and budget."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rs_prune.results.files import write

COUNTS = ("dense_params", "params", "dense_macs", "macs")


class Csv:
    def __init__(self, *, runs: str = "runs.csv", summary: str = "table.csv") -> None:
        self.runs = runs
        self.summary = summary

    def __call__(self, summary: pd.DataFrame, runs: pd.DataFrame, folder: Path) -> list[Path]:
        return [
            write(folder / name, _whole(table).to_csv(index=False, lineterminator="\n").encode())
            for name, table in ((self.runs, runs), (self.summary, summary))
        ]


def _whole(table: pd.DataFrame) -> pd.DataFrame:
    """Counts without a `.0`; means over seeds stay as they are."""
    counts = [name for name in COUNTS if bool((table[name].dropna() % 1 == 0).all())]
    return table.astype(dict.fromkeys(counts, "Int64"))
