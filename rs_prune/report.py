"""Read the records of finished runs into tables, figures and a page."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig
from rich.console import Console

from rs_prune.build import build, is_wandb
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.results import records
from rs_prune.results.classes import table as per_class
from rs_prune.results.paper import nothing, read_paper
from rs_prune.results.show import print_skipped, print_table
from rs_prune.results.stats import summarise


def main(cfg: DictConfig) -> None:
    """Write every table, figure and page of the config; print the table, what was skipped, and the paths."""
    console = Console(quiet=cfg.quiet)
    found = [] if cfg.runs is not None else records.load(Path(cfg.out) / "records")
    runs = records.runs(found) if cfg.runs is None else records.read(Path(cfg.runs))
    skipped = records.skipped(found)
    paper = nothing() if cfg.paper is None else read_paper(Path(cfg.paper))
    print_skipped(console, skipped)
    if runs.empty:
        raise RsPruneError(
            f"{cfg.runs or Path(cfg.out) / 'records'}: no finished run to report ({len(skipped)} skipped); "
            f"first do: rs-prune run out={cfg.out}"
        )
    print_table(console, runs)
    paths = documents(cfg, console, runs, found, paper, _command(cfg))
    send(cfg, runs, found, paper, paths)


def documents(
    cfg: DictConfig,
    console: Console,
    runs: pd.DataFrame,
    found: list[dict[str, Any]],
    paper: pd.DataFrame,
    command: str,
    passes: type[RsPruneError] = DoesNotApply,
) -> list[Path]:
    """Writes every table, figure and page of the config, and prints their paths; says which have nothing to show.

    Args:
        cfg: With `table`, `figure`, `page` and the folder `report`.
        console: Where paths are printed.
        runs: One row a run.
        found: The records they come from, where there are any.
        paper: A paper's printed numbers.
        command: What gives the same documents again.
        passes: An error of this kind costs its document alone.
    """
    given = {"summary": summarise(runs), "runs": runs, "folder": Path(cfg.report)}
    further = {"records": found, "paper": paper, "command": command}
    paths = []
    for kind, values in (("table", given), ("figure", given), ("page", given | further)):
        for name, node in (cfg.get(kind) or {}).items():
            try:
                paths += build(node, f"{kind}.{name}")(**values)
            except passes as reason:
                console.print(f"{kind} {name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    for path in paths:
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    return paths


def _command(cfg: DictConfig) -> str:
    """What gives the same report again."""
    source = "out" if cfg.runs is None else "runs"
    keys = [key for key in (source, "paper", "report") if cfg[key] is not None]
    return shlex.join(["rs-prune", "report", *(f"{key}={cfg[key]}" for key in keys)])


def send(
    cfg: DictConfig,
    runs: pd.DataFrame,
    found: list[dict[str, Any]],
    paper: pd.DataFrame,
    paths: list[Path],
    name: str = "report",
) -> None:
    """Under `logger=wandb`: every table that has rows, every PNG and every page, in one Weights & Biases run.

    Args:
        cfg: With `logger`.
        runs: One row a run.
        found: The records they come from, where there are any.
        paper: A paper's printed numbers.
        paths: What `documents` wrote.
        name: Of the run.
    """
    if not is_wandb(cfg.get("logger")):
        return
    logger = build(cfg.logger, "logger", job_type="report", name=name)
    import wandb

    tables = {path.stem: pd.read_csv(path) for path in paths if path.suffix == ".csv"}
    tables |= {"table": summarise(runs), "runs": runs, "per_class": per_class(found), "paper": paper}
    sent: dict[str, Any] = {}
    for title, table in tables.items():
        rows = [[None if pd.isna(cell) else cell for cell in row] for row in table.astype(object).to_numpy()]
        if rows:
            sent[title] = wandb.Table(columns=list(table), data=rows)
    sent |= {path.stem: wandb.Image(str(path)) for path in paths if path.suffix == ".png"}
    sent |= {path.stem: wandb.Html(str(path), inject=False) for path in paths if path.suffix == ".html"}
    logger.experiment.log(sent)
    logger.experiment.finish()
