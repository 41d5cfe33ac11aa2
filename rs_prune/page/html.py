"""The whole report as one file that any browser opens without a network: `report.html`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rs_prune.results.classes import table as per_class
from rs_prune.results.files import write
from rs_prune.results.page.classes import heat_maps
from rs_prune.results.page.curves import Curves
from rs_prune.results.page.made import made
from rs_prune.results.page.render import render
from rs_prune.results.page.tables import paper_table, runs_table, summary_table
from rs_prune.results.records import skipped
from rs_prune.results.show import caption


class Html:
    """Writes the page; the same records, paper and command give the same bytes.

    Args:
        name: The file's name.
    """

    def __init__(self, *, name: str = "report.html") -> None:
        self.name = name

    def __call__(
        self,
        summary: pd.DataFrame,
        runs: pd.DataFrame,
        folder: Path,
        records: Sequence[Mapping[str, Any]],
        paper: pd.DataFrame,
        command: str,
    ) -> list[Path]:
        curves = Curves(summary, runs, paper)
        text = render(
            curves=curves,
            tables=[summary_table(summary, runs), runs_table(summary, runs), paper_table(paper, summary)],
            heat_maps=heat_maps(summary, runs, per_class(records)),
            notes=caption(summary),
            made=made(runs, records, command),
            skipped=skipped(records),
        )
        return [write(folder / self.name, text.encode())]
