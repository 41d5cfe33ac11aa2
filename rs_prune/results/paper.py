"""A paper's printed numbers, kept letter by letter in a `paper.csv`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from rs_prune.errors import RsPruneError

COLUMNS = ("item", "method", "dataset", "net", "params", "macs", "accuracy", "source")
"""`params` and `macs` as printed, with K, M or G; `accuracy` in percent; `source`: table and row. Others may follow."""
REQUIRED = ("method", "dataset", "net", "source")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]?)\s*(%?)(?:\s*(?:±|\+/-)\s*\d+(?:\.\d+)?\s*%?)?")
_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}


def nothing() -> pd.DataFrame:
    """No paper."""
    return pd.DataFrame(columns=list(COLUMNS), dtype=str)


def read_paper(path: Path) -> pd.DataFrame:
    """The rows as text. An empty number is one that was not printed.

    Raises:
        RsPruneError: Naming the file, and the row of what is missing or not a number.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise RsPruneError(f"{path}: cannot be read as paper.csv ({' '.join(str(error).split())})") from None
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise RsPruneError(f"{path}: lacks the columns {', '.join(missing)}; paper.csv has {', '.join(COLUMNS)}")
    for line, row in enumerate(table.to_dict("records"), start=2):
        empty = [name for name in REQUIRED if not row[name].strip()]
        if empty:
            raise RsPruneError(f"{path}: line {line} says nothing for {', '.join(empty)}")
        for name in ("params", "macs", "accuracy"):
            _check(row[name], name, f"{path}: line {line}")
    return table


def parsed(paper: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows with numbers to draw: counts in units, accuracy as a fraction, None where nothing is printed."""
    return [
        {name: str(row[name]) for name in ("item", "method", "dataset", "net", "source")}
        | {"printed": {name: str(row[name]) for name in ("params", "macs", "accuracy")}}
        | {"params": _value(row["params"]), "macs": _value(row["macs"])}
        | {"accuracy": None if (share := _value(row["accuracy"])) is None else share / 100}
        for row in paper.to_dict("records")
    ]


def _check(text: str, name: str, where: str) -> None:
    found = _NUMBER.fullmatch(text.strip())
    wrong = found is None or bool(found[2] if name == "accuracy" else found[3])
    if text.strip() and (wrong or (name == "accuracy" and float(found[1]) > 100)):  # type: ignore[index]
        form = "a percentage such as 92.2" if name == "accuracy" else "a number such as 0.02G or 1.00M"
        raise RsPruneError(f"{where}: {name}={text} must be {form}, or empty if it is not printed")


def _value(text: str) -> float | None:
    found = _NUMBER.fullmatch(text.strip())
    return float(found[1]) * _UNITS[found[2]] if found else None
