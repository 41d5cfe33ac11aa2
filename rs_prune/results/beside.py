"""A paper's printed numbers beside ours."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from rs_prune.errors import RsPruneError
from rs_prune.results.documents import one_line
from rs_prune.results.files import write
from rs_prune.results.paper import nothing, parsed, read_paper
from rs_prune.results.stats import OPTIONAL, dense, rows, summarise
from rs_prune.usage import experiments_folder

DENSE = "dense"
"""The arm of the dense nets in a `paper.csv`."""
COLUMNS = {
    "arm": "arm",
    "words": "within it",
    "dataset": "data set",
    "net": "net",
    "keep": "keep",
    "paper": "paper (%)",
    "ours": "ours (%)",
    "half": "±",
    "seeds": "seeds",
    "difference": "ours - paper (points)",
    "params": "params (M)",
    "paper_params": "paper's params",
    "macs": "MACs (M)",
    "paper_macs": "paper's MACs",
    "source": "printed in",
}


def printed_numbers(item: str) -> pd.DataFrame:
    """The `paper.csv` of an experiment, with the arm that each row is of; no rows where there is none.

    Raises:
        RsPruneError: When the file is not one, or does not say which arm, and at which budget, a row is of.
    """
    path = experiments_folder() / item / "paper.csv"
    if not path.exists():
        return nothing().assign(arm="", keep="")
    table = read_paper(path)
    missing = [name for name in ("arm", "keep") if name not in table]
    if missing:
        raise RsPruneError(f"{path}: lacks the columns {', '.join(missing)}, which experiment={item} needs")
    return table


def beside(paper: pd.DataFrame, runs: pd.DataFrame, arms: Mapping[str, Collection[str]]) -> pd.DataFrame:
    """One row per arm, data set, net, budget and whatever else varies within the arm, and one per printed number.

    A printed row without a `keep` belongs to every budget of its arm; one whose arm is `dense` to the dense nets that
    were trained without attention and penalty.

    Args:
        paper: What `printed_numbers` gives.
        runs: All runs, as `records.runs` gives them.
        arms: Arm -> digests of its runs.
    """
    found = []
    used: set[int] = set()
    for row in _ours(runs, arms):
        printed = paper[
            (paper["arm"] == row["arm"])
            & (paper["dataset"] == row["dataset"])
            & (paper["net"] == row["net"])
            & ((paper["keep"] == "") | (pd.to_numeric(paper["keep"], errors="coerce") == row["keep"]))
            & ("penalty=slimming" not in row["words"])
        ]
        used |= set(printed.index)
        found += [row | _printed(line) for _, line in printed.iterrows()] or [row]
    found += [
        {"arm": line["arm"], "dataset": line["dataset"], "net": line["net"]} | _printed(line)
        for index, line in paper.iterrows()
        if index not in used
    ]
    table = pd.DataFrame(found, columns=list(COLUMNS))
    table["words"] = table["words"].fillna("")
    table["difference"] = table["ours"] - table["paper"]
    return table


def _ours(runs: pd.DataFrame, arms: Mapping[str, Collection[str]]) -> Iterator[dict[str, Any]]:
    """The dense nets without attention, then the arms: means over seeds alone."""
    plain = runs[runs["attention"] == "none"]
    if len(plain):
        nets = dense(plain)
        yield from _rows(DENSE, nets, [name for name in ("epochs", "variant") if nets[name].nunique() > 1])
    for arm, digests in arms.items():
        mine = runs[runs["digest"].isin(digests)]
        if len(mine):
            table = summarise(mine)
            yield from _rows(arm, table, [n for n in ("attention", "criterion", *OPTIONAL) if table[n].nunique() > 1])


def _rows(arm: str, table: pd.DataFrame, named: Sequence[str]) -> Iterator[dict[str, Any]]:
    for row in rows(table):
        words = [str(row[name]) if name == "variant" else f"{name}={row[name]}" for name in named]
        yield {
            "arm": arm,
            "words": " ".join(word for word in words if word),
            **{name: row[name] for name in ("dataset", "net", "keep", "seeds")},
            "ours": 100 * row["accuracy"],
            "half": 100 * (row["accuracy_high"] - row["accuracy_low"]) / 2,
            "params": row["params"] / 1e6,
            "macs": row["macs"] / 1e6,
        }


def write_beside(table: pd.DataFrame, folder: Path) -> list[Path]:
    """`beside.csv` and `beside.md`."""
    text = _text(table)
    align = ["left" if name in ("arm", "words", "dataset", "net", "source") else "right" for name in table]
    plain = text.map(lambda cell: cell.replace("|", "\\|"))
    shown = plain.rename(columns=COLUMNS).to_markdown(index=False, disable_numparse=True, colalign=align)
    notes = "Ours: mean over seeds and half of its 95 % t-interval. An empty cell: not run here, or not printed there."
    return [
        write(folder / "beside.csv", table.to_csv(index=False).encode()),
        write(folder / "beside.md", f"{shown}\n\n{notes}\n".encode()),
    ]


def print_beside(console: Console, table: pd.DataFrame) -> None:
    """The table on the screen, without the columns that are for documents."""
    if table["paper"].notna().any():
        shown = _text(table).drop(columns=["source", "paper_params", "paper_macs"]).rename(columns=COLUMNS)
        console.print(shown.to_string(index=False), markup=False)


def _printed(line: pd.Series[str]) -> dict[str, object]:
    share = parsed(line.to_frame().T)[0]["accuracy"]
    return {
        "paper": float("nan") if share is None else 100 * share,
        "paper_params": line["params"],
        "paper_macs": line["macs"],
        "source": line["source"],
    }


def _text(table: pd.DataFrame) -> pd.DataFrame:
    digits = {"keep": 4, "paper": 1, "ours": 2, "half": 2, "seeds": 0, "difference": 2, "params": 3, "macs": 1}
    text = table.astype(object).where(table.notna(), "")
    for name, places in digits.items():
        text[name] = [cell if cell == "" else f"{cell:.{places}f}" for cell in text[name]]
    text["keep"] = [cell.rstrip("0").rstrip(".") if cell else cell for cell in text["keep"]]
    return text.map(lambda cell: one_line(str(cell)))
