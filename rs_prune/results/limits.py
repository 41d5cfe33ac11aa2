"""What the cells of a `runs.csv` may hold: a file that was cut, or edited wrongly, is refused by its line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from rs_prune.errors import RsPruneError

Limit = tuple[Callable[[float], bool], str]
SHARE: Limit = (lambda value: 0 <= value <= 1, "a share from 0 to 1: 0.935 for 93.5 %")
WHOLE: Limit = (float.is_integer, "a whole number")
POSITIVE: Limit = (lambda value: 0 < value < math.inf, "a number above 0")
ANY: Limit = (lambda value: True, "a number")
LIMITS: dict[str, Limit] = {
    "keep": (lambda value: 0 < value <= 1, "the share that stays, above 0 and up to 1"),
    "accuracy": SHARE,
    **dict.fromkeys((f"{stage}_accuracy" for stage in ("dense", "folded", "raw", "recalibrated")), SHARE),
    **dict.fromkeys(("val_accuracy", "dense_val_accuracy"), SHARE),
    **dict.fromkeys(("seed", "epochs", "finetune_epochs"), WHOLE),
    **dict.fromkeys(("dense_params", "dense_macs"), POSITIVE),
    **dict.fromkeys(("mask_error", "mean_gate_error"), ANY),
}
NUMBER: Limit = (lambda value: 0 <= value < math.inf, "a number of at least 0")
"""The limit of the other numbers."""


def check(path: Path, text: str, essential: Sequence[str], numbers: Sequence[str]) -> list[int]:
    """Refuses a `runs.csv` that is not whole, or holds what no run can have given.

    Args:
        path: What errors call it.
        text: The file.
        essential: Columns that must be there, with a value in every row.
        numbers: Columns that hold numbers, where they are there.

    Returns:
        The line of every row.

    Raises:
        RsPruneError: Naming file, line and column.
    """
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, [])
    missing = [name for name in essential if name not in header]
    if missing:
        raise RsPruneError(f"{path}: lacks the columns {', '.join(missing)}; is this a runs.csv?")
    if not text.endswith("\n"):
        raise RsPruneError(
            f"{path}: line {text.count(chr(10)) + 1} does not end, so that it may be cut; write the file again, or end "
            "its last line if it is whole"
        )
    lines, accuracies = [], 0
    for row in reader:
        if row:
            where = f"{path}: line {reader.line_num}"
            if len(row) != len(header):
                raise RsPruneError(
                    f"{where} has {len(row)} fields where the header has {len(header)}; repair or remove it"
                )
            cells = dict(zip(header, row, strict=True))
            for name in essential:
                if not cells[name].strip():
                    raise RsPruneError(f"{where}: {name} is empty; give it, or remove the line")
            for name in numbers:
                fits, says = LIMITS.get(name, NUMBER)
                cell = cells.get(name, "").strip()
                if cell and not (_is_number(cell) and fits(float(cell))):
                    raise RsPruneError(f"{where}: {name}={cell} must be {says}")
            lines.append(reader.line_num)
            accuracies += bool(cells.get("accuracy", "").strip())
    if not lines:
        raise RsPruneError(f"{path}: holds no runs, only the header; write it with rs-prune report table=csv")
    if not accuracies:
        raise RsPruneError(f"{path}: accuracy is empty in every line; there is nothing to report")
    return lines


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
