r"""The results table for a paper: `table.tex`, to be read in with `\input`; needs booktabs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rs_prune.results.documents import escape
from rs_prune.results.files import write
from rs_prune.results.show import NAMED, NAMES, caption, cells


class Latex:
    def __init__(self, *, name: str = "table.tex", label: str = "tab:pruning") -> None:
        self.name = name
        self.label = label

    def __call__(self, summary: pd.DataFrame, runs: pd.DataFrame, folder: Path) -> list[Path]:
        text, best = cells(summary, runs)
        text = text.map(escape)
        text["accuracy"] = [
            rf"\textbf{{{cell}}}" if bold else cell for cell, bold in zip(text["accuracy"], best, strict=True)
        ]
        table = text.set_axis([escape(str(name)) for name in text.rename(columns=NAMES)], axis=1).to_latex(
            index=False,
            escape=False,
            column_format="".join("l" if name in NAMED else "r" for name in text),
            caption=escape(" ".join(caption(summary))),
            label=self.label,
            position="t",
        )
        return [write(folder / self.name, _spaced(table, list(text["keep"])).encode())]


def _spaced(table: str, keeps: list[str]) -> str:
    """The table with a little space above each new budget."""
    head, rule, body = table.partition("\\midrule\n")
    lines = body.splitlines(keepends=True)
    for row in range(len(keeps) - 1, 0, -1):
        if keeps[row] != keeps[row - 1]:
            lines.insert(row, "\\addlinespace\n")
    return head + rule + "".join(lines)
