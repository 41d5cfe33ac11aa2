"""Read the records of finished runs into tables, figures and a page."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from rs_prune.build import build, is_wandb
from rs_prune.cli import TRACEBACK
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.results import records
from rs_prune.results.classes import table as per_class
from rs_prune.results.paper import nothing, read_paper
from rs_prune.results.show import print_skipped, print_table
from rs_prune.results.stats import summarise

KINDS = ("table", "figure", "page")


def main(cfg: DictConfig) -> None:
    """Write every table, figure and page of the config; print the table, what was skipped, and the paths."""
    console = Console(quiet=cfg.quiet)
    made = build_documents(cfg)
    found = [] if cfg.runs is not None else records.load(Path(name_of(cfg, "out")) / "records")
    runs = records.runs(found) if cfg.runs is None else records.read(Path(str(cfg.runs)))
    skipped = records.skipped(found)
    paper = nothing() if cfg.paper is None else read_paper(Path(str(cfg.paper)))
    print_skipped(console, skipped)
    if runs.empty:
        raise RsPruneError(
            f"{cfg.runs or Path(cfg.out) / 'records'}: no finished run to report ({len(skipped)} skipped); "
            f"first do: rs-prune run out={cfg.out}"
        )
    print_table(console, runs)
    paths, failures = write_documents(made, console, runs, found, paper, _command())
    send(cfg, runs, found, paper, paths)
    if failures:
        raise failed_documents(failures)


@dataclass(frozen=True)
class Documents:
    """Every table, figure and page of a configuration, built, and the folder that they go to.

    Attributes:
        folder: Where they go.
        makers: Kind, name and the object that writes it.
        compared: Names of the tables that compare with a baseline.
    """

    folder: Path
    makers: tuple[tuple[str, str, Callable[..., list[Path]]], ...]
    compared: frozenset[str]


def build_documents(cfg: DictConfig) -> Documents:
    """Builds what will be written, before anything is.

    Args:
        cfg: With `table`, `figure`, `page` and the folder `report`.

    Raises:
        RsPruneError: When one of them cannot be built, or `report` cannot be a folder.
    """
    folder = Path(name_of(cfg, "report"))
    if folder.exists() and not folder.is_dir():
        raise RsPruneError(f"report={folder}: is a file; name a folder")
    nodes = [(kind, str(name), node) for kind in KINDS for name, node in (cfg.get(kind) or {}).items()]
    return Documents(
        folder=folder,
        makers=tuple((kind, name, build(node, f"{kind}.{name}")) for kind, name, node in nodes),
        compared=frozenset(name for _, name, node in nodes if node.get("baseline") is not None),
    )


def write_documents(
    made: Documents,
    console: Console,
    runs: pd.DataFrame,
    found: list[dict[str, Any]],
    paper: pd.DataFrame,
    command: str,
    partial: bool = False,
) -> tuple[list[Path], list[str]]:
    """Writes every document, and prints their paths; one that fails costs none of the others.

    Args:
        made: What `build_documents` gives.
        console: Where paths are printed, and what has nothing to show.
        runs: One row a run.
        found: The records they come from, where there are any.
        paper: A paper's printed numbers.
        command: What gives the same documents again.
        partial: Whether runs are missing, so that a table may lack its baseline.

    Returns:
        The paths, and one line for every document that failed.
    """
    given = {"summary": summarise(runs), "runs": runs, "folder": made.folder}
    further = {"records": found, "paper": paper, "command": command}
    paths: list[Path] = []
    failures: list[str] = []
    for kind, name, make in made.makers:
        try:
            paths += make(**given, **(further if kind == "page" else {}))
        except RsPruneError as reason:
            if isinstance(reason, DoesNotApply) or (partial and name in made.compared):
                console.print(f"{kind} {name}: {reason}", markup=False, highlight=False, soft_wrap=True)
            else:
                failures.append(str(reason))
        except (ArithmeticError, TypeError, ValueError) as reason:
            if TRACEBACK in os.environ:
                raise
            text = " ".join(str(reason).split()) or type(reason).__name__
            failures.append(f"{kind}.{name}: cannot be made with its options: {text} (--traceback shows where)")
    for path in paths:
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    return paths, failures


def failed_documents(failures: Sequence[str]) -> RsPruneError:
    """One line for all."""
    others = len(failures) - 1
    return RsPruneError(failures[0] + (f" (and {others} more {'fail' if others > 1 else 'fails'})" if others else ""))


def name_of(cfg: DictConfig, key: str) -> str:
    """The folder or file that a key names.

    Raises:
        RsPruneError: When it names none.
    """
    if cfg[key] is None or not str(cfg[key]):
        raise RsPruneError(f"{key}: names no folder; set {key}=<folder>")
    return str(cfg[key])


def _command() -> str:
    """What gives the same report again: the words as they were given."""
    words = [word for word in HydraConfig.get().overrides.task if word != "quiet=true"]
    return shlex.join(["rs-prune", "report", *words])


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
        paths: What `write_documents` wrote.
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
