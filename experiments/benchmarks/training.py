"""Our training (Lightning, with its callbacks and logs) beside a bare PyTorch loop, on the same net and batches.

Both take the same augmented batches of real EuroSAT from the same data module, with the same optimiser and learning
rates. A step lasts from the end of one to the end of the next, so that everything between batches counts; validation
does not. The two alternate, and the ratio of the median steps counts: in wall time, and in processor time, which other
work on the machine disturbs less.

    RS_PRUNE_DATA=... python experiments/benchmarks/training.py
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import timm
import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from rs_prune.dataset.eurosat import EuroSAT
from rs_prune.results.provenance import hardware
from rs_prune.scenes.load import load
from rs_prune.training.datamodule import SceneData
from rs_prune.training.fit import Recipe, fit
from rs_prune.training.task import one_cycle

ROUNDS = 5
IMAGES = 1300
TRAINER = {"accelerator": "cpu", "devices": 1, "precision": "32-true", "deterministic": "warn"}
OPTIMIZER = partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
Times = list[tuple[float, float]]


def fresh() -> torch.nn.Module:
    torch.manual_seed(0)
    kwargs = {"stem_width": 16, "channels": [32, 64, 128, 256]}
    return timm.create_model("resnet10t", num_classes=10, **kwargs).to(memory_format=torch.channels_last).train()


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


class Watch(pl.Callback):
    def __init__(self) -> None:
        self.times: Times = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(now())


def ours(data: SceneData, folder: Path) -> Times:
    watch = Watch()
    recipe = Recipe(
        loss=F.cross_entropy, optimizer=OPTIMIZER, warmup=0.25, selection="val", seed=0, trainer=TRAINER, quiet=True
    )
    fit(
        fresh(),
        data,
        epochs=1,
        recipe=recipe,
        folder=folder,
        label="benchmark",
        logger=lambda: False,
        callbacks=[watch],
    )
    return watch.times


def bare(data: SceneData) -> Times:
    net, times = fresh(), []
    optimizer = OPTIMIZER(net.parameters())
    schedule = LambdaLR(optimizer, lambda step: one_cycle(step, data.steps(), 0.25))
    for batch in data.train_dataloader():
        batch = data._prepare(batch)
        optimizer.zero_grad()
        F.cross_entropy(net(batch["image"]), batch["label"]).backward()
        optimizer.step()
        schedule.step()
        times.append(now())
    return times


def steps(times: Times) -> list[tuple[float, float]]:
    """Wall and processor seconds of every step but the first five."""
    return [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(times[4:])]


def compared(data: SceneData, threads: int, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(threads)
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": []}
    for number in range(ROUNDS):
        found["bare"] += steps(bare(data))
        found["ours"] += steps(ours(data, folder / f"{threads}-{number}"))
    result: dict[str, Any] = {"steps": len(found["ours"])}
    for place, clock in enumerate(("wall", "processor")):
        median = {name: statistics.median(step[place] for step in rows) for name, rows in found.items()}
        result[clock] = {f"{name}_ms": value * 1e3 for name, value in median.items()}
        result[clock]["ratio"] = median["ours"] / median["bare"]
    return result


def main() -> None:
    root = Path(os.environ["RS_PRUNE_DATA"]) / "eurosat_rgb"
    with tempfile.TemporaryDirectory() as folder:
        shares = {"train": 0.6, "val": 0.1, "test": 0.3}
        found = load(
            EuroSAT(root=str(root)), identity="x", shares=shares, seed=0, cache=Path(folder) / "cache", limit=IMAGES
        )
        data = SceneData.of(
            found,
            batch_size=32,
            seed=0,
            flips=True,
            rotations=True,
        )
        result: dict[str, Any] = {"net": "resnet_narrow, 64 px, batch 32", "rounds": ROUNDS}
        for threads in (1, 2):
            result[f"threads_{threads}"] = compared(data, threads, Path(folder))
    result |= {
        "load_average": os.getloadavg()[0],
        "hardware": hardware(torch.device("cpu")),
        "torch": torch.__version__,
        "lightning": pl.__version__,
    }
    print(json.dumps(result, indent=1))
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
