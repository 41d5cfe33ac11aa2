"""A paper's printed numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from rich.console import Console

from rs_prune.errors import RsPruneError
from rs_prune.results.files import write
from rs_prune.results.paper import nothing, parsed, read_paper
from rs_prune.results.stats import mean_interval
from rs_prune.usage import experiments_folder

DENSE = "dense"
"""The arm of the dense nets in a `paper.csv`."""
COLUMNS = {
    "arm": "arm",
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


def beside(paper: pd.DataFrame, ours: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per arm, data set, net and budget, ours or printed: both accuracies, our interval, the difference.

    A printed row without a `keep` belongs to every budget of its arm; one whose arm is `dense` to the dense nets.

    Args:
        paper: What `printed_numbers` gives.
        ours: Arm -> its runs, as `records.runs` gives them.
    """
    found = []
    used: set[int] = set()
    for arm, runs in {DENSE: _dense(ours), **ours}.items():
        for (dataset, net, keep), group in runs.groupby(["dataset", "net", "keep"], sort=False):
            mean, low, high = mean_interval(group["accuracy"])
            row = {
                "arm": arm,
                "dataset": dataset,
                "net": net,
                "keep": keep,
                "ours": 100 * mean,
                "half": 100 * (high - low) / 2,
                "seeds": len(group),
                "params": group["params"].mean() / 1e6,
                "macs": group["macs"].mean() / 1e6,
            }
            printed = paper[
                (paper["arm"] == arm)
                & (paper["dataset"] == dataset)
                & (paper["net"] == net)
                & ((paper["keep"] == "") | (pd.to_numeric(paper["keep"], errors="coerce") == keep))
            ]
            used |= set(printed.index)
            found += [row | _printed(line) for _, line in printed.iterrows()] or [row]
    found += [
        {"arm": line["arm"], "dataset": line["dataset"], "net": line["net"]} | _printed(line)
        for index, line in paper.iterrows()
        if index not in used
    ]
    table = pd.DataFrame(found, columns=list(COLUMNS))
    table["difference"] = table["ours"] - table["paper"]
    return table


def _dense(ours: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The dense nets without attention of all arms, each once, as if they were runs."""
    runs = pd.concat(ours.values(), ignore_index=True)
    plain = runs[(runs["attention"] == "none") & runs["dense_accuracy"].notna()]
    once = plain.drop_duplicates(["dataset", "net", "seed", "epochs", "dense_accuracy"])
    return once.assign(accuracy=once["dense_accuracy"], params=once["dense_params"], macs=once["dense_macs"], keep=1.0)


def write_beside(table: pd.DataFrame, folder: Path) -> list[Path]:
    """`beside.csv` and `beside.md`."""
    text = _text(table)
    align = ["left" if name in ("arm", "dataset", "net", "source") else "right" for name in table]
    shown = text.rename(columns=COLUMNS).to_markdown(index=False, disable_numparse=True, colalign=align)
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
    return text
