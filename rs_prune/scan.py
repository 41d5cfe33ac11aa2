"""Prune one group at a time, and see what each costs in accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig
from rich.console import Console
from torch import nn
from torch.nn import functional as F

from rs_prune.contracts import Plan, RemoveChannels
from rs_prune.deploy.latency import machine_shared
from rs_prune.errors import RsPruneError
from rs_prune.job import Job
from rs_prune.pruning.cost import CostModel
from rs_prune.pruning.gate import detach
from rs_prune.pruning.surgery import mask_error, remove
from rs_prune.results.files import write
from rs_prune.results.heatmap import Panel, heat_maps
from rs_prune.results.store import digest
from rs_prune.view import View, checked_images, trained, untrained


def main(cfg: DictConfig) -> None:
    """Writes `scan.csv` and a heat map of one trained dense net; prints the table as it grows, and the paths."""
    job = Job(cfg)
    shares, images = _shares(cfg.shares), checked_images("images", cfg.images)
    untrained(job).scores(job.criterion)
    console = Console(quiet=cfg.quiet, highlight=False, soft_wrap=True)
    view = trained(job)
    table = _scan(job, view, shares, images, console)
    if view.seen and not console.quiet:
        gated, _ = _measure(job, view.net, images)
        console.print(f"share 0 is the net with its mean gates folded in; with gates it has {gated:.1%}")
    looked = digest([job.plain["criterion"], shares, images])[:8]
    folder = job.store.out / "scan" / job.dense_id / f"{job.choices['criterion']}-{looked}"
    paths = [
        write(folder / "scan.csv", table.to_csv(index=False).encode()),
        *_draw(table, job, folder, bool(view.seen)),
    ]
    for path in paths:
        console.print(str(path), markup=False)


def _scan(job: Job, view: View, shares: Sequence[float], images: int | None, console: Console) -> pd.DataFrame:
    """One row for every group and share, and one of share 0: validation accuracy and loss, nothing fine-tuned."""
    scores = view.scores(job.criterion)
    net, groups, example = detach(view.net).cpu(), view.graph.groups, job.data.example()
    cost = CostModel(net, groups, example)
    few = next(job.data.batches("val", limit=16))["image"]
    dense = _measure(job, net, images)
    wide = max(len(group.name) for group in groups)
    console.print(f"{job.choices['net']} on {job.choices['dataset']}, attention={job.choices['attention']}, "
                  f"criterion={job.choices['criterion']}: validation accuracy (%) with one group pruned")  # fmt: skip
    console.print(f"{'':{wide}}  channels  share: {'  '.join(f'{share:4.2g}' for share in (0.0, *shares))}")
    rows: list[dict[str, Any]] = []
    for column, group in enumerate(groups):
        order = np.argsort(scores[group.name].double().numpy(), kind="stable").tolist()
        known = {group.channels: dense}
        for share in (0.0, *shares):
            kept = max(1, group.channels - round(share * group.channels))
            counts = cost.channels.copy()
            counts[column] = kept
            predicted = cost.predict(counts)
            if kept not in known:
                gone = RemoveChannels(group.name, tuple(sorted(order[: group.channels - kept])))
                plan = Plan((gone,), predicted)
                if share == max(shares):
                    mask_error(net, plan, groups, few, tolerance=job.cfg.mask_check.tolerance)
                known[kept] = _measure(job, remove(net, plan, groups), images)
            row = {"group": group.name, "channels": group.channels, "share": share, "kept": kept}
            rows.append(row | {"macs": predicted.macs, "val_accuracy": known[kept][0], "val_loss": known[kept][1]})
        found = [row["val_accuracy"] for row in rows[-len(shares) - 1 :]]
        console.print(f"{group.name:{wide}}  {group.channels:8}         "
                      + " ".join(f"{accuracy:5.1%}"[:-1].rjust(5) for accuracy in found))  # fmt: skip
    return pd.DataFrame(rows)


@torch.inference_mode()
def _measure(job: Job, net: nn.Module, images: int | None) -> tuple[float, float]:
    """Accuracy, and mean cross entropy, on validation images."""
    net = net.to(job.device).eval()
    right = total = loss = 0.0
    for batch in job.data.batches("val", limit=images, device=job.device):
        with machine_shared():
            logits = net(batch["image"])
        right += int((logits.argmax(1) == batch["label"]).sum())
        loss += float(F.cross_entropy(logits, batch["label"], reduction="sum"))
        total += len(logits)
    net.cpu()
    return right / total, loss / total


def _draw(table: pd.DataFrame, job: Job, folder: Path, any_gates: bool) -> list[Path]:
    cut = table[table["share"] > 0]
    groups = table[["group", "channels"]].drop_duplicates()
    accuracy = 100 * cut.pivot(index="group", columns="share", values="val_accuracy").loc[groups["group"]]
    dense = 100 * float(table["val_accuracy"].iloc[0])
    words = job.choices
    values = accuracy.to_numpy(float)
    panel = Panel(
        values=values,
        title=f"{words['net']} on {words['dataset']}, attention={words['attention']}, criterion={words['criterion']}\n"
        f"{'gates folded' if any_gates else 'dense'} {dense:.1f} %; one group pruned at a time, nothing fine-tuned",
        label="validation accuracy (%)",
        limits=(float(values.min()), max(dense, float(values.max()))),
    )
    return heat_maps(
        [panel],
        folder / "sensitivity",
        rows=[f"{name} ({channels})" for name, channels in groups.itertuples(index=False)],
        columns=[f"{share:g}" for share in accuracy.columns],
        x="share of the group's channels removed",
        y="group (channels)",
    )


def _shares(shares: Any) -> list[float]:
    """The shares in rising order."""
    found = list(_numbers(shares))
    if not found or not all(0 < share < 1 for share in found):
        raise RsPruneError(f"shares={shares}: must be a list of numbers between 0 and 1, such as [0.25,0.5,0.75]")
    return sorted(set(found))


def _numbers(values: Any) -> Iterator[float]:
    for value in values if hasattr(values, "__iter__") and not isinstance(values, str) else ():
        yield float(value) if isinstance(value, (int, float)) else -1.0
