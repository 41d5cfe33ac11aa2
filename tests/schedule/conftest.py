"""A schedule run for real on a net of three convolutions and noise, without the command line around it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from test_fit import make_data, make_recipe

from rs_prune.attention.se import SE
from rs_prune.budget.macs import MACs
from rs_prune.budget.params import Params
from rs_prune.contracts import Verbs
from rs_prune.criterion.attention import Attention
from rs_prune.criterion.l1 import L1
from rs_prune.granularity.channels import Channels
from rs_prune.granularity.weights import Weights
from rs_prune.pruning.cost import CostModel
from rs_prune.pruning.gate import attach, bare, observe
from rs_prune.pruning.graph import trace
from rs_prune.scope.local import Local
from rs_prune.steps import Notes, verbs
from rs_prune.training.datamodule import SceneData


class Tiny(nn.Module):
    """A stem, a residual layer and a layer of its own: two groups, one of two members."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm0 = nn.Conv2d(2, 12, 3, stride=2, bias=False), nn.BatchNorm2d(12)
        self.conv1, self.norm1 = nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.norm2 = nn.Conv2d(12, 16, 3, stride=2, bias=False), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm0(self.stem(x)))
        x = torch.relu(self.norm1(self.conv1(x)) + x)
        x = torch.relu(self.norm2(self.conv2(x)))
        return self.head(x.mean((2, 3)))


@dataclass
class Bench:
    """A net, data, and the verbs of a run.

    Attributes:
        net: The dense net, its gates observed.
        do: The verbs.
        notes: What they note down.
        data: The scenes.
        folder: Fit number n leaves its files in `fit<n>`.
        dense: The net's multiply-adds, or parameters where single weights go.
    """

    net: nn.Module
    do: Verbs
    notes: Notes
    data: SceneData
    folder: Path
    dense: int


@pytest.fixture(autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, and locks of our own: real runs on this machine hold the real ones."""
    torch.set_num_threads(1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("locks")))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    data = make_data()

    def fresh(gated: bool) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net: nn.Module = Tiny()
            if gated:
                attach(net, trace(net, data.example()).places(), SE())
        return net

    def make(
        schedule: Any,
        *,
        gated: bool = False,
        single: bool = False,
        keep: float = 0.5,
        epochs: int = 3,
        folder: Path = tmp_path,
        rehearsal: bool = False,
        recalibrate: int = 0,
        **recipe: Any,
    ) -> Bench:
        net = fresh(gated)
        plain = bare(net)
        budget = (Params if single else MACs)(keep=keep)
        dense = budget(CostModel(plain, trace(plain, data.example()).groups, data.example()).dense())
        cfg = SimpleNamespace(
            observe=SimpleNamespace(images=24),
            recalibrate=SimpleNamespace(images=recalibrate),
            finetune=SimpleNamespace(lr_factor=0.3),
            mask_check=SimpleNamespace(tolerance=1e-4),
            finetune_epochs=epochs - bool(getattr(schedule, "scratch", False)),
            epochs=1,
            seed=3,
        )
        job: Any = SimpleNamespace(
            cfg=cfg,
            data=data,
            device=torch.device("cpu"),
            schedule=schedule,
            budget=budget,
            scope=Local(),
            granularity=Weights() if single else Channels(min_channels=1),
            criterion=Attention() if gated and not single else L1(),
            dense_cost=dense,
            dense_id="dense",
            cell_id="cell",
            choices={"attention": "", "criterion": "", "budget": "", "keep": keep, "schedule": "", "loss": ""},
            recipe=lambda lr_factor=1.0, **_: make_recipe(**{"selection": "val", **recipe}),
            store=SimpleNamespace(work_folder=lambda _: folder, dense_folder=lambda _: folder / "dense"),
            logger=lambda _: False,
            attention=None,
            callbacks=lambda _: [],
            fresh_net=lambda: fresh(gated),
        )
        notes = Notes(batch=next(data.batches("val", limit=16)), rehearsal=rehearsal)
        observe(net, data.batches("train", limit=24))
        return Bench(net, verbs(job, notes, net), notes, data, folder, dense)

    yield make
