"""See how far criteria agree on one trained net."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor

from rs_prune.build import build
from rs_prune.contracts import Scores
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.job import Job
from rs_prune.results.files import write
from rs_prune.results.heatmap import Panel, heat_maps
from rs_prune.results.store import digest
from rs_prune.view import trained, untrained

MEAN = "all groups"


def main(cfg: DictConfig) -> None:
    """Writes `compare.csv` and a picture of the mean agreement; prints it, who was left out, and the paths."""
    job = Job(cfg)
    if not isinstance(cfg.keep, (int, float)) or isinstance(cfg.keep, bool) or not 0 < cfg.keep < 1:
        raise RsPruneError(f"keep={cfg.keep}: must be a number between 0 and 1, the share of a group that stays")
    console = Console(quiet=cfg.quiet, highlight=False, soft_wrap=True)
    criteria = {name: _criterion(cfg, name) for name in _names(cfg)}
    first = untrained(job)
    for name, criterion in list(criteria.items()):
        try:
            first.scores(criterion)
        except DoesNotApply as reason:
            console.print(f"left out: {name} ({reason})", markup=False)
            del criteria[name]
    if len(criteria) < 2:
        raise RsPruneError("criteria: fewer than two apply to this net; name others, or null for all that do")
    view = trained(job)
    scores = {}
    for place, (name, criterion) in enumerate(criteria.items(), 1):
        console.print(f"scoring {place}/{len(criteria)}: {name}", markup=False)
        scores[name] = view.scores(criterion)
    table = agreement(scores, float(cfg.keep))
    looked = digest([list(criteria), float(cfg.keep), job.plain["criterion"], cfg.observe.images])[:8]
    folder = job.store.out / "compare" / job.dense_id / looked
    paths = [write(folder / "compare.csv", table.to_csv(index=False).encode()), *_draw(table, job, folder)]
    _print(table, list(scores), float(cfg.keep), console)
    for path in paths:
        console.print(str(path), markup=False)


def agreement(scores: dict[str, Scores], keep: float) -> pd.DataFrame:
    """How far criteria agree, pair by pair: in every group, and over all of them, weighted by channels.

    Args:
        scores: Criterion -> its scores.
        keep: Share of a group's channels that stays.

    Returns:
        criterion_a, criterion_b, group, rho (Spearman's rank correlation; nan where a criterion scores all channels
        of a group alike) and overlap (of the channels that one keeps, the share that the other keeps too; `keep` is
        what chance gives). The mean is in the rows of the group `all groups`; it leaves out what is nan.
    """
    rows: list[dict[str, Any]] = []
    for a, b in combinations(scores, 2):
        pair = {"criterion_a": a, "criterion_b": b}
        found = [
            {"group": group, "rho": _rho(scores[a][group], scores[b][group]),
             "overlap": _overlap(scores[a][group], scores[b][group], keep)}
            for group in scores[a]
        ]  # fmt: skip
        weights = np.array([len(values) for values in scores[a].values()], dtype=float)
        mean = {key: _mean(np.array([row[key] for row in found], dtype=float), weights) for key in ("rho", "overlap")}
        rows += [pair | row for row in [*found, {"group": MEAN, **mean}]]
    return pd.DataFrame(rows)


def _rho(a: Tensor, b: Tensor) -> float:
    ranks = pd.DataFrame({"a": a.double().numpy(), "b": b.double().numpy()}).rank()
    if len(ranks) < 2 or (ranks.nunique() == 1).any():
        return float("nan")
    return float(np.corrcoef(ranks["a"], ranks["b"])[0, 1])


def _overlap(a: Tensor, b: Tensor, keep: float) -> float:
    kept = max(1, round(keep * len(a)))
    stay = [
        set(values.double().argsort(stable=True)[-kept:].tolist()) for values in (a, b)
    ]  # as the planner breaks ties
    return len(stay[0] & stay[1]) / kept


def _mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    there = ~np.isnan(values)
    return float(np.average(values[there], weights=weights[there])) if there.any() else float("nan")


def _names(cfg: DictConfig) -> list[str]:
    """The criteria to compare: those asked for, or every option there is, also on the user's own search path."""
    sources = HydraConfig.get().runtime.config_sources
    folders = [Path(source.path) / "criterion" for source in sources if source.schema == "file"]
    options = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    if cfg.criteria is None:
        return options
    if not OmegaConf.is_list(cfg.criteria):
        raise RsPruneError(f"criteria={cfg.criteria}: must be a list, such as [l1,random]")
    names = list(dict.fromkeys(str(name) for name in cfg.criteria))
    unknown = [name for name in names if name not in options]
    if unknown:
        raise RsPruneError(f"criteria: no criterion {unknown[0]}; the options are {', '.join(options)}")
    return names


def _criterion(cfg: DictConfig, name: str) -> Any:
    """A criterion with its defaults; the one that is `criterion=` with the options that were given for it."""
    runtime = HydraConfig.get().runtime
    if name == runtime.choices["criterion"]:
        return build(cfg.criterion, "criterion")
    files = [Path(source.path) / "criterion" / f"{name}.yaml" for source in runtime.config_sources]
    whole = OmegaConf.create({**cfg, "criterion": OmegaConf.load(next(file for file in files if file.is_file()))})
    return build(whole.criterion, "criterion")


def _matrix(table: pd.DataFrame, names: list[str], key: str) -> NDArray[np.float64]:
    """(criteria, criteria) mean agreement; the diagonal is 1."""
    mean = table[table["group"] == MEAN].set_index(["criterion_a", "criterion_b"])[key].to_dict()
    return np.array([[1.0 if a == b else mean.get((a, b), mean.get((b, a))) for b in names] for a in names])


def _draw(table: pd.DataFrame, job: Job, folder: Path) -> list[Path]:
    names = list(dict.fromkeys([*table["criterion_a"], *table["criterion_b"]]))
    panels = [
        Panel(values=_matrix(table, names, "rho"), title="ranks of the channels", label="Spearman's rho",
              limits=(-1.0, 1.0), colours="PuOr", digits=2),
        Panel(values=_matrix(table, names, "overlap"), title=f"the {job.cfg.keep:.0%} of each group that stay",
              label="share in common", limits=(0.0, 1.0), digits=2),
    ]  # fmt: skip
    words = job.choices
    title = f"{words['net']} on {words['dataset']}, attention={words['attention']}: agreement of criteria"
    return heat_maps(panels, folder / "agreement", rows=names, columns=names, title=title)


def _print(table: pd.DataFrame, names: list[str], keep: float, console: Console) -> None:
    """Rho below the diagonal, overlap above it."""
    rho, overlap = _matrix(table, names, "rho"), _matrix(table, names, "overlap")
    wide = max(len(name) for name in names)
    console.print(f"Spearman's rho below the diagonal; share of the kept {keep:.0%} in common above it")
    console.print(" " * (wide + 4) + "".join(f"{place:6}" for place in range(1, len(names) + 1)))
    for row, name in enumerate(names):
        values = [*rho[row, :row], np.nan, *overlap[row, row + 1 :]]
        cells = ["     -" if np.isnan(value) else f"{round(value, 2) + 0.0:6.2f}" for value in values]
        console.print(f"{row + 1:3} {name:{wide}}{''.join(cells)}", markup=False)
