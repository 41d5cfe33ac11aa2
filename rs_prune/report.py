"""Read the records of finished runs into tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig
from rich.console import Console

from rs_prune.build import build
from rs_prune.errors import RsPruneError
from rs_prune.results import records
from rs_prune.results.show import print_skipped, print_table
from rs_prune.results.stats import summarise


def main(cfg: DictConfig) -> None:
    """Write every table and figure of the config; print the table, what was skipped, and the paths."""
    console = Console(quiet=cfg.quiet)
    runs, skipped = _read(cfg)
    print_skipped(console, skipped)
    if runs.empty:
        raise RsPruneError(
            f"{cfg.runs or Path(cfg.out) / 'records'}: no finished run to report ({len(skipped)} skipped); "
            f"first do: rs-prune run out={cfg.out}"
        )
    summary = summarise(runs)
    print_table(console, runs)
    paths = [
        path
        for kind in ("table", "figure")
        for name, node in (cfg.get(kind) or {}).items()
        for path in build(node, f"{kind}.{name}")(summary=summary, runs=runs, folder=Path(cfg.report))
    ]
    for path in paths:
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    if str((cfg.get("logger") or {}).get("_target_", "")).endswith("WandbLogger"):
        _send(build(cfg.logger, "logger", job_type="report", name="report"), summary, paths)


def _read(cfg: DictConfig) -> tuple[pd.DataFrame, list[tuple[str, dict[str, Any]]]]:
    if cfg.runs is not None:
        return records.read(Path(cfg.runs)), []
    found = records.load(Path(cfg.out) / "records")
    return records.runs(found), records.skipped(found)


def _send(logger: Any, summary: pd.DataFrame, paths: list[Path]) -> None:
    """The summary as a table and every PNG as an image, in one Weights & Biases run."""
    import wandb

    rows = [[None if pd.isna(cell) else cell for cell in row] for row in summary.astype(object).to_numpy()]
    images = {path.stem: wandb.Image(str(path)) for path in paths if path.suffix == ".png"}
    logger.experiment.log({"table": wandb.Table(columns=list(summary), data=rows), **images})
    logger.experiment.finish()
