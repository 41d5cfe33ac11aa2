"""Run a published experiment with its controls, and lay it beside the printed numbers."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from rs_prune.cli import Outcomes, runs_of
from rs_prune.errors import RsPruneError, one_line
from rs_prune.report import build_documents, failed_documents, send, write_documents
from rs_prune.results import records
from rs_prune.results.beside import beside, print_beside, printed_numbers, write_beside
from rs_prune.results.files import write
from rs_prune.results.show import print_skipped, print_table
from rs_prune.sweep import Arm, arms, wandb_sweep


def main(cfg: DictConfig) -> None:
    """Runs every arm of the experiment at a scale (what is done is not done again); writes and prints what came out.

    Raises:
        RsPruneError: When the experiment has no such scale or a document cannot be built, before anything runs; when
            runs or documents failed, after the others were reported.
    """
    console = Console(quiet=cfg.quiet, highlight=False, soft_wrap=True)
    planned = arms(cfg)
    made = build_documents(cfg)
    paper = printed_numbers(cfg.item)
    if cfg.wandb_sweeps is not None:
        for arm in planned:
            path = Path(str(cfg.wandb_sweeps)) / f"{cfg.item}-{arm.name}.yaml"
            console.print(str(write(path, wandb_sweep(cfg.item, arm).encode())), markup=False)
        return
    done, failures = _run(cfg, planned, console)
    found = {path: records.read_record(path) for path in sorted({path for paths in done.values() for path in paths})}
    everything = list(found.values())
    runs = records.runs(everything)
    if runs.empty:
        raise RsPruneError(f"experiment={cfg.item}: no run was finished; {failures[0] if failures else 'all skipped'}")
    print_skipped(console, records.skipped(everything))
    print_table(console, runs)
    table = beside(paper, runs, {name: {found[path]["digest"] for path in paths} for name, paths in done.items()})
    print_beside(console, table)
    paths = write_beside(table, made.folder)
    for path in paths:
        console.print(str(path), markup=False)
    partial = bool(cfg.only is not None or cfg.words or failures or cfg.scale == "smoke")
    written, faults = write_documents(made, console, runs, everything, paper, _command(cfg), partial)
    send(cfg, runs, everything, paper, [*paths, *written], f"{cfg.item}-{cfg.scale}")
    for line in cfg.differs:
        console.print(f"Differs from the paper: {line}", markup=False)
    if failures:
        raise RsPruneError(f"experiment={cfg.item}: {len(failures)} runs failed; the first: {failures[0]}")
    if faults:
        raise failed_documents(faults)


def _command(cfg: DictConfig) -> str:
    """What gives the same runs again."""
    words = ["rs-prune", "reproduce", f"experiment={cfg.item}", f"scale={cfg.scale}"]
    if cfg.only is not None:
        only = cfg.only if isinstance(cfg.only, str) else f"[{','.join(cfg.only)}]"
        words.append(f"only={only}")
    return shlex.join(words) + (f" -- {cfg.words}" if cfg.words else "")


def _run(cfg: DictConfig, planned: list[Arm], console: Console) -> tuple[dict[str, list[Path]], list[str]]:
    """Arm by arm: the records of its runs, and one line for every run that failed."""
    tally = Tally(sum(arm.runs for arm in planned))
    made: dict[str, list[Path]] = {}
    failures: list[str] = []
    for number, arm in enumerate(planned, 1):
        console.print(f"{cfg.item} {cfg.scale}: arm {number} of {len(planned)}, {arm.name}: "
                      f"{arm.runs} {'run' if arm.runs == 1 else 'runs'}; {tally}", markup=False)  # fmt: skip
        before = tally.ended

        def told(outcomes: Outcomes, arm: Arm = arm, before: int = before) -> None:
            tally.count(outcomes, before)
            if tally.ended < before + arm.runs:  # else the next line says it
                console.print(f"{cfg.item} {cfg.scale}: {tally}", markup=False)

        try:
            paths, failed = runs_of("run", ["-m", *arm.words], told)
        except Exception as error:  # words that cannot be composed: the other arms go on
            paths, failed = [], [f"arm {arm.name}: {one_line(error)}"]
        tally.count((paths, failed), before)
        tally.ended = before + arm.runs
        made[arm.name] = paths
        failures += failed
    return made, failures


class Tally:
    """How many runs have ended, and how long the others will take.

    Args:
        total: How many runs there are.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.ended = 0
        self.started = time.time()
        self.made: set[Path] = set()

    def count(self, outcomes: Outcomes, before: int) -> None:
        """Takes in what the runs of an arm came to so far, of which `before` runs had ended when it began."""
        paths, failed = outcomes
        self.ended = before + len(paths) + len(failed)
        self.made |= {path for path in paths if path.stat().st_mtime >= self.started}

    def __str__(self) -> str:
        """Runs that were found done cost nothing, and say nothing of the time that is left."""
        said = f"{self.ended} of {self.total} runs done"
        if not self.made or self.ended == self.total:
            return said
        seconds = (time.time() - self.started) / len(self.made) * (self.total - self.ended)
        return f"{said}, about {seconds / 60:.0f} min left"
