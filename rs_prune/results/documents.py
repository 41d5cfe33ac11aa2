"""One table as files: Markdown for a README, LaTeX (booktabs) for a paper, CSV for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rs_prune.results.files import write

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
    "†": r"$\dagger$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def escape(text: str) -> str:
    """`text` as LaTeX prints it literally."""
    return "".join(_SPECIAL.get(sign, sign) for sign in text)


def one_line(text: str) -> str:
    """`text` as a cell can hold it: a line break would end the row."""
    return " ".join(text.splitlines())


def documents(
    text: pd.DataFrame, data: pd.DataFrame, stem: Path, *, left: Sequence[str], caption: Sequence[str], label: str
) -> list[Path]:
    """Writes `<stem>.md`, `<stem>.tex` and `<stem>.csv`.

    Args:
        text: The table as people read it; its columns are the headings.
        data: The table as programs read it.
        stem: Path without suffix.
        left: Headings of the columns that are set to the left; numbers are set to the right.
        caption: Sentences that stand below.
        label: For LaTeX.
    """
    text = text.map(one_line)
    plain = text.map(lambda cell: cell.replace("|", "\\|"))
    align = ["left" if name in left else "right" for name in text]
    markdown = plain.to_markdown(index=False, disable_numparse=True, colalign=align)
    latex = text.map(escape).set_axis([escape(str(name)) for name in text], axis=1).to_latex(
        index=False,
        escape=False,
        column_format="".join("l" if name in left else "r" for name in text),
        caption=escape(" ".join(caption)),
        label=label,
        position="t",
    )  # fmt: skip
    return [
        write(stem.with_name(f"{stem.name}.md"), f"{markdown}\n\n{chr(10).join(caption)}\n".encode()),
        write(stem.with_name(f"{stem.name}.tex"), latex.encode()),
        write(stem.with_name(f"{stem.name}.csv"), data.to_csv(index=False, lineterminator="\n").encode()),
    ]


def points(mean: float, low: float = np.nan, high: float = np.nan) -> str:
    """A difference of accuracies in percentage points, with its interval: `+1.50 [+0.76, +2.23]`."""
    if np.isnan(mean):
        return ""
    middle = f"{100 * mean:+.2f}"
    return middle if np.isnan(low) else f"{middle} [{100 * low:+.2f}, {100 * high:+.2f}]"


def percent(mean: float, low: float = np.nan, high: float = np.nan) -> str:
    """A share in percent, with its interval: `93.94 [93.45, 94.43]`."""
    if np.isnan(mean):
        return ""
    middle = f"{100 * mean:.2f}"
    return middle if np.isnan(low) else f"{middle} [{100 * low:.2f}, {100 * high:.2f}]"


def p_value(p: float) -> str:
    """Three decimals, or `<0.001`."""
    return "" if np.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def word(value: Any) -> str:
    """A choice as the command line has it; nothing if it is not known."""
    if value is None or value is pd.NA or value != value:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
