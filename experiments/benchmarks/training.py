"""Our training (Lightning, with its callbacks and logs) beside a bare PyTorch loop, on the same net and batches.

Both take augmented batches of real EuroSAT from the same data module, with the same optimiser and learning rates. They
take turns, a step each, so that whatever else the machine does disturbs both alike. A step of ours lasts from the end
of a bare step to the end of ours, with everything that Lightning does between batches; validation is left out. The
ratio of the median steps counts: in wall time, and in processor time.

    RS_PRUNE_DATA=... python experiments/benchmarks/training.py
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
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

IMAGES = 15_000
TRAINER = {"accelerator": "cpu", "devices": 1, "precision": "32-true", "deterministic": "warn"}
OPTIMIZER = partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
Moment = tuple[float, float]
"""Wall and processor time, in seconds."""


def fresh() -> torch.nn.Module:
    torch.manual_seed(0)
    kwargs = {"stem_width": 16, "channels": [32, 64, 128, 256]}
    return timm.create_model("resnet10t", num_classes=10, **kwargs).to(memory_format=torch.channels_last).train()


def now() -> Moment:
    return time.perf_counter(), time.process_time()


def bare(data: SceneData) -> Iterator[None]:
    """A training loop, a step at a time."""
    net = fresh()
    optimizer = OPTIMIZER(net.parameters())
    schedule = LambdaLR(optimizer, lambda step: one_cycle(step, data.steps(), 0.25))
    for batch in data.train_dataloader():
        batch = data._prepare(batch)
        optimizer.zero_grad()
        F.cross_entropy(net(batch["image"]), batch["label"]).backward()
        optimizer.step()
        schedule.step()
        yield


class Turns(pl.Callback):
    """After every step of ours, one of the other."""

    def __init__(self, other: Iterator[None]) -> None:
        self.other = other
        self.begun: Moment | None = None
        self.steps: dict[str, list[Moment]] = {"ours": [], "bare": []}

    def on_train_batch_end(self, *_: Any) -> None:
        ended = now()
        next(self.other)
        both = now()
        if self.begun is not None:
            self.steps["ours"].append((ended[0] - self.begun[0], ended[1] - self.begun[1]))
            self.steps["bare"].append((both[0] - ended[0], both[1] - ended[1]))
        self.begun = now()


def compared(data: SceneData, threads: int, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(threads)
    turns = Turns(bare(data))
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
        callbacks=[turns],
    )
    result: dict[str, Any] = {"steps": len(turns.steps["ours"])}
    for place, clock in enumerate(("wall", "processor")):
        median = {name: statistics.median(step[place] for step in steps[5:]) for name, steps in turns.steps.items()}
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
        result: dict[str, Any] = {"net": "resnet_narrow, 64 px, batch 32"}
        for threads in (1, 2):
            result[f"threads_{threads}"] = compared(data, threads, Path(folder) / str(threads))
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
