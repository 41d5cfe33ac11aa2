"""The results table for a README: `table.md`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rs_prune.results.files import write
from rs_prune.results.show import NAMED, NAMES, caption, cells


class Markdown:
    def __init__(self, *, name: str = "table.md") -> None:
        self.name = name

    def __call__(self, summary: pd.DataFrame, runs: pd.DataFrame, folder: Path) -> list[Path]:
        text, best = cells(summary, runs)
        text = text.map(lambda cell: cell.replace("|", "\\|"))
        text["accuracy"] = [f"**{cell}**" if bold else cell for cell, bold in zip(text["accuracy"], best, strict=True)]
        align = ["left" if name in NAMED else "right" for name in text]
        table = text.rename(columns=NAMES).to_markdown(index=False, disable_numparse=True, colalign=align)
        return [write(folder / self.name, f"{table}\n\n{chr(10).join(caption(summary))}\n".encode())]
