"""Soft pruning from epoch to epoch: which channels are cut again, and what cutting them costs.

On EuroSAT with a fifth of the training part, resnet_narrow, 10 epochs, `budget=params budget.keep=0.6`, seed 0. Writes
overlap.csv, one row an epoch: criterion, gradients, epoch; the share of the channels masked at its end that the epoch
before had masked too; the norm of the filters that the epoch before had masked, as a share of the others' (median);
validation accuracy before and after the masks are set.

    RS_PRUNE_DATA=... python experiments/pfam/overlap.py
"""

from __future__ import annotations

import copy
import csv
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from rs_prune.cli import main as rs_prune
from rs_prune.criterion.l2 import L2
from rs_prune.pruning.gate import bare
from rs_prune.pruning.masking import bake, masked_channels
from rs_prune.pruning.scores import evidence
from rs_prune.results.records import load
from rs_prune.schedule import soft
from rs_prune.training.course import net_of
from rs_prune.training.fit import evaluate
from rs_prune.training.masks import SoftMasks, open_all

ARMS = (
    ("l2", "free"),
    ("l2", "masked"),
    ("fpgm", "free"),
    ("correlation", "free"),
    ("correlation", "masked"),
    ("random", "free"),
)
COMMON = (
    "dataset=eurosat split.use=0.2 batch_size=128 trainer.precision=bf16-mixed epochs=10 finetune_epochs=0 "
    "schedule=soft attention=none budget=params budget.keep=0.6 threads=1 latency.seconds=0.05 logger=none quiet=true"
)
SEEN: list[tuple[float, set[tuple[str, int]], float]] = []


class Noting(SoftMasks):
    """Soft masks that note down, at the end of every epoch: accuracy without them, what is cut, the norms regrown."""

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        net = net_of(pl_module)
        graph = self.graph(trainer, net)
        whole = copy.deepcopy(net)
        open_all(whole)
        accuracy, _ = evaluate(whole, trainer.datamodule, "val")
        before = SEEN[-1][1] if SEEN else set()
        scores = L2()(evidence(bake(bare(copy.deepcopy(net))), graph, seed=0, images=0), graph.groups)
        norms = {
            (name, channel): float(n) for name, row in scores.items() for channel, n in enumerate(row / row.mean())
        }
        regrown = [norm for key, norm in norms.items() if key in before]
        others = [norm for key, norm in norms.items() if key not in before]
        super().on_validation_start(trainer, pl_module)
        edits = masked_channels(net, graph)
        cut = {(edit.group, channel) for edit in edits for channel in edit.channels}
        SEEN.append((accuracy, cut, statistics.median(regrown) / statistics.median(others) if regrown else 1.0))


def main() -> None:
    soft.SoftMasks = Noting  # type: ignore[misc]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for criterion, gradients in ARMS:
            SEEN.clear()
            out = Path(folder) / f"{criterion}-{gradients}"
            words = ["run", *COMMON.split(), f"criterion={criterion}", f"schedule.gradients={gradients}", f"out={out}"]
            if rs_prune([*words, f"cache={folder}/cache"]):
                sys.exit(1)
            (record,) = load(out / "records")
            epochs = record["training"]["finetune"][0]
            before: set[tuple[str, int]] = set()
            for epoch, (accuracy, cut, norm) in zip(epochs, SEEN, strict=True):
                again = f"{len(before & cut) / len(cut):.3f}" if before else ""
                shares = f"{accuracy:.4f}", f"{epoch['val_accuracy']:.4f}"
                rows.append([criterion, gradients, epoch["epoch"], again, f"{norm:.3f}" if before else "", *shares])
                before = cut
                print(*rows[-1])
    with Path(__file__).with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["criterion", "gradients", "epoch", "cut_again", "regrown_norm", "whole", "cut"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
