"""Soft pruning's choice from epoch to epoch: how many of the channels that were cut are cut again.

On EuroSAT with a fifth of the training part, resnet_narrow, 10 epochs, `budget=params budget.keep=0.6`, seed 0. Writes
overlap.csv: criterion, gradients, epoch, the share of the channels masked at its end that the epoch before had masked
too, and the validation accuracy of the masked net.

    RS_PRUNE_DATA=... python experiments/pfam_eurosat/overlap.py
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

from rs_prune.cli import main as rs_prune
from rs_prune.pruning.masking import masked_channels
from rs_prune.results.records import load
from rs_prune.schedule import soft
from rs_prune.training.course import net_of
from rs_prune.training.masks import SoftMasks

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
CUT: list[set[tuple[str, int]]] = []


class Noting(SoftMasks):
    """Soft masks that note down what is cut at the end of every epoch."""

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        super().on_validation_start(trainer, pl_module)
        net = net_of(pl_module)
        edits = masked_channels(net, self.graph(trainer, net))
        CUT.append({(edit.group, channel) for edit in edits for channel in edit.channels})


def main() -> None:
    soft.SoftMasks = Noting  # type: ignore[misc]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for criterion, gradients in ARMS:
            CUT.clear()
            out = Path(folder) / f"{criterion}-{gradients}"
            words = ["run", *COMMON.split(), f"criterion={criterion}", f"schedule.gradients={gradients}", f"out={out}"]
            if rs_prune([*words, f"cache={folder}/cache"]):
                sys.exit(1)
            (record,) = load(out / "records")
            epochs = record["training"]["finetune"][0]
            before: set[tuple[str, int]] = set()
            for epoch, now in zip(epochs, CUT, strict=True):
                again = f"{len(before & now) / len(now):.3f}" if before else ""
                rows.append([criterion, gradients, epoch["epoch"], again, f"{epoch['val_accuracy']:.4f}"])
                before = now
            print(*rows[-1])
    with Path(__file__).with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["criterion", "gradients", "epoch", "cut_again", "val_accuracy"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
